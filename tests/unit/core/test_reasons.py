"""Every reason has a cause and a remedy, in one table (E5)."""

from __future__ import annotations

import ast
import re

import pytest

from blockvault.core.reasons import REASONS, SECTIONS, UNKNOWN, remedy_of

from .reasons import PACKAGE, constants, modules, raised, said, said_in


def test_e5_every_reason_that_is_said_stands_in_the_table() -> None:
    """Add a line to its section in core/reasons.py, and run `make crds`."""
    found = said()
    assert {word: places for word, places in found.items() if word not in REASONS} == {}
    assert sorted(raised() - REASONS.keys()) == []


def test_e5_no_reason_of_the_table_is_unused() -> None:
    """One that nobody says any more goes."""
    literals = {
        node.value
        for path in PACKAGE.glob("*/*.py")
        if path.name != "reasons.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(REASONS.keys() - literals) == []


def test_a_reason_stands_in_one_section() -> None:
    words = [word for rows in SECTIONS.values() for word in rows]
    assert sorted(words) == sorted(REASONS)


@pytest.mark.parametrize("word", sorted(REASONS))
def test_e5_each_has_a_cause_and_who_can_do_something_is_told_what(word: str) -> None:
    reason = REASONS[word]
    assert reason.cause, word
    assert not reason.cause.endswith(".")
    assert bool(reason.remedy) or reason.sort in ("works", "told")
    assert not reason.remedy or reason.remedy.endswith("."), word
    assert len(reason.remedy) < 400
    assert "|" not in reason.cause + reason.remedy, "it stands in a table"
    assert re.fullmatch(r"[A-Z][A-Za-z]+", word)


def test_what_this_version_does_not_know_is_not_left_without_a_word() -> None:
    assert remedy_of("FromANewerMover") == UNKNOWN
    assert remedy_of("VaultFull") == REASONS["VaultFull"].remedy


def test_the_search_finds_reasons_wherever_they_stand() -> None:
    named = constants(modules())
    expected = {
        "core/admission.py": {"ClaimNotFound", "NotCSI", "OperationInProgress"},  # a named constant
        "core/association.py": {"NoRoom", "ClaimGone"},  # a tuple, and one side of a condition
        "core/policy.py": {"TooManyPolicies", "Valid"},
        "cluster/deletion.py": {"DeletionHeld"},  # an argument of another function
        "core/task_record.py": {"BackupStarted"},
        "core/tasks.py": {"EndNotSeen"},
    }
    for place, words in expected.items():
        assert words <= said_in(PACKAGE / place, named), place
