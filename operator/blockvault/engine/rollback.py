"""Noticing that a store shows an older state than there has been: commits were lost, or the store was set back.

Rule 6 in docs/protocol.md. Names of objects begin with the epoch of their run, and commits know the highest: what
is of a later one was made by somebody whose commits are gone. What was noticed is kept in the state until a person
decides, as the next runs get these epochs, and what was lost would look like what they left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from blockvault.engine import runtime
from blockvault.engine.errors import RollbackSuspected
from blockvault.engine.names import LineagePaths, ObjectName
from blockvault.engine.state import ACTIVE, Outcome, State
from blockvault.stores import ObjectStore


class Seen(NamedTuple):
    """A lineage's newest commit as it was seen before; `commit`: its id, None where only the number is known."""

    number: int
    commit: str | None = None


def data_in(store: ObjectStore, paths: LineagePaths) -> str | None:
    """The key of a segment, page object or root of a lineage: somebody had begun a run in it. None without any."""
    folders = tuple(paths.folders.values())
    return next((info.key for info in store.list(paths.folder) if info.key.startswith(folders)), None)


def suspect(store: ObjectStore, paths: LineagePaths, state: State) -> State:
    """To be called before a run gets the next epoch: a root of that epoch is of a run that the state does not know.

    Then the state keeps the suspicion, and the run's epoch is above all that is there. If a rival has begun meanwhile,
    the commit is refused, and all is decided anew.
    """
    found = next(iter(store.list(paths.roots_of(state.epoch + 1))), None)
    if found is not None:
        state.epoch = max(state.epoch, highest_epoch(store, paths))
        state.rollback = state.rollback or {
            "since": runtime.now(),
            "reason": f"{found.key} is of a later epoch than commit {state.number} knew of",
        }
    return state


def highest_epoch(store: ObjectStore, paths: LineagePaths) -> int:
    """Of all objects in a lineage; 0 when there are none."""
    return max((_epoch(key) for folder in paths.folders.values() for key in _keys(store, folder)), default=0)


def accept(store: ObjectStore, paths: LineagePaths, state: State) -> tuple[State, Outcome] | None:
    """Go on from this state: what later ones knew is given up. None when nothing of them is there."""
    highest = highest_epoch(store, paths)
    if state.status != ACTIVE or (state.number and state.rollback is None and highest <= state.epoch):
        return None
    state.epoch = max(state.epoch, highest)
    state.rollback = None
    return state, Outcome("", "accept-rollback")


def refuse(state: State) -> None:
    """Raises RollbackSuspected when a run has noticed it, and nobody has decided since."""
    if state.rollback is not None:
        reason, since = state.rollback["reason"], state.rollback["since"]
        raise RollbackSuspected(f"volume {state.volume}: {reason} (noticed {since})")


def _keys(store: ObjectStore, folder: str) -> Iterable[str]:
    return (info.key for info in store.list(folder))


def _epoch(key: str) -> int:
    """Of the object of that key; 0 for what is no object of ours."""
    try:
        return ObjectName.parse(key.rpartition("/")[2]).epoch
    except ValueError:
        return 0
