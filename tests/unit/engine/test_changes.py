"""Changed-block lists are checked before they are believed (F1)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.engine import BadChangedList, ChangedList, parse_changed_list
from blockvault.engine.changes import block_ranges, split
from tests.unit.engine.support import MemoryStore, backup

BLOCK = 262144


@given(st.lists(st.tuples(st.integers(0, 50 * BLOCK), st.integers(0, 3 * BLOCK))), st.integers(1, 8))
def test_every_listed_byte_is_in_exactly_one_range(ranges: list[tuple[int, int]], step: int) -> None:
    found = block_ranges(ranges, 53 * BLOCK)
    assert all(a < b for a, b in found)
    assert all(one[1] < two[0] for one, two in pairwise(found))
    wanted = {b for o, n in ranges if n for b in range(o // BLOCK, (o + n - 1) // BLOCK + 1)}
    assert {b for first, end in found for b in range(first, end)} == wanted
    pieces = list(split(found, step))
    assert [b for first, end in pieces for b in range(first, end)] == sorted(wanted)
    assert all(first // step == (end - 1) // step for first, end in pieces)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("nonsense", "line 2: not JSON"),
        ("[1, 2]", "line 2: not an object"),
        ('{"offset": 1}', "line 2: needs"),
        ('{"offset": -1, "length": 5}', "line 2: needs"),
        ('{"offset": 1.5, "length": 5}', "line 2: needs"),
        ('{"offset": true, "length": 5}', "line 2: needs"),
        ('{"parent": "x"}', "line 2: needs"),
    ],
)
def test_what_cannot_be_a_list(line: str, cause: str) -> None:
    with pytest.raises(BadChangedList, match=cause):
        parse_changed_list(['{"offset": 0, "length": 1}', line], "list")


def test_a_list_may_name_its_parent() -> None:
    listed = parse_changed_list(['{"parent": "abc"}', "", '{"offset": 3, "length": 4}'], "list")
    assert listed == ChangedList([(3, 4)], "abc")


def test_a_range_outside_the_volume(store: MemoryStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)
    backup(store, source)
    before = set(store.objects)
    with pytest.raises(BadChangedList, match="leaves the volume of 1000 bytes"):
        backup(store, source, changed=ChangedList([(900, 101)]))
    assert set(store.objects) == before


def test_a_list_of_another_parent_is_not_believed(store: MemoryStore, tmp_path: Path) -> None:
    """PROTOCOL rule 8: the run compares instead, and says so."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)
    first = backup(store, source)
    source.write_bytes(b"y" * 1000)
    second = backup(store, source, changed=ChangedList([], "another backup"))
    assert (second.changed_block_source, second.bytes_changed) == ("Compare", 1000)
    source.write_bytes(b"x" * 1000)
    third = backup(store, source, parent=first.backup_id, changed=ChangedList([], first.backup_id))
    assert (third.changed_block_source, third.bytes_changed) == ("List", 0)


def test_growth_is_read_even_if_the_list_forgets_it(store: MemoryStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)
    backup(store, source)
    source.write_bytes(b"x" * 1000 + b"grown" * 200_000)
    result = backup(store, source, changed=ChangedList([]))
    assert result.changed_block_source == "List"
    from tests.unit.engine.support import restored

    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
