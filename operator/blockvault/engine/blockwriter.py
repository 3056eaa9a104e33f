"""Putting blocks that changed into segments, their digests into page objects, and both into a leaf."""

from __future__ import annotations

from blockvault.engine import items
from blockvault.engine.adoption import Adoption
from blockvault.engine.envelope import Kind
from blockvault.engine.former import head_of_digests
from blockvault.engine.items import BLOCK, BLOCK_PATCH, Head
from blockvault.engine.leaf import Leaf, Piece, Spot
from blockvault.engine.lineage import Lineage
from blockvault.engine.packs import PackWriter
from blockvault.engine.pages import BLOCK_SIZE, FANOUT
from blockvault.engine.scan import Found
from blockvault.engine.sectors import digest_bytes
from blockvault.engine.summary import Changes

# So many digests of a backup lie among its pages. Others lie apart, as pages are read without them, and they are ten
# times as many bytes; a small backup is one object fewer.
AMONG_PAGES = 512


class BlockWriter:
    """Writes what a scan found. `changes` keeps count of what is reached and what no longer is."""

    def __init__(
        self,
        lineage: Lineage,
        segments: PackWriter,
        digests: PackWriter,
        pages: PackWriter,
        changes: Changes,
        adoption: Adoption,
    ) -> None:
        self._lineage = lineage
        self._segments = segments
        self._digests = digests
        self._pages = pages
        self._written = 0
        self._changes = changes
        self._adoption = adoption
        self._overhead = items.overhead(lineage)

    def put(self, leaf: Leaf, found: Found) -> None:
        """Let `leaf` have the block as it was found."""
        slot = found.block % FANOUT
        base, patches = leaf.base(slot), leaf.patches(slot)
        if found.mask == 0 or found.merged:
            for piece in patches:
                self._count(piece, -1)
        if found.mask == 0 and base is not None:
            self._count(base, -1)
        if not found.data:
            leaf.clear(slot)
            return
        piece = self._store(found)
        self._count(piece, 1)
        if found.mask == 0:
            leaf.set_base(slot, piece, found.digest)
        else:
            leaf.set_patches(slot, [piece] if found.merged else [*patches, piece], found.digest)

    def _store(self, found: Found) -> Piece:
        writer = self._pages if self._written < AMONG_PAGES else self._digests
        self._written += 1
        name, offset, _ = writer.add(head_of_digests(found.block, found.mask), found.digests)
        digests = Spot(name, offset)
        adopted = self._adoption.find(found, digests)
        if adopted is not None:
            return adopted
        kind, plain = BLOCK, BLOCK_SIZE
        if found.mask:
            kind, plain = BLOCK_PATCH, Piece(name, 0, 0, 0, found.mask, None).plain
        head = Head(found.block, kind, 0, found.codec, plain, found.mask)
        name, offset, length = self._segments.add(head, found.data, found.digest)
        return Piece(name, offset, length, found.codec, found.mask, digests)

    def _count(self, piece: Piece, sign: int) -> None:
        self._changes.add(Kind.SEGMENT, piece.name, sign * piece.length)
        if piece.digests is not None:
            self._changes.add(
                Kind.PAGES, piece.digests.name, sign * (digest_bytes(piece.mask) + self._overhead)
            )
