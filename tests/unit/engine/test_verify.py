"""Reading back what is stored, remembering what is damaged, and the next backup mending it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import runtime
from blockvault.stores import AccessDenied, ObjectInfo, StoreUnreachable
from tests.unit.engine.damaging import BLOCK, BLOCKS, flip, ids, places
from tests.unit.engine.support import MemoryStore, at_call, backup, opened, restored, state_of

pytestmark = pytest.mark.usefixtures("small")


def test_all_is_well_and_each_piece_is_read_once(patched: MemoryStore) -> None:
    reads: dict[tuple[str, int, int | None], int] = {}

    class Counting(MemoryStore):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            if "/segments/" in key and start >= 128 and length and length > 60:
                reads[key, start, length] = reads.get((key, start, length), 0) + 1
            return super().get(key, start, length)

    result = opened(Counting(patched.objects)).verify()
    assert result["ok"]
    assert result["checkedBlocks"] == 5 * BLOCKS
    stored = sum(len(data) for key, data in patched.objects.items() if "/segments/" in key)
    assert 0.9 * stored < result["checkedBytes"] < stored
    assert [row["blocks"] for row in result["backups"]] == [BLOCKS] * 5
    assert {row["backupId"] for row in result["backups"]} == set(ids(patched))
    labels = [entry.labels["verified"] for entry in state_of(patched).roots]
    assert [(label["mode"], label["blocks"], label["damaged"]) for label in labels] == [
        ("Full", BLOCKS, 0)
    ] * 5
    assert state_of(patched).damaged == []


def test_a_whole_store_is_listed_once(patched: MemoryStore, tmp_path: Path) -> None:
    """Of each lineage what backups need, when its turn comes: never all objects of all lineages together."""
    backup(patched, tmp_path / "source", "w")
    listed: list[str] = []

    class Noting(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            listed.append(prefix)
            return super().list(prefix)

    assert opened(Noting(patched.objects)).verify()["ok"]
    data = [prefix for prefix in listed if prefix.endswith(("/segments/", "/pages/", "/roots/"))]
    assert len(data) == len(set(data)) == 2 * 3
    assert not [prefix for prefix in listed if "lineages/".startswith(prefix) or prefix.count("/") == 2]


def test_one_backup_by_itself(patched: MemoryStore) -> None:
    chosen = ids(patched)[1]
    result = opened(patched).verify("v", chosen)
    assert result["checkedBlocks"] == BLOCKS
    assert [row["backupId"] for row in result["backups"]] == [chosen]


def test_volumes_that_grew_share_one_walk(store: MemoryStore, tmp_path: Path) -> None:
    """Trees of several heights, one above the other."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(2).randbytes(3 * BLOCK))
    backup(store, source)
    for blocks in (3, 30, 100):
        with open(source, "ab") as file:
            file.write(random.Random(blocks).randbytes(blocks * BLOCK + 5))
        backup(store, source)
    result = opened(store).verify()
    assert result["damaged"] == []
    assert [row["blocks"] for row in result["backups"]] == [3, 7, 37, 137]


@pytest.mark.parametrize("what", ["base", "patch", "digests", "leaf", "leaf base", "inner", "root"])
def test_damage_is_named_with_backups_and_ranges(patched: MemoryStore, what: str) -> None:
    key, at = places(patched, 12)[what]
    flip(patched, key, at + 3)
    result = opened(patched).verify()
    assert not result["ok"]
    rows = [row for row in result["damaged"] if row["object"] == key]
    assert {row["object"] for row in result["damaged"]} == {key}
    touched = {row["backupId"] for row in rows}
    assert ids(patched)[-1] in touched
    assert touched == {
        "base": set(ids(patched)),
        "digests": set(ids(patched)),
        "leaf base": set(ids(patched)),
        "patch": {ids(patched)[-1]},
        "leaf": {ids(patched)[-1]},
        "inner": {ids(patched)[-1]},
        "root": {ids(patched)[-1]},
    }.get(what, touched)
    row = next(row for row in rows if row["backupId"] == ids(patched)[-1])
    ranges = {
        "leaf": (12 * BLOCK, 4 * BLOCK),
        "leaf base": (12 * BLOCK, 4 * BLOCK),
        "inner": (0, 16 * BLOCK),
        "root": (0, BLOCKS * BLOCK),
    }
    assert (row["offset"], row["length"]) == ranges.get(what, (12 * BLOCK, BLOCK))


def test_damage_that_later_patches_hide(store: MemoryStore, tmp_path: Path) -> None:
    """Of a piece and its digests that differ, the one in the object that is not whole is at fault; nothing is lost."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    backup(store, source)
    written = source.read_bytes()[100:170]
    for seed in range(2, 5):
        with open(source, "r+b") as file:
            file.seek(100)
            file.write(random.Random(seed).randbytes(70))
        backup(store, source)
    opened(store).delete("v", ids(store)[0])
    segment, digests = places(store, 0)["base"][0], places(store, 0)["digests"]
    hidden = store.objects[segment].index(written) + 30
    flip(store, segment, hidden)
    rows = opened(store).verify()["damaged"]
    assert [(row["object"], row["offset"], row["length"]) for row in rows] == [(segment, 0, BLOCK)] * 3
    assert all("where later patches lie on it" in row["cause"] for row in rows)
    assert all("Every backup can be restored" in row["remedy"] for row in rows)
    assert restored(store, tmp_path, ids(store)[-1]) == source.read_bytes()
    made = backup(store, source)
    assert restored(store, tmp_path, made.backup_id) == source.read_bytes()
    assert made.backup_id not in {row["backupId"] for row in opened(store).verify()["damaged"]}
    flip(store, segment, hidden)
    flip(store, digests[0], digests[1] + 9)
    assert {row["object"] for row in opened(store).verify()["damaged"]} == {digests[0]}


def test_a_missing_object_is_damage_in_a_sample_as_well(patched: MemoryStore) -> None:
    key, _ = places(patched, 20)["base"]
    del patched.objects[key]
    result = opened(patched).verify(sample=0.0)
    assert {row["object"] for row in result["damaged"]} == {key}
    assert {row["backupId"] for row in result["damaged"]} == set(ids(patched))
    assert all(row["offset"] <= 20 * BLOCK < row["offset"] + row["length"] for row in result["damaged"])


def test_missing_is_believed_at_the_second_look_only(patched: MemoryStore) -> None:
    """A listing that lags, and an object that is not there at the first question."""
    hidden, _ = places(patched, 20)["base"]
    asked: set[str] = set()

    class Lagging(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return iter([info for info in super().list(prefix) if info.key != hidden])

        def stat(self, key: str) -> ObjectInfo:
            if key.startswith("lineages/") and key not in asked:
                asked.add(key)
                return super().stat(key + "-not-yet")
            return super().stat(key)

    result = opened(Lagging(patched.objects)).verify()
    assert result["damaged"] == []
    assert asked == {hidden}


def test_a_record_that_no_listing_shows_yet(patched: MemoryStore, tmp_path: Path) -> None:
    """Its lineage's commits are listed already. Nor is a volume that was deleted for good missed."""
    backup(patched, tmp_path / "source", "w")
    opened(patched).delete_volume("w")

    class Lagging(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return iter([] if prefix == "volumes/" else super().list(prefix))

    result = opened(Lagging(patched.objects)).verify()
    assert (result["damaged"], result["backups"]) == ([], [])


def test_a_store_that_cannot_be_read_now_is_not_damaged(patched: MemoryStore) -> None:
    before = dict(patched.objects)

    class Failing(MemoryStore):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            if "/segments/" in key and self.calls > 40:
                raise StoreUnreachable("no answer")
            return super().get(key, start, length)

    with pytest.raises(StoreUnreachable):
        opened(Failing(patched.objects)).verify()
    assert patched.objects == before


def test_one_bad_answer_is_no_damage(patched: MemoryStore) -> None:
    spoiled: set[tuple[str, int]] = set()

    class Noisy(MemoryStore):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            data = super().get(key, start, length)
            if ("/segments/" in key or "/pages/" in key) and (key, start) not in spoiled and data:
                spoiled.add((key, start))
                return bytes([data[0] ^ 1]) + data[1:]
            return data

    assert opened(Noisy(patched.objects)).verify()["damaged"] == []
    assert spoiled


def test_what_is_deleted_meanwhile_is_not_damaged(patched: MemoryStore) -> None:
    """A delete and a collect in the middle of a run: the objects have gone, and nobody misses them."""
    victim = ids(patched)[-1]
    store = patched.view()

    def act() -> None:
        opened(patched.view()).delete("v", victim)
        assert opened(patched.view()).collect("v")[0].deleted_objects

    store.before = at_call(30, act)
    result = opened(store).verify()
    assert result["damaged"] == []
    assert victim not in ids(patched)
    assert victim not in {row["backupId"] for row in result["backups"]}


def test_a_reader_that_may_not_write_still_gets_the_result(patched: MemoryStore) -> None:
    flip(patched, *places(patched, 20)["base"])

    class ReadOnly(MemoryStore):
        def create(self, key: str, data: Any) -> None:
            raise AccessDenied("read only")

    result = opened(ReadOnly(patched.objects)).verify()
    assert (result["ok"], result["kept"]) == (False, False)
    assert opened(patched).verify()["kept"]


def test_a_budget_goes_on_where_it_stopped(patched: MemoryStore) -> None:
    """Together the runs read everything; damage is found by the one that comes by, and then it starts over."""
    flip(patched, *places(patched, 70)["base"])
    runs = [opened(patched).verify(budget_bytes=100_000) for _ in range(4)]
    assert [run["ok"] for run in runs] == [True, True, False, True]
    assert sum(run["checkedBlocks"] for run in runs[:-1]) >= 5 * BLOCKS - 5 * 12
    assert all(90_000 < run["checkedBytes"] < 130_000 for run in runs[:3])
    total = sum(run["checkedBlocks"] for run in runs)
    while state_of(patched).extra["verification"]["nextLeaf"]:
        total += opened(patched).verify(budget_bytes=100_000)["checkedBlocks"]
    assert total >= 5 * BLOCKS


def test_samples_find_damage_as_often_as_chance_says(store: MemoryStore, tmp_path: Path) -> None:
    """One of 80 blocks is bad: each run finds it with the chance of the sample, within four deviations."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    backup(store, source)
    flip(store, *places(store, 33)["base"])
    seeds = random.Random(7)
    with runtime.use(runtime.Runtime(random=seeds.randbytes)):
        found = sum(not opened(store).verify(sample=0.3)["ok"] for _ in range(100))
    assert 30 - 4 * 4.6 < found < 30 + 4 * 4.6


@pytest.mark.parametrize(
    ("what", "blocks", "page"),
    [("base", [12], None), ("inner", [], [0, 16]), ("root", [], [0, BLOCKS])],
)
def test_what_a_state_keeps_is_what_the_format_says(
    patched: MemoryStore, what: str, blocks: list[int], page: list[int] | None
) -> None:
    """Section 8 of docs/format.md: `damaged`, `verification`, and the label `verified`."""
    key, at = places(patched, 12)[what]
    flip(patched, key, at + 3)
    opened(patched).verify(budget_bytes=100_000)
    state = json.loads(state_of(patched).encode())
    (entry,) = state["damaged"]
    assert set(entry) == {"object", "offset", "length", "blocks", "page", "foundAt"}
    assert (entry["object"], entry["blocks"], entry["page"]) == (key.rpartition("/")[2], blocks, page)
    assert entry["offset"] == (0 if what == "root" else at)
    assert set(state["verification"]) == {"nextLeaf", "at"}
    assert set(state["roots"][-1]["labels"]["verified"]) == {"at", "mode", "blocks", "damaged"}
