"""The documents of the command line are those of the commands there are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_the_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("gen_cli_doc", ROOT / "hack" / "gen_cli_doc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text() == module.document()


@pytest.mark.parametrize("page", ["cli.md", "exit-codes.md"])
def test_pages_fit_their_column(page: str) -> None:
    for line in (ROOT / "docs" / page).read_text().splitlines():
        assert len(line) <= 120 or line.startswith("|"), line
