"""What backups need of the store, found by walking all of their trees: every page, block, patch and digest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from blockvault.engine import pages
from blockvault.engine.items import overhead
from blockvault.engine.leaf import Leaf, Piece
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import PATCHED, Inner, name_of
from blockvault.engine.root import Root
from blockvault.engine.tree import TreeReader
from blockvault.stores import ObjectStore

PAGE = "a page"
PAGE_PATCH = "a page stored as a patch"
BASE = "a block stored whole"
UNDER = "a block with patches on it"
PATCH = "a patch of sectors"
DIGESTS = "sector digests"
PAGES = (PAGE, PAGE_PATCH)
KINDS = (PAGE, PAGE_PATCH, BASE, UNDER, PATCH, DIGESTS)

# Of pieces and digests, where pages have 0 for leaves and more for what is above them.
BELOW = -1


@dataclass(frozen=True)
class Need:
    """Bytes of an object, and what they are: page number `index` of a level, or something of block `index`."""

    key: str
    name: ObjectName
    offset: int
    length: int
    what: str
    level: int
    index: int

    def blocks(self, end: int) -> range:
        """The blocks that are touched when it is damaged, in a volume of `end` blocks."""
        reach = pages.FANOUT ** (self.level + 1)
        return range(self.index * reach, min((self.index + 1) * reach, end))

    def below(self, damaged: set[tuple[int, int]], levels: int) -> bool:
        """Whether one of these pages, by level and index, is on the way to it, so that nobody knows of it."""
        return any(
            (level, self.index // pages.FANOUT ** (level - self.level)) in damaged
            for level in range(self.level + 1, levels + 1)
        )


def needs_of(store: ObjectStore, lineage: Lineage, root: Root) -> list[Need]:
    """All that one backup needs but its root."""
    found: list[Need] = []
    paths = lineage.paths
    extra = overhead(lineage)

    def page(made: Leaf | Inner | None, level: int, index: int) -> None:
        if made is None or made.origin is None:
            return
        ref, base = made.origin.ref, made.origin.base
        patched = ref["kind"] == PATCHED
        for one, what in ((ref, PAGE_PATCH if patched else PAGE), *(((base, PAGE),) if patched else ())):
            name, offset, length = name_of(one), int(one["offset"]), int(one["length"])
            found.append(Need(paths.pages(name), name, offset, length, what, level, index))

    def piece(it: Piece, block: int, what: str) -> None:
        found.append(Need(paths.segment(it.name), it.name, it.offset, it.length, what, BELOW, block))
        assert it.digests is not None
        name, offset = it.digests
        found.append(Need(paths.pages(name), name, offset, it.digest_bytes + extra, DIGESTS, BELOW, block))

    reader = TreeReader(store, lineage, root.top, root.levels)
    leaves = -(-root.size // (pages.BLOCK_SIZE * pages.FANOUT))
    for level in range(1, root.levels + 1):
        for index in range(-(-leaves // pages.FANOUT**level)):
            page(reader.inner(level, index), level, index)
    for number, leaf in reader.leaves(range(leaves)):
        page(leaf, 0, number)
        for slot in leaf.stored_slots() if leaf is not None else ():
            assert leaf is not None
            base, *patches = leaf.pieces(slot)
            piece(base, number * pages.FANOUT + slot, UNDER if patches else BASE)
            for patch in patches:
                piece(patch, number * pages.FANOUT + slot, PATCH)
    return found


def live_bytes(needs: list[Need]) -> dict[ObjectName, int]:
    """For each object, how many of its bytes are needed."""
    found: Counter[ObjectName] = Counter()
    for need in needs:
        found[need.name] += need.length
    return dict(found)
