"""docs/resources.md has every field, docs/troubleshooting.md every reason (E5)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_its_tables_are_those_of_the_models() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "hack" / "gen_docs.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert check.returncode == 0, check.stderr
