"""Reading back what is stored, remembering what is damaged, and the next backup mending it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import ChangedList, KeyRing, Repository, VaultKey, runtime
from blockvault.engine.backup import PARENT_DAMAGED
from blockvault.engine.damage import REMEMBERED, Found, merge
from blockvault.engine.names import ObjectName
from blockvault.engine.root import Roots
from blockvault.engine.tree import TreeReader
from blockvault.stores import AccessDenied, ObjectInfo, StoreUnreachable
from tests.unit.engine import support
from tests.unit.engine.support import MemoryStore, backup, check_usage, opened, restored, state_of, volume_of

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
BLOCKS = 80


@pytest.fixture(params=["clear", "encrypted"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """A store with a full backup and three incrementals that patch blocks 10 to 12, and block 12 twice."""
    if request.param == "encrypted":
        monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(range(32)))))
    store = MemoryStore()
    Repository.init(store, support.RING)
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    backup(store, source)
    for seed, block in enumerate((10, 11, 12, 12)):
        with open(source, "r+b") as file:
            file.seek(block * BLOCK + 100)
            file.write(random.Random(seed).randbytes(70))
        backup(store, source)
    return store


def ids(store: MemoryStore) -> list[str]:
    return [entry.id for entry in state_of(store).roots]


def flip(store: MemoryStore, key: str, at: int) -> None:
    data = bytearray(store.objects[key])
    data[at] ^= 0x10
    store.objects[key] = bytes(data)


def places(store: MemoryStore, block: int) -> dict[str, tuple[str, int]]:
    """Where the newest backup's block lies: base, patch, digests, and its leaf and the page above."""
    found = volume_of(store)
    paths = found.lineage.paths
    root = Roots(store, found.lineage).read(found.state.roots[-1])
    tree = TreeReader(store, found.lineage, root.top, root.levels)
    _, leaf = next(tree.leaves([block // 4]))
    assert leaf is not None
    assert leaf.origin is not None
    base, *patches = leaf.pieces(block % 4)
    assert base.digests is not None
    above = tree.inner(1, block // 16)
    assert above.origin is not None
    result = {
        "base": (paths.segment(base.name), base.offset),
        "digests": (paths.pages(base.digests.name), base.digests.offset),
        "root": (paths.root(ObjectName.parse(found.state.roots[-1].object)), 200),
    }
    for name, ref in (
        ("leaf", leaf.origin.ref),
        ("leaf base", leaf.origin.base),
        ("inner", above.origin.ref),
    ):
        result[name] = (paths.pages(ObjectName.unpack(ref["name"].tobytes())), int(ref["offset"]))
    if patches:
        result["patch"] = (paths.segment(patches[-1].name), patches[-1].offset)
    return result


def test_all_is_well_and_each_piece_is_read_once(kept: MemoryStore) -> None:
    reads: dict[tuple[str, int, int | None], int] = {}

    class Counting(MemoryStore):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            if "/segments/" in key and start >= 128 and length and length > 60:
                reads[key, start, length] = reads.get((key, start, length), 0) + 1
            return super().get(key, start, length)

    result = opened(Counting(kept.objects)).verify()
    assert result["ok"]
    assert result["checkedBlocks"] == 5 * BLOCKS
    stored = sum(len(data) for key, data in kept.objects.items() if "/segments/" in key)
    assert 0.9 * stored < result["checkedBytes"] < stored
    assert [row["blocks"] for row in result["backups"]] == [BLOCKS] * 5
    assert {row["backupId"] for row in result["backups"]} == set(ids(kept))
    labels = [entry.labels["verified"] for entry in state_of(kept).roots]
    assert [(label["mode"], label["blocks"], label["damaged"]) for label in labels] == [
        ("Full", BLOCKS, 0)
    ] * 5
    assert state_of(kept).damaged == []


def test_a_whole_store_is_listed_once(kept: MemoryStore, tmp_path: Path) -> None:
    """Of each lineage what backups need, when its turn comes: never all objects of all lineages together."""
    backup(kept, tmp_path / "source", "w")
    listed: list[str] = []

    class Noting(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            listed.append(prefix)
            return super().list(prefix)

    assert opened(Noting(kept.objects)).verify()["ok"]
    data = [prefix for prefix in listed if prefix.endswith(("/segments/", "/pages/", "/roots/"))]
    assert len(data) == len(set(data)) == 2 * 3
    assert not [prefix for prefix in listed if "lineages/".startswith(prefix) or prefix.count("/") == 2]


def test_one_backup_by_itself(kept: MemoryStore) -> None:
    chosen = ids(kept)[1]
    result = opened(kept).verify("v", chosen)
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
def test_damage_is_named_with_backups_and_ranges(kept: MemoryStore, what: str) -> None:
    key, at = places(kept, 12)[what]
    flip(kept, key, at + 3)
    result = opened(kept).verify()
    assert not result["ok"]
    rows = [row for row in result["damaged"] if row["object"] == key]
    assert {row["object"] for row in result["damaged"]} == {key}
    touched = {row["backupId"] for row in rows}
    assert ids(kept)[-1] in touched
    assert touched == {
        "base": set(ids(kept)),
        "digests": set(ids(kept)),
        "leaf base": set(ids(kept)),
        "patch": {ids(kept)[-1]},
        "leaf": {ids(kept)[-1]},
        "inner": {ids(kept)[-1]},
        "root": {ids(kept)[-1]},
    }.get(what, touched)
    row = next(row for row in rows if row["backupId"] == ids(kept)[-1])
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


def test_a_missing_object_is_damage_in_a_sample_as_well(kept: MemoryStore) -> None:
    key, _ = places(kept, 20)["base"]
    del kept.objects[key]
    result = opened(kept).verify(sample=0.0)
    assert {row["object"] for row in result["damaged"]} == {key}
    assert {row["backupId"] for row in result["damaged"]} == set(ids(kept))
    assert all(row["offset"] <= 20 * BLOCK < row["offset"] + row["length"] for row in result["damaged"])


def test_missing_is_believed_at_the_second_look_only(kept: MemoryStore) -> None:
    """A listing that lags, and an object that is not there at the first question."""
    hidden, _ = places(kept, 20)["base"]
    asked: set[str] = set()

    class Lagging(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return iter([info for info in super().list(prefix) if info.key != hidden])

        def stat(self, key: str) -> ObjectInfo:
            if key.startswith("lineages/") and key not in asked:
                asked.add(key)
                return super().stat(key + "-not-yet")
            return super().stat(key)

    result = opened(Lagging(kept.objects)).verify()
    assert result["damaged"] == []
    assert asked == {hidden}


def test_a_record_that_no_listing_shows_yet(kept: MemoryStore, tmp_path: Path) -> None:
    """Its lineage's commits are listed already. Nor is a volume that was deleted for good missed."""
    backup(kept, tmp_path / "source", "w")
    opened(kept).delete_volume("w")

    class Lagging(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return iter([] if prefix == "volumes/" else super().list(prefix))

    result = opened(Lagging(kept.objects)).verify()
    assert (result["damaged"], result["backups"]) == ([], [])


def test_a_store_that_cannot_be_read_now_is_not_damaged(kept: MemoryStore) -> None:
    before = dict(kept.objects)

    class Failing(MemoryStore):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            if "/segments/" in key and self.calls > 40:
                raise StoreUnreachable("no answer")
            return super().get(key, start, length)

    with pytest.raises(StoreUnreachable):
        opened(Failing(kept.objects)).verify()
    assert kept.objects == before


def test_one_bad_answer_is_no_damage(kept: MemoryStore) -> None:
    spoiled: set[tuple[str, int]] = set()

    class Noisy(MemoryStore):
        def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            data = super().get(key, start, length)
            if ("/segments/" in key or "/pages/" in key) and (key, start) not in spoiled and data:
                spoiled.add((key, start))
                return bytes([data[0] ^ 1]) + data[1:]
            return data

    assert opened(Noisy(kept.objects)).verify()["damaged"] == []
    assert spoiled


def test_what_is_deleted_meanwhile_is_not_damaged(kept: MemoryStore) -> None:
    """A delete and a collect in the middle of a run: the objects have gone, and nobody misses them."""
    victim = ids(kept)[-1]
    store = kept.view()

    def act() -> None:
        opened(kept.view()).delete("v", victim)
        assert opened(kept.view()).collect("v")[0].deleted_objects

    store.before = support.at_call(30, act)
    result = opened(store).verify()
    assert result["damaged"] == []
    assert victim not in ids(kept)
    assert victim not in {row["backupId"] for row in result["backups"]}


def test_a_reader_that_may_not_write_still_gets_the_result(kept: MemoryStore) -> None:
    flip(kept, *places(kept, 20)["base"])

    class ReadOnly(MemoryStore):
        def create(self, key: str, data: Any) -> None:
            raise AccessDenied("read only")

    result = opened(ReadOnly(kept.objects)).verify()
    assert (result["ok"], result["kept"]) == (False, False)
    assert opened(kept).verify()["kept"]


def test_a_budget_goes_on_where_it_stopped(kept: MemoryStore) -> None:
    """Together the runs read everything; damage is found by the one that comes by, and then it starts over."""
    flip(kept, *places(kept, 70)["base"])
    runs = [opened(kept).verify(budget_bytes=100_000) for _ in range(4)]
    assert [run["ok"] for run in runs] == [True, True, False, True]
    assert sum(run["checkedBlocks"] for run in runs[:-1]) >= 5 * BLOCKS - 5 * 12
    assert all(90_000 < run["checkedBytes"] < 130_000 for run in runs[:3])
    total = sum(run["checkedBlocks"] for run in runs)
    while state_of(kept).extra["verification"]["nextLeaf"]:
        total += opened(kept).verify(budget_bytes=100_000)["checkedBlocks"]
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
    kept: MemoryStore, what: str, blocks: list[int], page: list[int] | None
) -> None:
    """Section 8 of docs/format.md: `damaged`, `verification`, and the label `verified`."""
    key, at = places(kept, 12)[what]
    flip(kept, key, at + 3)
    opened(kept).verify(budget_bytes=100_000)
    state = json.loads(state_of(kept).encode())
    (entry,) = state["damaged"]
    assert set(entry) == {"object", "offset", "length", "blocks", "page", "foundAt"}
    assert (entry["object"], entry["blocks"], entry["page"]) == (key.rpartition("/")[2], blocks, page)
    assert entry["offset"] == (0 if what == "root" else at)
    assert set(state["verification"]) == {"nextLeaf", "at"}
    assert set(state["roots"][-1]["labels"]["verified"]) == {"at", "mode", "blocks", "damaged"}


# ---- mending


def mend(
    store: MemoryStore, source: Path, mode: str, change: Callable[[Path], list[tuple[int, int]]] | None = None
) -> Any:
    changed = change(source) if change else []
    options: dict[str, Any] = {"changed": ChangedList(changed)} if mode == "list" else {}
    return backup(store, source, **options)


@pytest.mark.parametrize("mode", ["list", "compare"])
@pytest.mark.parametrize("what", ["base", "patch", "digests", "leaf", "leaf base", "inner"])
def test_the_next_backup_mends(kept: MemoryStore, tmp_path: Path, mode: str, what: str) -> None:
    key, at = places(kept, 12)[what]
    flip(kept, key, at + 3)
    assert not opened(kept).verify()["ok"]
    result = mend(kept, tmp_path / "source", mode)
    assert (result.fallback_reason == PARENT_DAMAGED) == (what in ("leaf", "leaf base", "inner"))
    assert restored(kept, tmp_path, result.backup_id) == (tmp_path / "source").read_bytes()
    rows = opened(kept).verify()["damaged"]
    assert result.backup_id not in {row["backupId"] for row in rows}
    if what in ("base", "patch", "digests"):
        assert result.bytes_stored < 20_000
    # When the others have gone, so has the memory of the damage.
    assert state_of(kept).damaged
    for backup_id in ids(kept)[:-1]:
        opened(kept).delete("v", backup_id)
    assert opened(kept).verify()["ok"]
    assert state_of(kept).damaged == []
    check_usage(kept)


@pytest.mark.parametrize("mode", ["list", "compare"])
@pytest.mark.parametrize("what", ["leaf", "inner", "root"])
def test_a_parent_that_cannot_be_read_does_not_stop_a_backup(
    kept: MemoryStore, tmp_path: Path, mode: str, what: str
) -> None:
    """Nobody has verified; the backup meets the damage itself, and says so."""
    key, at = places(kept, 12)[what]
    flip(kept, key, at + 3)

    def change(source: Path) -> list[tuple[int, int]]:
        with open(source, "r+b") as file:
            file.seek(13 * BLOCK)
            file.write(b"changed")
        return [(13 * BLOCK, 7)]

    result = mend(kept, tmp_path / "source", mode, change)
    assert (result.type, result.fallback_reason) == ("full", PARENT_DAMAGED)
    assert restored(kept, tmp_path, result.backup_id) == (tmp_path / "source").read_bytes()


def test_a_damaged_root_that_was_found_is_not_built_upon(kept: MemoryStore, tmp_path: Path) -> None:
    """That of the parent of the parent, on which its summary builds: the parent itself reads well."""
    entry = state_of(kept).roots[-2]
    found = volume_of(kept)
    root = Roots(kept, found.lineage).read(found.state.roots[-1])
    assert root.base is not None
    assert str(root.base[0]) == entry.object
    flip(kept, found.lineage.paths.root(root.base[0]), 200)
    rows = opened(kept).verify()["damaged"]
    assert {row["backupId"] for row in rows} == set(ids(kept)[-2:])
    result = backup(kept, tmp_path / "source")
    assert result.fallback_reason == PARENT_DAMAGED
    assert result.backup_id not in {row["backupId"] for row in opened(kept).verify()["damaged"]}


def test_damage_that_has_gone_is_forgotten(kept: MemoryStore) -> None:
    key, at = places(kept, 12)["base"]
    flip(kept, key, at)
    opened(kept).verify()
    assert len(state_of(kept).damaged) == 1
    flip(kept, key, at)
    assert opened(kept).verify()["ok"]
    assert state_of(kept).damaged == []


def test_only_so_much_damage_is_remembered() -> None:
    def one(offset: int) -> Found:
        return Found("k", ObjectName(1, 1, 1), offset, 1, "", offset, offset + 1, 1)

    entries = merge([], [one(offset) for offset in range(REMEMBERED + 5)], [], "now")
    assert len(entries) == REMEMBERED
    again = merge(entries, [one(0)], [(ObjectName(1, 1, 1), 1)], "later")
    assert len(again) == REMEMBERED - 1
    assert again[0]["foundAt"] == "now"
