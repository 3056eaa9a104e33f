"""The latest backup of a resource, and the proof that there never was one (F19). Pure.

An empty volume in the place of a database whose backups were overlooked is the worst that a restore can do. So empty
is the answer only where a complete listing shows that nothing of this resource was ever stored; every
doubt is waited for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .conditions import parse_timestamp
from .decision import Missing, Refusal

PLACE = r".+-[0-9a-f]{8}"


@dataclass(frozen=True)
class Never:
    """There never was a backup."""


def choose_latest(
    volume: str,
    rows: list[dict[str, Any]] | None,
    before: datetime | None,
    former: list[str],
    others: list[str],
) -> str | Never | Missing | Refusal:
    """The id of the latest backup, as the store lists those of a volume; `rows` None: it has no such volume.

    `before`: made before that time. `former`: places of former Vaults beside this one. `others`: the store's other
    volumes.
    """
    living = [row for row in rows or [] if "trash" not in row["labels"]]
    chosen = [row for row in living if before is None or parse_timestamp(row["createdAt"]) < before]
    if chosen:
        return str(chosen[-1]["backupId"])
    if living:
        return Refusal(
            "NoBackupBefore",
            f"All {len(living)} backups of {volume} were made after spec.latestOf.before: name a later time.",
        )
    if rows is not None:
        trash = f", but {len(rows)} in the trash: bring one back (blockvault.dev/undelete)" if rows else ""
        return Missing("NoBackupLeft", f"The store knows {volume} and has no backup of it{trash}.")
    if former:
        places = ", ".join(former)
        return Missing(
            "FormerPlace",
            f"This Vault has no backup of {volume}, but there are places of former Vaults beside it ({places}): "
            "take the right one over by spec.adopt.",
        )
    claim = volume.rpartition("/")[2]
    elsewhere = sorted(name for name in others if name.rpartition("/")[2] == claim)
    if elsewhere:
        return Missing(
            "BackupsElsewhere",
            f"The store has no backup of {volume}, but of {', '.join(elsewhere)}, from another namespace: "
            "restore the one that is meant by spec.backupRef.",
        )
    return Never()


def former_places(location: str, folders: Iterable[str]) -> list[str]:
    """Places of other Vaults of the namespace, former or not, by the folders beside this one's place.

    A place by a class ends in the Vault's name and the first 8 digits of its uid; any other has none beside it.
    """
    parent, _, own = location.rpartition("/")
    if not re.fullmatch(PLACE, own):
        return []
    return sorted(f"{parent}/{f}" for f in folders if f != own and re.fullmatch(PLACE, f))


def done_by(restore: str, rows: list[dict[str, Any]] | None) -> bool:
    """Whether a Restore of this namespace and name has restored one of these backups in place (F30)."""
    return any(
        isinstance(done := row["labels"].get("restoredBy"), dict) and restore in done for row in rows or []
    )
