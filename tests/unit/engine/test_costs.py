"""What operations cost, by formula: an incremental costs what changed, not the volume nor the history."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from blockvault.engine import ChangedList, Repository
from tests.unit.engine.support import MemoryStore, backup, restored

BLOCK = 256 * 1024

# Every commit: create it; then list, probe n+1 and the next multiple of 64, and read the one before.
COMMIT = {"create": 1, "list": 1, "get": 3}


def make(path: Path, blocks: int, used: int) -> Path:
    """A sparse volume with `used` blocks of noise, spread over it."""
    noise = random.Random(1).randbytes(BLOCK)
    with open(path, "wb") as file:
        file.truncate(blocks * BLOCK)
        for i in range(used):
            file.seek(i * (blocks // used) * BLOCK)
            file.write(i.to_bytes(4, "big") + noise[4:])
    return path


def touch(path: Path, numbers: list[int], salt: int = 0) -> ChangedList:
    with open(path, "r+b") as file:
        for number in numbers:
            file.seek(number * BLOCK + 5)
            file.write(random.Random(number + salt * 10_000).randbytes(3))
    return ChangedList([(number * BLOCK + 5, 3) for number in numbers])


def counted(store: MemoryStore) -> dict[str, int]:
    return {kind: count for kind, count in sorted(store.requests.items()) if count}


@pytest.mark.parametrize("history", [1, 5])
@pytest.mark.parametrize("blocks", [1000, 20_000])
def test_an_incremental_by_list(store: MemoryStore, tmp_path: Path, blocks: int, history: int) -> None:
    """F1: two changed blocks in two leaves cost the same in a volume twenty times as large, after any history."""
    source = make(tmp_path / "source", blocks, 40)
    for number in range(history):
        backup(store, source)
        touch(source, [number])
    changed = touch(source, [0, 1, 2, 3, 4, 500], salt=1)
    fresh = store.view()
    result = backup(fresh, source, changed=changed)
    levels = 1 if blocks <= 128 * 128 else 2
    assert result.changed_block_source == "List"
    assert result.bytes_scanned == 6 * BLOCK
    assert counted(fresh) == {
        "create": 2 * COMMIT["create"],
        # That the first commit counts is seen with the second. One looks for a root of the run's epoch (rule 6).
        "list": 2 + COMMIT["list"],
        # the store, the volume's record, the newest commit, the second commit, the parent's root, and for each
        # level of inner pages and for the leaves at most one read each; then digests
        "get": 1 + 1 + 1 + COMMIT["get"] + 1 + page_reads(history, levels) + digest_reads(history),
        "put": 3,
    }
    touched = 6 * BLOCK
    assert result.bytes_changed == touched
    assert result.bytes_stored < 1.2 * touched


def test_few_blocks_in_each_of_many_leaves(store: MemoryStore, tmp_path: Path) -> None:
    """Each of 300 changed blocks lies in a leaf of its own, most below inner pages of their own: no request for each."""
    blocks = 500 * 128 * 128
    source = make(tmp_path / "source", blocks, 1)
    backup(store, source)
    for salt in range(3):
        changed = touch(source, [(salt + 3 * i) * blocks // 900 for i in range(300)], salt)
        fresh = store.view()
        result = backup(fresh, source, changed=changed)
        assert result.changed_block_source == "List"
        # Inner pages, leaves and digests of each former backup, and what any backup takes.
        assert result.requests <= 25 + 6 * salt
    fresh = store.view()
    target = tmp_path / "target"
    repository = Repository.open(fresh)
    before = repository.list("v")[-2]["backupId"]
    repository.restore("v", str(target), before)
    got = fresh.traffic.total_requests
    assert got <= 60
    held = fresh.view()
    Repository.open(held).restore("v", str(target), result.backup_id, have=before, resume=False)
    assert held.traffic.total_requests <= 60
    assert same(source, target)


def same(one: Path, other: Path) -> bool:
    """Whether two sparse files have the same data ranges and bytes."""
    with open(one, "rb") as a, open(other, "rb") as b:
        size = os.stat(one).st_size
        if os.stat(other).st_size != size:
            return False
        end = 0
        while end < size:
            try:
                start = min(os.lseek(file.fileno(), end, os.SEEK_DATA) for file in (a, b))
            except OSError:
                return True
            end = start + BLOCK
            if os.pread(a.fileno(), BLOCK, start) != os.pread(b.fileno(), BLOCK, start):
                return False
    return True


def page_reads(history: int, levels: int) -> int:
    """The top and each inner level, then both leaves: together while one object holds them, else one by one."""
    return levels + (1 if history == 1 else 2)


def digest_reads(history: int) -> int:
    """Those of the bases together; for each former backup those of its patches, and a patched page."""
    return 1 + (5 if history > 1 else 0)


def test_an_unchanged_volume(store: MemoryStore, tmp_path: Path) -> None:
    source = make(tmp_path / "source", 1000, 100)
    first = backup(store, source)
    fresh = store.view()
    result = backup(fresh, source)
    assert (result.bytes_changed, result.changed_block_source) == (0, "Compare")
    assert result.root_hash == first.root_hash
    assert counted(fresh)["put"] == 1
    assert result.bytes_stored < 2000 + 100 * 40  # a root without pages; each of so few blocks is a sample
    assert result.used_bytes == first.used_bytes + result.bytes_stored


def test_a_full_backup(store: MemoryStore, tmp_path: Path) -> None:
    """300 blocks of noise are 75 MiB: three segments, one page object, one root."""
    source = make(tmp_path / "source", 1000, 300)
    fresh = store.view()
    result = backup(fresh, source)
    assert counted(fresh)["put"] == 3 + 1 + 1
    assert 300 * BLOCK < result.bytes_stored < 301 * BLOCK
    fresh = store.view()
    assert restored(fresh, tmp_path, result.backup_id) == source.read_bytes()
    # the store, the volume, the newest commit, root, inner page, leaves; then at most 4 MiB by each request
    assert counted(fresh)["get"] <= 1 + 2 + 3 + 1 + 1 + 1 + 300 * BLOCK // (4 << 20) + 3 * 8


def used(repository: Repository) -> tuple[int, int]:
    (usage,) = repository.usage()
    return usage["usedBytes"], usage["backups"]


def test_deleting_gives_used_bytes_back(store: MemoryStore, tmp_path: Path) -> None:
    """A12: what only the deleted backup needed is no longer counted, at once."""
    source = make(tmp_path / "source", 1000, 100)
    first = backup(store, source)
    touch(source, list(range(0, 1000, 10)))
    second = backup(store, source, full=True)
    repository = Repository.open(store)
    assert second.used_bytes == first.bytes_stored + second.bytes_stored
    assert repository.delete("v", first.backup_id)
    assert used(repository) == (second.bytes_stored, 1)
    assert repository.delete("v", second.backup_id)
    assert used(repository) == (0, 0)
    assert not repository.delete("v", second.backup_id)
    assert backup(store, source).type == "full"  # B7: full again when all backups are gone


def test_several_volumes_in_one_store(store: MemoryStore, tmp_path: Path) -> None:
    contents = {}
    for name in ("shop/a", "shop/b", "täglich/c"):
        source = tmp_path / "source"
        source.write_bytes(name.encode() * 100_000)
        contents[name] = (backup(store, source, name).backup_id, source.read_bytes())
    repository = Repository.open(store)
    assert sorted(entry["volume"] for entry in repository.list()) == sorted(contents)
    for name, (backup_id, content) in contents.items():
        assert restored(store, tmp_path, backup_id, name) == content
        assert [entry["backupId"] for entry in repository.list(name)] == [backup_id]
    assert len(repository.usage()) == 3


def test_asking_again_for_the_same_operation_uploads_nothing(store: MemoryStore, tmp_path: Path) -> None:
    source = make(tmp_path / "source", 100, 10)
    first = backup(store, source, operation_id="uid", meta={"trigger": "Manual"})
    touch(source, [1, 2, 3])
    fresh = store.view()
    again = backup(fresh, source, operation_id="uid")
    assert (again.backup_id, again.root_hash) == (first.backup_id, first.root_hash)
    assert "put" not in counted(fresh)
    assert "create" not in counted(fresh)
    assert Repository.open(store).show("v")["meta"] == {"trigger": "Manual"}
