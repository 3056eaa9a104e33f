"""docs/resources.md has every field, docs/troubleshooting.md every reason (E5)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from blockvault.api import CHANGED_BLOCK_REASONS
from blockvault.core import changed
from blockvault.engine.backup import DISTRUSTED, LIST_WRONG, OTHER_PARENT, PARENT_DAMAGED
from blockvault.mover import metadata

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "resources.md"


def test_its_tables_are_those_of_the_models() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "hack" / "gen_docs.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert check.returncode == 0, check.stderr


def test_f1_every_reason_why_no_list_was_used_is_explained() -> None:
    """The operator's, the mover's and the block store's, and no others."""
    said = {changed.NO_SERVICE, changed.SERVICE_FORBIDDEN, changed.SERVICE_INVALID, changed.NO_BASE}
    said |= {changed.OTHER_VOLUME}
    store = {OTHER_PARENT, LIST_WRONG, DISTRUSTED, PARENT_DAMAGED}
    assert said | metadata.REASONS | store == set(CHANGED_BLOCK_REASONS)
    section = DOCUMENT.read_text().partition("### Changed blocks")[2].partition("\n## ")[0]
    rows = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
    assert rows == set(CHANGED_BLOCK_REASONS)
