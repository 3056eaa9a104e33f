"""Sectors of a block: their digests, and patches made of the sectors that changed.

Beside every base lie 64 digests of 8 bytes, beside every patch those of its own sectors. Comparing them finds
what changed, whatever a changed-block list says, without reading stored data.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xxhash

from blockvault.engine.hashing import Buffer, LineageKey
from blockvault.engine.leaf import DIGEST_SIZE
from blockvault.engine.pages import SECTOR_SIZE

Digests = npt.NDArray[np.uint64]

SECTORS = 64
# A block is stored whole when more of its sectors would have to go into a patch.
MOST_PATCHED = SECTORS // 2


def digests(key: LineageKey, block: Buffer) -> Digests:
    """The digest of each sector of a block or patch: XXH3 of 64 bits, seeded with a secret of the lineage."""
    view, seed = memoryview(block), key.sector_seed
    return np.array(
        [
            xxhash.xxh3_64_intdigest(view[start : start + SECTOR_SIZE], seed)
            for start in range(0, len(view), SECTOR_SIZE)
        ],
        np.uint64,
    )


def pack(values: Digests) -> bytes:
    """Digests as they are stored."""
    return values.astype("<u8").tobytes()


def unpack(data: bytes) -> Digests:
    """The reverse."""
    return np.frombuffer(data, "<u8").astype(np.uint64)


def mask_of(former: Digests, present: Digests) -> int:
    """The sectors that differ, bit 0 for the first."""
    return int.from_bytes(np.packbits(former != present, bitorder="little").tobytes(), "little")


def numbers(mask: int) -> list[int]:
    """The sectors of a mask, ascending."""
    return [sector for sector in range(SECTORS) if mask >> sector & 1]


def cut(block: Buffer, mask: int) -> bytes:
    """The bytes of these sectors, one after the other."""
    sectors = np.frombuffer(block, np.uint8).reshape(SECTORS, SECTOR_SIZE)
    return sectors[numbers(mask)].tobytes()


def lay(block: bytearray, mask: int, patch: Buffer) -> None:
    """Write the sectors of a patch over a block."""
    sectors = np.frombuffer(block, np.uint8).reshape(SECTORS, SECTOR_SIZE)
    sectors[numbers(mask)] = np.frombuffer(patch, np.uint8).reshape(-1, SECTOR_SIZE)


def overlay(base: Digests, patches: list[tuple[int, Digests]]) -> Digests:
    """The digests of the sectors that result from a base and the patches on it, oldest first."""
    result = base.copy()
    for mask, values in patches:
        result[numbers(mask)] = values
    return result


def digest_bytes(mask: int) -> int:
    """How many bytes of digests a patch of that mask has; a base (mask 0) has all."""
    return (mask.bit_count() or SECTORS) * DIGEST_SIZE
