"""Progress and results, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

LISTING = "Listing"
READING = "Reading"
WRITING = "Writing"
COMMITTING = "Committing"
VERIFYING = "Verifying"
COMPACTING = "Compacting"
COLLECTING = "Collecting"
ERASING = "Erasing"


@dataclass
class Progress:
    """Where a run is; all counts in bytes."""

    phase: str = READING
    bytes_scanned: int = 0
    bytes_changed: int = 0
    bytes_stored: int = 0
    bytes_written: int = 0
    bytes_total: int = 0


Report = Callable[[Progress], None]


def quiet(_: Progress) -> None:
    """Report to nobody."""


def camel(data: Any) -> dict[str, Any]:
    """A dataclass as JSON with the names that scripts rely on."""
    return {
        "".join([head, *(part.title() for part in rest)]): value
        for name, value in asdict(data).items()
        for head, *rest in [name.split("_")]
    }


@dataclass
class BackupResult:
    """What a backup did. Sizes in bytes, time in seconds.

    `bytes_scanned`: how much of the volume was looked at; `bytes_changed`: blocks that differ from the parent
    (in a full backup: that are not zero); `bytes_stored`: objects uploaded; `used_bytes`: the whole lineage;
    `locked_until`: when the first object that it needs can be deleted, at the earliest; None where none is locked.
    """

    backup_id: str
    volume: str
    type: str
    size: int
    bytes_scanned: int
    bytes_changed: int
    bytes_stored: int
    requests: int
    seconds: float
    root_hash: str
    created_at: str
    changed_block_source: str
    fallback_reason: str | None
    unreadable: list[list[int]]
    file_system: str | None
    peak_memory_bytes: int
    used_bytes: int
    locked_until: str | None = None


@dataclass
class RestoreResult:
    """What a restore did. Sizes in bytes, time in seconds.

    `bytes_kept`: what the target held already, seen by comparing; `have`: the backup that it was told to hold, and
    did; `resumed`: an interrupted restore went on. `unreadable`: ranges [offset, length] that the backup has as zeros
    because its source could not be read. `lost`: what is damaged in the store and zero in the target, as
    [{offset, length, object, cause}]. `unpinned`: why nothing kept the backup from being collected meanwhile; None
    when it was pinned.
    """

    backup_id: str
    volume: str
    bytes_written: int
    bytes_read: int
    seconds: float
    size: int
    file_system: str | None
    requests: int
    peak_memory_bytes: int
    bytes_kept: int
    resumed: bool
    have: str | None
    unreadable: list[list[int]]
    lost: list[dict[str, Any]]
    unpinned: str | None = None
