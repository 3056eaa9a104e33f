"""Making a tree of pages out of a former one, rewriting only what changed."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future
from typing import NamedTuple

import numpy as np

from blockvault.engine import codec, runtime
from blockvault.engine.envelope import Kind
from blockvault.engine.hashing import ZERO
from blockvault.engine.items import PAGE_PATCH, Head
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.packs import PackWriter
from blockvault.engine.pages import (
    ABSENT,
    FANOUT,
    NO_REFERENCE,
    PATCHED,
    STORED,
    Inner,
    Origin,
    kind_at,
    name_of,
    reference,
)
from blockvault.engine.summary import Changes
from blockvault.engine.tree import TreeReader

# A page is stored as a patch while that takes less than this share of the whole page as it is stored.
PATCH_SHARE = 0.5

# Pages that are encoded at once, away from the thread that gives them; and how many such groups may be waiting.
TOGETHER = 16
AHEAD = 4

# Pages that were written already, by what they are: several trees written together share them.
Memo = dict[tuple[int, int, int, bytes], np.void]


class _Given(NamedTuple):
    """A page that is complete: nothing changes it any more."""

    level: int
    number: int
    page: Leaf | Inner


class _Encoded(NamedTuple):
    """A page as it is to be stored: whole (STORED) or as a patch (PATCHED); ABSENT when all below is zero."""

    kind: int
    content: bytes
    plain: bytes = b""
    codec: int = codec.RAW
    packed: bytes = b""
    digest: bytes = b""


class TreeWriter:
    """Takes the leaves that changed, which must come in ascending order.

    `memo`: given where several trees are written together, so that what they have in common is written once.
    `avoid`: page objects that nothing written anew may build on.
    """

    def __init__(
        self,
        parent: TreeReader,
        levels: int,
        lineage: Lineage,
        pack: PackWriter,
        changes: Changes,
        memo: Memo | None = None,
        avoid: frozenset[ObjectName] = frozenset(),
    ) -> None:
        self._parent = parent
        self._levels = levels
        self._lineage = lineage
        self._pack = pack
        self._changes = changes
        self._avoid = avoid
        self._memoize = memo is not None
        self._memo: Memo = {} if memo is None else memo
        self._open: dict[int, tuple[int, Inner]] = {}
        self._given: list[_Given] = []
        self._pool: Executor | None = None
        self._encoding: deque[Future[list[tuple[_Given, _Encoded]]]] = deque()
        self.top = parent.top
        if levels > parent.levels and parent.top["kind"] != ABSENT:
            # The volume grew past what its tree reaches: the former top becomes the first child of a new page.
            self._page(parent.levels + 1, 0)

    def put_leaf(self, number: int, leaf: Leaf) -> None:
        """Replace one leaf, which is a changed copy of what the parent's tree has there. It must not change any more.

        Compressing and hashing it lets other threads run first, each time: this one would do little else where every
        leaf has one change.
        """
        self._give(_Given(0, number, leaf))
        while len(self._encoding) > AHEAD:
            self._put_all(self._encoding.popleft().result())

    def finish(self) -> np.void:
        """Write the pages above and return the reference to the top."""
        self._drain()
        for level in range(1, self._levels + 1):
            self._close(level)
            self._drain()
        return self.top

    def _give(self, given: _Given) -> None:
        """Let a page be written in its turn, after those below it and before those that come after it."""
        self._given.append(given)
        if len(self._given) < TOGETHER:
            return
        if self._pool is None:
            self._pool = runtime.executor(1, "pages")
        self._encoding.append(self._pool.submit(self._encode_all, self._given))
        self._given = []

    def _drain(self) -> None:
        """Write all that was given, and the pages that this completes."""
        while self._encoding or self._given:
            if self._encoding:
                self._put_all(self._encoding.popleft().result())
            else:
                given, self._given = self._given, []
                self._put_all(self._encode_all(given))

    def _encode_all(self, given: list[_Given]) -> list[tuple[_Given, _Encoded]]:
        return [(each, self._encode(each)) for each in given]

    def _put_all(self, encoded: list[tuple[_Given, _Encoded]]) -> None:
        for given, page in encoded:
            self._set(given.level + 1, given.number, self._store(given, page), given.page.origin)

    def _set(self, level: int, child: int, ref: np.void, former: Origin | None) -> None:
        """Let the child of that number, on the level below `level`, be `ref` in place of what it was."""
        if former is not None:
            self._count(former.ref, former.base, -1)
        if level > self._levels:
            self.top = ref
            return
        self._page(level, child // FANOUT).set(child % FANOUT, ref)

    def _page(self, level: int, index: int) -> Inner:
        opened = self._open.get(level)
        if opened is None or opened[0] != index:
            # One that was closed would be begun again from the parent's, and what was set in it lost.
            assert opened is None or opened[0] < index, "pages must come in ascending order"
            self._close(level)
            opened = self._open[level] = (index, self._parent.inner(level, index).copy())
        return opened[1]

    def _close(self, level: int) -> None:
        opened = self._open.pop(level, None)
        if opened is not None:
            self._give(_Given(level, *opened))

    def _encode(self, given: _Given) -> _Encoded:
        """Depends on the page alone, so that any thread may do it."""
        level, index, page = given
        content = page.content(self._lineage.keys)
        if content == ZERO:
            return _Encoded(ABSENT, content)
        patch = self._encode_patch(given)
        if patch is not None:
            kind, plain, packed = PATCHED, *patch
        else:
            plain = page.encode(level, index) if isinstance(page, Inner) else page.encode(index)
            kind, packed = STORED, codec.compress(plain)
        return _Encoded(kind, content, plain, *packed, self._lineage.keys.page(plain))

    def _encode_patch(self, given: _Given) -> tuple[bytes, tuple[int, bytes]] | None:
        """The page as a patch, plain and packed, where that is worth it."""
        level, index, page = given
        origin = page.origin
        if (
            origin is None
            or len(origin.changed) > FANOUT * PATCH_SHARE
            or name_of(origin.base) in self._avoid
        ):
            return None
        slots = sorted(origin.changed)
        if isinstance(page, Inner):
            plain = page.encode_patch(level, index, origin.base, slots)
        else:
            plain = page.encode_patch(index, origin.base, slots)
        packed = codec.compress(plain)
        return (plain, packed) if len(packed[1]) < int(origin.base["length"]) * PATCH_SHARE else None

    def _store(self, given: _Given, page: _Encoded) -> np.void:
        if page.kind == ABSENT:
            return NO_REFERENCE
        ref, origin = self._write(given, page), given.page.origin
        self._count(ref, origin.base if page.kind == PATCHED and origin is not None else ref, 1)
        return ref

    def _write(self, given: _Given, page: _Encoded) -> np.void:
        key = (page.kind, given.level, given.number, page.digest)
        known = self._memo.get(key)
        if known is not None:
            return known
        kind = PAGE_PATCH if page.kind == PATCHED else kind_at(given.level)
        head = Head(given.number, kind, given.level, page.codec, len(page.plain))
        name, offset, length = self._pack.add(head, page.packed, page.digest)
        ref = reference(
            page.kind, name, offset, length, len(page.plain), page.codec, page.digest, page.content
        )
        if self._memoize:
            self._memo[key] = ref
        return ref

    def _count(self, ref: np.void, base: np.void, sign: int) -> None:
        """A page is reached once more or once less, and so is the page that it patches."""
        self._changes.add(Kind.PAGES, name_of(ref), sign * int(ref["length"]))
        if ref["kind"] == PATCHED:
            self._changes.add(Kind.PAGES, name_of(base), sign * int(base["length"]))
