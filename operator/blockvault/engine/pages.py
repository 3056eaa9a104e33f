"""Sizes and records of the tree of pages: references, inner pages, and the frame that all page records share.

A page is stored whole, or, when little of it changed, as a page patch: the slots that differ from a page that
is stored whole, with a reference to that. Reading takes two reads at most. docs/format.md, section Pages.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from blockvault.engine.hashing import ZERO, LineageKey
from blockvault.engine.items import INNER, LEAF, PAGE_PATCH
from blockvault.engine.names import ObjectName

BLOCK_SIZE = 256 * 1024
SECTOR_SIZE = 4 * 1024
SECTORS = BLOCK_SIZE // SECTOR_SIZE
FANOUT = 128
# A leaf is at most its head, names, entries and 16 patches of 32 bytes for each entry.
LARGEST_PAGE = 1024 * 1024
# Bytes; seven levels of pages reach that far.
LARGEST_VOLUME = 1 << 60

# Kinds of references (and of entries, which know the first two).
ABSENT = 0
STORED = 1
PATCHED = 2

Entries = npt.NDArray[np.void]

REFERENCE = np.dtype(
    [
        ("name", "V16"),
        ("offset", "<u4"),
        ("length", "<u4"),
        ("plain", "<u4"),
        ("kind", "u1"),
        ("codec", "u1"),
        ("reserved", "<u2"),
        ("hash", "V32"),
        ("content", "V32"),
    ]
)
assert REFERENCE.itemsize == 96

# kind, level, number of slots, number of object names, index of the page in its level
_RECORD = struct.Struct("<BBHIQ")
RECORD_SIZE = _RECORD.size
# One bit for each of 128 slots.
_BITMAP_SIZE = 16

NO_REFERENCE: np.void = np.zeros(1, REFERENCE)[0]


class MalformedPageError(Exception):
    """A page whose hash is right but whose bytes make no sense: written by a defective program."""


def levels_for(size: int) -> int:
    """Levels of inner pages above the leaves for a volume of `size` bytes."""
    reach, levels = FANOUT * BLOCK_SIZE, 0
    while reach < size:
        reach, levels = reach * FANOUT, levels + 1
    return levels


def blocks_in(size: int) -> int:
    """Blocks of a volume of `size` bytes; the last may be partly outside, and is zero there."""
    return -(-size // BLOCK_SIZE)


def zeroed(entry: np.dtype[np.void]) -> Entries:
    """The entries of an empty page. Not by `np.zeros`, which lets other threads run first: it is one for every leaf."""
    return np.frombuffer(bytearray(FANOUT * entry.itemsize), entry)


def reference(
    kind: int,
    name: ObjectName,
    offset: int,
    length: int,
    plain: int,
    codec: int,
    digest: bytes,
    content: bytes,
) -> np.void:
    """A reference to a page (STORED) or page patch (PATCHED)."""
    ref: np.void = np.zeros(1, REFERENCE)[0]
    ref["name"], ref["offset"], ref["length"], ref["plain"] = np.void(name.pack()), offset, length, plain
    ref["kind"], ref["codec"], ref["hash"], ref["content"] = kind, codec, np.void(digest), np.void(content)
    return ref


def name_of(ref: np.void) -> ObjectName:
    """The page object that a reference points into."""
    return ObjectName.unpack(ref["name"].tobytes())


@dataclass
class Origin:
    """Where a page that was read lies, so that its next version can be written as a patch.

    `ref` is the reference that was followed, `base` that of the whole page (the same, unless `ref` is a patch),
    `changed` the slots that differ from the base.
    """

    ref: np.void
    base: np.void
    changed: set[int] = field(default_factory=set)

    def copy(self) -> Origin:
        """One whose `changed` can grow."""
        return Origin(self.ref, self.base, set(self.changed))


class Inner:
    """An inner page: 128 references."""

    def __init__(self, entries: Entries | None = None, origin: Origin | None = None) -> None:
        self.entries: Entries = zeroed(REFERENCE) if entries is None else entries
        self.origin = origin

    def copy(self) -> Inner:
        """One that can be changed without changing this."""
        return Inner(self.entries.copy(), self.origin.copy() if self.origin else None)

    def set(self, slot: int, ref: np.void) -> None:
        """Replace one reference."""
        self.entries[slot] = ref
        if self.origin is not None:
            self.origin.changed.add(slot)

    @property
    def empty(self) -> bool:
        """True when all blocks below are zero."""
        return not self.entries["kind"].any()

    def content(self, key: LineageKey) -> bytes:
        """The node of the Merkle tree."""
        return ZERO if self.empty else key.content(self.entries["content"].tobytes())

    def encode(self, level: int, index: int) -> bytes:
        """The record of the whole page."""
        return record(INNER, level, FANOUT, 0, index) + self.entries.tobytes()

    def encode_patch(self, level: int, index: int, base: np.void, slots: list[int]) -> bytes:
        """The record of the slots that differ from `base`."""
        return patch_head(level, index, 0, base, slots) + self.entries[slots].tobytes()

    @classmethod
    def decode(cls, data: bytes, level: int, index: int) -> Inner:
        """The reverse of `encode`. Raises MalformedPageError."""
        _, rest = open_record(data, INNER, level, index)
        if len(rest) != FANOUT * REFERENCE.itemsize:
            raise MalformedPageError("inner page of a wrong length")
        return cls(check_references(np.frombuffer(rest, REFERENCE)))

    def patched(self, data: bytes, level: int, index: int) -> Inner:
        """This page with a patch applied. Raises MalformedPageError."""
        _, _, slots, rest = open_patch(data, level, index)
        if len(rest) != len(slots) * REFERENCE.itemsize:
            raise MalformedPageError("patch of an inner page of a wrong length")
        entries = self.entries.copy()
        entries[slots] = check_references(np.frombuffer(rest, REFERENCE))
        return Inner(entries)


def check_references(entries: Entries) -> Entries:
    """The same references. Raises MalformedPageError."""
    if (entries["kind"] > PATCHED).any():
        raise MalformedPageError("a reference of an unknown kind")
    if (entries["plain"] > LARGEST_PAGE).any() or (entries["length"] > LARGEST_PAGE).any():
        raise MalformedPageError("a reference to more than a page can be")
    refuse_traces(entries)
    return entries


def refuse_traces(entries: Entries) -> None:
    """Raises MalformedPageError when what is absent, and so reads as zeros, names or hashes something all the same."""
    if np.frombuffer(entries[entries["kind"] == ABSENT].tobytes(), np.uint8).any():
        raise MalformedPageError("an absent page or block with a place or hash")


def record(kind: int, level: int, slots: int, names: int, index: int) -> bytes:
    """The first 16 bytes of a page record."""
    return _RECORD.pack(kind, level, slots, names, index)


def open_record(data: bytes, kind: int, level: int, index: int) -> tuple[int, memoryview]:
    """(number of object names, the rest) of a whole page. Raises MalformedPageError."""
    if len(data) < RECORD_SIZE:
        raise MalformedPageError("page cut short")
    found_kind, found_level, slots, names, found_index = _RECORD.unpack_from(data)
    if (found_kind, found_level, slots, found_index) != (kind, level, FANOUT, index):
        raise MalformedPageError(
            f"page {index} of level {level} expected, page {found_index} of {found_level} found"
        )
    return names, memoryview(data)[RECORD_SIZE:]


def patch_head(level: int, index: int, names: int, base: np.void, slots: list[int]) -> bytes:
    """What stands before the entries of a page patch: the record's head, the base's reference, a bitmap of slots."""
    bits = np.zeros(8 * _BITMAP_SIZE, np.uint8)
    bits[slots] = 1
    bitmap = np.packbits(bits, bitorder="little").tobytes()
    return record(PAGE_PATCH, level, len(slots), names, index) + base.tobytes() + bitmap


def open_patch(data: bytes, level: int, index: int) -> tuple[int, np.void, list[int], memoryview]:
    """(number of object names, reference of the base, slots, the rest) of a patch. Raises MalformedPageError."""
    head = RECORD_SIZE + REFERENCE.itemsize + _BITMAP_SIZE
    if len(data) < head:
        raise MalformedPageError("page patch cut short")
    kind, found_level, count, names, found_index = _RECORD.unpack_from(data)
    if (kind, found_level, found_index) != (PAGE_PATCH, level, index):
        raise MalformedPageError(f"patch of page {index} of level {level} expected")
    base: np.void = np.frombuffer(data, REFERENCE, 1, RECORD_SIZE)[0]
    bitmap = np.frombuffer(data, np.uint8, _BITMAP_SIZE, RECORD_SIZE + REFERENCE.itemsize)
    slots = np.flatnonzero(np.unpackbits(bitmap, bitorder="little")).tolist()
    if len(slots) != count or max(slots, default=0) >= FANOUT or base["kind"] != STORED:
        raise MalformedPageError("page patch whose counts or base do not fit")
    check_references(np.frombuffer(data, REFERENCE, 1, RECORD_SIZE))
    return names, base, slots, memoryview(data)[head:]


def kind_at(level: int) -> int:
    """The kind of a whole page of that level."""
    return INNER if level else LEAF
