"""Former states of a volume: what an older commit knew, to be looked at and restored from. Only ever read.

Deleting takes a backup out of the newest state at once, and its data goes later: never before its lock ends, where
there are locks. Until then the commits before still name it. They do not keep it: what they name may be collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blockvault.engine.catalogue import counts_of
from blockvault.engine.commits import Commits
from blockvault.engine.errors import CommitNotFound, StoredDataDamaged, VolumeNotFound
from blockvault.engine.lineage import Lineage
from blockvault.engine.progress import RestoreResult
from blockvault.engine.restore import RestoreRequest, RestoreRun
from blockvault.engine.state import State
from blockvault.engine.volumes import Refused, Volume, Volumes
from blockvault.stores import ObjectStore


def as_of(store: ObjectStore, volumes: Volumes, volume: str, number: int) -> Volume:
    """The volume as that commit had it; of several lineages that have one of that number, the latest counts.

    The newest commit is not looked at: it may be what somebody has spoiled. Raises VolumeNotFound, CommitNotFound.
    """
    for lineage in _lineages(store, volumes, volume):
        state = Commits(store, lineage).at(number)
        if state is not None:
            return Volume(lineage, state)
    raise CommitNotFound(f"volume {volume!r} has no commit {number}")


def commits_of(store: ObjectStore, volumes: Volumes, volume: str, failed: Refused) -> list[dict[str, Any]]:
    """The commits of a volume that are there, oldest first; `failed` is told of those that cannot be read."""
    return [
        _facts(state)
        for lineage in reversed(_lineages(store, volumes, volume))
        for state in Commits(store, lineage).all(failed)
    ]


def restore_former(
    store: ObjectStore, found: Volume, backup_id: str, request: RestoreRequest
) -> RestoreResult:
    """Restore a backup as a former commit had it. It is not pinned, as the newest state may not have it any more.

    Raises what RestoreRun raises; StoredDataDamaged says that what is missing may have been deleted rightly.
    """
    number = found.state.number
    entry = found.state.root(backup_id)
    assert entry is not None
    with reading(number):
        result = RestoreRun(store, found, entry, request).run()
    result.unpinned = f"it is read as commit {number} had it"
    return result


@contextmanager
def reading(number: int | None) -> Iterator[None]:
    """Lets damage of what that commit names say that it may have been deleted rightly; None: of the newest."""
    try:
        yield
    except StoredDataDamaged as error:
        if number is None:
            raise
        raise StoredDataDamaged(
            f"{error.message} (as commit {number} named it; what later ones do not need may have been collected)",
            remedy="Try another backup or commit, or what is left of this one with --salvage. A backup that the newest "
            "commit has is restored without --commit.",
        ) from error


def _lineages(store: ObjectStore, volumes: Volumes, volume: str) -> list[Lineage]:
    found = volumes.openable(volume)
    if not found:
        raise VolumeNotFound(f"{store.url} holds no volume {volume!r}, or none that the key opens")
    return found


def _facts(state: State) -> dict[str, Any]:
    return {
        "lineage": state.lineage,
        "number": state.number,
        "commitId": state.commit_id,
        "writtenAt": state.written_at,
        "action": state.outcomes[-1].action if state.outcomes else None,
        "status": state.status,
        **counts_of(state),
    }
