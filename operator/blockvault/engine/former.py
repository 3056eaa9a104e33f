"""What the parent has in one leaf, as those who compare with it need it: hashes, patches, sector digests."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import NamedTuple

from blockvault.engine import items, sectors
from blockvault.engine.codec import RAW, CodecError
from blockvault.engine.fetching import get, runs
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

    `asked`: the slots whose digests may be wanted (None: all), which are then fetched together, at the first one.
    `distrusted`: blocks that were found damaged; they count as unknown, so that they are stored anew.
    """

    def __init__(
        self,
        store: ObjectStore,
        lineage: Lineage,
        number: int,
        leaf: Leaf | None,
        asked: set[int] | None = None,
        distrusted: frozenset[int] = frozenset(),
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._first = number * FANOUT
        self.leaf = leaf
        self._asked = asked
        self._distrusted = distrusted
        self._hashes = leaf.hashes() if leaf is not None else None
        self._digests: dict[int, Digests] | None = None
        self._lock = threading.Lock()

    def hash_of(self, block: int) -> bytes:
        """The hash of a block in the parent; zeros for a zero block, and where there is no parent.

        Empty, and so equal to none, where the parent's block cannot be relied on.
        """
        slot = block - self._first
        if slot in self._distrusted:
            return b""
        if self._hashes is None:
            return ZERO
        return self._hashes[slot * 32 : slot * 32 + 32]

    def patches(self, block: int) -> list[Piece]:
        """The patches that the block has."""
        return [] if self.leaf is None else self.leaf.patches(block - self._first)

    def digests(self, block: int) -> Digests | None:
        """The digests of the block's sectors in the parent; None where they cannot be had."""
        slot = block - self._first
        if self.leaf is None or slot in self._distrusted or not self.leaf.stored(slot):
            return None
        with self._lock:
            if self._digests is None:
                self._digests = self._fetch(self.leaf)
            return self._digests.get(slot)

    def _fetch(self, leaf: Leaf) -> dict[int, Digests]:
        """Digests by slot. What is missing or damaged is left out: such a block is stored whole."""
        slots = [slot for slot in leaf.stored_slots() if self._asked is None or slot in self._asked]
        wanted = [
            _Wanted(slot, position, piece, piece.digests)
            for slot in slots
            for position, piece in enumerate(leaf.pieces(slot))
            if piece.digests is not None
        ]
        found: dict[tuple[int, int], Digests] = {}
        for run in runs(wanted, self._place, gap=GAP, largest=LARGEST_READ):
            found.update(self._read(run))
        result: dict[int, Digests] = {}
        for slot in slots:
            masks = [patch.mask for patch in leaf.patches(slot)]
            parts = [found.get((slot, position)) for position in range(1 + len(masks))]
            whole = [part for part in parts if part is not None]
            if len(whole) == len(parts):
                result[slot] = sectors.overlay(whole[0], list(zip(masks, whole[1:], strict=True)))
        return result

    def _place(self, wanted: _Wanted) -> tuple[ObjectName, int, int]:
        return wanted.spot.name, wanted.spot.offset, wanted.piece.digest_bytes + items.overhead(self._lineage)

    def _read(self, run: list[_Wanted]) -> dict[tuple[int, int], Digests]:
        name, start, _ = self._place(run[0])
        _, last, length = self._place(run[-1])
        try:
            data = get(self._store, self._lineage.paths.pages(name), start, last + length - start)
        except ObjectNotFound:
            return {}
        found = {}
        for wanted in run:
            _, offset, length = self._place(wanted)
            head = head_of_digests(self._first + wanted.slot, wanted.piece.mask)
            stored = data[offset - start : offset - start + length]
            with suppress(CodecError):
                plain = items.unpack(self._lineage, name, offset, head, stored)
                found[wanted.slot, wanted.position] = sectors.unpack(plain)
        return found


class _Wanted(NamedTuple):
    slot: int
    position: int
    piece: Piece
    spot: Spot


def head_of_digests(block: int, mask: int) -> Head:
    """What must be known of the digests of a base (mask 0) or patch before they are opened."""
    return Head(block, DIGESTS, 0, RAW, sectors.digest_bytes(mask), mask)
