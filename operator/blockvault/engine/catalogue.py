"""What stands in the commits of a store's volumes, as it is listed: backups, and what each volume uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from blockvault.engine import runtime, trash
from blockvault.engine.attempts import LATEST
from blockvault.engine.errors import BackupNotFound, EngineError
from blockvault.engine.lockrule import LOCKED_UNTIL
from blockvault.engine.lockwait import WAITING
from blockvault.engine.state import RootEntry, State
from blockvault.engine.volumes import Refused, Volume, Volumes

# Volumes looked at together, where all of them are.
THREADS = 8


def states_of(volumes: Volumes, failed: Refused | None = None) -> Iterator[State]:
    """The newest state of each volume, by name. With `failed`, that is told of a volume that cannot be read, or of the
    key of a record that does not tell its volume any more.
    """

    def find(volume: str) -> Volume | None:
        try:
            return volumes.find(volume)
        except EngineError as error:
            if failed is None:
                raise
            failed(volume, error)
            return None

    with runtime.executor(THREADS, "catalogue") as pool:
        for found in pool.map(find, sorted(volumes.names(failed))):
            if found is not None:
                yield found.state


def entry_of(state: State, backup_id: str) -> RootEntry:
    """A backup by its id, or the latest that is not in the trash. Raises BackupNotFound."""
    if backup_id == LATEST:
        living = trash.living(state)
        if not living:
            kept = f" but {len(state.roots)} in the trash" if state.roots else ""
            raise BackupNotFound(f"volume {state.volume!r} has no backups{kept}")
        return living[-1]
    entry = state.root(backup_id)
    if entry is None:
        raise BackupNotFound(f"volume {state.volume!r} has no backup {backup_id}")
    return entry


def facts_of(state: State, entry: RootEntry) -> dict[str, Any]:
    """A backup, as a list of them says it. Sizes in bytes."""
    return {
        "backupId": entry.id,
        "volume": state.volume,
        "createdAt": entry.created_at,
        "type": entry.type,
        "size": entry.size,
        "bytesStored": entry.figures["bytesStored"],
        "rootHash": entry.content_hash,
        "operationId": entry.operation,
        "parent": entry.parent,
        "labels": entry.labels,
        "lockedUntil": entry.extra.get(LOCKED_UNTIL),
        "owner": state.owner,
    }


def counts_of(state: State) -> dict[str, int]:
    """How many backups a volume has, and how many more in the trash."""
    living = len(trash.living(state))
    return {"backups": living, "inTrash": len(state.roots) - living}


def usage_of(state: State) -> dict[str, Any]:
    """What a volume uses, in bytes, and whose it is; see Repository.usage."""
    return {
        "volume": state.volume,
        "usedBytes": state.used_bytes,
        "trashBytes": state.trash_bytes,
        "uncounted": state.uncounted,
        "lockedBytes": state.extra.get(WAITING, {}).get("bytes", 0),
        **counts_of(state),
        "owner": state.owner,
        "lineage": state.lineage,
        "commit": state.number,
        "commitId": state.commit_id,
    }
