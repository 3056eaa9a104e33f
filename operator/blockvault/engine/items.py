"""Items: what segments and page objects are made of. How one is packed for the store, and opened again."""

from __future__ import annotations

import struct
from typing import NamedTuple

from blockvault.engine import codec
from blockvault.engine.crypt import TAG_SIZE
from blockvault.engine.hashing import Buffer
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName

# Kinds of items.
BLOCK = 0
LEAF = 1
INNER = 2
DIGESTS = 3
PAGE_PATCH = 4
BLOCK_PATCH = 5

# number, kind, level, codec, plain length, mask
_BOUND = struct.Struct("<QBBBxIQ")


class Head(NamedTuple):
    """What must be known of an item before it is opened.

    `number`: of the block, or of the page in its level. `plain`: bytes when decoded. `mask`: the sectors that a
    patch holds (bit 0 is the first), else 0.
    """

    number: int
    kind: int
    level: int
    codec: int
    plain: int
    mask: int = 0

    def bound(self) -> bytes:
        """The associated data that binds an item to its place."""
        return _BOUND.pack(self.number, self.kind, self.level, self.codec, self.plain, self.mask)


def overhead(lineage: Lineage) -> int:
    """Bytes that packing adds to what the codec makes of an item."""
    return 0 if lineage.cipher is None else TAG_SIZE


def pack(lineage: Lineage, name: ObjectName, offset: int, head: Head, data: Buffer) -> Buffer:
    """What the codec made of an item, as it stands in the object `name` at `offset`."""
    if lineage.cipher is None:
        return data
    return lineage.cipher.of_object(name.pack()).seal(offset, data, head.bound())


def open_stored(lineage: Lineage, name: ObjectName, offset: int, head: Head, stored: Buffer) -> Buffer:
    """The reverse of `pack`: what the codec made. Raises CodecError when it is not what was written there."""
    if lineage.cipher is None:
        return stored
    return lineage.cipher.of_object(name.pack()).open(offset, stored, head.bound())


def unpack(lineage: Lineage, name: ObjectName, offset: int, head: Head, stored: Buffer) -> bytes:
    """The decoded item. Raises CodecError when it is not what was written there."""
    return codec.decompress(head.codec, open_stored(lineage, name, offset, head, stored), head.plain)
