"""Reading some blocks of the newest backup back, as a restore would, and comparing them with the volume."""

from __future__ import annotations

from collections.abc import Iterator

from blockvault.engine import Repository
from blockvault.engine.blockreader import BlockReader, Damage
from blockvault.engine.hashing import Buffer
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.pages import BLOCK_SIZE, FANOUT
from blockvault.engine.root import Roots
from blockvault.engine.tree import TreeReader
from blockvault.stores import ObjectStore
from tests.bench.metadata import VOLUME
from tests.bench.templates import TemplateSource


def refuse_wrong(
    store: ObjectStore, lineage: Lineage, repository: Repository, source: TemplateSource, blocks: list[int]
) -> None:
    """Raises AssertionError unless the newest backup has these blocks as the volume has them."""
    found = repository._volume(VOLUME)
    root = Roots(store, lineage).read(found.state.roots[-1])
    reader = TreeReader(store, lineage, root.top, root.levels)
    right: set[int] = set()

    def compare(given: list[tuple[int, Buffer]]) -> None:
        for number, data in given:
            if data == source.read(number * BLOCK_SIZE, BLOCK_SIZE):
                right.add(number)

    def refuse(damage: Damage) -> None:
        raise damage.error()

    def wanted() -> Iterator[tuple[int, Leaf, list[int]]]:
        for number, leaf in reader.leaves(sorted({block // FANOUT for block in blocks})):
            if leaf is not None:
                yield number, leaf, sorted(b % FANOUT for b in blocks if b // FANOUT == number)

    for _ in BlockReader(store, lineage, compare, refuse).run(wanted()):
        pass
    assert right == set(blocks), (
        f"{len(set(blocks) - right)} of {len(blocks)} blocks are not as the volume is"
    )
