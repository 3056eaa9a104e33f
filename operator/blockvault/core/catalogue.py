"""Backups of the store that no object shows: which they are, and the objects that show them (A13, F5). Pure.

The store is the truth. What another cluster made, or this one before it was lost, appears as a Backup in state
Available that can be restored at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from blockvault.api import Backup, Vault
from blockvault.api.common import NAME_PATTERN

from .association import CLAIM
from .automatic import expiry_status, origin_facts, origin_in
from .conditions import parse_timestamp, ready_conditions, timestamp
from .naming import IMPORTED_ANNOTATION, IMPORTED_LABEL, UNDELETE_ANNOTATION, asked_id
from .objects import Object

LONGEST_DESCRIPTION = 255
LOST = "NotInStore"
# Deleted backups that a status names.
MOST_TRASH = 64


@dataclass(frozen=True)
class Stored:
    """A backup of the store, by the two words that find it there. `kept`: no rule may remove it."""

    volume: str
    backup_id: str
    kept: bool = False


def imported(backup: Backup) -> Stored | None:
    """What of the store an object shows that the catalogue made; None of all others."""
    text = backup.metadata.annotations.get(IMPORTED_ANNOTATION)
    try:
        facts = json.loads(text or "null")
        return Stored(str(facts["volume"]), str(facts["backupId"]), bool(facts.get("kept")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def unseen(rows: Iterable[dict[str, Any]], backups: Iterable[Backup]) -> list[dict[str, Any]]:
    """Backups of the store, as it lists them, that no object shows. What is in the trash is none.

    An object shows what it has made, also where that does not stand in its status yet: the operation is its uid. One
    that has said that the store has its backup no more shows nothing: what is brought back later gets another one.
    """
    seen: set[str] = set()
    for backup in backups:
        if backup.status and backup.status.phase == "Error" and backup.status.reason == LOST:
            continue
        seen.add(backup.metadata.uid)
        seen |= {v.backup_id for v in (backup.status.volumes if backup.status else []) if v.backup_id}
        if (stored := imported(backup)) is not None:
            seen.add(stored.backup_id)
    return [
        row
        for row in rows
        if row["backupId"] not in seen and row["operationId"] not in seen and "trash" not in row["labels"]
    ]


def gone(
    vault: Vault, rows: Iterable[dict[str, Any]], backups: Iterable[Backup]
) -> list[tuple[Backup, Stored]]:
    """Available Backups whose data the store has no more, or in the trash only: the store is the truth.

    They are of another cluster, or of this one whose API server was set back to before they were deleted. Only of
    volumes of which something is listed: what is missing as a whole may be missing from a listing that lags.
    """
    listed = list(rows)
    volumes = {row["volume"] for row in listed}
    living = {row["backupId"] for row in listed if "trash" not in row["labels"]}
    available = [b for b in backups if b.status and b.status.phase == "Available"]
    found = [(b, stored) for b in available if (stored := imported(b) or _own(vault, b)) is not None]
    return [(b, stored) for b, stored in found if stored.volume in volumes and stored.backup_id not in living]


def _own(vault: Vault, backup: Backup) -> Stored | None:
    """What of this Vault's store a Backup has made; None of one that lies at another place."""
    status, place = backup.status, vault.status.location if vault.status else None
    if status is None or place is None or status.location != place or not status.volumes:
        return None
    made = status.volumes[0]
    return Stored(made.lineage_volume, made.backup_id) if made.lineage_volume and made.backup_id else None


def trash_status(rows: Iterable[dict[str, Any]], actor: str) -> list[dict[str, Any]]:
    """What a Vault's status says of its trash, as far as it is this cluster's (`actor`); those that go last first."""
    found = [
        row
        for row in rows
        if "trash" in row["labels"] and (row["owner"] or {}).get("cluster", actor) == actor
    ]
    found.sort(key=lambda row: (row["labels"]["trash"]["until"], row["backupId"]), reverse=True)
    return [
        {
            "backupId": row["backupId"],
            "volume": row["volume"],
            "createdAt": row["createdAt"],
            "until": row["labels"]["trash"]["until"],
        }
        for row in found[:MOST_TRASH]
    ]


def imported_object(vault: Vault, facts: dict[str, Any], taken: set[str]) -> Object:
    """The object that shows a backup, by all that the store knows of it. Its former name, if nobody has it here.

    One that somebody brought back from the trash is as good as made by hand: no rule may remove it again.
    """
    meta = facts["meta"]
    stored = {"volume": facts["volume"], "backupId": facts["backupId"]}
    if asked_id(vault.metadata.annotations.get(UNDELETE_ANNOTATION)) == facts["backupId"]:
        stored["kept"] = True
    return {
        "metadata": {
            "name": _name(vault, meta, facts["backupId"], taken),
            "namespace": vault.metadata.namespace,
            "labels": {IMPORTED_LABEL: "true"},
            "annotations": {IMPORTED_ANNOTATION: json.dumps(stored, sort_keys=True)},
        },
        "spec": {
            "vaultRef": {"name": vault.metadata.name},
            "resource": {"kind": CLAIM, "name": claim_of(facts)},
            **(
                {"description": str(meta["description"])[:LONGEST_DESCRIPTION]}
                if meta.get("description")
                else {}
            ),
        },
    }


def _name(vault: Vault, meta: dict[str, Any], backup_id: str, taken: set[str]) -> str:
    former = str(meta.get("backup") or "")
    here = meta.get("namespace") == vault.metadata.namespace
    if here and former not in taken and re.fullmatch(NAME_PATTERN, former) and len(former) <= 253:
        return former
    return f"imported-{backup_id[:12]}"


def claim_of(facts: dict[str, Any]) -> str:
    """The claim that a backup was made from; of what is none, such as a device by the command line, a name like one."""
    for candidate in (facts["meta"].get("claim"), str(facts["volume"]).rpartition("/")[2]):
        if candidate and len(str(candidate)) <= 253 and re.fullmatch(NAME_PATTERN, str(candidate)):
            return str(candidate)
    return f"volume-{hashlib.sha256(str(facts['volume']).encode()).hexdigest()[:12]}"


def imported_status(
    vault: Vault, backup: Backup, facts: dict[str, Any], actor: str, now: datetime
) -> dict[str, Any]:
    """The status of an object that shows a stored backup. `actor`: this cluster."""
    meta, owner = facts["meta"], (facts.get("owner") or {}).get("cluster")
    source = meta["source"] if isinstance(meta.get("source"), dict) else {}
    mode, storage_class = source.get("volume_mode"), source.get("storage_class")
    foreign = owner if owner != actor else None
    message = "Found in the store" + (f", where it belongs to cluster {foreign}." if foreign else ".")
    generation = backup.metadata.generation
    stored = imported(backup)
    origin = None if stored is not None and stored.kept else origin_in(meta)
    status: dict[str, Any] = {
        "phase": "Available",
        "reason": "Imported",
        "message": message,
        "observedGeneration": generation,
        "conditions": ready_conditions([], "ready", "Imported", message, generation=generation, now=now),
        "type": str(facts["type"]).capitalize(),
        "trigger": "Manual",
        "location": vault.status.location if vault.status else None,
        "cluster": foreign,
        "startedAt": facts["createdAt"],
        "completedAt": facts["createdAt"],
        "volumes": [
            {
                "claim": claim_of(facts),
                "size": facts["size"],
                "backupId": facts["backupId"],
                "rootHash": facts["rootHash"],
                "lineageVolume": facts["volume"],
                "bytesScanned": facts["bytesScanned"],
                "bytesChanged": facts["bytesChanged"],
                "bytesStored": facts["bytesStored"],
                "lockedUntil": facts["lockedUntil"],
                "fileSystem": facts["fileSystem"],
                "snapshotTime": _moment(meta.get("snapshotTime")) or facts["createdAt"],
                "volumeMode": mode if mode in ("Block", "Filesystem") else None,
                "storageClassName": storage_class if isinstance(storage_class, str) else None,
            }
        ],
    }
    if origin is not None:
        status |= origin_facts(origin) | expiry_status(origin)
    return status


def _moment(text: Any) -> str | None:
    """A time that came from the store, if it is one with a zone."""
    try:
        moment = parse_timestamp(str(text))
    except ValueError:
        return None
    return timestamp(moment) if moment.tzinfo else None


def lost_status(backup: Backup, stored: Stored, now: datetime) -> dict[str, Any]:
    """The status of an object that says to show a backup which the store has not."""
    message = (
        f"The vault's store holds no backup {stored.backup_id} of volume {stored.volume}: delete this object."
    )
    generation = backup.metadata.generation
    return {
        "phase": "Error",
        "reason": LOST,
        "message": message,
        "observedGeneration": generation,
        "completedAt": timestamp(now),
        "conditions": ready_conditions([], "stalled", LOST, message, generation=generation, now=now),
    }
