"""A list of changed blocks while it arrives: each tuple is checked, then only the blocks that it touches are kept.

The rules are those of the CSI specification (SnapshotMetadata) and what a block device's sectors imply. A list that
breaks one counts for nothing: whoever makes such a mistake may have left something out as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from blockvault.engine import BLOCK_SIZE
from blockvault.engine.ranges import merged
from blockvault.mover.wire import FIXED_LENGTH, VARIABLE_LENGTH, Delta

Ranges = list[tuple[int, int]]

# Ranges that are kept, of some 500 bytes each by the time that the engine has them. Of more than that, close ones
# become one: reading a little more costs less than the memory.
MOST_RANGES = 1 << 18
SECTOR = 512


class BadListError(Exception):
    """The list breaks a rule, so nothing of it is believed. The text says which."""


class Listing:
    """What the streams of one list have said so far. `size`: of the device that will be read, in bytes."""

    def __init__(self, size: int, most: int = MOST_RANGES) -> None:
        self._size = size
        self._most = most
        self._kind: int | None = None
        self._capacity: int | None = None
        self._fixed: int | None = None
        self._grain = 1  # in blocks
        self._kept: Ranges = []  # of blocks, by former streams
        self._stream: Ranges = []
        self._end = 0  # of the last tuple of this stream
        self.position = 0
        """All before this byte has been told of."""

    def resume_at(self) -> int:
        """The byte at which the next stream is to begin: a whole block, as some drivers miscount from others.

        Never the volume's end: some drivers take that for a mistake.
        """
        last = self.position - 1 if self.position == self._capacity else self.position
        return max(last, 0) // BLOCK_SIZE * BLOCK_SIZE

    def at_end(self) -> bool:
        """Whether all of the volume has been told of, so that nothing can follow."""
        return self.position == self._capacity

    def begin(self) -> None:
        """A new stream begins. Its first tuple may begin before the byte that it was asked from."""
        self._kept = self._fewer(merged(sorted([*self._kept, *self._stream])))
        self._stream = []
        self._end = 0

    def add(self, message: Delta) -> None:
        """One message. Raises BadListError."""
        if message.kind not in (FIXED_LENGTH, VARIABLE_LENGTH):
            raise BadListError(f"tuples of the unknown kind {message.kind}")
        if self._kind not in (None, message.kind):
            raise BadListError(f"the kind of the tuples changes from {self._kind} to {message.kind}")
        if self._capacity not in (None, message.capacity):
            raise BadListError(f"the volume's capacity changes from {self._capacity} to {message.capacity}")
        if not 0 < message.capacity <= self._size:
            raise BadListError(f"the volume has {message.capacity} bytes, but its device {self._size}")
        self._kind, self._capacity = message.kind, message.capacity
        for offset, length in message.tuples:
            self._check(offset, length, message.capacity)
            self._end = offset + length
            self._cover(offset // BLOCK_SIZE, -(-self._end // BLOCK_SIZE))
            self.position = max(self.position, min(self._end, message.capacity))

    def _check(self, offset: int, length: int, capacity: int) -> None:
        end, where = offset + length, f"the tuple of {length} bytes at {offset}"
        if offset < 0 or length <= 0:
            raise BadListError(f"{where}: not a place")
        if offset < self._end:
            raise BadListError(f"{where}: begins before the one before it ends, at {self._end}")
        if offset >= capacity:
            raise BadListError(f"{where}: behind the volume's end at {capacity}")
        if offset % SECTOR or (end % SECTOR and end < capacity):
            raise BadListError(f"{where}: not of whole sectors")
        if self._kind == FIXED_LENGTH:
            self._fixed = self._fixed or length
            if length != self._fixed and not (length < self._fixed and end == capacity):
                raise BadListError(f"{where}: all are to have {self._fixed} bytes")
        elif end - capacity >= BLOCK_SIZE:
            # Only the rounding of the last block may go so far.
            raise BadListError(f"{where}: goes beyond the volume's end at {capacity}")

    def _cover(self, first: int, end: int) -> None:
        first, end = first // self._grain * self._grain, -(-end // self._grain) * self._grain
        if self._stream and first <= self._stream[-1][1]:
            self._stream[-1] = self._stream[-1][0], end
            return
        self._stream.append((first, end))
        if len(self._stream) > self._most:
            self._stream = self._fewer(self._stream)

    def _fewer(self, ranges: Ranges) -> Ranges:
        """The same blocks; where there are too many ranges also neighbours, so that half as many are left."""
        if len(ranges) > self._most:
            while len(ranges) > self._most // 2:
                self._grain *= 2
                ranges = merged(_rounded(ranges, self._grain))
        return ranges

    def ranges(self) -> Ranges:
        """Byte ranges (offset, length) of the device that may have changed, once a stream has ended well.

        What the device has beyond the volume that the list is about counts as changed. Without any message the list
        says that nothing changed.
        """
        self.begin()
        size, found = self._size, self._kept
        if self._capacity is not None and self._capacity < size:
            found = merged(sorted([*found, (self._capacity // BLOCK_SIZE, -(-size // BLOCK_SIZE))]))
        return [
            (first * BLOCK_SIZE, min(end * BLOCK_SIZE, size) - first * BLOCK_SIZE) for first, end in found
        ]


def _rounded(ranges: Iterable[tuple[int, int]], grain: int) -> Iterable[tuple[int, int]]:
    return ((first // grain * grain, -(-end // grain) * grain) for first, end in ranges)
