"""Which leaves differ between two trees, found by descending only where the hashes of their content differ."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.pages import FANOUT, Inner
from blockvault.engine.tree import TreeReader


def differing(new: TreeReader, old: TreeReader, leaves: int) -> Iterator[int]:
    """Numbers below `leaves`, ascending, of leaves whose blocks may differ. Costs what differs.

    What cannot be read counts as different.
    """
    yield from _below(new, old, max(new.levels, old.levels) + 1, 0, leaves)


def _below(new: TreeReader, old: TreeReader, level: int, index: int, leaves: int) -> Iterator[int]:
    ours, theirs = _inner(new, level, index), _inner(old, level, index)
    if ours is None or theirs is None:
        slots = list(range(FANOUT))
    else:
        slots = np.flatnonzero((_content(ours) != _content(theirs)).any(axis=1)).tolist()
        if index == 0 and level > min(new.levels, old.levels) + 1 and 0 not in slots:
            slots.insert(0, 0)  # the lower tree has no page here to compare with
    reach = FANOUT ** (level - 1)
    if level > 1:
        for tree in (new, old):
            tree.prefetch(level - 1, (index * FANOUT + slot for slot in slots))
    for slot in slots:
        child = index * FANOUT + slot
        if child * reach >= leaves:
            return
        if level == 1:
            yield child
        else:
            yield from _below(new, old, level - 1, child, leaves)


def _inner(tree: TreeReader, level: int, index: int) -> Inner | None:
    try:
        return tree.inner(level, index)
    except StoredDataDamaged:
        return None


def _content(page: Inner) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.frombuffer(page.entries["content"].tobytes(), np.uint64).reshape(FANOUT, 4)
