"""Deleting backups and bringing them back, removing whole volumes, owning them. Pure steps, as in attempts.py."""

from __future__ import annotations

from collections.abc import Callable

from blockvault.engine import rollback, runtime
from blockvault.engine.errors import BackupNotFound, CommitContention, OwnedElsewhere
from blockvault.engine.root import Roots
from blockvault.engine.state import DELETED, PINS, RESTORE, Attempt, Outcome, RootEntry, State

TRASH = "trash"
RESTORED_BY = "restoredBy"


def in_trash(entry: RootEntry) -> bool:
    """Whether a backup was deleted and waits to be removed."""
    return TRASH in entry.labels


def living(state: State) -> list[RootEntry]:
    """Backups that are not in the trash, oldest first."""
    return [entry for entry in state.roots if not in_trash(entry)]


def put(state: State, backup_id: str, seconds: float, roots: Roots) -> tuple[State, Outcome] | None:
    """Into the trash for so long; it keeps its data until then. None when it is not there or in it already."""
    entry = state.root(backup_id)
    if entry is None or in_trash(entry):
        return None
    rollback.refuse(state)
    # A clock that is far behind must not make it due at once: time has come as far as others have written.
    written = runtime.seconds_of(state.written_at) if state.written_at else 0.0
    until = runtime.time_of(max(runtime.wall(), written) + seconds)
    entry.labels[TRASH] = {"since": runtime.now(), "until": until}
    count(state, roots)
    return state, Outcome("", "trash", operation=entry.operation, root=entry.id)


def take_out(state: State, backup_id: str, roots: Roots) -> tuple[State, Outcome] | None:
    """Out of the trash. None when it is not in it. Raises BackupNotFound when it is not there at all."""
    entry = state.root(backup_id)
    if entry is None:
        raise BackupNotFound(f"volume {state.volume!r} has no backup {backup_id}, in the trash neither")
    if entry.labels.pop(TRASH, None) is None:
        return None
    count(state, roots)
    return state, Outcome("", "undelete", operation=entry.operation, root=entry.id)


# How many restores a backup remembers.
MOST_RESTORES = 64


def note_restored(state: State, backup_id: str, by: str) -> tuple[State, Outcome] | None:
    """Note with a backup that it was restored over its volume, `by` whom; None when that is known or it is gone."""
    entry = state.root(backup_id)
    if entry is None:
        return None
    known = entry.labels.get(RESTORED_BY)
    done = known if isinstance(known, dict) else {}
    if by in done:
        return None
    rollback.refuse(state)
    entry.labels[RESTORED_BY] = dict([*list(done.items())[1 - MOST_RESTORES :], (by, runtime.now())])
    return state, Outcome("", "restored", operation=entry.operation, root=entry.id)


def remove(state: State, backup_ids: set[str], roots: Roots) -> tuple[State, Outcome] | None:
    """Take backups out of the lineage. What only they needed is collected later."""
    gone = [entry for entry in state.roots if entry.id in backup_ids]
    if not gone:
        return None
    rollback.refuse(state)
    state.roots = [entry for entry in state.roots if entry.id not in backup_ids]
    count(state, roots)
    ended = [entry.operation for entry in gone]
    return state, Outcome("", "delete", root=",".join(entry.id for entry in gone), ended=ended)


def discard(state: State, backup_id: str, roots: Roots) -> tuple[State, Outcome] | None:
    """Out of the trash for good, before its time. None when it is not in it (any more)."""
    entry = state.root(backup_id)
    return None if entry is None or not in_trash(entry) else remove(state, {backup_id}, roots)


def due(state: State, at: float) -> set[str]:
    """Backups whose time in the trash is over at that time, in seconds since 1970."""
    now = runtime.time_of(at)
    return {entry.id for entry in state.roots if in_trash(entry) and entry.labels[TRASH]["until"] <= now}


def count(state: State, roots: Roots) -> None:
    """Compute anew how many bytes are used, and how many of them only by what is in the trash.

    A backup whose root, or one below it, is damaged is left out and noted, so that this one and others can be deleted.
    """
    broken = roots.unresolved(state.roots)
    state.uncounted = [entry.id for entry in broken]
    state.used_bytes = roots.used_bytes([entry for entry in state.roots if entry not in broken])
    state.trash_bytes = state.used_bytes - roots.used_bytes(
        [entry for entry in living(state) if entry not in broken]
    )


def is_counted(state: State, entry: RootEntry) -> bool:
    """Whether all that a backup needs is counted among the used bytes, and not as trash."""
    return not in_trash(entry) and entry.id not in state.uncounted


def end(state: State) -> tuple[State, Outcome] | None:
    """The last commit of a lineage: all its backups are gone, and no other ever follows."""
    if state.status == DELETED:
        return None
    rollback.refuse(state)
    state.roots, state.attempts, state.condemned, state.damaged = [], [], [], []
    state.used_bytes = state.trash_bytes = 0
    state.uncounted = []
    state.status = DELETED
    return state, Outcome("", "delete-volume")


def pin(state: State, pins: dict[str, str]) -> tuple[State, Outcome] | None:
    """Keep roots' data while they are read, whatever is deleted meanwhile. `pins`: fresh ids, and of what backups.

    Raises CommitContention when too many pins stand already.
    """
    entries = {pin_id: entry for pin_id, backup_id in pins.items() if (entry := state.root(backup_id))}
    if len(entries) + sum(attempt.kind == RESTORE for attempt in state.attempts) > PINS:
        raise CommitContention(f"volume {state.volume}: {PINS} readers have pinned backups already")
    for pin_id, entry in entries.items():
        kept = Attempt(pin_id, pin_id, 0, pin_of(entry), entry.size, runtime.now(), kind=RESTORE)
        state.attempts = [*state.attempts, kept]
    return state, Outcome("", "pin", ",".join(pins))


def unpin(state: State, pins: dict[str, str]) -> tuple[State, Outcome] | None:
    """Take pins out. None when they are not there any more."""
    left = [attempt for attempt in state.attempts if attempt.id not in pins]
    if len(left) == len(state.attempts):
        return None
    state.attempts = left
    return state, Outcome("", "unpin", ",".join(pins))


def pin_of(entry: RootEntry) -> dict[str, object]:
    """A backup's root at its present revision, as an attempt pins it."""
    return {
        "id": entry.id,
        "revision": entry.revision,
        "object": entry.object,
        "bytes": entry.object_bytes,
        "checksum": entry.object_checksum,
    }


def refuse_foreign(state: State, actor: str | None) -> None:
    """Raises OwnedElsewhere when the lineage belongs to another cluster."""
    owner = state.owner["cluster"] if state.owner else None
    if owner is not None and owner != actor:
        raise OwnedElsewhere(
            f"volume {state.volume}: its backups belong to {owner}, not to {actor or 'nobody'}"
        )


def owned(
    decide: Callable[[State], tuple[State, Outcome] | None], actor: str | None
) -> Callable[[State], tuple[State, Outcome] | None]:
    """A decision that is the owner's alone: whose the lineage is says the state that it follows, no former one."""

    def checked(state: State) -> tuple[State, Outcome] | None:
        refuse_foreign(state, actor)
        return decide(state)

    return checked


def own(state: State, actor: str | None) -> None:
    """Let the lineage belong to who writes to it first."""
    if actor is not None and state.owner is None:
        state.owner = {"cluster": actor, "since": runtime.now()}


def take_over(state: State, actor: str) -> tuple[State, Outcome] | None:
    """Let the lineage belong to another cluster from now on. Explicit only."""
    if state.owner is not None and state.owner["cluster"] == actor:
        return None
    state.owner = {"cluster": actor, "since": runtime.now()}
    return state, Outcome("", "take-over")
