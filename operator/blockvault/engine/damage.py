"""What was found damaged, as a result says it and as a lineage's state remembers it for the next backup."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from blockvault.engine.errors import RollbackSuspected
from blockvault.engine.names import ObjectName
from blockvault.engine.state import RootEntry
from blockvault.engine.walk import bytes_of

# Entries that a state remembers; more than this is no damage that single blocks heal.
REMEMBERED = 1000

Place = tuple[ObjectName, int]

# What to do next, by what is damaged.
BLOCKS_LOST = (
    "Back the volume up: what it still holds is stored anew, for that backup. To restore this one, take another in its "
    "place, or what is left of it by --salvage."
)
HELPERS_LOST = "Every backup can be restored. The next backup of the volume replaces it."
NOTHING_LOST = (
    "Every backup can be restored. `blockvault verify --repair` copies what they need of the object into new ones; "
    "until then compacting leaves it alone."
)
ROOT_LOST = (
    "Restore another backup. Nothing of the volume is collected until this one is gone: `blockvault delete` it, then "
    "run `blockvault verify --repair`."
)
SUMMARY_LOST = (
    "This backup can be restored as far as nothing else is said of it. `blockvault verify --repair` writes down anew "
    "what it needs; nothing of the volume is collected until then."
)
SUMMARY_WRONG = "Do not run `blockvault collect` on this volume. Make a backup with --full, and report this."
RECORD_LOST = (
    "Restore what you need now, and write nothing. Bring this object back from a copy of the store or a former version "
    "of it; docs/disaster-recovery.md says how."
)
SET_BACK = RollbackSuspected.remedy

# In causes: sector digests, which serve the next backup only.
NO_RESTORE_NEEDS_THEM = "(no restore needs them)"


@dataclass(frozen=True)
class Found:
    """Something damaged in the store, the blocks [first, end) that it touches, and the roots (bit n for root n).

    `name`: None where there is nothing to heal. `page`: it is a page or a root, so that nothing is known of its blocks.
    """

    key: str
    name: ObjectName | None
    offset: int
    length: int
    cause: str
    first: int
    end: int
    roots: int
    page: bool = False
    remedy: str | None = None

    @property
    def place(self) -> Place | None:
        """Where it is in the store."""
        return None if self.name is None else (self.name, self.offset)

    def entry(self, found_at: str) -> dict[str, Any] | None:
        """As the state remembers it; None where there is nothing for a backup to heal."""
        if self.name is None or self.first == self.end:
            return None
        return {
            "object": str(self.name),
            "offset": self.offset,
            "length": self.length,
            "blocks": [] if self.page else list(range(self.first, self.end)),
            "page": [self.first, self.end] if self.page else None,
            "foundAt": found_at,
        }


def damage_row(
    backup_id: str | None,
    volume: str | None,
    key: str,
    cause: str,
    offset: int = 0,
    length: int = 0,
    *,
    remedy: str | None = None,
) -> dict[str, Any]:
    """As a result says it: the bytes of a backup that are touched; `backup_id` None: of no backup in particular."""
    if remedy is None and backup_id is None:
        remedy = RECORD_LOST
    elif remedy is None and length == 0:
        remedy = NOTHING_LOST
    elif remedy is None:
        remedy = HELPERS_LOST if NO_RESTORE_NEEDS_THEM in cause else BLOCKS_LOST
    return {
        "backupId": backup_id,
        "volume": volume,
        "offset": offset,
        "length": length,
        "object": key,
        "cause": cause,
        "remedy": remedy,
    }


def rows_of(damage: list[Found], entries: list[tuple[int, RootEntry]], volume: str) -> list[dict[str, Any]]:
    """The damage by backup; neighbours in one object, of one cause, as one. `entries`: with their bits."""
    rows: list[dict[str, Any]] = []
    for number, entry in entries:
        found = [item for item in damage if item.roots >> number & 1]
        for item in sorted(found, key=lambda item: (item.key, item.cause, item.first, item.offset)):
            offset, length = bytes_of(item.first, item.end, entry.size)
            last = rows[-1] if rows else None
            if (
                last is not None
                and (last["backupId"], last["object"], last["cause"]) == (entry.id, item.key, item.cause)
                and last["offset"] + last["length"] in (offset, offset + length)
            ):
                last["length"] = offset + length - last["offset"]
                continue
            rows.append(
                damage_row(entry.id, volume, item.key, item.cause, offset, length, remedy=item.remedy)
            )
    return rows


def place_of(entry: dict[str, Any]) -> Place:
    """Where the damage of a state's entry is in the store."""
    return ObjectName.parse(entry["object"]), int(entry["offset"])


def merge(
    known: Iterable[dict[str, Any]],
    found: Iterable[Found],
    gone: Iterable[Place],
    now: str,
) -> list[dict[str, Any]]:
    """The entries to remember from now on: the known ones but for `gone`, and what was found."""
    left = set(gone)
    entries = {place_of(entry): entry for entry in known if place_of(entry) not in left}
    for damage in found:
        entry, place = damage.entry(now), damage.place
        if entry is not None and place is not None:
            former = entries.get(place)
            entries[place] = {**entry, "foundAt": former["foundAt"]} if former else entry
    return list(entries.values())[:REMEMBERED]
