"""Verifying volumes one after the other, and the small objects that belong to no backup in particular."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from blockvault.engine import generations
from blockvault.engine.commits import Commits
from blockvault.engine.damage import SET_BACK, damage_row
from blockvault.engine.envelope import Kind, split
from blockvault.engine.errors import FormatUnsupported, StoredDataDamaged, WrongKey
from blockvault.engine.fetching import get_whole
from blockvault.engine.generations import StoreFacts
from blockvault.engine.names import GENERATIONS, LINEAGES, LineagePaths
from blockvault.engine.progress import VERIFYING, Progress, Report
from blockvault.engine.rollback import Seen
from blockvault.engine.verification import CURSOR, Verification, Verified
from blockvault.engine.volumes import Volume, Volumes
from blockvault.stores import BlockvaultError, ObjectNotFound, ObjectStore

# Others are not ours: somebody put them there.
LINEAGE_ID = re.compile(r"[0-9a-f]{32}")


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


def scrub(
    store: ObjectStore,
    facts: StoreFacts,
    records: str,
    volumes: list[Volume],
    stored: set[str],
    result: dict[str, Any],
) -> None:
    """Look at the small objects that belong to no backup in particular, by their checksums; adds to a result.

    `records`: the folder of volumes' records. `stored`: lineages besides those of the volumes.
    """
    lineages = {**dict.fromkeys(stored), **{each.state.lineage: each.state.volume for each in volumes}}
    folders: list[tuple[Kind, str, str | None]] = [
        (Kind.VOLUME, records, None),
        (Kind.GENERATION, GENERATIONS, None),
    ]
    for lineage, name in lineages.items():
        paths = LineagePaths(lineage)
        folders += [(Kind.COMMIT, paths.commits, name), (Kind.KEY, paths.keys, name)]
    for kind, folder, name in folders:
        for info in list(store.list(folder)):
            with _noting(result, name), suppress(ObjectNotFound):  # it may be trimmed meanwhile
                split(kind, info.key, get_whole(store, info.key))
    if facts.encrypted:
        with _noting(result, None):
            generations.check(store, facts)


def check_chains(
    store: ObjectStore, volumes: list[Volume], seen: dict[str, Seen], result: dict[str, Any]
) -> None:
    """The commit before the newest is there, and what was `seen` before led to it; adds to a result."""
    for volume in volumes:
        with _noting(result, volume.state.volume):
            Commits(store, volume.lineage).check_chain(volume.state)
        with _noting(result, volume.state.volume):
            _refuse_set_back(store, volume, seen.get(volume.state.lineage), result)


@contextmanager
def _noting(result: dict[str, Any], volume: str | None) -> Iterator[None]:
    try:
        yield
    except (StoredDataDamaged, FormatUnsupported) as error:
        key, _, cause = error.message.partition(": ")
        add(result, damage_row(None, volume, key, cause))


def _refuse_set_back(store: ObjectStore, volume: Volume, before: Seen | None, result: dict[str, Any]) -> None:
    state = volume.state
    cause = Commits(store, volume.lineage).set_back(state, before)
    if before is not None and cause is not None:
        key = volume.lineage.paths.commit(before.number)
        add(result, damage_row(None, state.volume, key, f"{cause}: the volume was set back", remedy=SET_BACK))


def lineages_in(store: ObjectStore) -> set[str]:
    """All lineages of which anything is there, whether or not a volume's record names them.

    By their folders: what lies in them is listed once, when the lineage's turn comes.
    """
    return {name for name in store.folders(LINEAGES) if LINEAGE_ID.fullmatch(name)}


def strays(volumes: Volumes, found: list[Volume], unlisted: set[str], result: dict[str, Any]) -> None:
    """Lineages that their volumes' names do not lead to; adds to a result. `unlisted`: no listed record names them."""
    lost = {each.state.lineage: each.state.volume for each in found}
    for each in found:
        with _noting(result, each.state.volume):
            if volumes.named(each.state.volume, each.state.lineage):
                del lost[each.state.lineage]
    for lineage in unlisted:
        with _noting(result, None):
            volume = volumes.unnamed(lineage)
            if volume is not None:
                lost[lineage] = volume
    for lineage, volume in sorted(lost.items()):
        cause = f"no record of volume {volume!r} leads to this lineage, which has commits: it was deleted"
        add(result, damage_row(None, volume, f"{LINEAGES}{lineage}/", cause))


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
