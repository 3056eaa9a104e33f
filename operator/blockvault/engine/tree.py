"""The tree of pages of one root: read with few requests, and rewritten only where something changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from blockvault.engine import codec
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.hashing import LineageKey
from blockvault.engine.names import LineagePaths, ObjectName
from blockvault.engine.packs import Item, PackWriter
from blockvault.engine.pages import (
    ABSENT,
    FANOUT,
    INNER,
    LEAF,
    NO_REFERENCE,
    REFERENCE,
    STORED,
    Entries,
    Leaf,
    MalformedPageError,
    content_of,
    decode_inner,
    encode_inner,
    reference,
)
from blockvault.engine.summary import Changes
from blockvault.stores import ObjectNotFound, ObjectStore

# Pages that lie this close are fetched by one request: reading over the gap costs less than asking again.
GAP = 64 * 1024
LARGEST_READ = 4 * 1024 * 1024
# A leaf is at most its head, names, entries and 16 patches of 32 bytes for each entry.
LARGEST_PAGE = 1024 * 1024
# Inner pages kept for each level: the reader runs ahead of the writer by less than two of them.
KEPT = 8


class TreeReader:
    """Pages of one root.

    `top` is the reference to its top page, `levels` the inner levels below and with it.
    """

    def __init__(
        self, store: ObjectStore, paths: LineagePaths, key: LineageKey, top: np.void, levels: int
    ) -> None:
        self._store = store
        self._paths = paths
        self._key = key
        self.top = top
        self.levels = levels
        self._inner: dict[int, OrderedDict[int, Entries]] = {}

    def leaves(self, wanted: Iterable[int]) -> Iterator[tuple[int, Leaf | None]]:
        """The leaves of these ascending numbers; None where all blocks are zero."""
        for group, members in groupby(wanted, key=lambda index: index // FANOUT):
            entries = self.inner(1, group)
            numbers = list(members)
            refs = {n: entries[n % FANOUT] for n in numbers if entries[n % FANOUT]["kind"] == STORED}
            pages = self._fetch(list(refs.values()))
            found = dict(zip(refs, pages, strict=True))
            for number in numbers:
                page = found.pop(number, None)
                yield number, None if page is None else self._leaf(refs[number], page, number)

    def inner(self, level: int, index: int) -> Entries:
        """The inner page.

        All absent outside the tree. Above the top there is one whose first child is the top.
        """
        if level > self.levels or index >= FANOUT ** (self.levels - level):
            entries = np.zeros(FANOUT, REFERENCE)
            if level == self.levels + 1 and index == 0:
                entries[0] = self.top
            return entries
        kept = self._inner.setdefault(level, OrderedDict())
        if index in kept:
            kept.move_to_end(index)
            return kept[index]
        ref = self.top if level == self.levels else self.inner(level + 1, index // FANOUT)[index % FANOUT]
        if ref["kind"] == ABSENT:
            entries = np.zeros(FANOUT, REFERENCE)
        else:
            page = self._fetch([ref])[0]
            try:
                entries = decode_inner(page, level, index)
            except MalformedPageError as error:
                raise self._damaged(ref, str(error)) from error
        kept[index] = entries
        if len(kept) > KEPT:
            kept.popitem(last=False)
        return entries

    def _leaf(self, ref: np.void, page: bytes, number: int) -> Leaf:
        try:
            return Leaf.decode(page, number)
        except MalformedPageError as error:
            raise self._damaged(ref, str(error)) from error

    def _fetch(self, refs: list[np.void]) -> list[bytes]:
        """The plain bytes of these pages, each checked against its hash."""
        result: dict[int, bytes] = {}
        for run in _runs(refs):
            first, last = refs[run[0]], refs[run[-1]]
            start = int(first["offset"])
            name = _name(first)
            data = self._read(name, start, int(last["offset"]) + int(last["length"]) - start)
            for i in run:
                offset = int(refs[i]["offset"]) - start
                stored = data[offset : offset + int(refs[i]["length"])]
                try:
                    result[i] = self._check(refs[i], stored)
                except codec.CodecError:
                    # Once more before it counts as damage: the way from the store may have been at fault.
                    again = self._read(name, int(refs[i]["offset"]), int(refs[i]["length"]))
                    try:
                        result[i] = self._check(refs[i], again)
                    except codec.CodecError as error:
                        raise self._damaged(refs[i], str(error)) from error
        return [result[i] for i in range(len(refs))]

    def _read(self, name: ObjectName, start: int, length: int) -> bytes:
        key = self._paths.pages(name)
        try:
            return self._store.get(key, start, length)
        except ObjectNotFound as error:
            raise StoredDataDamaged(f"{key}: page object is missing") from error

    def _check(self, ref: np.void, stored: bytes) -> bytes:
        length = int(ref["plain"])
        if length > LARGEST_PAGE:
            raise codec.CodecError(f"announces {length} bytes")
        plain = codec.decompress(int(ref["codec"]), stored, length)
        if self._key.page(plain) != ref["hash"].tobytes():
            raise codec.CodecError("the hash does not match")
        return plain

    def _damaged(self, ref: np.void, cause: str) -> StoredDataDamaged:
        return StoredDataDamaged(f"{self._paths.pages(_name(ref))}: page at offset {ref['offset']}: {cause}")


class TreeWriter:
    """Makes a tree out of a former one and the leaves that changed, which must come in ascending order."""

    def __init__(
        self, parent: TreeReader, levels: int, key: LineageKey, pack: PackWriter, changes: Changes
    ) -> None:
        self._parent = parent
        self._levels = levels
        self._key = key
        self._pack = pack
        self._changes = changes
        self._open: dict[int, tuple[int, Entries]] = {}
        self.top = parent.top
        if levels > parent.levels and parent.top["kind"] == STORED:
            # The volume grew past what its tree reaches: the former top becomes the first child of a new
            # page.
            self._page(parent.levels + 1, 0)

    def put_leaf(self, number: int, leaf: Leaf) -> None:
        """Replace one leaf."""
        if leaf.empty:
            self._set(1, number, NO_REFERENCE)
            return
        self._set(1, number, self._store(LEAF, 0, number, leaf.encode(number), leaf.content(self._key)))

    def finish(self) -> np.void:
        """Write the pages above and return the reference to the top."""
        for level in range(1, self._levels + 1):
            self._close(level)
        return self.top

    def _set(self, level: int, child: int, ref: np.void) -> None:
        """Let the child of that number, on the level below `level`, be `ref`."""
        if level > self._levels:
            if self._parent.levels == self._levels:
                self._release(self._parent.top)
            self.top = ref
            return
        entries = self._page(level, child // FANOUT)
        self._release(entries[child % FANOUT])
        entries[child % FANOUT] = ref

    def _page(self, level: int, index: int) -> Entries:
        opened = self._open.get(level)
        if opened is None or opened[0] != index:
            self._close(level)
            opened = self._open[level] = (index, self._parent.inner(level, index).copy())
        return opened[1]

    def _close(self, level: int) -> None:
        opened = self._open.pop(level, None)
        if opened is None:
            return
        index, entries = opened
        ref = NO_REFERENCE
        if entries["kind"].any():
            plain = encode_inner(entries, level, index)
            ref = self._store(INNER, level, index, plain, content_of(entries, self._key))
        self._set(level + 1, index, ref)

    def _store(self, kind: int, level: int, index: int, plain: bytes, content: bytes) -> np.void:
        codec_id, stored = codec.compress(plain)
        digest = self._key.page(plain)
        name, offset = self._pack.add(Item(index, kind, level, codec_id, len(plain), digest), stored)
        self._changes.add(Kind.PAGES, name, len(stored))
        return reference(name, offset, len(stored), len(plain), codec_id, digest, content)

    def _release(self, ref: np.void) -> None:
        if ref["kind"] == STORED:
            self._changes.add(Kind.PAGES, _name(ref), -int(ref["length"]))


def _name(ref: np.void) -> ObjectName:
    return ObjectName.unpack(ref["name"].tobytes())


def _runs(refs: list[np.void]) -> Iterator[list[int]]:
    """Numbers of references, grouped so that each group is worth one request."""
    run: list[int] = []
    start = end = 0
    name = b""
    order = sorted(range(len(refs)), key=lambda i: (refs[i]["name"].tobytes(), int(refs[i]["offset"])))
    for i in order:
        ref = refs[i]
        offset, length = int(ref["offset"]), int(ref["length"])
        near = run and ref["name"].tobytes() == name and offset - end <= GAP
        if not near or offset + length - start > LARGEST_READ:
            if run:
                yield run
            run, start, name = [], offset, ref["name"].tobytes()
        run.append(i)
        end = offset + length
    if run:
        yield run
