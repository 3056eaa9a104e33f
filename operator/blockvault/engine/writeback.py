"""Writing what a restore has fetched: neighbours together, made durable as it goes on; and what was lost."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from blockvault.engine import ranges
from blockvault.engine.blockreader import Damage
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.hashing import Buffer
from blockvault.engine.pages import BLOCK_SIZE, SECTOR_SIZE
from blockvault.engine.progress import Progress
from blockvault.engine.target import Target

# Bytes written between two fdatasyncs. While one runs, as many again may be written, and what is in flight comes on
# top: 64 MiB at most are lost with the machine, and fetched again.
SYNC_EVERY = 20 * 1024 * 1024

# Reading what a target holds pays while so much of it need not be written, looked at after so many bytes.
WORTH_SPARING = 0.1
SPARED_AFTER = 64 * 1024 * 1024


class Writeback:
    """The writing side of a restore. `write` and `damaged` may be called from several threads.

    `sparing`: where the target holds another state of the volume, of a block only the sectors that differ are written.
    `lost`: what could not be had, as [{offset, length, object, cause}], in bytes of the volume; only with `salvage`,
    without which the first damage is raised.
    """

    def __init__(
        self, target: Target, progress: Progress, *, salvage: bool = False, sparing: bool = False
    ) -> None:
        self.salvage = salvage
        self._sparing = sparing
        self._looked_at = self._spared = 0
        self._target = target
        self._size = target.size
        self._progress = progress
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._unsynced = 0
        self._zeros = (0, 0)
        self._lost: list[tuple[int, int, str, str]] = []

    def write(self, blocks: list[tuple[int, Buffer]]) -> None:
        """Write blocks, which come in ascending order. Raises TargetUnwritable."""
        written = 0
        for offset, buffers in _joined(self._parts(blocks)):
            self._target.write(offset, buffers)
            written += sum(len(buffer) for buffer in buffers)
        with self._lock:
            self._progress.bytes_written += written
            self._unsynced += written
            due = self._unsynced >= SYNC_EVERY
        if due:
            self._sync()

    def _parts(self, blocks: list[tuple[int, Buffer]]) -> Iterator[tuple[int, memoryview]]:
        """(offset, bytes) to write, ascending."""
        for number, data in blocks:
            offset = number * BLOCK_SIZE
            block = memoryview(data)[: self._size - offset]
            if self._sparing:
                yield from self._differing(offset, block)
            else:
                yield offset, block

    def _differing(self, offset: int, block: memoryview) -> Iterator[tuple[int, memoryview]]:
        """The sectors in which the target holds something else."""
        there = self._target.read(offset, len(block))
        if len(there) < len(block):
            yield offset, block
            return
        bytes_differ = np.frombuffer(there, np.uint8) != np.frombuffer(block, np.uint8)
        sectors = np.logical_or.reduceat(bytes_differ, np.arange(0, len(block), SECTOR_SIZE))
        for start, end in (ranges.of_flags(sectors) * SECTOR_SIZE).tolist():
            yield offset + start, block[start:end]
        with self._lock:
            self._looked_at += len(block)
            self._spared += (len(sectors) - int(sectors.sum())) * SECTOR_SIZE
            if self._looked_at >= SPARED_AFTER and self._spared < self._looked_at * WORTH_SPARING:
                self._sparing = False

    def _sync(self) -> None:
        # Who comes while it runs, with as much again, waits here.
        with self._syncing:
            with self._lock:
                if self._unsynced < SYNC_EVERY:
                    return
                self._unsynced = 0
            self._target.sync()

    def zero(self, first: int, end: int) -> None:
        """Blocks [first, end) are zero. Neighbours are joined: the kernel zeroes long ranges at once. Of one thread."""
        if first != self._zeros[1]:
            self.flush()
            self._zeros = (first, end)
        self._zeros = (self._zeros[0], end)

    def flush(self) -> None:
        """Zero what was collected. Raises TargetUnwritable."""
        first, end = self._zeros
        self._zero_out(first, end)
        self._zeros = (end, end)

    def _zero_out(self, first: int, end: int) -> None:
        offset = first * BLOCK_SIZE
        self._target.zero(offset, max(0, min(end * BLOCK_SIZE, self._size) - offset))

    def damaged(self, damage: Damage) -> None:
        """A block cannot be had. Raises it as an error, or puts zeros there."""
        if not self.salvage:
            raise damage.error()
        self._lose(damage.block, damage.block + 1, damage.key, damage.cause)

    def page_damaged(self, first: int, end: int, error: StoredDataDamaged) -> None:
        """The page that names the blocks [first, end) cannot be had."""
        if not self.salvage:
            raise error
        self._lose(first, end, *error.parts)

    def _lose(self, first: int, end: int, key: str, cause: str) -> None:
        with self._lock:
            self._lost.append((first, end, key, cause))
        self._zero_out(first, end)

    @property
    def lost(self) -> list[dict[str, Any]]:
        """What was lost; neighbours of one cause as one."""
        merged: list[tuple[int, int, str, str]] = []
        for first, end, key, cause in sorted(self._lost):
            if merged and (merged[-1][1], *merged[-1][2:]) == (first, key, cause):
                merged[-1] = (merged[-1][0], end, key, cause)
            else:
                merged.append((first, end, key, cause))
        return [
            {
                "offset": first * BLOCK_SIZE,
                "length": min(end * BLOCK_SIZE, self._size) - first * BLOCK_SIZE,
                "object": key,
                "cause": cause,
            }
            for first, end, key, cause in merged
        ]


def _joined(parts: Iterable[tuple[int, memoryview]]) -> Iterator[tuple[int, list[memoryview]]]:
    """Neighbours together: (offset, buffers that follow one another there)."""
    offset, end, buffers = 0, -1, list[memoryview]()
    for start, part in parts:
        if start != end and buffers:
            yield offset, buffers
            buffers = []
        if not buffers:
            offset = start
        buffers.append(part)
        end = start + len(part)
    if buffers:
        yield offset, buffers
