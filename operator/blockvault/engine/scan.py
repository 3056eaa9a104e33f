"""Reading and hashing a volume in several threads, giving results in order, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from blockvault.engine import codec, runtime
from blockvault.engine.devices import Source
from blockvault.engine.errors import EngineError
from blockvault.engine.hashing import SIZE, ZERO, LineageKey
from blockvault.engine.pages import BLOCK_SIZE

# Blocks that one thread takes at a time: 4 MiB, so that handing over costs little beside the work.
BATCH_BLOCKS = 16
BATCH_SIZE = BATCH_BLOCKS * BLOCK_SIZE


@dataclass(frozen=True)
class Batch:
    """Blocks [first, end), and their hashes in the parent (None: compare with nothing)."""

    first: int
    end: int
    former: bytes | None


@dataclass(frozen=True)
class Found:
    """A block that differs from the parent. `digest` of zeros and no data: it is zero now."""

    block: int
    digest: bytes
    codec: int
    data: bytes


class EncoderBroken(EngineError):  # noqa: N818 - named after its reason
    """The compressor's output does not decode to its input."""

    reason = "EncoderBroken"
    remedy = "Check this machine's memory; nothing was committed."


class Scanner:
    """Looks at batches of a source."""

    def __init__(self, source: Source, key: LineageKey, threads: int | None = None) -> None:
        self._source = source
        self._key = key
        # One more than there are processors, because some wait for the device.
        self._threads = threads or (os.cpu_count() or 1) + 1

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Found]]]:
        """Results in the order of the batches. Takes batches only as fast as results are taken."""
        pool = runtime.executor(self._threads, "scan")
        waiting: deque[tuple[Batch, Future[list[Found]]]] = deque()
        try:
            for batch in batches:
                waiting.append((batch, pool.submit(self.look, batch)))
                if len(waiting) > 2 * self._threads:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            # Waits for reads on their way, as the source is closed next.
            pool.shutdown(wait=True, cancel_futures=True)

    def look(self, batch: Batch) -> list[Found]:
        """The blocks of one batch that differ from the parent."""
        count = batch.end - batch.first
        former = batch.former or bytes(SIZE * count)
        offset = batch.first * BLOCK_SIZE
        if self._source.is_hole(offset, count * BLOCK_SIZE):
            return [
                Found(batch.first + i, ZERO, codec.RAW, b"")
                for i in range(count)
                if former[i * SIZE : i * SIZE + SIZE] != ZERO
            ]
        view = self._source.read(offset, count * BLOCK_SIZE)
        found = []
        for i in range(count):
            block = view[i * BLOCK_SIZE : (i + 1) * BLOCK_SIZE]
            result = self._block(batch.first + i, block, former[i * SIZE : i * SIZE + SIZE])
            if result is not None:
                found.append(result)
        return found

    def _block(self, number: int, block: memoryview, former: bytes) -> Found | None:
        if not np.frombuffer(block, np.uint64).any():
            return None if former == ZERO else Found(number, ZERO, codec.RAW, b"")
        digest = self._key.block(block)
        if digest == former:
            return None
        codec_id, data = codec.compress(block)
        # Decoded again before it is sent: a faulty encoder or memory must not be found out at a restore.
        # Hashing costs less here than comparing: a memoryview compares byte by byte.
        try:
            intact = self._key.block(codec.decompress(codec_id, data, BLOCK_SIZE)) == digest
        except codec.CodecError:
            intact = False
        if not intact:
            raise EncoderBroken(f"{self._source.path}, block {number}: does not decode to what was read")
        return Found(number, digest, codec_id, data)
