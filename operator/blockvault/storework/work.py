"""The work itself, as functions of plain data that run in a worker process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from blockvault.engine import (
    Access,
    BackupNotFound,
    EngineError,
    FormatUnsupported,
    Repository,
    StoredDataDamaged,
    VolumeNotFound,
)
from blockvault.engine.progress import camel
from blockvault.engine.rotation import Rotation
from blockvault.stores import ObjectLock, open_store

# Callers come back by themselves; better a clear word soon than a long silence.
RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class StoreStatus:
    """A store that passed its check: its id, used bytes of all volumes, and how many backups it holds.

    `trash_bytes`: those of the used bytes that only the trash needs; `in_trash`: backups in it. `lock`: for how long
    each backup is locked. `foreign`: volumes that belong to other clusters, and to which. `unreadable`: (volume, what
    and why, what to do) of volumes that are left out of these, as their state is damaged.
    """

    store_id: str
    used_bytes: int
    backups: int
    trash_bytes: int = 0
    in_trash: int = 0
    encrypted: bool = False
    lock: ObjectLock | None = None
    foreign: dict[str, str] = field(default_factory=dict)
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)


def check(access: Access) -> StoreStatus:
    """Make the store, or open it when it is there; prove that it is fit for use.

    A volume whose state is damaged does not make it unfit: the others are independent of it.
    """
    repository = access.make(retry_seconds=RETRY_SECONDS)
    unreadable: list[tuple[str, str, str]] = []

    def failed(volume: str, error: EngineError) -> None:
        if not isinstance(error, StoredDataDamaged | FormatUnsupported):
            raise error  # a key that is wrong is wrong for all of them
        unreadable.append((volume, error.message, error.remedy))

    usage = repository.usage(failed=failed)
    return StoreStatus(
        repository.store_id,
        sum(volume["usedBytes"] for volume in usage),
        sum(volume["backups"] for volume in usage),
        sum(volume["trashBytes"] for volume in usage),
        sum(volume["inTrash"] for volume in usage),
        repository.encrypted,
        repository.lock,
        {
            v["volume"]: v["owner"]["cluster"]
            for v in usage
            if v["owner"] and v["owner"]["cluster"] != access.actor
        },
        sorted(unreadable),
    )


def delete_backup(access: Access, volume: str, backup_id: str, keep_seconds: float) -> bool:
    """Move a backup into the trash for so long, or for good; False when it was not there."""
    return _open(access).delete(volume, backup_id, keep_seconds=keep_seconds)


def undelete(access: Access, volume: str, backup_id: str) -> bool:
    """Bring a backup back from the trash; False when it was not in it."""
    return _open(access).undelete(volume, backup_id)


def note_restored(access: Access, volume: str, backup_id: str, by: str) -> None:
    """Remember with a backup that it was restored over its volume, and by whom."""
    _open(access).note_restored(volume, backup_id, by)


def empty_trash(access: Access, down_to: int) -> list[str]:
    """Take backups out of the trash for good, the next that would go first, until no more than so many bytes are used.

    Ids of those that went. What belongs to other clusters stays, and what cannot be read.
    """
    repository = _open(access)
    rows = [
        row
        for row in repository.list(failed=_check_tells)
        if "trash" in row["labels"] and _is_own(row, access)
    ]
    gone: list[str] = []
    for row in sorted(rows, key=lambda row: row["labels"]["trash"]["until"]):
        if sum(volume["usedBytes"] for volume in repository.usage(failed=_check_tells)) <= down_to:
            break
        if repository.discard(row["volume"], row["backupId"]):
            gone.append(row["backupId"])
    return gone


def _is_own(row: dict[str, Any], access: Access) -> bool:
    return row["owner"] is None or row["owner"]["cluster"] == access.actor


def _check_tells(volume: str, error: EngineError) -> None:
    """A volume that cannot be read is passed over: `check` names it, and the Vault's status says so."""


def find_operation(access: Access, volume: str, operation_id: str) -> dict[str, Any] | None:
    """The result of an operation that has committed."""
    found = _open(access).find_operation(volume, operation_id)
    return None if found is None else camel(found)


def end_operation(access: Access, volume: str, operation_id: str) -> None:
    """Let no run of an operation make its backup any more; nothing where it has."""
    _open(access).end_operation(volume, operation_id)


def usage(access: Access) -> int:
    """Used bytes of all volumes together."""
    return sum(volume["usedBytes"] for volume in _open(access).usage())


def list_backups(access: Access, volume: str | None) -> list[dict[str, Any]]:
    """Backups of one volume, or of all that can be read."""
    return _open(access).list(volume, failed=_check_tells)


def backups_and_neighbours(
    access: Access, volume: str
) -> tuple[list[dict[str, Any]] | None, list[str], list[str]]:
    """Backups of one volume, None where there is no such volume; then all others, and what lies beside the store.

    That there is none is said only where all volumes could be read. Raises as any reading does, and never leaves out
    what it could not read.
    """
    repository = _open(access)
    try:
        rows = repository.list(volume)
    except VolumeNotFound:
        others = repository.volumes()
        if volume in others:
            raise
        rows = None
    else:
        return rows, [], []
    url = access.location.url
    parent, _, own = url.rpartition("/")
    if not own or parent.endswith("/"):
        return rows, others, []
    beside = open_store(replace(access.location, url=parent), retry_seconds=RETRY_SECONDS)
    return rows, others, sorted(beside.folders(""))


def describe(access: Access, volume: str, backup_id: str) -> dict[str, Any] | None:
    """All that is known of a backup; None when it is not there, or in the trash."""
    try:
        facts = _open(access).show(volume, backup_id)
    except (BackupNotFound, VolumeNotFound):
        return None
    return None if "trash" in facts["labels"] else facts


def take_over(access: Access, cluster: str) -> list[str]:
    """Let the volumes of a cluster belong to this one. Their names."""
    repository = _open(access)
    taken = []
    for volume in repository.usage(failed=_check_tells):
        if access.actor is not None and (volume["owner"] or {}).get("cluster") == cluster:
            repository.take_over(volume["volume"], access.actor)
            taken.append(volume["volume"])
    return taken


def rotate(access: Access) -> dict[str, Any]:
    """Wrap all lineages' keys under the new key; see rotation.RotationResult."""
    store = open_store(access.location, retry_seconds=RETRY_SECONDS)
    return camel(Rotation(store, access.ring()).run())


def _open(access: Access) -> Repository:
    return access.open(retry_seconds=RETRY_SECONDS)
