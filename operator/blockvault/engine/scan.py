"""Reading and hashing a volume in several threads, giving results in order, in bounded memory.

A block that differs from the parent's is packed here: as a patch of the sectors that changed, where the parent
has sector digests and few of them differ, else whole.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from blockvault.engine import codec, runtime, sectors
from blockvault.engine.devices import Source
from blockvault.engine.errors import EngineError
from blockvault.engine.former import FormerLeaf
from blockvault.engine.hashing import ZERO
from blockvault.engine.leaf import MAX_PATCHES
from blockvault.engine.lineage import Lineage
from blockvault.engine.pages import BLOCK_SIZE

# Blocks that one thread takes at a time: 2 MiB, so that handing over costs little beside the work, and memory as well.
BATCH_BLOCKS = 8
BATCH_SIZE = BATCH_BLOCKS * BLOCK_SIZE

# One of so many whole blocks, by chance, is decoded again before it is sent (and every patch): all would take half
# as long again. docs/decisions/0018.
PROVED = 8


def is_zero(block: memoryview) -> bool:
    """Whether all bytes are zero. Ordinary data shows by its first bytes that it is not."""
    words = np.frombuffer(block, np.uint64)
    return not (words[:8].any() or words.any())


@dataclass(frozen=True)
class Batch:
    """Blocks [first, end), all in one leaf, and what the parent has in that leaf."""

    first: int
    end: int
    former: FormerLeaf


@dataclass(frozen=True)
class Found:
    """A block that differs from the parent, packed.

    `digest` of zeros and no data: it is zero now. `mask` 0: whole. Else a patch of these sectors, which comes
    after the parent's patches, or in their place when `merged`. `digests`: of the sectors that are in it.
    """

    block: int
    digest: bytes
    codec: int = codec.RAW
    data: bytes = b""
    mask: int = 0
    merged: bool = False
    digests: bytes = b""


class EncoderBroken(EngineError):  # noqa: N818 - named after its reason
    """The compressor's output does not decode to its input."""

    reason = "EncoderBroken"
    remedy = "Check this machine's memory; nothing was committed."


class Scanner:
    """Looks at batches of a source."""

    def __init__(self, source: Source, lineage: Lineage, threads: int | None = None) -> None:
        self._source = source
        self._key = lineage.keys
        # One more than there are processors, because some wait for the device.
        self._threads = threads or (os.cpu_count() or 1) + 1

    def run(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, list[Found]], None, None]:
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
        offset = batch.first * BLOCK_SIZE
        former = batch.former
        if self._source.is_hole(offset, count * BLOCK_SIZE):
            return [Found(b, ZERO) for b in range(batch.first, batch.end) if former.hash_of(b) != ZERO]
        view = self._source.read(offset, count * BLOCK_SIZE)
        found = []
        for i in range(count):
            block = view[i * BLOCK_SIZE : (i + 1) * BLOCK_SIZE]
            result = self._block(batch.first + i, block, former)
            if result is not None:
                found.append(result)
        return found

    def _block(self, number: int, block: memoryview, former: FormerLeaf) -> Found | None:
        known = former.hash_of(number)
        if is_zero(block):
            return None if known == ZERO else Found(number, ZERO)
        digest = self._key.block(block)
        if digest == known:
            return None
        present = sectors.digests(self._key, block)
        mask, merged = self._mask(number, present, former)
        if not mask:
            codec_id, data = self._compress(number, block, prove=digest[0] % PROVED == 0)
            return Found(number, digest, codec_id, data, digests=sectors.pack(present))
        codec_id, data = self._compress(number, sectors.cut(block, mask), prove=True)
        own = present[sectors.numbers(mask)]
        return Found(number, digest, codec_id, data, mask, merged, sectors.pack(own))

    def _mask(self, number: int, present: sectors.Digests, former: FormerLeaf) -> tuple[int, bool]:
        """(sectors of the patch to write, whether it takes the place of those there are); 0: store it whole."""
        old = former.digests(number)
        if old is None:
            return 0, False
        mask = sectors.mask_of(old, present)
        patches = former.patches(number)
        merged = len(patches) >= MAX_PATCHES
        if merged:
            for patch in patches:
                mask |= patch.mask
        # No sector differs and yet the hash does: digests that cannot be right are not built upon.
        return (mask, merged) if mask.bit_count() <= sectors.MOST_PATCHED else (0, False)

    def _compress(self, number: int, data: memoryview | bytes, *, prove: bool) -> tuple[int, bytes]:
        codec_id, packed = codec.compress(data)
        if not prove:
            return codec_id, packed
        # Decoded again before it is sent: a faulty encoder or memory must not be found out at a restore.
        try:
            intact = codec_id == codec.RAW or np.array_equal(
                np.frombuffer(codec.decompress(codec_id, packed, len(data)), np.uint64),
                np.frombuffer(data, np.uint64),
            )
        except codec.CodecError:
            intact = False
        if not intact:
            raise EncoderBroken(f"{self._source.path}, block {number}: does not decode to what was read")
        return codec_id, packed
