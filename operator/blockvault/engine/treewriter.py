"""Making a tree of pages out of a former one, rewriting only what changed."""

from __future__ import annotations

import numpy as np

from blockvault.engine import codec
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

# Pages that were written already, by what they are: several trees written together share them.
Memo = dict[tuple[int, int, int, bytes], np.void]


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
        self.top = parent.top
        if levels > parent.levels and parent.top["kind"] != ABSENT:
            # The volume grew past what its tree reaches: the former top becomes the first child of a new page.
            self._page(parent.levels + 1, 0)

    def put_leaf(self, number: int, leaf: Leaf) -> None:
        """Replace one leaf, which is a changed copy of what the parent's tree has there."""
        self._set(1, number, self._store(0, number, leaf), leaf.origin)

    def finish(self) -> np.void:
        """Write the pages above and return the reference to the top."""
        for level in range(1, self._levels + 1):
            self._close(level)
        return self.top

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
            self._close(level)
            opened = self._open[level] = (index, self._parent.inner(level, index).copy())
        return opened[1]

    def _close(self, level: int) -> None:
        opened = self._open.pop(level, None)
        if opened is not None:
            index, page = opened
            self._set(level + 1, index, self._store(level, index, page), page.origin)

    def _store(self, level: int, index: int, page: Leaf | Inner) -> np.void:
        content = page.content(self._lineage.keys)
        if content == ZERO:
            return NO_REFERENCE
        ref = self._store_patch(level, index, page, content)
        if ref is None:
            plain = page.encode(level, index) if isinstance(page, Inner) else page.encode(index)
            ref = self._write(STORED, level, index, plain, codec.compress(plain), content)
            self._count(ref, ref, 1)
        return ref

    def _store_patch(self, level: int, index: int, page: Leaf | Inner, content: bytes) -> np.void | None:
        """The page as a patch, where that is worth it."""
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
        if len(packed[1]) >= int(origin.base["length"]) * PATCH_SHARE:
            return None
        ref = self._write(PATCHED, level, index, plain, packed, content)
        self._count(ref, origin.base, 1)
        return ref

    def _write(
        self, kind: int, level: int, index: int, plain: bytes, packed: tuple[int, bytes], content: bytes
    ) -> np.void:
        codec_id, data = packed
        digest = self._lineage.keys.page(plain)
        known = self._memo.get((kind, level, index, digest))
        if known is not None:
            return known
        head = Head(index, PAGE_PATCH if kind == PATCHED else kind_at(level), level, codec_id, len(plain))
        name, offset, length = self._pack.add(head, data, digest)
        ref = reference(kind, name, offset, length, len(plain), codec_id, digest, content)
        if self._memoize:
            self._memo[kind, level, index, digest] = ref
        return ref

    def _count(self, ref: np.void, base: np.void, sign: int) -> None:
        """A page is reached once more or once less, and so is the page that it patches."""
        self._changes.add(Kind.PAGES, name_of(ref), sign * int(ref["length"]))
        if ref["kind"] == PATCHED:
            self._changes.add(Kind.PAGES, name_of(base), sign * int(base["length"]))
