"""docs/metrics.md says what is served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_document_is_up_to_date() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "hack" / "gen_metrics_doc.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert check.returncode == 0, check.stderr
