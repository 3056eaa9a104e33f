"""Leaf pages: what all their blocks together reach."""

from __future__ import annotations

import random

import numpy as np

from blockvault.engine.leaf import DIGEST_SIZE, Leaf, Piece, Spot
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import REFERENCE, STORED

OVERHEAD = 16


def a_leaf(chance: random.Random) -> Leaf:
    """Some slots empty, some with digests, some with patches, objects shared between them."""
    names = [ObjectName(1, number, chance.getrandbits(64)) for number in range(6)]

    def piece(mask: int) -> Piece:
        digests = Spot(chance.choice(names), chance.randrange(1 << 20)) if chance.random() < 0.8 else None
        return Piece(
            chance.choice(names), chance.randrange(1 << 25), chance.randrange(1, 1 << 18), 0, mask, digests
        )

    leaf = Leaf()
    for slot in range(128):
        if chance.random() < 0.7:
            leaf.set_base(slot, piece(0), chance.randbytes(32))
            patches = [piece(chance.randrange(1, 1 << 64)) for _ in range(chance.randrange(3))]
            leaf.set_patches(slot, patches, chance.randbytes(32))
    return leaf


def test_reached_is_the_sum_over_all_pieces() -> None:
    for seed in range(20):
        leaf = a_leaf(random.Random(seed))
        again = Leaf.decode(leaf.encode(7), 7)
        segments: dict[ObjectName, int] = {}
        pages: dict[ObjectName, int] = {}
        for slot in leaf.stored_slots():
            for piece in leaf.pieces(slot):
                segments[piece.name] = segments.get(piece.name, 0) + piece.length
                if piece.digests is not None:
                    size = (piece.mask.bit_count() or 64) * DIGEST_SIZE + OVERHEAD
                    pages[piece.digests.name] = pages.get(piece.digests.name, 0) + size
        assert leaf.reached(OVERHEAD) == again.reached(OVERHEAD) == (segments, pages)


def test_slots_in_are_those_of_which_a_piece_lies_there() -> None:
    for seed in range(20):
        leaf = a_leaf(random.Random(seed))
        names = {piece.name for slot in range(128) for piece in leaf.pieces(slot)}
        some = set(random.Random(seed).sample(sorted(names), 2))
        slots = [s for s in range(128) if any(piece.name in some for piece in leaf.pieces(s))]
        assert leaf.slots_in(some) == slots
        assert leaf.slots_in({ObjectName(9, 9, 9)}) == []


def test_an_empty_leaf_reaches_nothing() -> None:
    assert Leaf().reached(OVERHEAD) == ({}, {})


def test_a_patch_replaces_the_patches_of_its_slots_only() -> None:
    """Slots that a page patch has lose the patches they had; the others keep theirs."""
    before, chance = a_leaf(random.Random(3)), random.Random(4)
    after = before.copy()
    with_patches = [slot for slot in before.stored_slots() if before.patches(slot)]
    after.set_patches(with_patches[0], [], chance.randbytes(32))
    after.clear(with_patches[1])
    base = Leaf.decode(before.encode(7), 7)
    reference = np.zeros(1, REFERENCE)[0]
    reference["kind"] = STORED
    patched = base.patched(after.encode_patch(7, reference, sorted(with_patches[:2])), 7)
    assert [patched.pieces(slot) for slot in range(128)] == [after.pieces(slot) for slot in range(128)]
