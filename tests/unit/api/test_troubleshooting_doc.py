"""docs/troubleshooting.md has every reason (E5)."""

from __future__ import annotations

import re
from pathlib import Path

from blockvault.core.reasons import REASONS, SECTIONS

ROOT = Path(__file__).parents[3]
HELP = ROOT / "docs" / "troubleshooting.md"
# Other words in capitals that people write in backticks.
OTHERS = {"REASON", "Forbidden", "Waiting", "Refused", "Restore"}


def test_e5_every_section_of_reasons_has_its_table() -> None:
    assert re.findall(r"<!-- reasons: (\w+) -->", HELP.read_text()) != []
    assert sorted(re.findall(r"<!-- reasons: (\w+) -->", HELP.read_text())) == sorted(SECTIONS)
    assert all(f"| `{word}` |" in HELP.read_text() for word in REASONS)


def test_e5_reasons_in_the_text_are_those_of_the_tables() -> None:
    """Somebody who reads of a word at night finds its row."""
    written = set(re.findall(r"`([A-Z][A-Za-z]+)`", HELP.read_text()))
    assert written - REASONS.keys() - OTHERS == set()


def test_its_links_lead_somewhere() -> None:
    text = HELP.read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
    assert all(
        (HELP.parent / link.partition("#")[0]).exists() for link in re.findall(r"\]\(([^#)][^)]*)\)", text)
    )
