"""What the parent has in one leaf, as those who compare with it need it: hashes, patches, sector digests."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import NamedTuple

from blockvault.engine import items, sectors
from blockvault.engine.codec import RAW, CodecError
from blockvault.engine.fetching import Together, get, runs
from blockvault.engine.hashing import ZERO
from blockvault.engine.items import DIGESTS, Head
from blockvault.engine.leaf import Leaf, Piece, Spot
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import FANOUT
from blockvault.engine.sectors import Digests
from blockvault.stores import ObjectNotFound, ObjectStore

# Digests that lie this close are fetched by one request.
GAP = 64 * 1024
LARGEST_READ = 4 * 1024 * 1024


class FormerLeaf:
    """One leaf of the parent; without a parent, nothing is known of any block.

    `asked`: the slots whose digests may be wanted (None: all). `distrusted`: blocks that were found damaged; they
    count as unknown, so that they are stored anew. `digests`: where its digests come from, with its neighbours'.
    """

    def __init__(
        self,
        number: int,
        leaf: Leaf | None,
        asked: set[int] | None = None,
        distrusted: frozenset[int] = frozenset(),
    ) -> None:
        self.first = number * FANOUT
        self.leaf = leaf
        self._asked = asked
        self._distrusted = distrusted
        self._hashes = leaf.hashes() if leaf is not None else None
        self.group: DigestGroup | None = None

    def hash_of(self, block: int) -> bytes:
        """The hash of a block in the parent; zeros for a zero block, and where there is no parent.

        Empty, and so equal to none, where the parent's block cannot be relied on.
        """
        slot = block - self.first
        if slot in self._distrusted:
            return b""
        if self._hashes is None:
            return ZERO
        return self._hashes[slot * 32 : slot * 32 + 32]

    def patches(self, block: int) -> list[Piece]:
        """The patches that the block has."""
        return [] if self.leaf is None else self.leaf.patches(block - self.first)

    def digests(self, block: int) -> Digests | None:
        """The digests of the block's sectors in the parent; None where they cannot be had."""
        slot = block - self.first
        if self.leaf is None or self.group is None or slot in self._distrusted or not self.leaf.stored(slot):
            return None
        return self.group.of(block)

    def wanted(self) -> list[Wanted]:
        """Digests of all bases and patches that may be wanted."""
        if self.leaf is None:
            return []
        slots = [slot for slot in self.leaf.stored_slots() if self._asked is None or slot in self._asked]
        return [
            Wanted(self.first + slot, position, piece, piece.digests)
            for slot in slots
            for position, piece in enumerate(self.leaf.pieces(slot))
            if piece.digests is not None
        ]


class DigestGroup:
    """Sector digests of some neighbouring leaves, fetched together when the first is wanted."""

    def __init__(
        self, store: ObjectStore, lineage: Lineage, together: Together, leaves: list[FormerLeaf]
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._together = together
        self._leaves = leaves
        self._found: dict[int, Digests] | None = None
        self._lock = threading.Lock()
        for leaf in leaves:
            leaf.group = self

    def of(self, block: int) -> Digests | None:
        """Those of one block. None when they are missing or damaged: such a block is stored whole."""
        with self._lock:
            if self._found is None:
                self._found = self._fetch()
            return self._found.get(block)

    def _fetch(self) -> dict[int, Digests]:
        wanted = [item for leaf in self._leaves for item in leaf.wanted()]
        parts: dict[tuple[int, int], Digests] = {}
        together = list(runs(wanted, self._place, gap=GAP, largest=LARGEST_READ))
        for found in self._together.map(self._read, together):
            parts.update(found)
        pieces: dict[int, list[Wanted]] = {}
        for item in wanted:
            pieces.setdefault(item.block, []).append(item)
        result: dict[int, Digests] = {}
        for block, items_ in pieces.items():
            values = [parts.get((block, item.position)) for item in items_]
            whole = [value for value in values if value is not None]
            if len(whole) == len(values) and [item.position for item in items_] == list(range(len(items_))):
                masks = [item.piece.mask for item in items_[1:]]
                result[block] = sectors.overlay(whole[0], list(zip(masks, whole[1:], strict=True)))
        return result

    def _place(self, wanted: Wanted) -> tuple[ObjectName, int, int]:
        return wanted.spot.name, wanted.spot.offset, wanted.piece.digest_bytes + items.overhead(self._lineage)

    def _read(self, run: list[Wanted]) -> dict[tuple[int, int], Digests]:
        name, start, _ = self._place(run[0])
        _, last, length = self._place(run[-1])
        try:
            data = get(self._store, self._lineage.paths.pages(name), start, last + length - start)
        except ObjectNotFound:
            return {}
        found = {}
        for wanted in run:
            _, offset, length = self._place(wanted)
            head = head_of_digests(wanted.block, wanted.piece.mask)
            stored = data[offset - start : offset - start + length]
            with suppress(CodecError):
                plain = items.unpack(self._lineage, name, offset, head, stored)
                found[wanted.block, wanted.position] = sectors.unpack(plain)
        return found


class Wanted(NamedTuple):
    """Digests of a block's base (position 0) or of a patch on it."""

    block: int
    position: int
    piece: Piece
    spot: Spot


def head_of_digests(block: int, mask: int) -> Head:
    """What must be known of the digests of a base (mask 0) or patch before they are opened."""
    return Head(block, DIGESTS, 0, RAW, sectors.digest_bytes(mask), mask)
