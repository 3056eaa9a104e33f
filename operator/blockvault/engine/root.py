"""Roots: one immutable object for each backup (and for each later revision of it)."""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from blockvault.engine import envelope, samples, summary
from blockvault.engine.crypt import Cipher
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import Together, get_whole
from blockvault.engine.hashing import LineageKey
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.objects import Objects
from blockvault.engine.pages import (
    BLOCK_SIZE,
    FANOUT,
    LARGEST_VOLUME,
    REFERENCE,
    SECTOR_SIZE,
    MalformedPageError,
    blocks_in,
    check_references,
    levels_for,
)
from blockvault.engine.state import RootEntry
from blockvault.engine.summary import MAX_DEPTH, Records, Summary
from blockvault.stores import ObjectNotFound, ObjectStore

MAX_META = 64 * 1024

# Bytes of roots, and of summaries, that are kept in memory, and what a root is taken for besides its records.
KEPT_BYTES = 48 * 1024 * 1024
ROOT_BYTES = 128 * 1024
# Roots that are asked for side by side.
TOGETHER = 32

T = TypeVar("T")

# Lengths: bytes of JSON, summary records, samples.
_SIZES = struct.Struct("<III")


@dataclass
class Root:
    """A decoded root: `facts` is its JSON, `records` the changes to the base's summary, `samples` some hashes.

    `length`: of the stored object, in bytes.
    """

    facts: dict[str, Any]
    records: Records
    samples: samples.Samples
    checksum: str
    length: int

    @property
    def top(self) -> np.void:
        """The reference to the top page."""
        return _top(self.facts)

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
    def unreadable(self) -> list[tuple[int, int]]:
        """Ranges (offset, length) that are zero here because the volume could not be read."""
        # The last sector may end behind the volume, as some versions have noted it.
        return [(int(o), min(int(n), self.size - int(o))) for o, n in self.facts["unreadable"]]

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
    records: Records,
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


def _top(facts: dict[str, Any]) -> np.void:
    raw = b64decode(facts["tree"]["top"], validate=True)
    if len(raw) != REFERENCE.itemsize:
        raise ValueError("a reference of a wrong length")
    top: np.void = check_references(np.frombuffer(raw, REFERENCE))[0]
    return top


def _check(root: Root, key: LineageKey) -> None:
    """Raises ValueError, KeyError, TypeError, MalformedPageError unless a root fits together in itself."""
    facts, tree, base = root.facts, root.facts["tree"], root.base
    if type(facts["size"]) is not int or not 0 <= facts["size"] < LARGEST_VOLUME:
        raise ValueError(f"a volume of {facts['size']} bytes")
    if tree != tree | tree_facts(root.size, _top(facts)):
        raise ValueError("a tree of other sizes")
    if facts["contentHash"] != content_hash(key, root.size, _top(facts)):
        raise ValueError("the content hash does not match")
    if not (root.depth == 0 if base is None else 1 <= root.depth <= MAX_DEPTH):
        raise ValueError(f"a summary of depth {root.depth}")
    if any(block >= blocks_in(root.size) for block in root.samples):
        raise ValueError("a sample of a block that is not there")
    if any(offset < 0 or length <= 0 for offset, length in root.unreadable):
        raise ValueError("an unreadable range that is not in the volume")
    if not isinstance(facts["id"], str) or not isinstance(facts["meta"], dict):
        raise ValueError("no id or no meta")


class Kept(Generic[T]):
    """What was read last, up to a bound of bytes by `cost`; always the last one."""

    def __init__(self, cost: Callable[[T], int], bound: int = KEPT_BYTES) -> None:
        self._cost = cost
        self._bound = bound
        self._kept: OrderedDict[ObjectName, T] = OrderedDict()
        self._used = 0

    def get(self, name: ObjectName) -> T | None:
        """What is kept under that name."""
        if name in self._kept:
            self._kept.move_to_end(name)
        return self._kept.get(name)

    def put(self, name: ObjectName, thing: T) -> None:
        """Keep it, in place of what was not looked at for longest."""
        self._used += self._cost(thing)
        if name in self._kept:
            self._used -= self._cost(self._kept[name])
        self._kept[name] = thing
        self._kept.move_to_end(name)
        while self._used > self._bound and len(self._kept) > 1:
            self._used -= self._cost(self._kept.popitem(last=False)[1])


class Roots:
    """Reads roots of one lineage and resolves their summaries.

    Keeps what it has read, as roots never change, up to a bound.
    """

    def __init__(self, store: ObjectStore, lineage: Lineage) -> None:
        self._store = store
        self._lineage = lineage
        self._paths = lineage.paths
        self._roots: Kept[Root] = Kept(lambda root: ROOT_BYTES + root.records.nbytes)
        self._summaries: Kept[Summary] = Kept(lambda whole: whole.records.nbytes)
        self._together = Together()

    def read(self, entry: RootEntry) -> Root:
        """The root of a backup. Raises StoredDataDamaged when it is not the one that the commit means."""
        name = ObjectName.parse(entry.object)
        root = self._read(name)
        if (root.checksum, root.facts["id"], root.size, root.facts["contentHash"]) != (
            entry.object_checksum,
            entry.id,
            entry.size,
            entry.content_hash,
        ):
            raise StoredDataDamaged(f"{self._paths.root(name)}: not the root of backup {entry.id}")
        return root

    def at(self, name: ObjectName) -> Root:
        """The root object of that name, whatever backup it is of. Raises StoredDataDamaged."""
        return self._read(name)

    def _read(self, name: ObjectName) -> Root:
        root = self._roots.get(name)
        if root is None:
            root = self._fetch(name)
            self._roots.put(name, root)
        return root

    def _fetch(self, name: ObjectName) -> Root:
        key = self._paths.root(name)
        try:
            data = get_whole(self._store, key, expected=True)
        except ObjectNotFound as error:
            raise StoredDataDamaged(f"{key}: root object is missing") from error
        opened = envelope.unseal(envelope.Kind.ROOT, key, data, self._lineage.cipher)
        try:
            length, count, sampled = _SIZES.unpack_from(opened.body)
            start = _SIZES.size + length
            end = start + count * summary.RECORD_SIZE
            if len(opened.body) != end + sampled * samples.RECORD_SIZE:
                raise ValueError("lengths that do not fit")
            facts = envelope.facts_of(key, opened.body[_SIZES.size : start])
            # A copy, as the records would else keep the whole body in memory.
            records = summary.decode(bytes(opened.body[start:end]))
            sampled_blocks = samples.decode(opened.body[end:])
            root = Root(facts, records, sampled_blocks, opened.checksum.hex(), len(data))
            _check(root, self._lineage.keys)
        except (ValueError, KeyError, TypeError, struct.error, MalformedPageError) as error:
            raise StoredDataDamaged(f"{key}: {error}") from error
        return root

    def summary(self, name: ObjectName) -> Summary:
        """All objects that a root needs, besides roots. Reads up to 16 roots below it."""
        waiting: list[ObjectName] = []
        whole: Summary | None = None
        while whole is None:
            whole = self._summaries.get(name)
            if whole is None:
                waiting.append(name)
                root = self._read(name)
                if root.base is None:
                    whole = Summary(summary.empty())
                elif root.depth > MAX_DEPTH or len(waiting) > MAX_DEPTH:
                    raise StoredDataDamaged(f"{self._paths.root(name)}: summary of depth {root.depth}")
                else:
                    name = root.base[0]
        for above in reversed(waiting):
            try:
                whole = summary.apply(whole, self._read(above).records)
            except ValueError as error:
                raise StoredDataDamaged(f"{self._paths.root(above)}: {error}") from error
            self._summaries.put(above, whole)
        return whole

    def objects(self, names: Iterable[ObjectName]) -> Objects:
        """Everything that these roots need, themselves and the roots below them included."""
        wanted = dict.fromkeys(names)
        self._read_together(list(wanted))
        roots: dict[ObjectName, int] = {}
        found = Objects()
        added: list[Records] = []
        for name in wanted:
            root = self._read(name)
            base = root.base
            if base is not None and self._read(base[0]).depth + 1 != root.depth:
                # One less each time: in a circle nobody would name the objects that all of them need.
                raise StoredDataDamaged(f"{self._paths.root(name)}: its summary is not of depth {root.depth}")
            if base is not None and base[0] in wanted:
                # The base is in the set itself, so that only what is new in this one comes to it.
                added.append(root.records[(root.records["size"] > 0) & (root.records["live"] > 0)])
            else:
                found = found.join([self.summary(name).records])
            roots[name] = root.length
            while base is not None and base[0] not in roots:
                roots[base[0]] = base[1]
                base = self._read(base[0]).base
        below = Objects.of((envelope.Kind.ROOT, name, size) for name, size in roots.items())
        return found.join([*added, below.records])

    def unresolved(self, entries: list[RootEntry]) -> list[RootEntry]:
        """Those of which nobody can say what they need: their roots, or some below by summaries, are damaged."""
        try:
            self.objects(ObjectName.parse(entry.object) for entry in entries)
        except StoredDataDamaged:
            damaged: set[ObjectName] = set()
            return [entry for entry in entries if not self._resolves(ObjectName.parse(entry.object), damaged)]
        return []

    def _resolves(self, name: ObjectName, damaged: set[ObjectName]) -> bool:
        """Whether a root and all below it can be read. `damaged`: of these it is known, and they are not read again."""
        chain: list[ObjectName] = []
        below: ObjectName | None = name
        while below is not None:
            if below in damaged or below in chain:
                return False
            chain.append(below)
            try:
                base = self._read(below).base
            except StoredDataDamaged:
                damaged.add(below)
                return False
            below = None if base is None else base[0]
        try:
            self.objects([name])
        except StoredDataDamaged:
            return False
        return True

    def _read_together(self, names: list[ObjectName]) -> None:
        missing = [name for name in names if self._roots.get(name) is None]
        for first in range(0, len(missing), TOGETHER):
            batch = missing[first : first + TOGETHER]
            for name, root in zip(batch, self._together.map(self._fetch, batch), strict=True):
                self._roots.put(name, root)

    def used_bytes(self, entries: list[RootEntry]) -> int:
        """Sizes of all segments, page objects and roots that these backups need, each counted once."""
        return self.objects(ObjectName.parse(entry.object) for entry in entries).total
