"""Walking the trees of many roots at once: each page is read once, however many roots share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from blockvault.engine import items, summary
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.pages import (
    ABSENT,
    BLOCK_SIZE,
    FANOUT,
    NO_REFERENCE,
    PATCHED,
    REFERENCE,
    Inner,
    blocks_in,
    name_of,
)
from blockvault.engine.root import Root
from blockvault.engine.summary import Changes, Records
from blockvault.engine.tree import TreeReader
from blockvault.stores import ObjectStore

# Pages of a level that are read together; each may be there in as many versions as there are roots.
TOGETHER = 16

# Distinct references to one page, each with the roots that have it: bit n for root n.
Sharing = dict[bytes, int]

# Told of each page that is read: its level, its number there, and the roots that have it.
Met = Callable[[int, int, Leaf | Inner, int], None]


@dataclass(frozen=True)
class DamagedPage:
    """A page that cannot be read, the blocks [first, end) below it, and the roots that it belongs to."""

    ref: np.void
    first: int
    end: int
    roots: int
    error: StoredDataDamaged


class Walk:
    """The trees of some roots of one lineage. `damaged` fills, and `met` is told, while `leaves` is gone through."""

    def __init__(
        self, store: ObjectStore, lineage: Lineage, roots: list[Root], met: Met = lambda *page: None
    ) -> None:
        self._reader = TreeReader(store, lineage, NO_REFERENCE, 0)
        self._extra = items.overhead(lineage)
        self._roots = roots
        self._met = met
        self._tops: dict[int, Sharing] = {}
        for number, root in enumerate(roots):
            if root.top["kind"] != ABSENT:
                _share(self._tops.setdefault(root.levels, {}), root.top.tobytes(), 1 << number)
        self._reached: dict[int, Changes] = {}
        self.damaged: list[DamagedPage] = []

    def leaves(self) -> Iterator[tuple[int, list[tuple[Leaf, int]]]]:
        """(number, versions with the roots that have them) of every leaf that is not all zero, ascending."""
        top = max(self._tops, default=0)
        yield from self._below(top, {0: {}})

    def _below(self, level: int, wanted: dict[int, Sharing]) -> Iterator[tuple[int, list[tuple[Leaf, int]]]]:
        """The leaves below these pages of a level, ascending."""
        if 0 in wanted:
            # Here the trees of volumes that were smaller begin.
            for raw, roots in self._tops.get(level, {}).items():
                _share(wanted[0], raw, roots)
        numbers = sorted(index for index, refs in wanted.items() if refs or (index == 0 and level))
        for start in range(0, len(numbers), TOGETHER):
            some = {number: wanted[number] for number in numbers[start : start + TOGETHER]}
            for index, pages in self._load(level, some).items():
                if level == 0:
                    yield index, [(page, roots) for page, roots in pages if isinstance(page, Leaf)]
                else:
                    yield from self._below(level - 1, self._children(level, index, pages))

    def _children(self, level: int, index: int, pages: list[tuple[Leaf | Inner, int]]) -> dict[int, Sharing]:
        children: dict[int, Sharing] = {}
        for page, roots in pages:
            assert isinstance(page, Inner)
            for slot in np.flatnonzero(page.entries["kind"]).tolist():
                _share(children.setdefault(index * FANOUT + slot, {}), page.entries[slot].tobytes(), roots)
        if index == 0 and any(below < level for below in self._tops):
            children.setdefault(0, {})
        return children

    def _load(self, level: int, wanted: dict[int, Sharing]) -> dict[int, list[tuple[Leaf | Inner, int]]]:
        """All versions of these pages of a level. What is damaged goes to `damaged`."""
        found: dict[int, list[tuple[Leaf | Inner, int]]] = {index: [] for index in wanted}
        waiting = {index: list(refs.items()) for index, refs in wanted.items()}
        while any(waiting.values()):
            layer = {index: refs.pop() for index, refs in waiting.items() if refs}
            refs = {index: np.frombuffer(raw, REFERENCE)[0] for index, (raw, _) in layer.items()}
            pages = self._reader.load(level, list(refs), list(refs.values()))
            for index, (_, roots) in layer.items():
                page = pages[index]
                if isinstance(page, StoredDataDamaged):
                    self._damage(level, index, refs[index], roots, page)
                    continue
                self._count(page, roots)
                self._met(level, index, page, roots)
                found[index].append((page, roots))
        return found

    def _damage(self, level: int, index: int, ref: np.void, roots: int, error: StoredDataDamaged) -> None:
        reach = FANOUT ** (level + 1)
        largest = max(root.size for number, root in enumerate(self._roots) if roots >> number & 1)
        end = min((index + 1) * reach, blocks_in(largest))
        self.damaged.append(DamagedPage(ref, index * reach, end, roots, error))

    def _count(self, page: Leaf | Inner, roots: int) -> None:
        origin = page.origin
        assert origin is not None
        changes = self._reached.setdefault(roots, Changes())
        changes.add(Kind.PAGES, name_of(origin.ref), int(origin.ref["length"]))
        if origin.ref["kind"] == PATCHED:
            changes.add(Kind.PAGES, name_of(origin.base), int(origin.base["length"]))
        if isinstance(page, Leaf):
            segments, pages = page.reached(self._extra)
            for name, count in segments.items():
                changes.add(Kind.SEGMENT, name, count)
            for name, count in pages.items():
                changes.add(Kind.PAGES, name, count)

    def fits(self, number: int, records: Records) -> bool:
        """Whether what a root's tree reaches is exactly what its summary says. After `leaves` has ended."""
        reached = self.reached(number)
        return np.array_equal(summary.keys_of(reached), summary.keys_of(records)) and np.array_equal(
            reached["live"], records["live"]
        )

    def reached(self, number: int) -> Records:
        """What a root's tree reaches, in order, without the sizes of the objects. After `leaves` has ended."""
        parts = [changes.records() for roots, changes in self._reached.items() if roots >> number & 1]
        reached = np.concatenate([summary.empty(), *parts])
        _, first, places = np.unique(summary.keys_of(reached), return_index=True, return_inverse=True)
        result: Records = reached[first]
        result["size"], result["live"] = 0, 0
        np.add.at(result["live"], places, reached["live"])
        return result


def _share(sharing: Sharing, raw: bytes, roots: int) -> None:
    sharing[raw] = sharing.get(raw, 0) | roots


def bytes_of(first: int, end: int, size: int) -> tuple[int, int]:
    """(offset, length) of blocks [first, end) in a volume of `size` bytes."""
    offset = min(first * BLOCK_SIZE, size)
    return offset, min(end * BLOCK_SIZE, size) - offset
