"""The row of `make bench`: one operator, a cluster that has grown, storage and movers played."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from tests.bench.rows import Bench, Goal, Outcome, Row

from .fill import Size
from .measure import IDLE_SECONDS, LARGE, SMALL, Figures, run

COLUMNS = ["what", "figure", "requests", "most of them"]
SHOWN = 4


def measure(bench: Bench) -> Outcome:
    """The row."""
    size = LARGE if bench.full else SMALL
    with bench.folder() as folder:
        found = asyncio.run(run(folder, size, IDLE_SECONDS if bench.full else IDLE_SECONDS / 6))
    return outcome(found, size)


def outcome(found: Figures, size: Size) -> Outcome:
    """What was found, as a row shows it."""
    notes = [
        f"{size.vaults} Vaults of {size.claims} bound claims in {size.namespaces} namespaces, {size.backups} finished Backups of "
        "five nights, each with its Task and the last of each claim with its snapshot; all of it in a real API server "
        "with etcd, which share the cores with the operator.",
        "The operator runs as the chart has it, but from the tree. Its store work is done by its own worker processes "
        "and answers at once; snapshots are ready and movers have ended as soon as they are asked for.",
        "Requests are those of the operator's user in the API server's audit log. Memory is that of all its processes, "
        "pages that they share counted once (PSS).",
        f"It is at rest after a start when each Vault was checked, and five seconds pass with no more than five requests. Idle was watched for "
        f"{found.idle_seconds:.0f} s, longer than any loop sleeps but those of the catalogue and of upkeep.",
        f"etcd's database: {found.etcd_mib:.0f} MiB. Load average at the end: {os.getloadavg()[0]:.1f}.",
    ]
    return Outcome(COLUMNS, lines(found, size.claims), goals(found), notes)


def lines(found: Figures, claims: int) -> list[list[str | int | float | None]]:
    """The table."""

    def most(requests: Counter[str]) -> str:
        return ", ".join(f"{count} {what}" for what, count in requests.most_common(SHOWN))

    processes = " + ".join(f"{each:.0f}" for each in sorted(found.memories, reverse=True))
    return [
        ["memory at rest, MiB", found.memory_steady, None, f"by process: {processes}"],
        ["memory at its peak, start, MiB", found.memory_peak, None, None],
        ["memory at its peak, slot, MiB", found.slot_memory, None, None],
        ["start to rest, s", found.restart, found.restart_requests.total(), most(found.restart_requests)],
        ["start to rest, processor s", found.restart_cpu, None, None],
        ["idle, requests/s", found.idle_rate, found.idle.total(), most(found.idle)],
        ["idle, processor s per minute", 60 * found.idle_cpu / found.idle_seconds, None, None],
        [f"slot: {claims} Backups exist, s", found.slot_made, None, None],
        [f"slot: {claims} Backups done, s", found.slot_done, found.slot.total(), most(found.slot)],
        ["slot, processor s", found.slot_cpu, None, None],
        ["slot, requests per Backup", found.slot.total() / claims, None, None],
    ]


def goals(found: Figures) -> list[Goal]:
    """Those of the operator at full strength."""
    return [
        Goal("memory, MiB", max(found.memory_steady, found.memory_peak, found.slot_memory), 300),
        Goal("requests per second in idle", found.idle_rate, 1),
        Goal("start to rest, s", found.restart, 30),
        Goal("Backups of a slot exist, s", found.slot_made, 60),
    ]


ROWS = (Row("scale", "The operator in a large cluster", measure),)
