"""Deleting one of many backups and collecting, while backups go on: what that costs, by how much is stored."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blockvault.engine import BackupRequest, ChangedList, Repository
from tests.bench.apart import MIB, apart
from tests.bench.memory_store import LayeredStore, MemoryStore
from tests.bench.metadata import VOLUME, write_base
from tests.bench.rows import Bench, Cell, Goal, Outcome, Row
from tests.bench.spot import refuse_wrong
from tests.bench.templates import TemplateSource, backed_up_from

BLOCK = 256 * 1024
GIB = 1 << 30
# Blocks that each backup changes, half of them the same each time, and how many of the others are neighbours.
CHANGED = 1024
RUN = 64
COLUMNS = [
    "stored GiB", "backups", "verb", "seconds", "requests", "of these LIST", "GET", "read MiB", "objects freed",
    "freed MiB",
]  # fmt: skip


@dataclass
class Cost:
    """Of one verb."""

    seconds: float
    requests: dict[str, int]
    read: int
    result: Any


class Scene:
    """A volume with its backups, and a client of its own for each who works on them."""

    def __init__(self, source: TemplateSource, backups: int) -> None:
        self._memory = MemoryStore()
        self.made = write_base(self._memory, source.size)
        self.source = source
        self.chance = random.Random(8)
        self.blocks = source.size // BLOCK
        self.last: list[int] = []
        for _ in range(backups - 1):
            self.backup()

    def client(self) -> LayeredStore:
        """One with counters of its own."""
        return LayeredStore(self.made, self._memory.view())

    def backup(self) -> float:
        """One more; its seconds. What changes are runs of neighbours, as a file system would have them."""
        hot = CHANGED // 2
        starts = self.chance.sample(range(hot // RUN, self.blocks // RUN), hot // RUN)
        self.last = [*range(hot), *sorted(start * RUN + step for start in starts for step in range(RUN))]
        changed = ChangedList(self.source.touch(self.last))
        started = time.perf_counter()
        Repository.open(self.client()).backup(BackupRequest("", VOLUME, changed=changed))
        return time.perf_counter() - started

    def cost(self, verb: Callable[[Repository], Any]) -> Cost:
        """What a verb costs, opening the store included."""
        client, started = self.client(), time.perf_counter()
        result = verb(Repository.open(client))
        return Cost(time.perf_counter() - started, client.requests, client.traffic.bytes_down, result)

    def refuse_wrong(self) -> None:
        """Raises AssertionError unless the newest backup has some blocks, changed and not, as the volume has them."""
        some = {*self.chance.sample(range(self.blocks), 32), *self.last[:32]}
        client = self.client()
        refuse_wrong(client, self.made.lineage, Repository.open(client), self.source, sorted(some))


def work(size: int, backups: int) -> tuple[dict[str, Cost], list[float]]:
    """(costs by verb, seconds of the backups that were made meanwhile)."""
    source = TemplateSource(size)
    taken: list[float] = []
    failed: list[Exception] = []
    with backed_up_from(source):
        scene = Scene(source, backups)
        victim = scene.cost(lambda own: own.list(VOLUME)).result[backups // 2]["backupId"]
        # Once in peace, for the figures: with a rival in the same process, seconds are half the rival's.
        costs = {
            "delete": scene.cost(lambda own: own.delete(VOLUME, victim)),
            "collect": scene.cost(lambda own: own.collect(VOLUME)),
        }
        over = threading.Event()

        def others() -> None:
            try:
                while not over.is_set() or not taken:
                    taken.append(scene.backup())
            except Exception as error:  # noqa: BLE001 - raised by who waits for the thread
                failed.append(error)

        rival = threading.Thread(target=others)
        victim = scene.cost(lambda own: own.list(VOLUME)).result[backups // 3]["backupId"]
        rival.start()
        costs["delete, backups meanwhile"] = scene.cost(lambda own: own.delete(VOLUME, victim))
        costs["collect, backups meanwhile"] = scene.cost(lambda own: own.collect(VOLUME))
        over.set()
        rival.join()
        if failed:
            raise failed[0]
        scene.refuse_wrong()
    return costs, taken


def measure(bench: Bench) -> Outcome:
    """The row."""
    sizes = [(100 * GIB, 10), (1024 * GIB, 100)] if bench.full else [(8 * GIB, 5), (32 * GIB, 10)]
    lines: list[list[Cell]] = []
    goals: list[Goal] = []
    notes = [
        f"The first backup of each volume is written from metadata; each other one changes {CHANGED} blocks of it, half "
        f"of them the same each time, the others anywhere, {RUN} neighbours at a time. The store is in memory and needs "
        "a request for each thousand objects listed. Freed is what only the deleted backup needed.",
    ]
    for size, backups in sizes:
        costs, taken = apart(work, size, backups).result
        for name, cost in costs.items():
            found = cost.result[0] if isinstance(cost.result, list) else None
            lines.append(
                [
                    size // GIB,
                    backups,
                    name,
                    cost.seconds,
                    sum(cost.requests.values()),
                    cost.requests.get("list", 0),
                    cost.requests.get("get", 0),
                    cost.read / MIB,
                    found.deleted_objects if found else None,
                    found.deleted_bytes / MIB if found else None,
                ]
            )
        notes.append(
            f"{size // GIB} GiB: {len(taken)} backups meanwhile, the longest took {max(taken):.2f} s."
        )
        pair = costs["delete"], costs["collect"]
        if size == sizes[-1][0]:
            goals.append(Goal("delete and collect, seconds", sum(cost.seconds for cost in pair), 10))
            # Each root is read at most once by each of the two, and nothing below the roots.
            roots = 2 * (backups + 20)
            goals.append(Goal("GETs of both", sum(cost.requests.get("get", 0) for cost in pair), roots))
            goals.append(Goal("objects freed", pair[1].result[0].deleted_objects, 1, at_least=True))
    return Outcome(COLUMNS, lines, goals, notes)


ROWS = (Row("delete-collect", "Delete one of many backups, and collect", measure),)
