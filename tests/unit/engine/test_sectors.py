"""F17: of a block of which some sectors changed, only those are stored, however the change was found."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockvault.engine import BackupResult, ChangedList, sectors
from blockvault.engine.hashing import LineageKey
from blockvault.engine.leaf import Leaf
from tests.unit.engine.support import (
    MemoryStore,
    backup,
    check_usage,
    opened,
    restored,
    state_of,
    tree_of,
)

BLOCK, SECTOR = 262144, 4096


def volume(path: Path, blocks: int) -> Path:
    path.write_bytes(random.Random(blocks).randbytes(blocks * BLOCK))
    return path


def touch(path: Path, places: list[int], salt: int) -> None:
    """A few bytes in each of these sectors."""
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place * SECTOR + 100)
            file.write(random.Random(place * 1000 + salt).randbytes(8))


def leaf_of(store: MemoryStore, result: BackupResult, number: int = 0) -> Leaf:
    entry = state_of(store).root(result.backup_id)
    assert entry is not None
    ((_, leaf),) = tree_of(store, entry).leaves([number])
    assert leaf is not None
    return leaf


@pytest.mark.parametrize("how", ["compare", "fine list", "coarse list"])
def test_only_changed_sectors_are_sent(store: MemoryStore, tmp_path: Path, how: str) -> None:
    source = volume(tmp_path / "source", 16)
    backup(store, source)
    touched = [1, 5, 70, 71, 1000]
    touch(source, touched, 1)
    lists = {
        "compare": None,
        "fine list": ChangedList([(place * SECTOR, SECTOR) for place in touched]),
        "coarse list": ChangedList([(0, 16 * BLOCK)]),
    }
    result = backup(store, source, changed=lists[how])
    assert result.changed_block_source == ("Compare" if how == "compare" else "List")
    segments = {key: data for key, data in store.objects.items() if "/segments/00000002" in key}
    assert sum(len(data) for data in segments.values()) < 5 * SECTOR + 3 * 64 + 200
    assert result.bytes_changed == 3 * BLOCK
    assert [patch.mask for patch in leaf_of(store, result).patches(0)] == [1 << 1 | 1 << 5]
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
    check_full_scale_usage(store)


def check_full_scale_usage(store: MemoryStore) -> None:
    """Used bytes are the sizes of everything there, as nothing was deleted."""
    usage = opened(store).usage()
    kept = sum(
        len(d) for k, d in store.objects.items() if any(f in k for f in ("/segments/", "/pages/", "/roots/"))
    )
    assert sum(volume["usedBytes"] for volume in usage) == kept


def test_a_list_that_forgets_a_sector_of_a_touched_block_does_no_harm(
    store: MemoryStore, tmp_path: Path
) -> None:
    """The digests find it before the patch is written, not the hash at the restore."""
    source = volume(tmp_path / "source", 4)
    backup(store, source)
    touch(source, [3, 40], 1)
    result = backup(store, source, changed=ChangedList([(3 * SECTOR, SECTOR)]))
    assert result.changed_block_source == "List"
    assert leaf_of(store, result).patches(0)[0].mask == 1 << 3 | 1 << 40
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()


def test_patches_are_merged_and_give_way_to_a_whole_block(store: MemoryStore, tmp_path: Path) -> None:
    source = volume(tmp_path / "source", 1)
    backup(store, source)
    contents = {}
    counts = []
    for salt in range(40):
        touch(source, [salt % 8], salt)
        result = backup(store, source)
        contents[result.backup_id] = source.read_bytes()
        counts.append(len(leaf_of(store, result).patches(0)))
    assert counts[:18] == [*range(1, 17), 1, 2]
    assert leaf_of(store, result).patches(0)[0].mask.bit_count() == 8
    touch(source, list(range(33)), 100)
    whole = backup(store, source)
    assert leaf_of(store, whole).patches(0) == []
    contents[whole.backup_id] = source.read_bytes()
    for backup_id, content in contents.items():
        assert restored(store, tmp_path, backup_id) == content
    check_full_scale_usage(store)


@pytest.mark.parametrize("kind", ["cut", "spoiled", "gone"])
def test_damaged_digests_cost_a_whole_block_and_nothing_else(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Digests that are not to be had, or that cannot be right, are not built upon."""
    source = volume(tmp_path / "source", 2)
    first = backup(store, source)
    touch(source, [3], 1)
    spot = leaf_of(store, first).base(0).digests  # type: ignore[union-attr]
    assert spot is not None
    key = f"{opened(store)._volumes.find('v').lineage.paths.page_objects}{spot.name}"  # type: ignore[union-attr]
    data = bytearray(store.objects[key])
    if kind == "spoiled":
        data[spot.offset : spot.offset + 512] = random.Random(1).randbytes(512)
        store.objects[key] = bytes(data)
    elif kind == "cut":
        from blockvault.engine import former

        monkeypatch.setattr(former, "get", lambda *_: b"")
    else:
        from blockvault.engine import former
        from blockvault.stores import ObjectNotFound

        def gone(*_: object) -> bytes:
            raise ObjectNotFound("gone")

        monkeypatch.setattr(former, "get", gone)
    result = backup(store, source)
    assert leaf_of(store, result).patches(0) == []
    monkeypatch.undo()
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()


def test_equal_digests_of_different_blocks_are_not_believed(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collision: the hash of the block says that it changed, no digest does. It is stored whole."""
    source = volume(tmp_path / "source", 2)
    monkeypatch.setattr(sectors, "digests", lambda key, block: np.zeros(64, np.uint64))
    backup(store, source)
    touch(source, [3], 1)
    result = backup(store, source)
    assert leaf_of(store, result).patches(0) == []
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()


masks = st.integers(1, (1 << 64) - 1)


@given(mask=masks, seed=st.integers(0, 1000))
def test_cutting_and_laying_sectors(mask: int, seed: int) -> None:
    chance = random.Random(seed)
    old, new = chance.randbytes(BLOCK), chance.randbytes(BLOCK)
    block = bytearray(old)
    sectors.lay(block, mask, sectors.cut(new, mask))
    for number in range(64):
        part = slice(number * SECTOR, (number + 1) * SECTOR)
        assert block[part] == (new if mask >> number & 1 else old)[part]


@settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
@given(places=st.sets(st.integers(0, 63), max_size=64), seed=st.integers(0, 1000))
def test_digests_find_exactly_the_sectors_that_changed(places: set[int], seed: int) -> None:
    key = LineageKey(bytes(32))
    block = bytearray(random.Random(seed).randbytes(BLOCK))
    before = sectors.digests(key, block)
    for place in places:
        block[place * SECTOR + seed % SECTOR] ^= 1 + seed % 255
    mask = sectors.mask_of(before, sectors.digests(key, block))
    assert mask == sum(1 << place for place in places)


def test_the_model_reaches_patches_merges_and_page_patches(tmp_path: Path, store: MemoryStore) -> None:
    """What the small scale of the other tests relies on: a tree whose pages are patches, restored right."""
    source = volume(tmp_path / "source", 200)
    backup(store, source)
    touch(source, [64 * 150], 1)
    result = backup(store, source)
    leaf = leaf_of(store, result, 1)
    assert leaf.origin is not None
    assert leaf.origin.ref["kind"] == 2
    assert leaf.origin.changed == {22}
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
    touch(source, [64 * 151], 1)
    third = backup(store, source)
    again = leaf_of(store, third, 1)
    assert again.origin is not None
    assert again.origin.changed == {22, 23}
    assert again.origin.base["offset"] == leaf.origin.base["offset"]
    assert restored(store, tmp_path, third.backup_id) == source.read_bytes()
    check_full_scale_usage(store)


def test_small_scale_usage(small: None, store: MemoryStore, tmp_path: Path) -> None:
    """The summaries count what patches and their digests need, and no more."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(40 * 4096))
    for salt in range(12):
        with open(source, "r+b") as file:
            file.seek(salt * 64 * 7 + 5)
            file.write(b"%d" % salt)
        result = backup(store, source)
        check_usage(store)
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
