"""Rules taken out of the engine, one at a time: some seed must notice. What never fails proves nothing."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import pytest

from blockvault.engine import (
    attempts,
    backup,
    collect,
    commitlog,
    commits,
    former,
    packs,
    trash,
    treewriter,
    verification,
)
from tests.simulation.simulate import run

Change = Callable[[pytest.MonkeyPatch], None]

# Each is noticed by one of so many seeds; most by one of the first twenty.
SEEDS = 250


def rewritten(
    place: ModuleType | type, name: str, old: str, new: str
) -> Callable[[pytest.MonkeyPatch], None]:
    """A change to the source of a function: `old`, which must be there exactly once, becomes `new`."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        function: Any = getattr(place, name)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(old) == 1, f"{name} has changed: {old!r} is not there once"
        scope: dict[str, Any] = {}
        code = compile("from __future__ import annotations\n" + source.replace(old, new), f"<{name}>", "exec")
        exec(code, function.__globals__, scope)
        made = scope[name]
        assert isinstance(made, FunctionType)
        patch.setattr(place, name, made)
        for module in (attempts, backup):
            if place is not module and getattr(module, name, None) is function:
                patch.setattr(module, name, made)

    return apply


def together(*changes: Change) -> Change:
    """Several places that guard the same thing."""

    def apply(patch: pytest.MonkeyPatch) -> None:
        for change in changes:
            change(patch)

    return apply


RULES: dict[str, Change] = {
    "a commit is created, never overwritten": rewritten(
        commits.Commits, "update", "self._store.create(", "self._store.put("
    ),
    "a commit counts only when nothing higher is there": rewritten(
        commits.Commits,
        "update",
        "counts, state = self._counts(following, state)",
        "counts, state = True, following",
    ),
    "after a lost race it is decided again": rewritten(
        commits.Commits, "update", "decision = decide(state.copy())", "decision = decide(known.copy())"
    ),
    "a commit needs its own attempt": rewritten(
        attempts,
        "finish",
        "if mine is None:",
        "if mine is None and not state.attempts.append(attempt) is None:",
    ),
    "one backup for one operation": together(
        rewritten(backup.BackupRun, "run", "volume.state.root_of(self._request.operation_id)", "None"),
        rewritten(attempts, "begin", "if state.root_of(wanted.operation) is not None:", "if False:"),
        rewritten(attempts, "finish", "if state.root_of(entry.operation) is not None:", "if False:"),
    ),
    "a root is written after all that it names has arrived": rewritten(
        packs.Uploads, "finish", "future.result()", "pass"
    ),
    "a list says what it was made from": rewritten(
        backup.BackupRun, "_plan", "listed.parent not in (None, parent_entry.id)", "False"
    ),
    "used bytes are counted anew without the parent": rewritten(
        attempts, "_append", "if pin is None or (", "if True or ("
    ),
    "trimming leaves the latest": rewritten(
        commitlog, "trimmable", "number <= newest - MILESTONE", "number < newest"
    ),
    "what a standing attempt sent is not collected": rewritten(
        collect.Collector, "_candidates", "for attempt in state.attempts", "for attempt in []"
    ),
    "what a dead run sent is not collected while its successor adopts it": rewritten(
        collect.Collector, "_candidates", "(attempt.epoch, *attempt.adopts)", "(attempt.epoch,)"
    ),
    "a parent is pinned": rewritten(
        collect.Collector, "_needed", "for attempt in state.attempts", "for attempt in []"
    ),
    "what belongs to another cluster is left alone": rewritten(
        trash, "refuse_foreign", "if owner is not None and owner != actor:", "if False:"
    ),
    "whose it is, when a backup ends": rewritten(
        attempts, "finish", "trash.refuse_foreign(state, actor)", "pass"
    ),
    "whose it is, when something is condemned": rewritten(
        collect.Collector, "_collect", "self._update(", "self._commits.update("
    ),
    "bytes of the trash are counted anew where the parent went there": rewritten(
        trash, "is_counted", "not in_trash(entry) and ", ""
    ),
    "nothing is collected while it cannot be told what a backup needs": together(
        rewritten(
            collect.Collector,
            "_needed",
            "for entry in state.roots",
            "for entry in state.roots if entry not in self._roots.unresolved(state.roots)",
        ),
        rewritten(collect.Collector, "_doubt", "self._roots.used_bytes(state.roots)", "state.used_bytes"),
    ),
    "all that is damaged is named": rewritten(
        verification.Verification, "_take", "for bad in done.bad", "for bad in done.bad[1:]"
    ),
    "what was found damaged is stored anew": rewritten(
        former.FormerLeaf, "hash_of", "if slot in self._distrusted:", "if False:"
    ),
    "nothing is built on pages in an object that is being replaced": rewritten(
        treewriter.TreeWriter, "_encode_patch", "or name_of(origin.base) in self._avoid", ""
    ),
}


# Where it was noticed last; the first place to look.
NOTICED = {
    "a commit is created, never overwritten": 1,
    "a commit counts only when nothing higher is there": 7,
    "after a lost race it is decided again": 1,
    "a commit needs its own attempt": 11,
    "one backup for one operation": 2,
    "a root is written after all that it names has arrived": 1,
    "a list says what it was made from": 74,
    "used bytes are counted anew without the parent": 53,
    "trimming leaves the latest": 1,
    "what a standing attempt sent is not collected": 8,
    "what a dead run sent is not collected while its successor adopts it": 296,
    "a parent is pinned": 310,
    "what belongs to another cluster is left alone": 10,
    "whose it is, when a backup ends": 159,
    "whose it is, when something is condemned": 335,
    "bytes of the trash are counted anew where the parent went there": 338,
    "nothing is collected while it cannot be told what a backup needs": 39,
    "all that is damaged is named": 1,
    "what was found damaged is stored anew": 1,
    "nothing is built on pages in an object that is being replaced": 11,
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_taken_out_is_missed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    RULES[rule](monkeypatch)
    found = next((seed for seed in (NOTICED[rule], *range(SEEDS)) if run(seed).error), None)
    assert found is not None, f"no seed notices that it no longer holds: {rule}"
    monkeypatch.undo()
    assert run(found).error is None
    print(f"seed {found}: {rule}")
