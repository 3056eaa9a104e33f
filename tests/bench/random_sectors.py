"""A quarter of a million random writes of one sector, in a volume whose first backup is written from metadata."""

from __future__ import annotations

import random

from blockvault.engine import BackupRequest, BackupResult, ChangedList, Repository
from tests.bench.apart import MIB, apart
from tests.bench.memory_store import LayeredStore, MemoryStore
from tests.bench.metadata import VOLUME, write_base
from tests.bench.rows import Bench, Goal, Outcome, Row
from tests.bench.spot import refuse_wrong
from tests.bench.templates import TemplateSource, backed_up_from

SECTOR = 4096
BLOCK = 256 * 1024


def work(size: int, writes: int) -> tuple[BackupResult, int, dict[str, int], int, int]:
    """(result, bytes sent, requests by kind, bytes read from the store, blocks touched)."""
    memory = MemoryStore()
    made = write_base(memory, size)
    store = LayeredStore(made, memory)
    repository = Repository.open(store)
    source = TemplateSource(size)
    sectors = sorted(random.Random(4).sample(range(size // SECTOR), writes))
    ranges = source.touch_sectors(sectors, 5)
    sent, read, before = store.traffic.bytes_up, store.traffic.bytes_down, store.requests
    with backed_up_from(source):
        result = repository.backup(BackupRequest("", VOLUME, changed=ChangedList(ranges)))
    assert result.changed_block_source == "List", result
    sent, read = store.traffic.bytes_up - sent, store.traffic.bytes_down - read
    requests = {kind: count - before.get(kind, 0) for kind, count in store.requests.items()}
    touched = sorted({sector * SECTOR // BLOCK for sector in sectors})
    refuse_wrong(store, made.lineage, repository, source, random.Random(6).sample(touched, 64))
    return result, sent, requests, read, len(touched)


def measure(bench: Bench) -> Outcome:
    """The row."""
    size, writes = bench.size(1 << 40, 1 << 35), bench.size(262_144, 8_192)
    done = apart(work, size, writes)
    result, sent, requests, read, touched = done.result
    changed = writes * SECTOR
    columns = [
        "writes", "changed MiB", "blocks touched, MiB", "sent MiB", "of the changed", "PUT", "GET", "read MiB",
        "seconds", "peak MiB, the store's objects included",
    ]  # fmt: skip
    whole = touched * BLOCK
    line = [
        writes, changed / MIB, whole / MIB, sent / MIB, sent / changed, requests.get("put", 0),
        requests.get("get", 0), read / MIB, result.seconds, done.peak,
    ]  # fmt: skip
    goals = [Goal("sent, metadata included, of the changed bytes (1.4 GiB for 1 GiB)", sent / changed, 1.4)]
    notes = [
        f"A volume of {size >> 30} GiB whose first backup is written from metadata: sixteen blocks of noise that "
        "repeat, generated as they are read; the store is in memory. The engine is the real one, in this process. 64 "
        "of the touched blocks are read back and compared.",
    ]
    return Outcome(columns, [line], goals, notes, {"seconds": [result.seconds]})


ROWS = (Row("random-4k", "Random writes of 4 KiB", measure),)
