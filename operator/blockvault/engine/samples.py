"""Blocks remembered with their hashes, to catch a changed-block list that leaves changes out.

Every root carries some hundred of its blocks by chance. The next backup that is given a list reads those of them
that the list says are unchanged; one that differs proves the list wrong. They stand in the root itself, so that
checking costs one request, whatever the volume's size.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator, Sequence

from blockvault.engine import runtime
from blockvault.engine.devices import Source
from blockvault.engine.hashing import SIZE, ZERO, LineageKey
from blockvault.engine.pages import BLOCK_SIZE, FANOUT
from blockvault.engine.scan import is_zero

# How many are kept: of stored and of zero blocks by chance, and of unchanged neighbours of blocks that changed.
KEEP_STORED = 1024
KEEP_ZERO = 256
KEEP_EDGES = 256
# How many are read by one check: of one wrong block in two hundred, so many miss all once in two hundred runs.
CHECKED = 1024
# Edges of changed runs that are offered of one leaf.
EDGES_OF_LEAF = 8

THREADS = 8

_RECORD = struct.Struct("<Q32s")
RECORD_SIZE = _RECORD.size

Samples = dict[int, bytes]


def encode(samples: Samples) -> bytes:
    """As they stand in a root, by ascending block."""
    return b"".join(_RECORD.pack(block, digest) for block, digest in sorted(samples.items()))


def decode(data: bytes) -> Samples:
    """The reverse. Raises ValueError."""
    if len(data) % _RECORD.size:
        raise ValueError("samples cut short")
    return dict(_RECORD.iter_unpack(data))


class _Reservoir:
    """Keeps so many of all that it is offered, each with the same chance (Vitter's algorithm R)."""

    def __init__(self, limit: int, chance: random.Random) -> None:
        self._limit = limit
        self._chance = chance
        self._offered = 0
        self.kept: list[tuple[int, bytes]] = []

    def offer(self, block: int, digest: bytes) -> None:
        self._offered += 1
        if len(self.kept) < self._limit:
            self.kept.append((block, digest))
        elif (place := int(self._chance.random() * self._offered)) < self._limit:
            self.kept[place] = block, digest


class Sampler:
    """Chooses the samples of a backup of so many `blocks` while its leaves go by. `carried`: those of the parent."""

    def __init__(self, blocks: int, carried: Samples) -> None:
        self._chance = random.Random(runtime.random(8))  # noqa: S311 - guards against mistakes, not attackers
        self._ends: Samples = {}
        self._stored = _Reservoir(KEEP_STORED, self._chance)
        self._zero = _Reservoir(KEEP_ZERO, self._chance)
        self._edges = _Reservoir(KEEP_EDGES, self._chance)
        self._blocks = blocks
        self._at_ends = (0, blocks - 1)
        # So many of each leaf that a small volume's leaves, too, give enough to choose from.
        self._of_leaf = max(2, -(-4 * KEEP_STORED * FANOUT // max(blocks, 1)))
        self._carried: dict[int, Samples] = {}  # by leaf
        for block, digest in sorted(carried.items()):
            self._carried.setdefault(block // FANOUT, {})[block] = digest

    def leaf(self, first: int, count: int, hashes: bytes | None, changed: Iterable[int] = ()) -> None:
        """A leaf as the backup has it: its first block, blocks in the volume, and hashes (None: all zero).

        Some of its blocks are offered by chance, and neighbours of those that changed, as lists are wrong by rounding.
        """

        def digest_of(slot: int) -> bytes:
            return ZERO if hashes is None else hashes[slot * SIZE : slot * SIZE + SIZE]

        for slot in self._some(range(count), self._of_leaf):
            self._offer(first + slot, digest_of(slot))
        touched = set(changed)
        edges = sorted({slot + step for slot in touched for step in (-1, 1)} - touched)
        for slot in self._some([slot for slot in edges if 0 <= slot < count], EDGES_OF_LEAF):
            self._edges.offer(first + slot, digest_of(slot))
        for block in self._at_ends:
            if first <= block < first + count:
                self._ends[block] = digest_of(block - first)
        for block in self._carried.pop(first // FANOUT, {}):
            if block < first + count:
                self._offer(block, digest_of(block - first))

    def _some(self, slots: Sequence[int], most: int) -> Sequence[int]:
        return slots if len(slots) <= most else self._chance.sample(slots, most)

    def _offer(self, block: int, digest: bytes) -> None:
        (self._zero if digest == ZERO else self._stored).offer(block, digest)

    def finish(self) -> Samples:
        """The samples of the backup."""
        for block, digest in (item for samples in self._carried.values() for item in samples.items()):
            if block < self._blocks:
                self._offer(block, digest)
            if block in self._at_ends:
                self._ends[block] = digest
        return {**dict([*self._stored.kept, *self._zero.kept, *self._edges.kept]), **self._ends}


def to_check(samples: Samples, covered: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Samples outside of the block ranges that a list covers: at most CHECKED, by chance."""
    rest = [item for item in sorted(samples.items()) if not _inside(item[0], covered)]
    chance = random.Random(runtime.random(8))  # noqa: S311
    yield from chance.sample(rest, min(CHECKED, len(rest)))


def lies(source: Source, keys: LineageKey, samples: Samples, covered: list[tuple[int, int]]) -> bool:
    """Whether a sample has changed in the volume, though the list that covers these block ranges leaves it out.

    Many are read at a time: they lie all over the volume, and a device across a network takes a while for each.
    """

    def differs(sample: tuple[int, bytes]) -> bool:
        offset = sample[0] * BLOCK_SIZE
        if source.is_hole(offset, BLOCK_SIZE):
            return sample[1] != ZERO
        view = source.peek(offset, BLOCK_SIZE)
        if view is None:
            return False  # it cannot be read, which is no lie
        return (ZERO if is_zero(view) else keys.block(view)) != sample[1]

    pool = runtime.executor(THREADS, "samples")
    try:
        futures = [pool.submit(differs, sample) for sample in to_check(samples, covered)]
        return any(future.result() for future in futures)
    finally:
        # Waits for reads on their way, as an error closes the volume.
        pool.shutdown(wait=True, cancel_futures=True)


def _inside(block: int, ranges: list[tuple[int, int]]) -> bool:
    """Whether a block lies in one of the ascending ranges [first, end)."""
    low, high = 0, len(ranges)
    while low < high:
        middle = (low + high) // 2
        if ranges[middle][1] <= block:
            low = middle + 1
        else:
            high = middle
    return low < len(ranges) and ranges[low][0] <= block
