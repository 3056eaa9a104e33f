"""Attempts: runs that may still commit. Pure steps from one state of a lineage to the next.

Each gives (state, outcome), or None where nothing is to be done. They are called anew for every try of a commit,
and take nothing from former tries.
"""

from __future__ import annotations

from dataclasses import dataclass

from blockvault.engine import runtime, trash
from blockvault.engine.damage import Place, place_of
from blockvault.engine.errors import AttemptFenced, OperationEnded, ParentNotFound, VolumeDeleted
from blockvault.engine.lockrule import lower
from blockvault.engine.names import ObjectName
from blockvault.engine.root import Roots
from blockvault.engine.state import (
    ACTIVE,
    ATTEMPTS,
    COMPACT,
    DELETED,
    RESTORE,
    Attempt,
    Outcome,
    RootEntry,
    State,
)

LATEST = "latest"

# What the outcome of a commit is called that made a backup.
MADE = "backup"


@dataclass(frozen=True)
class Begin:
    """What an attempt starts with. `size`: of the volume, in bytes. `parent`: an id, `latest`, or None (full).

    `key`: fingerprint of the vault's key that the run was given, if any. `actor`: the cluster that acts, if any.
    `turn`: which try of the operation it is; one that was given up, and lives, never takes over from a later one.
    """

    attempt: str
    operation: str
    size: int
    parent: str | None
    key: str | None = None
    actor: str | None = None
    turn: int = 0


def begin(state: State, wanted: Begin) -> tuple[State, Outcome] | None:
    """Enter an attempt that pins its parent. It takes over what a former run of the same operation sent.

    Raises AttemptFenced where a run of a later turn has begun, besides what the state itself refuses.
    """
    refuse_deleted(state)
    trash.refuse_foreign(state, wanted.actor)
    refuse_ended(state, wanted.operation)
    if state.root_of(wanted.operation) is not None:
        return None
    if any(other.operation == wanted.operation and other.turn > wanted.turn for other in state.attempts):
        raise AttemptFenced(
            f"volume {state.volume}: this run was given up, and a later one has taken its place"
        )
    trash.own(state, wanted.actor)
    parent = choose_parent(state, wanted.size, wanted.parent)
    state.epoch += 1
    pin = None if parent is None else trash.pin_of(parent)
    dead = [other for other in state.attempts if other.operation == wanted.operation]
    adopts = [epoch for other in dead for epoch in (other.epoch, *other.adopts)]
    alike = [other.epoch for other in dead if other.parent == pin and other.size == wanted.size]
    attempt = Attempt(
        id=wanted.attempt,
        operation=wanted.operation,
        epoch=state.epoch,
        parent=pin,
        size=wanted.size,
        started_at=runtime.now(),
        adopts=adopts,
        patches_of=alike[-1] if alike else None,
        key=wanted.key,
        turn=wanted.turn,
    )
    enter(state, attempt)
    return state, Outcome("", "begin", wanted.attempt, wanted.operation)


def enter(state: State, attempt: Attempt) -> None:
    """Add an attempt, in place of those of its operation. Of too many the oldest go, but no reader's pin."""
    others = [other for other in state.attempts if other.operation != attempt.operation]
    pins = [other for other in others if other.kind == RESTORE]
    runs = [other for other in others if other.kind != RESTORE]
    state.attempts = [*pins, *[*runs, attempt][-ATTEMPTS:]]


def relies_on(state: State, attempt_id: str) -> bool:
    """Whether the run relies on its beginning before its end proves that it counted.

    What it adopts must not be condemned any more, and a first backup must not be under an old key. Else all that it
    does before its second commit is to upload and to read a parent that is pinned, or gone if it slept for long.
    """
    attempt = state.attempt(attempt_id)
    return attempt is None or bool(attempt.adopts) or not state.roots


def give_up(state: State, attempt_id: str) -> tuple[State, Outcome] | None:
    """Take an attempt out. What it sent is left to collect."""
    attempt = state.attempt(attempt_id)
    if attempt is None:
        return None
    state.attempts.remove(attempt)
    return state, Outcome("", "give-up", attempt.id, attempt.operation)


def end_operation(state: State, operation: str) -> tuple[State, Outcome] | None:
    """Give an operation up for good: no run of it commits or begins any more. Nothing where it has made its backup."""
    if state.root_of(operation) is not None or any(operation in one.ended for one in state.outcomes):
        return None
    state.attempts = [other for other in state.attempts if other.operation != operation]
    return state, Outcome("", "end", operation=operation, ended=[operation])


def end_unborn(state: State, attempt_id: str) -> tuple[State, Outcome] | None:
    """End a lineage in which only attempts under this one's key ever were: its name is free for another."""
    mine = state.attempt(attempt_id)
    if mine is None or state.roots or any(other.key != mine.key for other in state.attempts):
        return None
    state.attempts, state.status = [], DELETED
    return state, Outcome("", "delete-volume", mine.id, mine.operation)


def finish(
    state: State,
    attempt: Attempt,
    entry: RootEntry,
    added: int,
    roots: Roots,
    *,
    actor: str | None,
    lists_lie: bool,
    compared: bool,
) -> tuple[State, Outcome] | None:
    """Turn the attempt into a backup, whatever others have committed meanwhile.

    `added`: bytes of the objects that this backup needs and its parent does not. Raises AttemptFenced, also when a
    list was believed, and another run has found out meanwhile that lists leave something out; OperationEnded; and
    OwnedElsewhere when another cluster has taken the lineage over since the attempt was entered.
    """
    refuse_deleted(state)
    if state.root_of(entry.operation) is not None:
        return None
    trash.refuse_foreign(state, actor)
    refuse_ended(state, entry.operation)
    mine = state.attempt(attempt.id)
    epochs = {attempt.epoch, *attempt.adopts}
    if any(ObjectName.parse(key.rpartition("/")[2]).epoch in epochs for key in state.condemned):
        raise AttemptFenced(f"volume {state.volume}: objects of this run were condemned, as it seemed dead")
    if mine is None:
        raise AttemptFenced(
            f"volume {state.volume}: another run took this operation over, or it was given up"
        )
    if state.distrusted is not None and not compared:
        raise AttemptFenced(
            f"volume {state.volume}: lists of changed blocks are not believed any more, and this run believed one",
            remedy="Repeat the operation: it goes on with what this run has sent, and compares.",
        )
    state.attempts.remove(mine)
    _append(state, attempt, entry, added, roots)
    if lists_lie:
        state.distrusted = {"since": runtime.now(), "reason": "a block that a list left out had changed"}
    elif compared:
        state.distrusted = None
    return state, Outcome("", MADE, attempt.id, entry.operation, entry.id)


def _append(state: State, attempt: Attempt, entry: RootEntry, added: int, roots: Roots) -> None:
    """Add a backup, and what it needs to what is used."""
    state.roots.append(entry)
    pin = attempt.parent
    parent = None if pin is None else state.root(pin["id"])
    if pin is None or (
        parent is not None and parent.revision == pin["revision"] and trash.is_counted(state, parent)
    ):
        state.used_bytes += added  # what the parent needs is counted already, and not as trash
    else:
        trash.count(state, roots)


def finish_at_once(
    state: State, read: State, attempt: Attempt, entry: RootEntry, added: int, roots: Roots
) -> tuple[State, Outcome] | None:
    """Enter an attempt and turn it into a backup in one commit. Only where nothing but its root was uploaded.

    `read`: the state that was read before the root was put. If any other commit came between, nothing is done: a
    collector may have condemned the root meanwhile, as no attempt protects it.
    """
    if state.commit_id != read.commit_id or state.status != ACTIVE:
        return None
    _append(state, attempt, entry, added, roots)
    return state, Outcome("", MADE, attempt.id, entry.operation, entry.id)


def begin_compaction(state: State, attempt_id: str) -> tuple[State, Outcome] | None:
    """Enter a compaction, so that what it writes is not taken for what a dead run left."""
    refuse_deleted(state)
    state.epoch += 1
    attempt = Attempt(attempt_id, attempt_id, state.epoch, None, 0, runtime.now(), kind=COMPACT)
    enter(state, attempt)
    return state, Outcome("", "begin-compaction", attempt_id)


@dataclass(frozen=True)
class Rewrite:
    """What a compaction made: new revisions by backup id, from roots that were read (backup id: object) at the time.

    `needs`: backups, as they were read, whose data the revisions name as well; without them nothing is done, as what
    they need may be condemned. `mended`: damage that no root names any more, if there are no others than were read.
    """

    revisions: dict[str, RootEntry]
    read: dict[str, str]
    needs: frozenset[str] = frozenset()
    mended: frozenset[Place] = frozenset()


def finish_compaction(
    state: State, attempt_id: str, made: Rewrite, roots: Roots
) -> tuple[State, Outcome] | None:
    """Put new revisions of roots in the place of those that stand at the revision they were made from.

    Labels and all else that may change are those of the state that is followed. Raises AttemptFenced.
    """
    refuse_deleted(state)
    attempt = state.attempt(attempt_id)
    if attempt is None:
        raise AttemptFenced(f"volume {state.volume}: the compaction was given up")
    state.attempts.remove(attempt)
    standing = {entry.id for entry in state.roots if made.read.get(entry.id) == entry.object}
    if not made.needs <= standing:
        return state, Outcome("", "give-up", attempt_id)
    if len(standing) == len(state.roots):
        state.damaged = [item for item in state.damaged if place_of(item) not in made.mended]
    for entry in state.roots:
        fresh = made.revisions.get(entry.id)
        if fresh is not None and entry.id in standing:
            entry.object, entry.object_bytes = fresh.object, fresh.object_bytes
            entry.object_checksum, entry.revision = fresh.object_checksum, fresh.revision
            lower(entry, [each for each in state.roots if each.id in made.needs])
    trash.count(state, roots)
    return state, Outcome("", "compaction", attempt_id)


def refuse_deleted(state: State) -> None:
    """Raises VolumeDeleted."""
    if state.status != ACTIVE:
        raise VolumeDeleted(f"volume {state.volume}: its data was deleted")


def refuse_ended(state: State, operation: str) -> None:
    """Raises OperationEnded when its backup was made, and deleted since, as far as the state remembers.

    Else a run that slept, or that somebody started once more, would bring back what was deleted.
    """
    entry = state.root_of(operation)
    if entry is not None and trash.in_trash(entry):
        until = entry.labels[trash.TRASH]["until"]
        raise OperationEnded(
            f"volume {state.volume}: backup {entry.id}, which operation {operation} made, is in the trash until {until}"
        )
    made = any(one.action == MADE and one.operation == operation for one in state.outcomes)
    if entry is None and (made or any(operation in one.ended for one in state.outcomes)):
        raise OperationEnded(
            f"volume {state.volume}: operation {operation} was given up, or the backup that it made was deleted"
        )


def choose_parent(state: State, size: int, wanted: str | None) -> RootEntry | None:
    """The backup to build on: of an id, or `latest`; None for none.

    A smaller volume than the parent's is another volume: it begins anew. Raises ParentNotFound.
    """
    if wanted is None:
        return None
    if wanted == LATEST:
        parent = next((entry for entry in reversed(state.roots) if not trash.in_trash(entry)), None)
    else:
        parent = state.root(wanted)
        if parent is None:
            raise ParentNotFound(f"volume {state.volume} has no backup {wanted}")
    return None if parent is None or parent.size > size else parent
