"""How many requests a backup makes for what it stores, from the counters of a store that counts."""

from __future__ import annotations

import random

from blockvault.engine import BackupRequest, ChangedList, Repository
from tests.bench.apart import MIB
from tests.bench.memory_store import MemoryStore
from tests.bench.rows import Bench, Cell, Goal, Outcome, Row
from tests.bench.templates import TemplateSource, backed_up_from

BLOCK = 256 * 1024
SECTOR = 4096
FOR_EACH = 30 * MIB
MOST = 10
COLUMNS = ["backup", "stored MiB", "PUT", "more than one per 30 MiB", "GET", "LIST", "HEAD"]


def measure(bench: Bench) -> Outcome:
    """The row."""
    size = bench.size(4 << 30, 256 << 20)
    chance, source, memory = random.Random(9), TemplateSource(size), MemoryStore()
    Repository.init(memory)
    blocks = size // BLOCK

    def some(share: float) -> list[tuple[int, int]]:
        return source.touch(sorted(chance.sample(range(blocks), int(blocks * share))))

    def scattered(share: float) -> list[tuple[int, int]]:
        sectors = size // SECTOR
        return source.touch_sectors(sorted(chance.sample(range(sectors), int(sectors * share))), 1)

    # What changed before each, and whether its list is given.
    steps = {
        "full": (lambda: some(0), False),
        "a tenth of the blocks, listed": (lambda: some(0.1), True),
        "a tenth of the blocks, compared": (lambda: some(0.1), False),
        "one sector in a hundred, listed": (lambda: scattered(0.01), True),
        "one sector in a hundred, compared": (lambda: scattered(0.01), False),
        "nothing, listed": (lambda: some(0), True),
        "nothing, compared": (lambda: some(0), False),
    }
    lines: list[list[Cell]] = []
    over, looks = [], []
    with backed_up_from(source):
        for name, (change, given) in steps.items():
            ranges, client = change(), memory.view()
            changed = ChangedList(ranges) if given else None
            Repository.open(client).backup(BackupRequest("", "v", changed=changed))
            requests, sent = client.requests, client.traffic.bytes_up
            puts = requests.get("put", 0) + requests.get("create", 0)
            over.append(puts - sent / FOR_EACH)
            looks.append(requests.get("list", 0) + requests.get("head", 0))
            lines.append(
                [
                    name,
                    sent / MIB,
                    puts,
                    over[-1],
                    requests.get("get", 0),
                    requests.get("list", 0),
                    requests.get("head", 0),
                ]
            )
    goals = [
        Goal("PUT beyond one per 30 MiB stored (the most)", max(over), MOST),
        Goal("LIST and HEAD of one backup (the most)", max(looks), MOST),
    ]
    notes = [
        f"A volume of {size >> 20} MiB of noise, backed up to a store in memory that counts; PUT with creations."
    ]
    return Outcome(COLUMNS, lines, goals, notes)


ROWS = (Row("requests", "Requests of a backup", measure),)
