"""Pages of block pointers, as bytes: leaves of 128 entries, inner pages of 128 references."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from blockvault.engine.errors import FormatUnsupported
from blockvault.engine.hashing import ZERO, LineageKey
from blockvault.engine.names import ObjectName

BLOCK_SIZE = 256 * 1024
SECTOR_SIZE = 4 * 1024
FANOUT = 128
MAX_PATCHES = 16

# Kinds of entries and references.
ABSENT = 0
STORED = 1

# Kinds of records in page objects and segments.
BLOCK = 0
LEAF = 1
INNER = 2

Entries = npt.NDArray[np.void]

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
        ("extension", "<u4"),
        ("reserved", "<u4"),
        ("hash", "V32"),
    ]
)
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
assert ENTRY.itemsize == 64
assert REFERENCE.itemsize == 96

# kind, level, number of entries, number of object names, index of the page in its level
_RECORD = struct.Struct("<BBHIQ")

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


class Leaf:
    """128 entries and the names of the segments that they point into."""

    def __init__(self, entries: Entries | None = None, names: list[ObjectName] | None = None) -> None:
        self.entries: Entries = np.zeros(FANOUT, ENTRY) if entries is None else entries
        self.names: list[ObjectName] = [] if names is None else names

    def copy(self) -> Leaf:
        """One that can be changed without changing this."""
        return Leaf(self.entries.copy(), list(self.names))

    def hashes(self) -> bytes:
        """The block hashes, 32 bytes each; zero blocks have 32 zero bytes."""
        return self.entries["hash"].tobytes()

    def place(self, slot: int) -> tuple[ObjectName, int, int, int] | None:
        """(segment, offset, stored length, codec) of a slot; None for a zero block."""
        entry = self.entries[slot]
        if entry["kind"] == ABSENT:
            return None
        return (
            self.names[int(entry["object"])],
            int(entry["offset"]),
            int(entry["length"]),
            int(entry["codec"]),
        )

    def clear(self, slot: int) -> None:
        """Make it a zero block."""
        self.entries[slot] = np.zeros((), ENTRY)

    def point(self, slot: int, name: ObjectName, offset: int, length: int, codec: int, digest: bytes) -> None:
        """Make it a stored block."""
        if name not in self.names:
            self.names.append(name)
        self.entries[slot] = (
            STORED, codec, 0, 0, self.names.index(name), offset, length, 0, 0, 0, 0, np.void(digest)
        )  # fmt: skip

    @property
    def empty(self) -> bool:
        """True when all blocks are zero."""
        return not self.entries["kind"].any()

    def content(self, key: LineageKey) -> bytes:
        """The Merkle node of this leaf."""
        return ZERO if self.empty else key.content(self.hashes())

    def encode(self, index: int) -> bytes:
        """The record of this page, as leaf number `index`."""
        stored = self.entries["kind"] == STORED
        used = np.unique(self.entries["object"][stored])
        entries = self.entries.copy()
        # Names that no entry uses any more are left out, so that the page names nothing but what it needs.
        entries["object"][stored] = np.searchsorted(used, entries["object"][stored])
        names = b"".join(self.names[int(i)].pack() for i in used)
        return _RECORD.pack(LEAF, 0, FANOUT, len(used), index) + names + entries.tobytes()

    @classmethod
    def decode(cls, data: bytes, index: int) -> Leaf:
        """The reverse of `encode`. Raises MalformedPageError, FormatUnsupported."""
        count, rest = _decode_head(data, LEAF, 0, index)
        table = rest[: count * 16]
        if len(rest) < count * 16 + FANOUT * ENTRY.itemsize:
            raise MalformedPageError("leaf page cut short")
        entries = np.frombuffer(rest, ENTRY, FANOUT, count * 16)
        if entries["patches"].any() or (entries["kind"] > STORED).any():
            raise FormatUnsupported("a leaf page holds sector patches")
        stored = entries["kind"] == STORED
        if (entries["object"][stored] >= count).any():
            raise MalformedPageError("an entry names no object")
        names = [ObjectName.unpack(bytes(table[i * 16 : i * 16 + 16])) for i in range(count)]
        return cls(entries, names)


def encode_inner(entries: Entries, level: int, index: int) -> bytes:
    """The record of an inner page."""
    return _RECORD.pack(INNER, level, FANOUT, 0, index) + entries.tobytes()


def decode_inner(data: bytes, level: int, index: int) -> Entries:
    """The reverse of `encode_inner`. Raises MalformedPageError, FormatUnsupported."""
    _, rest = _decode_head(data, INNER, level, index)
    if len(rest) != FANOUT * REFERENCE.itemsize:
        raise MalformedPageError("inner page of a wrong length")
    entries = np.frombuffer(rest, REFERENCE)
    if (entries["kind"] > STORED).any():
        raise FormatUnsupported("an inner page refers to patched pages")
    return entries


def _decode_head(data: bytes, kind: int, level: int, index: int) -> tuple[int, memoryview]:
    if len(data) < _RECORD.size:
        raise MalformedPageError("page cut short")
    found_kind, found_level, fanout, count, found_index = _RECORD.unpack_from(data)
    if (found_kind, found_level, fanout, found_index) != (kind, level, FANOUT, index):
        raise MalformedPageError(
            f"page {index} of level {level} expected, page {found_index} of {found_level} found"
        )
    return count, memoryview(data)[_RECORD.size :]


def reference(
    name: ObjectName, offset: int, length: int, plain: int, codec: int, digest: bytes, content: bytes
) -> np.void:
    """A reference to a stored page."""
    ref: np.void = np.zeros(1, REFERENCE)[0]
    ref["name"], ref["offset"], ref["length"], ref["plain"] = np.void(name.pack()), offset, length, plain
    ref["kind"], ref["codec"], ref["hash"], ref["content"] = STORED, codec, np.void(digest), np.void(content)
    return ref


def content_of(entries: Entries, key: LineageKey) -> bytes:
    """The Merkle node of an inner page."""
    return key.content(entries["content"].tobytes()) if entries["kind"].any() else ZERO
