"""Which blocks a backup looks at: all of them, or those that a list names; and in batches of one leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from blockvault.engine.changes import block_ranges, split
from blockvault.engine.devices import Source
from blockvault.engine.former import FormerLeaf
from blockvault.engine.leaf import Leaf
from blockvault.engine.pages import BLOCK_SIZE, FANOUT, blocks_in
from blockvault.engine.scan import BATCH_BLOCKS, BATCH_SIZE, Batch
from blockvault.engine.tree import TreeReader

Ranges = list[tuple[int, int]]
MakeFormer = Callable[[int, Leaf | None, "set[int] | None"], FormerLeaf]


def everything(source: Source, parent: TreeReader, parent_blocks: int) -> Ranges:
    """Blocks that may be other than zero now, or are in the parent. The rest is zero in both."""
    data = ((start, end - start) for start, end in source.data_ranges(BATCH_SIZE))
    whole = blocks_in(source.size) * BLOCK_SIZE
    now = block_ranges(((o, n) for o, n in data), whole)
    return union(now, list(present(parent, min(parent_blocks, blocks_in(source.size)))))


def present(tree: TreeReader, blocks: int) -> Iterator[tuple[int, int]]:
    """Block ranges of the leaves that a tree has, below block number `blocks`."""
    leaves = -(-blocks // FANOUT)
    for group in range(-(-leaves // FANOUT)):
        kinds = tree.inner(1, group).entries["kind"]
        for slot in range(min(FANOUT, leaves - group * FANOUT)):
            if kinds[slot]:
                first = (group * FANOUT + slot) * FANOUT
                yield first, min(first + FANOUT, blocks)


def union(one: Ranges, other: Ranges) -> Ranges:
    """Both, ascending, merged."""
    merged: Ranges = []
    for first, end in sorted([*one, *other]):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def batches(plan: Ranges, reader: TreeReader, make: MakeFormer, *, listed: bool) -> Iterator[Batch]:
    """The plan in batches that stay inside one leaf, each with what the parent has there.

    `listed`: the plan is a list of changes, so that the slots whose digests will be wanted are known.
    """
    pieces = split(plan, BATCH_BLOCKS)
    leaves = reader.leaves(_leaf_numbers(plan))
    for number, members in groupby(pieces, key=lambda piece: piece[0] // FANOUT):
        found, leaf = next(leaves)
        assert found == number
        ranges = list(members)
        asked = {b % FANOUT for first, end in ranges for b in range(first, end)} if listed else None
        former = make(number, leaf, asked)
        for first, end in ranges:
            yield Batch(first, end, former)


def count(plan: Iterable[tuple[int, int]]) -> int:
    """Blocks of a plan."""
    return sum(end - first for first, end in plan)


def _leaf_numbers(plan: Ranges) -> Iterator[int]:
    last = -1
    for first, end in plan:
        for number in range(max(first // FANOUT, last + 1), (end - 1) // FANOUT + 1):
            yield number
            last = number
