"""Reading the tree of pages of one root, with few requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np

from blockvault.engine import items
from blockvault.engine.codec import CodecError
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import Together, get, runs
from blockvault.engine.items import PAGE_PATCH, Head
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import (
    ABSENT,
    FANOUT,
    PATCHED,
    Inner,
    MalformedPageError,
    Origin,
    kind_at,
    name_of,
    open_patch,
)
from blockvault.stores import ObjectNotFound, ObjectStore

# Pages that lie this close are fetched by one request.
GAP = 64 * 1024
LARGEST_READ = 4 * 1024 * 1024
# Inner pages kept for each level: the reader runs ahead of the writer by less than two of them.
KEPT = 8


class TreeReader:
    """Pages of one root.

    `top` is the reference to its top page, `levels` the inner levels below and with it.
    """

    def __init__(self, store: ObjectStore, lineage: Lineage, top: np.void, levels: int) -> None:
        self._store = store
        self._lineage = lineage
        self.top = top
        self.levels = levels
        self._inner: dict[int, OrderedDict[int, Inner]] = {}
        self._together = Together()

    def leaves(self, wanted: Iterable[int]) -> Iterator[tuple[int, Leaf | None]]:
        """The leaves of these ascending numbers; None where all blocks are zero.

        Raises StoredDataDamaged.
        """
        for number, leaf in self.leaves_or_damage(wanted):
            if isinstance(leaf, StoredDataDamaged):
                raise leaf
            yield number, leaf

    def leaves_or_damage(
        self, wanted: Iterable[int]
    ) -> Iterator[tuple[int, Leaf | StoredDataDamaged | None]]:
        """As `leaves`, but a page that cannot be read gives its error in its place, and its neighbours follow."""
        for group, members in groupby(wanted, key=lambda index: index // FANOUT):
            numbers = list(members)
            try:
                inner = self.inner(1, group)
            except StoredDataDamaged as error:
                yield from ((number, error) for number in numbers)
                continue
            refs = {
                n: inner.entries[n % FANOUT] for n in numbers if inner.entries[n % FANOUT]["kind"] != ABSENT
            }
            pages = self.load(0, list(refs), list(refs.values()))
            for number in numbers:
                page = pages.get(number)
                assert not isinstance(page, Inner)
                yield number, page

    def inner(self, level: int, index: int) -> Inner:
        """The inner page. Raises StoredDataDamaged.

        All absent outside the tree. Above the top there is one whose first child is the top.
        """
        if level > self.levels or index >= FANOUT ** (self.levels - level):
            page = Inner()
            if level == self.levels + 1 and index == 0:
                page.entries[0] = self.top
            return page
        kept = self._inner.setdefault(level, OrderedDict())
        if index in kept:
            kept.move_to_end(index)
            return kept[index]
        above = (
            self.top
            if level == self.levels
            else self.inner(level + 1, index // FANOUT).entries[index % FANOUT]
        )
        found: Inner | Leaf | StoredDataDamaged = Inner()
        if above["kind"] != ABSENT:
            found = self.load(level, [index], [above])[index]
        if isinstance(found, StoredDataDamaged):
            raise found
        assert isinstance(found, Inner)
        kept[index] = found
        if len(kept) > KEPT:
            kept.popitem(last=False)
        return found

    def load(
        self, level: int, indexes: list[int], refs: list[np.void]
    ) -> dict[int, Leaf | Inner | StoredDataDamaged]:
        """Pages by their index in the level, each checked against its hash, with patches applied; or their damage."""
        records = self._records(level, list(zip(indexes, refs, strict=True)))
        bases: list[tuple[int, np.void]] = []
        for index, ref in zip(indexes, refs, strict=True):
            data = records[index]
            if ref["kind"] == PATCHED and isinstance(data, bytes):
                try:
                    bases.append((index, open_patch(data, level, index)[1]))
                except MalformedPageError as error:
                    records[index] = self._damaged(ref, str(error))
        whole = self._records(level, bases)
        base_of = dict(bases)
        result: dict[int, Leaf | Inner | StoredDataDamaged] = {}
        for index, ref in zip(indexes, refs, strict=True):
            data = records[index]
            base = base_of.get(index)
            if isinstance(data, StoredDataDamaged):
                result[index] = data
            elif base is None:
                result[index] = self._decode(level, index, ref, data)
            else:
                result[index] = self._patched(level, index, ref, base, whole[index], data)
        return result

    def _decode(self, level: int, index: int, ref: np.void, data: bytes) -> Leaf | Inner | StoredDataDamaged:
        try:
            page = Inner.decode(data, level, index) if level else Leaf.decode(data, index)
        except MalformedPageError as error:
            return self._damaged(ref, str(error))
        page.origin = Origin(ref, ref)
        return self._of_content(page, ref)

    def _of_content(self, page: Leaf | Inner, ref: np.void) -> Leaf | Inner | StoredDataDamaged:
        """The page, if it has the content that its reference promises, and so the root's hash is that of all blocks."""
        if page.content(self._lineage.keys) != ref["content"].tobytes():
            return self._damaged(ref, "the content hash does not match")
        return page

    def _patched(
        self,
        level: int,
        index: int,
        ref: np.void,
        base: np.void,
        whole: bytes | StoredDataDamaged,
        data: bytes,
    ) -> Leaf | Inner | StoredDataDamaged:
        if isinstance(whole, StoredDataDamaged):
            return whole
        below = self._decode(level, index, base, whole)
        if isinstance(below, StoredDataDamaged):
            return below
        try:
            page = (
                below.patched(data, level, index) if isinstance(below, Inner) else below.patched(data, index)
            )
        except MalformedPageError as error:
            return self._damaged(ref, str(error))
        page.origin = Origin(ref, base, set(open_patch(data, level, index)[2]))
        return self._of_content(page, ref)

    def _records(self, level: int, wanted: list[tuple[int, np.void]]) -> dict[int, bytes | StoredDataDamaged]:
        """The plain bytes of these pages and page patches, or the damage that was found in their place."""
        result: dict[int, bytes | StoredDataDamaged] = {}

        def place(item: tuple[int, np.void]) -> tuple[ObjectName, int, int]:
            ref = item[1]
            return name_of(ref), int(ref["offset"]), int(ref["length"])

        def load(run: list[tuple[int, np.void]]) -> bytes | StoredDataDamaged:
            name, start, _ = place(run[0])
            _, offset, length = place(run[-1])
            try:
                return self._read(name, start, offset + length - start)
            except StoredDataDamaged as error:
                return error

        together = list(runs(wanted, place, gap=GAP, largest=LARGEST_READ))
        for run, data in zip(together, self._together.map(load, together), strict=True):
            start = place(run[0])[1]
            for index, ref in run:
                _, offset, length = place((index, ref))
                if isinstance(data, StoredDataDamaged):
                    result[index] = data
                else:
                    result[index] = self._open(
                        level, index, ref, data[offset - start : offset - start + length]
                    )
        return result

    def _open(self, level: int, index: int, ref: np.void, stored: bytes) -> bytes | StoredDataDamaged:
        name, offset = name_of(ref), int(ref["offset"])
        try:
            return self._check(level, index, ref, stored)
        except CodecError:
            # Once more before it counts as damage: the way from the store may have been at fault.
            try:
                return self._check(level, index, ref, self._read(name, offset, int(ref["length"])))
            except CodecError as error:
                return self._damaged(ref, str(error))
            except StoredDataDamaged as error:
                return error

    def _read(self, name: ObjectName, start: int, length: int) -> bytes:
        key = self._lineage.paths.pages(name)
        try:
            return get(self._store, key, start, length)
        except ObjectNotFound as error:
            raise StoredDataDamaged(f"{key}: page object is missing") from error

    def _check(self, level: int, index: int, ref: np.void, stored: bytes) -> bytes:
        length = int(ref["plain"])
        kind = PAGE_PATCH if ref["kind"] == PATCHED else kind_at(level)
        head = Head(index, kind, level, int(ref["codec"]), length)
        plain = items.unpack(self._lineage, name_of(ref), int(ref["offset"]), head, stored)
        if self._lineage.keys.page(plain) != ref["hash"].tobytes():
            raise CodecError("the hash does not match")
        return plain

    def _damaged(self, ref: np.void, cause: str) -> StoredDataDamaged:
        return StoredDataDamaged(
            f"{self._lineage.paths.pages(name_of(ref))}: page at offset {ref['offset']}: {cause}"
        )
