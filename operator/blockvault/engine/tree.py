"""Reading the tree of pages of one root, with few requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby, islice

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
# Pages of a level that are read together: where few blocks of a large volume are wanted, each lies in another leaf and
# below another inner page, and asking for those one by one would take a request each.
TOGETHER = 512
# Decoded bytes of leaves that are read together. Of a page patch it is not known how large its base is.
LEAVES_BYTES = 8 * 1024 * 1024
BASE_BYTES = 32 * 1024
# Inner pages of 12 KiB kept for each level: the reader runs ahead of the writer by less than twice TOGETHER, and the
# writer lies some more behind those that it has been given.
KEPT = 3 * TOGETHER


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
        for numbers in _by_groups(wanted):
            self.prefetch(1, {number // FANOUT for number in numbers})
            for portion in self._portions(numbers):
                refs = {n: ref for n, ref in portion if isinstance(ref, np.void)}
                pages = self.load(0, list(refs), list(refs.values()))
                for number, ref in portion:
                    page = ref if isinstance(ref, StoredDataDamaged) else pages.get(number)
                    assert not isinstance(page, Inner)
                    yield number, page

    def _portions(self, numbers: list[int]) -> Iterator[list[tuple[int, np.void | StoredDataDamaged | None]]]:
        """These leaves with their references, as many at a time as may be in memory; None: all blocks are zero."""
        portion: list[tuple[int, np.void | StoredDataDamaged | None]] = []
        count = size = 0
        for number in numbers:
            found: np.void | StoredDataDamaged | None = None
            try:
                ref = self.inner(1, number // FANOUT).entries[number % FANOUT]
                if ref["kind"] != ABSENT:
                    found = ref
                    count += 1
                    size += int(ref["plain"]) + (BASE_BYTES if ref["kind"] == PATCHED else 0)
            except StoredDataDamaged as error:
                found = error
            portion.append((number, found))
            if count >= TOGETHER or size >= LEAVES_BYTES:
                yield portion
                portion, count, size = [], 0, 0
        if portion:
            yield portion

    def prefetch(self, level: int, indexes: Iterable[int]) -> None:
        """Read inner pages that `inner` will be asked for, together. What is damaged is left for `inner` to tell."""
        kept = self._inner.setdefault(level, OrderedDict())
        lacking = sorted(index for index in set(indexes) if index not in kept and self._inside(level, index))
        if level >= self.levels or len(lacking) < 2:
            return
        self.prefetch(level + 1, {index // FANOUT for index in lacking})
        refs: dict[int, np.void] = {}
        for index in lacking:
            with suppress(StoredDataDamaged):
                ref = self.inner(level + 1, index // FANOUT).entries[index % FANOUT]
                if ref["kind"] != ABSENT:
                    refs[index] = ref
        for index, page in self.load(level, list(refs), list(refs.values())).items():
            if isinstance(page, Inner):
                self._keep(level, index, page)

    def _inside(self, level: int, index: int) -> bool:
        return level <= self.levels and index < FANOUT ** (self.levels - level)

    def _keep(self, level: int, index: int, page: Inner) -> None:
        kept = self._inner.setdefault(level, OrderedDict())
        kept[index] = page
        if len(kept) > KEPT:
            kept.popitem(last=False)

    def inner(self, level: int, index: int) -> Inner:
        """The inner page. Raises StoredDataDamaged.

        All absent outside the tree. Above the top there is one whose first child is the top.
        """
        if not self._inside(level, index):
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
        self._keep(level, index, found)
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


def _by_groups(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Ascending numbers of leaves, those below TOGETHER inner pages at a time."""
    groups = (list(members) for _, members in groupby(numbers, key=lambda number: number // FANOUT))
    while some := list(islice(groups, TOGETHER)):
        yield [number for members in some for number in members]
