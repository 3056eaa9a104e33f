"""Roots: one immutable object for each backup (and for each later revision of it)."""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockvault.engine import envelope, samples, summary
from blockvault.engine.crypt import Cipher
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import get_whole
from blockvault.engine.hashing import LineageKey
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import BLOCK_SIZE, FANOUT, REFERENCE, SECTOR_SIZE, levels_for
from blockvault.engine.state import RootEntry
from blockvault.engine.summary import MAX_DEPTH, Summary
from blockvault.stores import ObjectNotFound, ObjectStore

MAX_META = 64 * 1024

# Lengths: bytes of JSON, summary records, samples.
_SIZES = struct.Struct("<III")


@dataclass
class Root:
    """A decoded root: `facts` is its JSON, `records` the changes to the base's summary, `samples` some hashes."""

    facts: dict[str, Any]
    records: list[tuple[envelope.Kind, ObjectName, int, int]]
    samples: samples.Samples
    checksum: str

    @property
    def top(self) -> np.void:
        """The reference to the top page."""
        raw = b64decode(self.facts["tree"]["top"])
        return np.frombuffer(raw, REFERENCE)[0]  # type: ignore[no-any-return]

    @property
    def levels(self) -> int:
        """Inner levels of the tree."""
        return int(self.facts["tree"]["levels"])

    @property
    def size(self) -> int:
        """Bytes of the volume."""
        return int(self.facts["size"])

    @property
    def base(self) -> tuple[ObjectName, int] | None:
        """(name, size in bytes) of the root whose summary this one changes."""
        base = self.facts["summary"]["base"]
        return None if base is None else (ObjectName.parse(base["object"]), int(base["bytes"]))

    @property
    def depth(self) -> int:
        """How many summaries lie below this one."""
        return int(self.facts["summary"]["depth"])


def content_hash(key: LineageKey, size: int, top: np.void) -> str:
    """The hash of the whole image: size, height of the tree, and the Merkle node of its top."""
    data = b"root" + size.to_bytes(8, "little") + bytes([levels_for(size)]) + top["content"].tobytes()
    return key.content(data).hex()


def tree_facts(size: int, top: np.void) -> dict[str, Any]:
    """The part of a root's JSON that says how to read its tree."""
    return {
        "top": b64encode(top.tobytes()).decode(),
        "levels": levels_for(size),
        "fanout": FANOUT,
        "blockSize": BLOCK_SIZE,
        "sectorSize": SECTOR_SIZE,
    }


def encode(
    key: str,
    name: ObjectName,
    facts: dict[str, Any],
    records: list[tuple[envelope.Kind, ObjectName, int, int]],
    sampled: samples.Samples,
    cipher: Cipher | None,
) -> bytes:
    """A root ready to be stored under `key`."""
    head = json.dumps(facts, separators=(",", ":"), sort_keys=True).encode()
    sizes = _SIZES.pack(len(head), len(records), len(sampled))
    body = sizes + head + summary.encode(records) + samples.encode(sampled)
    return envelope.seal(envelope.Kind.ROOT, key, body, object_id=name.pack(), cipher=cipher)


def checksum_of(data: bytes) -> str:
    """The checksum of an encoded root, as the commit keeps it."""
    return data[envelope.CHECKED_SIZE : envelope.HEADER_SIZE].hex()


class Roots:
    """Reads roots of one lineage and resolves their summaries.

    Keeps what it has read, as roots never change.
    """

    def __init__(self, store: ObjectStore, lineage: Lineage) -> None:
        self._store = store
        self._lineage = lineage
        self._paths = lineage.paths
        self._roots: dict[ObjectName, Root] = {}
        self._sizes: dict[ObjectName, int] = {}
        self._summaries: dict[ObjectName, Summary] = {}

    def read(self, entry: RootEntry) -> Root:
        """The root of a backup. Raises StoredDataDamaged when it is not the one that the commit means."""
        name = ObjectName.parse(entry.object)
        root = self._read(name)
        if root.checksum != entry.object_checksum or root.facts["id"] != entry.id:
            raise StoredDataDamaged(f"{self._paths.root(name)}: not the root of backup {entry.id}")
        return root

    def _read(self, name: ObjectName) -> Root:
        if name in self._roots:
            return self._roots[name]
        key = self._paths.root(name)
        try:
            data = get_whole(self._store, key, expected=True)
        except ObjectNotFound as error:
            raise StoredDataDamaged(f"{key}: root object is missing") from error
        opened = envelope.unseal(envelope.Kind.ROOT, key, data, self._lineage.cipher)
        try:
            length, count, sampled = _SIZES.unpack_from(opened.body)
            facts = json.loads(opened.body[_SIZES.size : _SIZES.size + length])
            start = _SIZES.size + length
            end = start + count * summary.RECORD_SIZE
            tree = facts["tree"]
            if len(opened.body) != end + sampled * samples.RECORD_SIZE or (
                (tree["fanout"], tree["blockSize"]) != (FANOUT, BLOCK_SIZE)
            ):
                raise ValueError("counts or sizes that do not fit")
            records = summary.decode(opened.body[start:end])
            root = Root(facts, records, samples.decode(opened.body[end:]), opened.checksum.hex())
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise StoredDataDamaged(f"{key}: {error}") from error
        self._roots[name] = root
        self._sizes[name] = len(data)
        return root

    def summary(self, name: ObjectName) -> Summary:
        """All objects that a root needs, besides roots. Reads up to 16 roots below it."""
        if name not in self._summaries:
            root = self._read(name)
            if root.base is not None and root.depth > MAX_DEPTH:
                raise StoredDataDamaged(f"{self._paths.root(name)}: summary of depth {root.depth}")
            below = {} if root.base is None else self.summary(root.base[0])
            try:
                self._summaries[name] = summary.apply(below, root.records)
            except ValueError as error:
                raise StoredDataDamaged(f"{self._paths.root(name)}: {error}") from error
        return self._summaries[name]

    def chain(self, name: ObjectName) -> list[tuple[ObjectName, int]]:
        """(name, size in bytes) of the roots below one, whose summaries it changes, and of itself."""
        found = []
        base = self._read(name).base
        while base is not None:
            found.append(base)
            base = self._read(base[0]).base
        return [*found, (name, self._sizes[name])]

    def used_bytes(self, entries: list[RootEntry]) -> int:
        """Sizes of all segments, page objects and roots that these backups need, each counted once."""
        sizes: dict[ObjectName, int] = {}
        for entry in entries:
            name, size = ObjectName.parse(entry.object), entry.object_bytes
            for used, usage in self.summary(name).items():
                sizes[used] = usage.size
            sizes[name] = size
            base = self._read(name).base
            while base is not None and base[0] not in sizes:
                sizes[base[0]] = base[1]
                base = self._read(base[0]).base
        return sum(sizes.values())
