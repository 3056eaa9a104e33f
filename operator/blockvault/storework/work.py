"""The work itself, as functions of plain data that run in a worker process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blockvault.engine import EngineError, FormatUnsupported, Repository, StoredDataDamaged
from blockvault.engine.progress import camel
from blockvault.stores import StoreLocation, open_store

# Callers come back by themselves; better a clear word soon than a long silence.
RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class StoreStatus:
    """A store that passed its check: its id, used bytes of all volumes, and how many backups it holds.

    `unreadable`: (volume, what and why, what to do) of volumes that are left out of these, as their state is damaged.
    """

    store_id: str
    used_bytes: int
    backups: int
    unreadable: list[tuple[str, str, str]] = field(default_factory=list)


def check(location: StoreLocation) -> StoreStatus:
    """Make the store, or open it when it is there; prove that it is fit for use.

    A volume whose state is damaged does not make it unfit: the others are independent of it.
    """
    store = open_store(location, retry_seconds=RETRY_SECONDS, make=True)
    repository = Repository.init(store)
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
        sorted(unreadable),
    )


def delete_backup(location: StoreLocation, volume: str, backup_id: str) -> bool:
    """Take a backup out; False when it was not there."""
    return _open(location).delete(volume, backup_id)


def find_operation(location: StoreLocation, volume: str, operation_id: str) -> dict[str, Any] | None:
    """The result of an operation that has committed."""
    found = _open(location).find_operation(volume, operation_id)
    return None if found is None else camel(found)


def usage(location: StoreLocation) -> int:
    """Used bytes of all volumes together."""
    return sum(volume["usedBytes"] for volume in _open(location).usage())


def list_backups(location: StoreLocation, volume: str | None) -> list[dict[str, Any]]:
    """Backups of one volume, or of all."""
    return _open(location).list(volume)


def _open(location: StoreLocation) -> Repository:
    return Repository.open(open_store(location, retry_seconds=RETRY_SECONDS))
