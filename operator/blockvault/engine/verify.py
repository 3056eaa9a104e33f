"""Verifying volumes one after the other, and the small objects that belong to no backup in particular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blockvault.engine.commits import Commits
from blockvault.engine.damage import SET_BACK, damage_row
from blockvault.engine.envelope import Kind, split
from blockvault.engine.errors import FormatUnsupported, StoredDataDamaged, WrongKey
from blockvault.engine.fetching import get_whole
from blockvault.engine.names import GENERATIONS, VOLUMES, LineagePaths
from blockvault.engine.progress import VERIFYING, Progress, Report
from blockvault.engine.verification import CURSOR, Verification, Verified
from blockvault.engine.volumes import Volume
from blockvault.stores import BlockvaultError, ObjectNotFound, ObjectStore


def last_verified(volume: Volume) -> str:
    """When a run with a budget last looked at a volume; empty when none did."""
    return str(volume.state.extra.get(CURSOR, {}).get("at", ""))


def verify_all(
    store: ObjectStore,
    volumes: list[Volume],
    backup_id: str | None,
    sample: float | None,
    budget: int | None,
    report: Callable[[str], Report],
    *,
    every_byte: bool = False,
) -> dict[str, Any]:
    """Verify these volumes in turn; a budget is for all together. See Repository.verify for the result.

    `report`: gives, by the volume's name, whom to report to.
    """
    done: list[Verified] = []
    for volume in volumes:
        left = None if budget is None else max(0, budget - sum(item.bytes for item in done))
        total = round(volume.state.used_bytes * (1.0 if sample is None else sample))
        progress = Progress(phase=VERIFYING, bytes_total=total if left is None else min(total, left))
        run = Verification(
            store,
            volume,
            backup_id=backup_id,
            sample=sample,
            budget=left,
            every_byte=every_byte,
            progress=progress,
            report=report(volume.state.volume),
        )
        done.append(run.run())
    damaged = [row for item in done for row in item.damaged]
    return {
        "ok": not damaged,
        "checkedBlocks": sum(item.blocks for item in done),
        "checkedBytes": sum(item.bytes for item in done),
        "damaged": damaged,
        "backups": [backup for item in done for backup in item.backups],
        "kept": all(item.kept for item in done),
    }


def scrub(store: ObjectStore, volumes: list[Volume], result: dict[str, Any]) -> None:
    """Look at the small objects that belong to no backup in particular, by their checksums; adds to a result."""
    folders: list[tuple[Kind, str, str | None]] = [
        (Kind.VOLUME, VOLUMES, None),
        (Kind.GENERATION, GENERATIONS, None),
    ]
    for volume in volumes:
        paths = volume.lineage.paths
        folders += [(kind, folder, volume.state.volume) for kind, folder in _records(paths)]
    for kind, folder, name in folders:
        for info in list(store.list(folder)):
            try:
                split(kind, info.key, get_whole(store, info.key))
            except ObjectNotFound:
                continue  # trimmed meanwhile
            except (StoredDataDamaged, FormatUnsupported) as error:
                add(result, damage_row(None, name, info.key, error.message.partition(": ")[2]))
    for volume in volumes:
        try:
            Commits(store, volume.lineage).check_chain(volume.state)
        except (StoredDataDamaged, FormatUnsupported) as error:
            key, _, cause = error.message.partition(": ")
            add(result, damage_row(None, volume.state.volume, key, cause))


def refuse_set_back(volumes: list[Volume], seen: dict[str, int], result: dict[str, Any]) -> None:
    """Lineages of which a later commit was `seen` before; adds to a result."""
    for volume in volumes:
        state, before = volume.state, seen.get(volume.state.lineage, 0)
        if state.number < before:
            key = volume.lineage.paths.commit(before)
            cause = f"was seen before, and now commit {state.number} is the newest: the volume was set back"
            add(result, damage_row(None, state.volume, key, cause, remedy=SET_BACK))


def unreadable(key: str, volume: str | None, error: BlockvaultError) -> dict[str, Any]:
    """A volume whose record, key or newest commit cannot be had, as a result says it. Raises what is no damage."""
    if isinstance(error, WrongKey):
        return damage_row(None, volume, key, error.message, remedy=error.remedy)
    if not isinstance(error, StoredDataDamaged | FormatUnsupported):
        raise error
    found, _, cause = error.message.partition(": ")
    return damage_row(None, volume, found, cause)


def add(result: dict[str, Any], row: dict[str, Any]) -> None:
    """One more damage, unless it is known already."""
    if (row["object"], row["backupId"]) not in {(d["object"], d["backupId"]) for d in result["damaged"]}:
        result["damaged"].append(row)
    result["ok"] = False


def _records(paths: LineagePaths) -> list[tuple[Kind, str]]:
    return [(Kind.COMMIT, paths.commits), (Kind.KEY, paths.keys)]
