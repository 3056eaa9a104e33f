"""A volume of any size whose blocks are sixteen that repeat, so that each is there at once and none is kept twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import blockvault.engine.backup
from blockvault.engine.pages import BLOCK_SIZE, SECTOR_SIZE

COUNT = 16
# Noise, so that every block is stored as it is and all are of one length.
BLOCKS = [random.Random(1000 + number).randbytes(BLOCK_SIZE) for number in range(COUNT)]
_BY_HEAD = {block[:16]: block for block in BLOCKS}


def known(chunk: memoryview) -> bytes | None:
    """The template that a chunk is equal to."""
    block = _BY_HEAD.get(bytes(chunk[:16]))
    return block if block is not None and chunk == block else None


class TemplateSource:
    """What the engine reads in place of a device.

    `versions`: of blocks that changed, how often; each time another template takes the place. `sectors`: of a block,
    the sectors that changed and where in the noise their bytes begin.
    """

    def __init__(self, size: int) -> None:
        self.path = "simulated volume"
        self.size = size
        self.versions: dict[int, int] = {}
        self.sectors: dict[int, list[tuple[int, int]]] = {}
        self.unreadable: list[list[int]] = []
        self.blocks_read = 0
        self._noise = b""
        self._local = threading.local()

    def touch(self, blocks: list[int]) -> list[tuple[int, int]]:
        """Change these blocks wholly. Gives their ranges."""
        for block in blocks:
            self.versions[block] = self.versions.get(block, 0) + 1
        return [(block * BLOCK_SIZE, BLOCK_SIZE) for block in blocks]

    def touch_sectors(self, sectors: list[int], seed: int) -> list[tuple[int, int]]:
        """Change these sectors. Gives their ranges."""
        chance = random.Random(seed)
        self._noise = self._noise or random.Random(7).randbytes(64 * BLOCK_SIZE)
        for sector in sectors:
            block, place = divmod(sector, BLOCK_SIZE // SECTOR_SIZE)
            start = chance.randrange(len(self._noise) - SECTOR_SIZE)
            self.sectors.setdefault(block, []).append((place, start))
        return [(sector * SECTOR_SIZE, SECTOR_SIZE) for sector in sectors]

    def block(self, number: int) -> bytes:
        """The bytes of a block, but for sectors that changed."""
        return BLOCKS[(number + self.versions.get(number, 0)) % COUNT]

    def read(self, offset: int, length: int) -> memoryview:
        """See Source."""
        buffer: bytearray | None = getattr(self._local, "buffer", None)
        if buffer is None or len(buffer) < length:
            buffer = self._local.buffer = bytearray(max(length, 16 * BLOCK_SIZE))
        view = memoryview(buffer)[:length]
        for at in range(0, length, BLOCK_SIZE):
            part, number = view[at : at + BLOCK_SIZE], (offset + at) // BLOCK_SIZE
            part[:] = self.block(number)
            for sector, start in self.sectors.get(number, ()):
                place = sector * SECTOR_SIZE
                part[place : place + SECTOR_SIZE] = self._noise[start : start + SECTOR_SIZE]
            self.blocks_read += 1
        return view

    def peek(self, offset: int, length: int) -> memoryview | None:
        """See Source."""
        return self.read(offset, length)

    def head(self, length: int) -> bytes:
        """See Source."""
        return bytes(self.read(0, -(-length // BLOCK_SIZE) * BLOCK_SIZE)[:length])

    def is_hole(self, offset: int, length: int) -> bool:
        """See Source."""
        return False

    def data_ranges(self, near: int) -> Iterator[tuple[int, int]]:
        """See Source."""
        yield 0, self.size

    def close(self) -> None:
        """See Source."""


@contextmanager
def backed_up_from(source: TemplateSource) -> Iterator[None]:
    """Let backups of this process read that volume, whatever path they are given."""
    former = blockvault.engine.backup.Source
    blockvault.engine.backup.Source = lambda *_, **__: source  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        blockvault.engine.backup.Source = former  # type: ignore[misc]
