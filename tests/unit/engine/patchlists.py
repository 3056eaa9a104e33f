"""Lists of changed blocks as drivers give them, honest ones and lies, and what is to be stored of a block by them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.unit.engine.support import SMALL

BLOCK, SECTOR = SMALL["BLOCK_SIZE"], SMALL["SECTOR_SIZE"]
# Blocks in a range of a coarse list.
COARSE = 4

FINE, ROUGH, LIES_IN_BLOCKS, LEAVES_BLOCKS_OUT = (
    "fine list",
    "coarse list",
    "lies in blocks",
    "leaves blocks out",
)
COMPARED, WHOLE = "compare", "full"
LISTS = (FINE, ROUGH, LIES_IN_BLOCKS, LEAVES_BLOCKS_OUT)
MODES = (*LISTS, COMPARED, WHOLE)


def block_of(content: bytes, number: int) -> bytes:
    """One block, with zeros past the end."""
    return content[number * BLOCK : (number + 1) * BLOCK].ljust(BLOCK, b"\0")


def block_count(content: bytes) -> int:
    return -(-len(content) // BLOCK)


def with_zeros(content: bytes, lost: set[int]) -> bytes:
    """The content with zeros in the place of these blocks."""
    blocks = (bytes(BLOCK) if n in lost else block_of(content, n) for n in range(block_count(content)))
    return b"".join(blocks)[: len(content)]


def changed_mask(old: bytes, new: bytes) -> int:
    """The sectors of a block that differ, bit 0 for the first."""
    return sum(
        1 << n
        for n in range(BLOCK // SECTOR)
        if old[n * SECTOR : (n + 1) * SECTOR] != new[n * SECTOR : (n + 1) * SECTOR]
    )


@dataclass
class Listed:
    """A list: its ranges, the blocks that it names, and those that it should and does not."""

    ranges: list[tuple[int, int]]
    named: set[int]
    omitted: set[int]


def list_of(mode: str, before: bytes, now: bytes, chance: random.Random) -> Listed:
    """What a driver says has changed in a volume."""
    masks = {n: changed_mask(block_of(before, n), block_of(now, n)) for n in range(block_count(now))}
    changed = {n: mask for n, mask in masks.items() if mask}
    omitted: set[int] = set()
    ranges: list[tuple[int, int]] = []
    if mode == LEAVES_BLOCKS_OUT and changed:
        omitted = set(chance.sample(sorted(changed), chance.randint(1, len(changed))))
    for number in sorted(changed.keys() - omitted):
        first = number * BLOCK
        sectors = [n for n in range(BLOCK // SECTOR) if changed[number] >> n & 1]
        if mode == ROUGH:
            ranges.append((number // COARSE * COARSE * BLOCK, COARSE * BLOCK))
        elif mode == LIES_IN_BLOCKS:
            # One sector, by chance one that has not changed at all.
            inside = -(-min(BLOCK, len(now) - first) // SECTOR)
            ranges.append((first + chance.randrange(inside) * SECTOR, SECTOR))
        else:
            ranges += [(first + n * SECTOR, SECTOR) for n in sectors]
    ranges = [(at, min(length, len(now) - at)) for at, length in ranges if at < len(now)]
    named = {n for at, length in ranges for n in range(at // BLOCK, -(-(at + length) // BLOCK))}
    return Listed(ranges, named, changed.keys() - named)


def patches_after(patches: list[int] | None, old: bytes, new: bytes) -> list[int] | None:
    """The masks of a block's patches after a backup that looked at it; None where nothing is stored of it."""
    if not any(new):
        return None
    changed = changed_mask(old, new)
    if not changed:
        return patches
    if patches is None:
        return []
    merged = len(patches) >= SMALL["MAX_PATCHES"]
    for mask in patches if merged else ():
        changed |= mask
    if changed.bit_count() > BLOCK // SECTOR // 2:
        return []
    return [changed] if merged else [*patches, changed]
