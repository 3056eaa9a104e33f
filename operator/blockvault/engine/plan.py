"""Which blocks a backup looks at: all of them, or those that a list names; and in batches of one leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice

from blockvault.engine.changes import block_ranges, split
from blockvault.engine.devices import Source
from blockvault.engine.former import FormerLeaf
from blockvault.engine.leaf import Leaf
from blockvault.engine.pages import BLOCK_SIZE, FANOUT, blocks_in
from blockvault.engine.ranges import merged
from blockvault.engine.scan import BATCH_BLOCKS, BATCH_SIZE, Batch
from blockvault.engine.tree import TOGETHER, TreeReader

Ranges = list[tuple[int, int]]
Planned = tuple[FormerLeaf, Ranges]
MakeFormer = Callable[[int, Leaf | None, "set[int] | None"], FormerLeaf]
MakeGroup = Callable[[list[FormerLeaf]], object]

# Leaves whose digests are fetched together: of a list so many that they have this many blocks of it. Without one it is
# not known which will be wanted, so fewer.
LISTED_BLOCKS = 1024
COMPARED_GROUP = 4


def everything(source: Source, parent: TreeReader, parent_blocks: int) -> Ranges:
    """Blocks that may be other than zero now, or are in the parent. The rest is zero in both."""
    data = ((start, end - start) for start, end in source.data_ranges(BATCH_SIZE))
    whole = blocks_in(source.size) * BLOCK_SIZE
    now = block_ranges(((o, n) for o, n in data), whole)
    return union(now, list(present(parent, min(parent_blocks, blocks_in(source.size)))))


def present(tree: TreeReader, blocks: int) -> Iterator[tuple[int, int]]:
    """Block ranges of the leaves that a tree has, below block number `blocks`."""
    leaves = -(-blocks // FANOUT)
    groups = -(-leaves // FANOUT)
    for group in range(groups):
        if group % TOGETHER == 0:
            tree.prefetch(1, range(group, min(group + TOGETHER, groups)))
        kinds = tree.inner(1, group).entries["kind"]
        for slot in range(min(FANOUT, leaves - group * FANOUT)):
            if kinds[slot]:
                first = (group * FANOUT + slot) * FANOUT
                yield first, min(first + FANOUT, blocks)


def union(one: Ranges, other: Ranges) -> Ranges:
    """Both, ascending, merged."""
    return merged(sorted([*one, *other]))


def batches(
    plan: Ranges, reader: TreeReader, make: MakeFormer, group: MakeGroup, *, listed: bool
) -> Iterator[Batch]:
    """The plan in batches that stay inside one leaf, each with what the parent has there.

    `listed`: the plan is a list of changes, so that the slots whose digests will be wanted are known; many leaves'
    digests are then fetched together, else those of a few.
    """
    found = _formers(plan, reader, make, listed=listed)
    for members in _by_blocks(found) if listed else _by_number(found):
        group([former for former, _ in members])
        for former, ranges in members:
            for first, end in ranges:
                yield Batch(first, end, former)


def _by_blocks(found: Iterator[Planned]) -> Iterator[list[Planned]]:
    members: list[Planned] = []
    blocks = 0
    for former, ranges in found:
        members.append((former, ranges))
        blocks += count(ranges)
        if blocks >= LISTED_BLOCKS:
            yield members
            members, blocks = [], 0
    if members:
        yield members


def _by_number(found: Iterator[Planned]) -> Iterator[list[Planned]]:
    while members := list(islice(found, COMPARED_GROUP)):
        yield members


def _formers(plan: Ranges, reader: TreeReader, make: MakeFormer, *, listed: bool) -> Iterator[Planned]:
    leaves = reader.leaves(_leaf_numbers(plan))
    for number, members in groupby(split(plan, BATCH_BLOCKS), key=lambda piece: piece[0] // FANOUT):
        found, leaf = next(leaves)
        assert found == number
        ranges = list(members)
        asked = {b % FANOUT for first, end in ranges for b in range(first, end)} if listed else None
        yield make(number, leaf, asked), ranges


def count(plan: Iterable[tuple[int, int]]) -> int:
    """Blocks of a plan."""
    return sum(end - first for first, end in plan)


def _leaf_numbers(plan: Ranges) -> Iterator[int]:
    last = -1
    for first, end in plan:
        for number in range(max(first // FANOUT, last + 1), (end - 1) // FANOUT + 1):
            yield number
            last = number
