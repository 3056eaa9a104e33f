"""Blocks remembered with their hashes, to catch a changed-block list that leaves changes out.

Every root carries some hundred of its blocks by chance. The next backup that is given a list reads those of them
that the list says are unchanged; one that differs proves the list wrong. They stand in the root itself, so that
checking costs one request, whatever the volume's size.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator

from blockvault.engine import runtime
from blockvault.engine.hashing import SIZE, ZERO

# How many are kept of stored and of zero blocks, and how many are read by one check.
KEEP_STORED = 384
KEEP_ZERO = 128
CHECKED = 256

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
        self.kept: list[int] = []

    def offer(self, block: int) -> None:
        self._offered += 1
        if len(self.kept) < self._limit:
            self.kept.append(block)
        elif (place := self._chance.randrange(self._offered)) < self._limit:
            self.kept[place] = block


class Sampler:
    """Chooses the samples of a backup while its leaves go by. `carried`: those of the parent."""

    def __init__(self, carried: Samples) -> None:
        self._chance = random.Random(runtime.random(8))  # noqa: S311 - guards against mistakes, not attackers
        self._hashes: Samples = {}
        self._stored = _Reservoir(KEEP_STORED, self._chance)
        self._zero = _Reservoir(KEEP_ZERO, self._chance)
        self._carried = dict(carried)

    def leaf(self, first: int, count: int, hashes: bytes | None, changed: Iterable[int] = ()) -> None:
        """A leaf as the backup has it: its first block, blocks in the volume, and hashes (None: all zero).

        A few of its blocks are offered: some by chance, and neighbours of those that changed.
        """
        blocks = [self._chance.randrange(count) for _ in range(2)]
        blocks += [slot + step for slot in list(changed)[:4] for step in (-1, 1) if 0 <= slot + step < count]
        for slot in blocks:
            digest = ZERO if hashes is None else hashes[slot * SIZE : slot * SIZE + SIZE]
            self._hashes[first + slot] = digest
            (self._zero if digest == ZERO else self._stored).offer(first + slot)
        for slot in range(count) if self._carried else ():
            if first + slot in self._carried:
                self._carried[first + slot] = (
                    ZERO if hashes is None else hashes[slot * SIZE : slot * SIZE + SIZE]
                )

    def finish(self, blocks: int) -> Samples:
        """The samples of the backup, of a volume of so many blocks."""
        for block, digest in self._carried.items():
            if block < blocks and block not in self._hashes:
                self._hashes[block] = digest
                (self._zero if digest == ZERO else self._stored).offer(block)
        return {block: self._hashes[block] for block in [*self._stored.kept, *self._zero.kept]}


def to_check(samples: Samples, covered: list[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Up to 256 samples by chance, outside of the block ranges that a list covers."""
    rest = [item for item in sorted(samples.items()) if not _inside(item[0], covered)]
    chance = random.Random(runtime.random(8))  # noqa: S311
    yield from chance.sample(rest, min(CHECKED, len(rest)))


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
