"""One restore: every block is fetched, decoded, checked against its hash, and only then written."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from blockvault.engine import runtime
from blockvault.engine.blockreader import BlockReader, Damage
from blockvault.engine.devices import Target
from blockvault.engine.hashing import Buffer
from blockvault.engine.leaf import Leaf
from blockvault.engine.newroot import peak_memory
from blockvault.engine.pages import BLOCK_SIZE, FANOUT, blocks_in
from blockvault.engine.progress import WRITING, Progress, Report, RestoreResult
from blockvault.engine.root import Roots
from blockvault.engine.state import RootEntry
from blockvault.engine.tree import TreeReader
from blockvault.engine.volumes import Volume
from blockvault.stores import ObjectStore


class RestoreRun:
    """The state of one run. Use once."""

    def __init__(
        self, store: ObjectStore, volume: Volume, entry: RootEntry, target: str, report: Report
    ) -> None:
        self._store = store
        self._lineage = volume.lineage
        self._volume = volume.state.volume
        self._entry = entry
        self._target_path = target
        self._report = report
        self._progress = Progress(phase=WRITING, bytes_total=entry.size)

    def run(self) -> RestoreResult:
        """Restore, and make it durable."""
        started = runtime.monotonic()
        requests = self._store.traffic.total_requests
        fetched = self._store.traffic.bytes_down
        root = Roots(self._store, self._lineage).read(self._entry)
        reader = TreeReader(self._store, self._lineage, root.top, root.levels)
        target = Target(self._target_path, root.size)
        try:
            self._write(reader, target, root.size)
            target.finish()
        finally:
            target.close()
        self._progress.bytes_scanned = root.size
        self._report(self._progress)
        return RestoreResult(
            backup_id=self._entry.id,
            volume=self._volume,
            bytes_written=self._progress.bytes_written,
            bytes_read=self._store.traffic.bytes_down - fetched,
            seconds=round(runtime.monotonic() - started, 3),
            size=root.size,
            file_system=root.facts.get("fileSystem"),
            requests=self._store.traffic.total_requests - requests,
            peak_memory_bytes=peak_memory(),
        )

    def _write(self, reader: TreeReader, target: Target, size: int) -> None:
        zeros = _ZeroRun(target, size)
        leaves = -(-blocks_in(size) // FANOUT)
        lock = threading.Lock()

        def sink(block: int, data: Buffer) -> None:
            offset = block * BLOCK_SIZE
            part = memoryview(data)[: size - offset]
            target.write(offset, part)
            with lock:
                self._progress.bytes_written += len(part)

        def on_damage(damage: Damage) -> None:
            raise damage.error()

        def wanted() -> Iterator[tuple[int, Leaf, list[int]]]:
            for number, leaf in reader.leaves(range(leaves)):
                _zero(zeros, number, leaf, blocks_in(size))
                if leaf is not None:
                    yield number, leaf, leaf.stored_slots()

        for number in BlockReader(self._store, self._lineage, sink, on_damage).run(wanted()):
            self._progress.bytes_scanned = min(size, (number + 1) * FANOUT * BLOCK_SIZE)
            self._report(self._progress)
        zeros.flush()
        self._report(self._progress)


class _ZeroRun:
    """Joins neighbouring zero blocks, so that the kernel zeroes long ranges at once."""

    def __init__(self, target: Target, size: int) -> None:
        self._target = target
        self._size = size
        self._first = self._end = 0

    def add(self, first: int, end: int) -> None:
        """Blocks [first, end) are zero."""
        if first != self._end:
            self.flush()
            self._first = first
        self._end = end

    def flush(self) -> None:
        """Zero what was collected."""
        offset = self._first * BLOCK_SIZE
        self._target.zero(offset, max(0, min(self._end * BLOCK_SIZE, self._size) - offset))
        self._first = self._end


def _zero(zeros: _ZeroRun, number: int, leaf: Leaf | None, blocks: int) -> None:
    base = number * FANOUT
    last = min(base + FANOUT, blocks)
    if leaf is None:
        zeros.add(base, last)
        return
    for slot in range(last - base):
        if not leaf.stored(slot):
            zeros.add(base + slot, base + slot + 1)
