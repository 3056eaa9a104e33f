"""Leaf pages: 128 entries, each a zero block, or a base with up to 16 sector patches on it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from blockvault.engine.crypt import TAG_SIZE
from blockvault.engine.hashing import ZERO, LineageKey
from blockvault.engine.items import LEAF
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import (
    ABSENT,
    BLOCK_SIZE,
    FANOUT,
    SECTOR_SIZE,
    SECTORS,
    STORED,
    Entries,
    MalformedPageError,
    Origin,
    open_patch,
    open_record,
    patch_head,
    record,
    refuse_traces,
    zeroed,
)

MAX_PATCHES = 16
DIGEST_SIZE = 8

ENTRY = np.dtype(
    [
        ("kind", "u1"),
        ("codec", "u1"),
        ("patches", "u1"),
        ("flags", "u1"),
        ("object", "<u4"),
        ("offset", "<u4"),
        ("length", "<u4"),
        ("digests_object", "<u4"),
        ("digests_offset", "<u4"),
        ("first_patch", "<u4"),
        ("reserved", "<u4"),
        ("hash", "V32"),
    ]
)
PATCH = np.dtype(
    [
        ("mask", "<u8"),
        ("object", "<u4"),
        ("offset", "<u4"),
        ("length", "<u4"),
        ("codec", "u1"),
        ("reserved", "V3"),
        ("digests_object", "<u4"),
        ("digests_offset", "<u4"),
    ]
)
assert (ENTRY.itemsize, PATCH.itemsize) == (64, 32)


class Spot(NamedTuple):
    """A place in a page object."""

    name: ObjectName
    offset: int


class Piece(NamedTuple):
    """A base or a patch of a block: where it lies in a segment, and where its sector digests lie.

    `length` is as stored. `mask` has the sectors of a patch, bit 0 for the first; it is 0 for a base.
    """

    name: ObjectName
    offset: int
    length: int
    codec: int
    mask: int
    digests: Spot | None

    @property
    def plain(self) -> int:
        """Bytes when decoded, of a patch."""
        return self.mask.bit_count() * SECTOR_SIZE

    @property
    def digest_bytes(self) -> int:
        """Bytes of its sector digests."""
        return (self.mask.bit_count() or SECTORS) * DIGEST_SIZE

    @property
    def sectors(self) -> int:
        """The sectors that it has, as a mask: of a base all."""
        return self.mask or (1 << SECTORS) - 1


def shown(pieces: Sequence[Piece]) -> Iterator[tuple[Piece, int]]:
    """Each piece of a block, the latest first, with the sectors of it that no later patch covers, as a mask."""
    covered = 0
    for piece in reversed(pieces):
        yield piece, piece.sectors & ~covered
        covered |= piece.sectors


class Leaf:
    """128 entries. `origin` is there when the page was read from the store."""

    def __init__(self, entries: Entries | None = None, origin: Origin | None = None) -> None:
        self.entries: Entries = zeroed(ENTRY) if entries is None else entries
        self.origin = origin
        self._names: list[ObjectName] = []
        self._numbers: dict[ObjectName, int] = {}
        self._patches: dict[int, list[Piece] | _Rows] = {}

    def copy(self) -> Leaf:
        """One that can be changed without changing this."""
        made = Leaf(self.entries.copy(), self.origin.copy() if self.origin else None)
        made._names = list(self._names)
        made._numbers = dict(self._numbers)
        made._patches = dict(self._patches)  # what it holds is replaced, never changed
        return made

    @property
    def empty(self) -> bool:
        """True when all blocks are zero."""
        return not self.entries["kind"].any()

    def hashes(self) -> bytes:
        """The block hashes, 32 bytes each; zero blocks have 32 zero bytes."""
        return self.entries["hash"].tobytes()

    def hash_of(self, slot: int) -> bytes:
        """The hash of one block."""
        digest: bytes = self.entries["hash"][slot].tobytes()
        return digest

    def content(self, key: LineageKey) -> bytes:
        """The node of the Merkle tree."""
        return ZERO if self.empty else key.content(self.hashes())

    def stored(self, slot: int) -> bool:
        """True unless the block is zero."""
        return bool(self.entries["kind"][slot] == STORED)

    def stored_slots(self) -> list[int]:
        """Slots of the blocks that are not zero."""
        return np.flatnonzero(self.entries["kind"] == STORED).tolist()

    def base(self, slot: int) -> Piece | None:
        """The base of a block; None when it is zero."""
        kind, codec, _, _, obj, offset, length, digests, digests_offset, _, _, _ = self.entries[slot].item()
        if kind == ABSENT:
            return None
        spot = Spot(self._names[digests - 1], digests_offset) if digests else None
        return Piece(self._names[obj], offset, length, codec, 0, spot)

    def patches(self, slot: int) -> list[Piece]:
        """The patches on the base, oldest first."""
        found = self._patches.get(slot, [])
        if isinstance(found, _Rows):
            found = self._patches[slot] = found.pieces()
        return found

    def pieces(self, slot: int) -> list[Piece]:
        """Base and patches, in the order in which they are laid on each other; empty for a zero block."""
        base = self.base(slot)
        return [] if base is None else [base, *self.patches(slot)]

    def reached(self, overhead: int) -> tuple[dict[ObjectName, int], dict[ObjectName, int]]:
        """Bytes that its blocks reach of each segment, and of each page object with their digests.

        `overhead`: what packing adds to each item of digests. All bases at once: verifying comes to every block.
        """
        stored = self.entries[self.entries["kind"] == STORED]
        lengths = np.bincount(stored["object"], stored["length"], len(self._names))
        numbers = np.bincount(stored["digests_object"], minlength=len(self._names) + 1)[1:]
        digests = numbers * (SECTORS * DIGEST_SIZE + overhead)
        segments = {self._names[i]: int(lengths[i]) for i in np.flatnonzero(lengths).tolist()}
        pages = {self._names[i]: int(digests[i]) for i in np.flatnonzero(digests).tolist()}
        for slot in self._patches:
            for patch in self.patches(slot):
                segments[patch.name] = segments.get(patch.name, 0) + patch.length
                if patch.digests is not None:
                    name = patch.digests.name
                    pages[name] = pages.get(name, 0) + patch.digest_bytes + overhead
        return segments, pages

    def slots_in(self, objects: Container[ObjectName]) -> list[int]:
        """Slots of the blocks of which base or a patch lies in one of these segments, ascending."""
        wanted = [number for number, name in enumerate(self._names) if name in objects]
        if not wanted:
            return []
        bases = (self.entries["kind"] == STORED) & np.isin(self.entries["object"], wanted)
        patched = {
            slot for slot in self._patches if any(patch.name in objects for patch in self.patches(slot))
        }
        return sorted(patched.union(np.flatnonzero(bases).tolist()))

    def clear(self, slot: int) -> None:
        """Make it a zero block."""
        self._touch(slot)
        self.entries[slot] = np.zeros((), ENTRY)
        self._patches.pop(slot, None)

    def set_base(self, slot: int, piece: Piece, digest: bytes) -> None:
        """Make it a block that is stored whole. `digest` is the hash of its 256 KiB."""
        self._touch(slot)
        self._patches.pop(slot, None)
        digests = self._number(piece.digests.name) + 1 if piece.digests else 0
        self.entries[slot] = (
            STORED, piece.codec, 0, 0, self._number(piece.name), piece.offset, piece.length,
            digests, piece.digests.offset if piece.digests else 0, 0, 0, np.void(digest),
        )  # fmt: skip

    def set_patches(self, slot: int, patches: list[Piece], digest: bytes) -> None:
        """Replace the patches on the base. `digest` is the hash of the whole resulting block."""
        self._touch(slot)
        self._patches[slot] = patches
        self.entries["patches"][slot] = len(patches)
        self.entries["hash"][slot] = np.void(digest)

    def encode(self, index: int) -> bytes:
        """The record of the whole page, as leaf number `index`."""
        names, body = self._encode_slots(list(range(FANOUT)))
        return record(LEAF, 0, FANOUT, len(names), index) + b"".join(n.pack() for n in names) + body

    def encode_patch(self, index: int, base: np.void, slots: list[int]) -> bytes:
        """The record of the slots that differ from the page that `base` refers to."""
        names, body = self._encode_slots(slots)
        return patch_head(0, index, len(names), base, slots) + b"".join(n.pack() for n in names) + body

    @classmethod
    def decode(cls, data: bytes, index: int) -> Leaf:
        """The reverse of `encode`. Raises MalformedPageError."""
        count, rest = open_record(data, LEAF, 0, index)
        leaf = cls()
        leaf._decode_slots(list(range(FANOUT)), count, rest)
        return leaf

    def patched(self, data: bytes, index: int) -> Leaf:
        """This page with a patch applied. Raises MalformedPageError."""
        count, _, slots, rest = open_patch(data, 0, index)
        leaf = self.copy()
        leaf._decode_slots(slots, count, rest)
        return leaf

    def _touch(self, slot: int) -> None:
        if self.origin is not None:
            self.origin.changed.add(slot)

    def _number(self, name: ObjectName) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
        return number

    def _encode_slots(self, slots: list[int]) -> tuple[list[ObjectName], bytes]:
        """The names that these slots need, and their entries followed by their patches."""
        entries = self.entries[slots]
        stored = np.flatnonzero(entries["kind"] == STORED).tolist()
        table = np.zeros(int(entries["patches"].sum()), PATCH)
        used: dict[int, int] = {}

        def renumber(old: int) -> int:
            return used.setdefault(old, len(used))  # names that nothing needs fall out

        row = 0
        for i in stored:
            entry = entries[i]
            entry["object"] = renumber(int(entry["object"]))
            if entry["digests_object"]:
                entry["digests_object"] = renumber(int(entry["digests_object"]) - 1) + 1
            patches = self.patches(slots[i]) if entry["patches"] else []
            entry["first_patch"] = row if patches else 0
            for patch in patches:
                digests = renumber(self._number(patch.digests.name)) + 1 if patch.digests else 0
                table[row] = (
                    patch.mask, renumber(self._number(patch.name)), patch.offset, patch.length, patch.codec,
                    b"", digests, patch.digests.offset if patch.digests else 0,
                )  # fmt: skip
                row += 1
        return [self._names[old] for old in used], entries.tobytes() + table.tobytes()

    def _decode_slots(self, slots: list[int], count: int, rest: memoryview) -> None:
        if len(rest) < count * 16 + len(slots) * ENTRY.itemsize:
            raise MalformedPageError("leaf page cut short")
        names = [ObjectName.unpack(bytes(rest[i * 16 : i * 16 + 16])) for i in range(count)]
        entries = np.frombuffer(rest, ENTRY, len(slots), count * 16).copy()
        tail = rest[count * 16 + len(slots) * ENTRY.itemsize :]
        if len(tail) % PATCH.itemsize:
            raise MalformedPageError("patches cut short")
        table = np.frombuffer(tail, PATCH)
        _check(entries, table, count)
        map_ = np.array([self._number(name) for name in names] or [0], np.uint32)
        stored = entries["kind"] == STORED
        entries["object"][stored] = map_[entries["object"][stored]]
        with_digests = stored & (entries["digests_object"] > 0)
        entries["digests_object"][with_digests] = map_[entries["digests_object"][with_digests] - 1] + 1
        self.entries[slots] = entries
        if self._patches:
            for slot in slots:
                self._patches.pop(slot, None)
        for i in np.flatnonzero(entries["patches"]).tolist():
            first, number = int(entries["first_patch"][i]), int(entries["patches"][i])
            self._patches[slots[i]] = _Rows(table[first : first + number], names)


class _Rows(NamedTuple):
    """Patches as they stand in a page: a sixth of what they take as pieces, and most are never asked for."""

    table: Entries
    names: list[ObjectName]

    def pieces(self) -> list[Piece]:
        return [
            Piece(
                self.names[obj], offset, length, codec, mask,
                Spot(self.names[digests - 1], digests_offset) if digests else None,
            )
            for mask, obj, offset, length, codec, _, digests, digests_offset in self.table.tolist()
        ]  # fmt: skip


def _check(entries: Entries, table: Entries, names: int) -> None:
    stored = entries["kind"] == STORED
    if (entries["kind"] > STORED).any():
        raise MalformedPageError("an entry of an unknown kind")
    refuse_traces(entries)
    if (entries["object"][stored] >= names).any() or (entries["digests_object"][stored] > names).any():
        raise MalformedPageError("an entry names no object")
    if (entries["patches"] > MAX_PATCHES).any() or (
        entries["first_patch"].astype(np.uint64) + entries["patches"] > len(table)
    ).any():
        raise MalformedPageError("an entry whose patches are not there")
    if (entries["length"] > BLOCK_SIZE + TAG_SIZE).any() or (table["length"] > BLOCK_SIZE + TAG_SIZE).any():
        raise MalformedPageError("an item larger than a block")
    if (
        (table["object"] >= names).any()
        or (table["digests_object"] > names).any()
        or (table["mask"] == 0).any()
    ):
        raise MalformedPageError("a patch that names no object or no sector")
