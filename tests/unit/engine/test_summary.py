"""Summaries and sets of objects as arrays: the same as dictionaries would give, in a fraction of the memory."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest

from blockvault.engine import summary
from blockvault.engine.envelope import Kind
from blockvault.engine.names import LineagePaths, ObjectName
from blockvault.engine.objects import Objects
from blockvault.engine.summary import Changes, Summary

# Segments of a volume of 15 TiB.
SEGMENTS = 15 * 1024 * 1024 // 32

Plain = dict[tuple[Kind, ObjectName], tuple[int, int]]


def plain(whole: Summary) -> Plain:
    return {(usage.kind, name): (usage.size, usage.live) for name, usage in whole.items()}


def names(count: int, chance: random.Random) -> list[tuple[Kind, ObjectName]]:
    """Names whose bytes end in zeros, differ in one part only, or are as large as can be."""
    numbers = [0, 1, 255, 256, 1 << 24, (1 << 32) - 1]
    return [
        (
            chance.choice([Kind.SEGMENT, Kind.PAGES]),
            ObjectName(
                chance.choice(numbers), chance.choice(numbers), chance.choice([*numbers, (1 << 64) - 1])
            ),
        )
        for _ in range(count)
    ]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(20))
def test_a_chain_of_changes(seed: int) -> None:
    """Random changes, added one by one, written and read back, give what a dictionary gives."""
    chance = random.Random(seed)
    known = {name: (kind, name) for kind, name in names(60, chance)}
    model: Plain = {}
    sizes: dict[ObjectName, int] = {}
    whole = Summary(summary.empty())
    for _ in range(12):
        changes = Changes()
        after = dict(model)
        for key in chance.sample(sorted(known.values()), 20):
            name = key[1]
            size, live = after.get(key, (0, 0))
            if not size:
                size = sizes.setdefault(name, chance.randrange(1, 1 << 32))
                changes.set_sizes({name: size})
            more = chance.choice([-live, chance.randrange(1 << 40), chance.randrange(-live, 1)])
            for part in (more - 5, 5):
                changes.add(key[0], name, part)
            after[key] = (size, live + more)
        records = summary.decode(summary.encode(changes.records()))
        before = plain(whole)
        fresh = summary.apply(whole, records)
        assert plain(whole) == before
        model = {key: value for key, value in after.items() if value[1]}
        assert plain(fresh) == model
        assert list(plain(fresh)) == sorted(model)
        step = summary.difference(whole, fresh)
        assert plain(summary.apply(whole, step)) == model
        assert len(step) <= len(records)
        whole = fresh
    assert model


def test_records_that_do_not_fit_are_refused() -> None:
    name = ObjectName(1, 2, 3)
    one = Changes()
    one.add(Kind.SEGMENT, name, 10)
    base = Summary(summary.empty())
    with pytest.raises(ValueError, match="no size"):
        one.apply(base)
    one.set_sizes({name: 100})
    whole = one.apply(base)
    less = Changes()
    less.add(Kind.SEGMENT, name, -11)
    with pytest.raises(ValueError, match="live bytes"):
        less.apply(whole)
    data = summary.encode(whole.records)
    for wrong in (data + data, data[:-1], data[:20] + b"\x07" + data[21:]):
        with pytest.raises(ValueError, match="summary"):
            summary.decode(wrong)


@pytest.mark.usefixtures("small")
def test_sets_of_objects() -> None:
    chance = random.Random(1)
    first = {key: chance.randrange(1, 9) for key in names(200, chance)}
    second = {
        key: first.get(key, 9) + chance.choice([0, 0, 1]) for key in [*names(100, chance), *list(first)[:50]]
    }
    one = Objects.of((*key, size) for key, size in first.items())
    two = Objects.of((*key, size) for key, size in second.items())
    assert {(kind, name): size for kind, name, size in one} == first
    assert one.total == sum(first.values())
    assert {key[:2] for key in one.where(one.within(two))} == first.keys() & second.keys()
    assert {(k, n): s for k, n, s in one.lacking(two)} == {
        key: size for key, size in first.items() if second.get(key) != size
    }
    both = one.join([two.records, two.records])
    assert {(k, n): s for k, n, s in both} == {**second, **first}
    paths = LineagePaths("lineage")
    assert [paths.parse(key) for key in one.keys(paths)] == sorted(first)


def test_memory_for_15_tib() -> None:
    """What collect holds of such a volume: the set of what is needed, the listing, and what is in neither."""
    whole = summary.empty(SEGMENTS)
    whole["epoch"], whole["sequence"] = 1 + np.arange(SEGMENTS) // 5000, np.arange(SEGMENTS) % 5000
    whole["size"], whole["live"], whole["kind"] = 1 << 25, 1 << 24, Kind.SEGMENT
    tracemalloc.start()
    try:
        needed = Objects().join([whole])
        listed = Objects.of((Kind.SEGMENT, summary.name_of(record), 1 << 25) for record in whole)
        assert not len(needed.lacking(listed))
        assert listed.within(needed).all()
        assert needed.total == SEGMENTS << 25
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20, f"{peak / (1 << 20):.0f} MiB"
