"""Verifying volumes one after the other, and the small objects that belong to no backup in particular."""

from __future__ import annotations

from typing import Any

from blockvault.engine.envelope import Kind, split
from blockvault.engine.errors import FormatUnsupported, StoredDataDamaged
from blockvault.engine.fetching import get_whole
from blockvault.engine.names import GENERATIONS, VOLUMES, LineagePaths
from blockvault.engine.progress import VERIFYING, Progress, Report
from blockvault.engine.verification import CURSOR, Verification, Verified
from blockvault.engine.volumes import Volume
from blockvault.stores import ObjectNotFound, ObjectStore


def last_verified(volume: Volume) -> str:
    """When a run with a budget last looked at a volume; empty when none did."""
    return str(volume.state.extra.get(CURSOR, {}).get("at", ""))


def verify_all(
    store: ObjectStore,
    volumes: list[Volume],
    backup_id: str | None,
    sample: float | None,
    budget: int | None,
    report: Report,
) -> dict[str, Any]:
    """Verify these volumes in turn; a budget is for all together. See Repository.verify for the result."""
    done: list[Verified] = []
    for volume in volumes:
        progress = Progress(phase=VERIFYING, bytes_total=volume.state.used_bytes)
        left = None if budget is None else max(0, budget - sum(item.bytes for item in done))
        run = Verification(
            store,
            volume,
            backup_id=backup_id,
            sample=sample,
            budget=left,
            progress=progress,
            report=report,
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
                cause = error.message.partition(": ")[2]
                result["ok"] = False
                result["damaged"].append(
                    {
                        "backupId": None,
                        "volume": name,
                        "offset": 0,
                        "length": 0,
                        "object": info.key,
                        "cause": cause,
                    }
                )


def _records(paths: LineagePaths) -> list[tuple[Kind, str]]:
    return [(Kind.COMMIT, paths.commits), (Kind.KEY, paths.keys)]
