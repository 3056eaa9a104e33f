"""docs/resources.md has every field and every reason (E5)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "resources.md"

# Where the reason stands among the arguments of what decisions are made of.
REASON_AT = {"Missing": 0, "Refusal": 0, "Waiting": 0, "failed": 0, "_doing": 0, "Outcome": 1, "Decision": 1}


def test_its_tables_are_those_of_the_models() -> None:
    check = subprocess.run(
        [sys.executable, ROOT / "hack" / "gen_docs.py", "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert check.returncode == 0, check.stderr


def reasons(path: Path) -> set[str]:
    """The reasons that stand as literals in a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        place = REASON_AT.get(node.func.id)
        if place is None or len(node.args) <= place:
            continue
        word = node.args[place]
        if isinstance(word, ast.Constant) and word.value:
            found.add(str(word.value))
    return found


@pytest.mark.parametrize("package", ["core", "cluster"])
def test_every_reason_of_a_decision_is_explained(package: str) -> None:
    text = DOCUMENT.read_text()
    modules = sorted((ROOT / "operator" / "blockvault" / package).glob("*.py"))
    missing = {word for module in modules for word in reasons(module) if f"`{word}`" not in text}
    assert missing == set()


def test_the_search_for_reasons_finds_some() -> None:
    assert {"ClaimNotFound", "NotCSI"} <= reasons(ROOT / "operator" / "blockvault" / "core" / "admission.py")
