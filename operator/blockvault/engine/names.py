"""Keys of objects in the store. Relative to its prefix, so a store can be copied to another place whole."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from blockvault.engine import runtime
from blockvault.engine.envelope import Kind

STORE = "blockvault"
CANARIES = "canary/"
VOLUMES = "volumes/"
LINEAGES = "lineages/"
GENERATIONS = "keys/"

# Of objects that no attempt made. Whatever commit has been read, it is no sign that a later one was lost.
NO_EPOCH = 0

_NAME = struct.Struct("<IIQ")
_TEXT = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{16})")


class ObjectName(NamedTuple):
    """What a segment, page object or root is called in its lineage: never used before, never used again.

    `epoch` is given to one attempt only (0: none), `sequence` counts inside it, `nonce` is random.
    """

    epoch: int
    sequence: int
    nonce: int

    def pack(self) -> bytes:
        """16 bytes, as they stand in pages and summaries."""
        return _NAME.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> ObjectName:
        """The reverse of `pack`."""
        return cls(*_NAME.unpack(data))

    def __str__(self) -> str:
        return f"{self.epoch:08x}-{self.sequence:08x}-{self.nonce:016x}"

    @classmethod
    def parse(cls, text: str) -> ObjectName:
        """The reverse of `str`. Raises ValueError."""
        parts = _TEXT.fullmatch(text)
        if parts is None:
            raise ValueError(f"{text!r} is not the name of an object")
        return cls(*(int(part, 16) for part in parts.groups()))


class NameSource:
    """Fresh names for one attempt."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._sequence = 0

    def fresh(self) -> ObjectName:
        """The next one."""
        self._sequence += 1
        return ObjectName(self.epoch, self._sequence, int.from_bytes(runtime.random(8), "little"))


class LineagePaths:
    """Keys below one lineage."""

    def __init__(self, lineage: str) -> None:
        self.lineage = lineage
        self.folder = f"{LINEAGES}{lineage}/"
        self.commits = f"{self.folder}commits/"
        self.segments = f"{self.folder}segments/"
        self.page_objects = f"{self.folder}pages/"
        self.roots = f"{self.folder}roots/"
        self.keys = f"{self.folder}keys/"
        self.folders = {Kind.SEGMENT: self.segments, Kind.PAGES: self.page_objects, Kind.ROOT: self.roots}

    def commit(self, number: int) -> str:
        """The key of a commit."""
        return f"{self.commits}{number:016d}"

    def object(self, kind: Kind, name: ObjectName) -> str:
        """The key of a segment, page object or root."""
        return f"{self.folders[kind]}{name}"

    def parse(self, key: str) -> tuple[Kind, ObjectName]:
        """The reverse of `object`. Raises ValueError."""
        for kind, folder in self.folders.items():
            if key.startswith(folder):
                return kind, ObjectName.parse(key[len(folder) :])
        raise ValueError(f"{key} is in no folder of lineage {self.lineage}")

    def segment(self, name: ObjectName) -> str:
        """The key of a segment."""
        return f"{self.segments}{name}"

    def pages(self, name: ObjectName) -> str:
        """The key of a page object."""
        return f"{self.page_objects}{name}"

    def root(self, name: ObjectName) -> str:
        """The key of a root."""
        return f"{self.roots}{name}"

    def key(self, fingerprint: str) -> str:
        """The key of the lineage's key as it is wrapped under the vault key of that fingerprint."""
        return f"{self.keys}{fingerprint}"

    def roots_of(self, epoch: int) -> str:
        """What the keys of all roots of one epoch begin with."""
        return f"{self.roots}{epoch:08x}-"

    def segments_of(self, epoch: int) -> str:
        """What the keys of all segments of one epoch begin with."""
        return f"{self.segments}{epoch:08x}-"


def generation_key(number: int) -> str:
    """The key of a generation of the vault's key."""
    return f"{GENERATIONS}{number:08d}"


def volume_key(name_hash: str, number: int) -> str:
    """The key of a volume's record."""
    return f"{VOLUMES}{name_hash}/{number:08d}"
