"""What older commits knew: read, restored from, and never more than read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from blockvault.engine import BackupNotFound, CommitNotFound, KeyRing, Repository, StoredDataDamaged, VaultKey
from blockvault.engine.errors import TwoWriters, VolumeNotFound
from blockvault.stores import BlockvaultError
from tests.unit.engine import support
from tests.unit.engine.support import MemoryStore, backup, noise, opened, restored, state_of

pytestmark = pytest.mark.usefixtures("small")


def made(store: MemoryStore, folder: Path, count: int = 2) -> dict[str, bytes]:
    """Backups of a volume that changes a bit, and their contents."""
    contents = {}
    data = bytearray(noise(20))
    for number in range(count):
        data[number * 4096 : number * 4096 + 9] = b"increment"
        (folder / "source").write_bytes(data)
        contents[backup(store, folder / "source").backup_id] = bytes(data)
    return contents


def past(store: MemoryStore, folder: Path, backup_id: str, commit: int) -> bytes:
    target = folder / "past"
    target.unlink(missing_ok=True)
    result = opened(store).restore("v", str(target), backup_id, commit=commit)
    assert result.unpinned == f"it is read as commit {commit} had it"
    return target.read_bytes()


def commits(store: MemoryStore) -> list[tuple[int, str, int]]:
    failed: list[tuple[str, BlockvaultError]] = []
    rows = opened(store).commits("v", failed=lambda key, error: failed.append((key, error)))
    assert failed == []
    return [(row["number"], row["action"], row["backups"]) for row in rows]


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_deleted_backup_is_restored_until_it_is_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(32))) if encrypted else KeyRing())
    store = MemoryStore()
    Repository.init(store, support.RING)
    contents = made(store, tmp_path)
    before = state_of(store).number
    for backup_id in contents:
        opened(store).delete("v", backup_id)
    assert opened(store).list("v") == []
    objects = dict(store.objects)
    assert [row["backupId"] for row in opened(store).list("v", commit=before)] == list(contents)
    assert opened(store).show("v", commit=before)["backupId"] == list(contents)[-1]
    for backup_id, content in contents.items():
        assert past(store, tmp_path, backup_id, before) == content
    (first, *_) = contents
    assert past(store, tmp_path, first, 2) == contents[first]
    with pytest.raises(BackupNotFound):
        past(store, tmp_path, list(contents)[-1], 2)
    assert store.objects == objects, "nothing is written"
    opened(store).collect("v")
    with pytest.raises(StoredDataDamaged) as caught:
        past(store, tmp_path, first, before)
    assert f"as commit {before} named it" in str(caught.value)
    assert "Try another" in caught.value.remedy


def test_commits_are_listed(store: MemoryStore, tmp_path: Path) -> None:
    first, _ = made(store, tmp_path)
    opened(store).delete("v", first, keep_seconds=99)
    found = commits(store)
    assert found == [(1, "begin", 0), (2, "backup", 1), (3, "begin", 1), (4, "backup", 2), (5, "trash", 1)]


def test_numbers_that_are_not_there(store: MemoryStore, tmp_path: Path) -> None:
    """Never made, or trimmed."""
    (first,) = made(store, tmp_path, 1)
    for number in range(140):
        (
            opened(store).undelete("v", first)
            if number % 2
            else opened(store).delete("v", first, keep_seconds=99)
        )
    newest = state_of(store).number
    opened(store).collect("v")
    numbers = [number for number, _, _ in commits(store)]
    assert numbers[0] == 64
    assert numbers[-1] >= newest
    for number in (63, newest + 99):
        with pytest.raises(CommitNotFound, match=f"'v' has no commit {number}"):
            opened(store).list("v", commit=number)
    with pytest.raises(VolumeNotFound):
        opened(store).list("w", commit=1)
    assert past(store, tmp_path, first, 64) == restored(store, tmp_path, first)


def test_a_spoiled_newest_commit_is_in_no_way(store: MemoryStore, tmp_path: Path) -> None:
    """Somebody without the key stores bytes under the next number: what was before is still to be had."""
    contents = made(store, tmp_path)
    lineage, number = state_of(store).lineage, state_of(store).number
    spoiled = f"lineages/{lineage}/commits/{number + 1:016}"
    store.objects[spoiled] = random.Random(1).randbytes(500)
    with pytest.raises(StoredDataDamaged):
        opened(store).list("v")
    for backup_id, content in contents.items():
        assert past(store, tmp_path, backup_id, number) == content
    failed: list[str] = []
    rows = opened(store).commits("v", failed=lambda key, error: failed.append(key))
    assert [row["number"] for row in rows] == list(range(1, number + 1))
    assert failed == [spoiled]


def test_a_volume_that_was_deleted_as_a_whole_and_begun_anew(store: MemoryStore, tmp_path: Path) -> None:
    """Its commits count anew: a number that only the former lineage has is of that one."""
    contents = made(store, tmp_path, 3)
    before = state_of(store).number
    opened(store).delete_volume("v")
    assert [row["backupId"] for row in opened(store).list("v", commit=before)] == list(contents)
    assert opened(store).list("v", commit=before + 1) == []
    (tmp_path / "source").write_bytes(noise(3))
    fresh = backup(store, tmp_path / "source").backup_id
    assert [row["backupId"] for row in opened(store).list("v", commit=2)] == [fresh]
    for backup_id, content in contents.items():
        assert past(store, tmp_path, backup_id, before) == content


def test_two_commits_of_one_number_are_refused(tmp_path: Path) -> None:
    """In a store for one writer: which of the two is meant is not known."""
    store = MemoryStore()
    Repository.init(store, single_writer=True)
    contents = made(store, tmp_path)
    number = state_of(store).number
    for backup_id, content in contents.items():
        assert past(store, tmp_path, backup_id, number) == content
    (key,) = (key for key in store.objects if f"/commits/{number:016}-" in key)
    store.objects[f"{key[:-16]}{'0' * 16}"] = store.objects[key]
    with pytest.raises(TwoWriters):
        opened(store).list("v", commit=number)
    assert len(opened(store).list("v", commit=number - 1)) == 1
