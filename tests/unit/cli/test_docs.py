"""The documents of the command line are those of the commands there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_the_references_are_up_to_date() -> None:
    """Of both command lines."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "hack" / "gen_cli_doc.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", ["cli.md", "exit-codes.md"])
def test_pages_fit_their_column(page: str) -> None:
    for line in (ROOT / "docs" / page).read_text().splitlines():
        assert len(line) <= 120 or line.startswith("|"), line
