"""A lineage of any size whose first backup is written from metadata: no block of it is ever stored.

Each leaf has one segment of 128 templates to itself. Segments, and page objects with the leaves and the sector digests,
are generated as they are read; inner pages, the root and the commits are stored as always.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from blockvault.engine import codec, envelope, runtime, sectors, summary
from blockvault.engine import root as roots
from blockvault.engine.attempts import Begin, begin, finish
from blockvault.engine.commits import Commits
from blockvault.engine.envelope import HEADER_SIZE, Kind
from blockvault.engine.hashing import ObjectChecksum
from blockvault.engine.items import BLOCK, LEAF, Head
from blockvault.engine.leaf import ENTRY
from blockvault.engine.lineage import Lineage, lineage_of
from blockvault.engine.names import LineagePaths, NameSource, ObjectName
from blockvault.engine.packs import _ITEM as DIRECTORY_LINE
from blockvault.engine.packs import ITEM_SIZE, TRAILER_SIZE, PackWriter, Uploads, page_writer, seal_directory
from blockvault.engine.pages import (
    BLOCK_SIZE,
    FANOUT,
    REFERENCE,
    STORED,
    Entries,
    Inner,
    blocks_in,
    levels_for,
    record,
    reference,
)
from blockvault.engine.repository import Repository
from blockvault.engine.root import Roots
from blockvault.engine.samples import KEEP_STORED
from blockvault.engine.state import FIGURES, RootEntry
from blockvault.engine.volumes import Volumes
from blockvault.stores import ObjectInfo
from blockvault.stores.base import ObjectStore
from tests.bench.templates import BLOCKS, COUNT

VOLUME = "v"
# Leaves, with their digests, to a page object: about 8 MiB.
LEAVES = 112
DIGESTS_SIZE = FANOUT * sectors.SECTORS * 8
LEAF_SIZE = 16 + 2 * 16 + FANOUT * ENTRY.itemsize
SLOT = DIGESTS_SIZE + LEAF_SIZE
SEGMENT_TAIL = FANOUT * ITEM_SIZE + TRAILER_SIZE
SEGMENT_SIZE = HEADER_SIZE + FANOUT * BLOCK_SIZE + SEGMENT_TAIL
EPOCH = 1
NONCE = 0x5EED
# What one segment and one leaf with its digests have alive.
ALIVE = FANOUT * BLOCK_SIZE


@dataclass
class Metadata:
    """The generated objects. `leaves`: how many the volume has; `gone`: a file that remembers what was deleted."""

    lineage_id: str
    secret: bytes
    leaves: int
    gone: Path | None = None
    _gone: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.lineage: Lineage = lineage_of(self.lineage_id, self.secret, encrypted=False, single_writer=False)
        key = self.lineage.keys
        self._paths = LineagePaths(self.lineage_id)
        self.hashes = [key.block(block) for block in BLOCKS]
        every = [sectors.pack(sectors.digests(key, block)) for block in BLOCKS]
        self._digests = b"".join(every[slot % COUNT] for slot in range(FANOUT))
        self.content = key.content(b"".join(self.hashes[slot % COUNT] for slot in range(FANOUT)))
        self._entries: dict[int, bytes] = {}
        if self.gone is not None and self.gone.exists():
            self._gone.update(self.gone.read_text(encoding="ascii").split())

    @property
    def objects(self) -> int:
        """Page objects."""
        return -(-self.leaves // LEAVES)

    def segment_name(self, leaf: int) -> ObjectName:
        """The segment of one leaf."""
        return ObjectName(EPOCH, 1 + leaf, NONCE)

    def pages_name(self, number: int) -> ObjectName:
        """One of the page objects."""
        return ObjectName(EPOCH, 1 + self.leaves + number, NONCE)

    def pages_count(self, number: int) -> int:
        """Leaves in one of the page objects."""
        return min(LEAVES, self.leaves - number * LEAVES)

    def pages_size(self, number: int) -> int:
        """Bytes of one of the page objects."""
        return HEADER_SIZE + self.pages_count(number) * (SLOT + ITEM_SIZE) + TRAILER_SIZE

    def leaf(self, number: int) -> bytes:
        """The record of a leaf."""
        place = number % LEAVES
        entries = self._entries.get(place)
        if entries is None:
            table = np.zeros(FANOUT, ENTRY)
            slots = np.arange(FANOUT)
            table["kind"] = STORED
            table["offset"] = HEADER_SIZE + slots * BLOCK_SIZE
            table["length"] = BLOCK_SIZE
            table["digests_object"] = 2
            table["digests_offset"] = HEADER_SIZE + place * SLOT + slots * sectors.SECTORS * 8
            table["hash"] = np.array([self.hashes[slot % COUNT] for slot in range(FANOUT)], "V32")
            entries = self._entries[place] = table.tobytes()
        names = self.segment_name(number).pack() + self.pages_name(number // LEAVES).pack()
        return record(LEAF, 0, FANOUT, 2, number) + names + entries

    def size(self, key: str) -> int | None:
        """See Generated."""
        found = None if key in self._gone else self._parse(key)
        if found is None:
            return None
        return SEGMENT_SIZE if found[0] == Kind.SEGMENT else self.pages_size(found[1])

    def read(self, key: str, start: int, end: int) -> bytes:
        """See Generated."""
        found = self._parse(key)
        assert found is not None
        kind, number = found
        if kind == Kind.PAGES:
            return self._pages(key, number, start, end)
        body_end = SEGMENT_SIZE - SEGMENT_TAIL
        parts = []
        if start < HEADER_SIZE:
            parts.append(self._header(key, kind, number)[start:end])
        at = max(start, HEADER_SIZE)
        while at < min(end, body_end):
            slot, inside = divmod(at - HEADER_SIZE, BLOCK_SIZE)
            parts.append(BLOCKS[slot % COUNT][inside : inside + min(end, body_end) - at])
            at += len(parts[-1])
        if end > body_end:
            parts.append(self._tail(number)[max(0, start - body_end) : end - body_end])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See Generated."""
        for folder, count in ((self._paths.segments, self.leaves), (self._paths.page_objects, self.objects)):
            if not (folder.startswith(prefix) or prefix.startswith(folder)):
                continue
            for number in range(count):
                if folder == self._paths.segments:
                    key, size = self._paths.segment(self.segment_name(number)), SEGMENT_SIZE
                else:
                    key, size = self._paths.pages(self.pages_name(number)), self.pages_size(number)
                if key.startswith(prefix) and key not in self._gone:
                    yield ObjectInfo(key, size)

    def delete(self, key: str) -> None:
        """See Generated."""
        self._gone.add(key)
        if self.gone is not None:
            with self.gone.open("a", encoding="ascii") as file:
                file.write(key + "\n")

    def _parse(self, key: str) -> tuple[Kind, int] | None:
        if not key.startswith(self._paths.folder):
            return None
        try:
            kind, name = self._paths.parse(key)
        except ValueError:
            return None
        number = name.sequence - 1
        if name.epoch != EPOCH or name.nonce != NONCE:
            return None
        return (kind, number) if kind == Kind.SEGMENT else (kind, number - self.leaves)

    def _tail(self, leaf: int) -> bytes:
        """The directory of a segment, and its trailer."""
        lines = [
            DIRECTORY_LINE.pack(
                leaf * FANOUT + slot, HEADER_SIZE + slot * BLOCK_SIZE, BLOCK_SIZE, BLOCK_SIZE,
                codec.RAW, BLOCK, 0, 0, self.hashes[slot % COUNT],
            )
            for slot in range(FANOUT)
        ]  # fmt: skip
        return seal_directory(
            self.lineage, self.segment_name(leaf), SEGMENT_SIZE - SEGMENT_TAIL, b"".join(lines)
        )

    def _header(self, key: str, kind: Kind, number: int) -> bytes:
        """With the checksum of the whole object."""
        checksum = ObjectChecksum()
        if kind == Kind.SEGMENT:
            name, size = self.segment_name(number), SEGMENT_SIZE
            for slot in range(FANOUT):
                checksum.update(BLOCKS[slot % COUNT])
            checksum.update(self._tail(number))
        else:
            name, size = self.pages_name(number), self.pages_size(number)
            checksum.update(self._pages_body(number))
        body = size - HEADER_SIZE
        head = envelope.header(
            kind, name.pack(), codec_id=0, clear=0, stored=body, plain=body, encrypted=False
        )
        return head + checksum.finish(head, key)

    def _pages(self, key: str, number: int, start: int, end: int) -> bytes:
        if start < HEADER_SIZE or end > HEADER_SIZE + self.pages_count(number) * SLOT:
            whole = self._header(key, Kind.PAGES, number) + self._pages_body(number)
            return whole[start:end]
        parts = []
        while start < end:
            place, inside = divmod(start - HEADER_SIZE, SLOT)
            if inside < DIGESTS_SIZE:
                part = self._digests[inside : inside + end - start]
            else:
                inside -= DIGESTS_SIZE
                part = self.leaf(number * LEAVES + place)[inside : inside + end - start]
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pages_body(self, number: int) -> bytes:
        body, lines = bytearray(), bytearray()
        for place in range(self.pages_count(number)):
            leaf = number * LEAVES + place
            plain = self.leaf(leaf)
            body += self._digests + plain
            lines += DIRECTORY_LINE.pack(
                leaf, HEADER_SIZE + place * SLOT + DIGESTS_SIZE, LEAF_SIZE, LEAF_SIZE,
                codec.RAW, LEAF, 0, 0, self.lineage.keys.page(plain),
            )  # fmt: skip
        tail = seal_directory(self.lineage, self.pages_name(number), HEADER_SIZE + len(body), bytes(lines))
        return bytes(body) + tail


def write_base(store: ObjectStore, size: int, gone: Path | None = None) -> Metadata:
    """Make a store whose volume `v`, of `size` bytes (whole leaves), has one backup. Gives what is generated of it."""
    assert size % (FANOUT * BLOCK_SIZE) == 0
    found = Volumes(store, Repository.init(store)._facts).find_or_make(VOLUME)
    lineage, leaves = found.lineage, size // (FANOUT * BLOCK_SIZE)
    made = Metadata(lineage.id, lineage.keys.raw, leaves, gone)
    commits = Commits(store, lineage)
    wanted = Begin(runtime.random_id(), runtime.random_id(), size, None)
    state = commits.update(lambda current: begin(current, wanted), found.state)
    attempt = state.attempt(wanted.attempt)
    assert attempt is not None
    assert attempt.epoch == EPOCH
    names = NameSource(EPOCH)
    names._sequence = 1 + leaves + made.objects
    uploads = Uploads(store)
    pages = page_writer(lineage, names, uploads)
    live: dict[ObjectName, int] = {}
    top = _inner_pages(made, _leaf_references(made), levels_for(size), pages, live)
    pages.flush()
    uploads.finish()
    uploads.close()
    records = _records(made, live, pages.sizes)
    name = names.fresh()
    entry, data = _root(made, name, top, size, records, wanted.operation)
    store.put(lineage.paths.root(name), data)
    added = int(records["size"].sum(dtype=np.int64)) + len(data)
    commits.update(
        lambda current: finish(
            current,
            attempt,
            entry,
            added,
            Roots(store, lineage),
            actor=None,
            lists_lie=False,
            compared=True,
        ),
        state,
    )
    return made


def _leaf_references(made: Metadata) -> Entries:
    """References to all leaves."""
    refs = np.zeros(made.leaves, REFERENCE)
    refs["length"] = refs["plain"] = LEAF_SIZE
    refs["kind"] = STORED
    refs["content"] = np.void(made.content)
    numbers = np.arange(made.leaves)
    refs["offset"] = HEADER_SIZE + (numbers % LEAVES) * SLOT + DIGESTS_SIZE
    names = [made.pages_name(number).pack() for number in range(made.objects)]
    refs["name"] = np.array(names, "V16")[numbers // LEAVES]
    key = made.lineage.keys
    refs["hash"] = np.array([key.page(made.leaf(number)) for number in range(made.leaves)], "V32")
    return refs


def _inner_pages(
    made: Metadata, refs: Entries, levels: int, pages: PackWriter, live: dict[ObjectName, int]
) -> np.void:
    """Write the pages above; the reference to the top."""
    for level in range(1, levels + 1):
        above = np.zeros(-(-len(refs) // FANOUT), REFERENCE)
        for index in range(len(above)):
            entries = np.zeros(FANOUT, REFERENCE)
            children = refs[index * FANOUT : (index + 1) * FANOUT]
            entries[: len(children)] = children
            page = Inner(entries)
            plain = page.encode(level, index)
            codec_id, data = codec.compress(plain)
            digest = made.lineage.keys.page(plain)
            name, offset, length = pages.add(Head(index, 2, level, codec_id, len(plain)), data, digest)
            content = page.content(made.lineage.keys)
            above[index] = reference(STORED, name, offset, length, len(plain), codec_id, digest, content)
            live[name] = live.get(name, 0) + length
        refs = above
    top: np.void = refs[0]
    return top


def _records(made: Metadata, live: dict[ObjectName, int], sizes: dict[ObjectName, int]) -> summary.Records:
    found = summary.empty(made.leaves + made.objects + len(sizes))
    segments, generated = found[: made.leaves], found[made.leaves : made.leaves + made.objects]
    for part, first in ((segments, 1), (generated, 1 + made.leaves)):
        part["epoch"], part["nonce"] = EPOCH, NONCE
        part["sequence"] = first + np.arange(len(part))
    segments["kind"], segments["size"], segments["live"] = Kind.SEGMENT, SEGMENT_SIZE, ALIVE
    generated["kind"] = Kind.PAGES
    generated["size"] = [made.pages_size(number) for number in range(made.objects)]
    generated["live"] = [made.pages_count(number) * SLOT for number in range(made.objects)]
    for place, (name, size) in enumerate(sizes.items(), made.leaves + made.objects):
        found[place] = (*name, size, Kind.PAGES, live[name])
    return summary.ordered(found)


def sampled(blocks: int) -> list[int]:
    """The blocks that the root keeps the hashes of."""
    return random.Random(3).sample(range(blocks), min(KEEP_STORED, blocks))


def _root(
    made: Metadata, name: ObjectName, top: np.void, size: int, records: summary.Records, operation: str
) -> tuple[RootEntry, bytes]:
    content = roots.content_hash(made.lineage.keys, size, top)
    facts = {
        "id": runtime.random_id(),
        "revision": 1,
        "lineage": made.lineage_id,
        "volume": VOLUME,
        "operation": operation,
        "createdAt": runtime.now(),
        "type": "full",
        "size": size,
        "contentHash": content,
        "parent": None,
        "changedBlockSource": "Full",
        "tree": roots.tree_facts(size, top),
        "summary": {"base": None, "depth": 0},
        "counts": {},
        "fileSystem": None,
        "unreadable": [],
        "meta": {},
    }
    samples = {block: made.hashes[block % COUNT] for block in sampled(blocks_in(size))}
    data = roots.encode(made.lineage.paths.root(name), name, facts, records, samples, None)
    figures = dict.fromkeys(FIGURES, 0) | {
        "changedBlockSource": "Full", "fallbackReason": None, "unreadable": [], "fileSystem": None,
    }  # fmt: skip
    entry = RootEntry(
        id=str(facts["id"]),
        operation=operation,
        object=str(name),
        object_bytes=len(data),
        object_checksum=roots.checksum_of(data),
        content_hash=content,
        size=size,
        type="full",
        parent=None,
        created_at=str(facts["createdAt"]),
        figures=figures,
    )
    return entry, data
