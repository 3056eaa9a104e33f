"""Snapshots that the operator keeps of a claim, and the backups that they hold. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from blockvault.api import Backup
from blockvault.api.backup import StoredVolume

from .naming import OPERATION_LABEL
from .objects import Object


@dataclass(frozen=True)
class Kept:
    """A snapshot that is kept of an earlier operation on a claim: its content, its Backup, and the VolumeSnapshot."""

    content: Object
    backup: Backup | None
    snapshot: Object = field(default_factory=dict)


def held_by(kept: Kept) -> list[StoredVolume]:
    """What the store has of the backup that was made from a snapshot; nothing unless that is Available.

    A Backup that was made again under its name is another one: the uid on the content tells.
    """
    backup = kept.backup
    uid = (kept.content["metadata"].get("labels") or {}).get(OPERATION_LABEL)
    if backup is None or backup.metadata.uid != uid or backup.status is None:
        return []
    return backup.status.volumes if backup.status.phase == "Available" else []


def newest_first(kept: list[Kept]) -> list[Kept]:
    """In the order in which they were taken, the last one first."""
    return sorted(kept, key=lambda k: str(k.content["metadata"]["creationTimestamp"]), reverse=True)
