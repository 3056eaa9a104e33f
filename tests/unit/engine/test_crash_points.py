"""Each operation is killed before and after each of its requests; then the invariants must hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import ChangedList, Repository
from tests.unit.engine.support import Crash, CrashingStore, MemoryStore, backup, check_usage, restored

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096


def volume(path: Path, blocks: int, salt: int) -> Path:
    path.write_bytes(b"".join(bytes([salt, i % 256] * (BLOCK // 2)) for i in range(blocks)))
    return path


def requests_of(objects: dict[str, bytes], work: object) -> int:
    """How many requests an operation makes when nothing happens to it."""
    store = MemoryStore(dict(objects))
    work(store)  # type: ignore[operator]
    return store.calls


@pytest.mark.parametrize("mode", ["first", "compare", "list", "full"])
def test_backup(tmp_path: Path, mode: str) -> None:
    objects: dict[str, bytes] = {}
    Repository.init(MemoryStore(objects))
    source = volume(tmp_path / "source", 30, 1)
    before: dict[str, bytes] = {}
    if mode != "first":
        made = backup(MemoryStore(objects), source, operation_id="earlier")
        before[made.backup_id] = source.read_bytes()
        volume(source, 20, 2)
        with open(source, "r+b") as file:
            file.truncate(40 * BLOCK)
    options: dict[str, object] = {"operation_id": "op", "full": mode == "full"}
    if mode == "list":
        options["changed"] = ChangedList([(0, 30 * BLOCK)])
    total = requests_of(objects, lambda store: backup(store, source, **options))
    assert total > 10
    committed = 0
    for at in range(1, total + 1):
        for after in (False, True):
            copy = dict(objects)
            with pytest.raises(Crash):
                backup(CrashingStore(copy, at, after=after), source, **options)
            for backup_id, content in before.items():
                assert restored(MemoryStore(copy), tmp_path, backup_id) == content
            made_it = Repository.open(MemoryStore(copy)).find_operation("v", "op")
            committed += made_it is not None
            again = backup(MemoryStore(copy), source, **options)
            if made_it is not None:
                assert again == made_it
            assert restored(MemoryStore(copy), tmp_path, again.backup_id) == source.read_bytes()
            assert len(Repository.open(MemoryStore(copy)).list("v")) == len(before) + 1
            check_usage(MemoryStore(copy))
    # The commit is one moment: everything before it leaves nothing, everything from it on leaves the backup.
    assert 0 < committed < 2 * total


def test_delete(tmp_path: Path) -> None:
    objects: dict[str, bytes] = {}
    Repository.init(MemoryStore(objects))
    contents = {}
    for salt in (1, 2, 3):
        source = volume(tmp_path / "source", 10 + salt, salt)
        contents[backup(MemoryStore(objects), source).backup_id] = source.read_bytes()
    victim = list(contents)[1]
    total = requests_of(objects, lambda store: Repository.open(store).delete("v", victim))
    gone = set()
    for at in range(1, total + 1):
        for after in (False, True):
            copy = dict(objects)
            with pytest.raises(Crash):
                Repository.open(CrashingStore(copy, at, after=after)).delete("v", victim)
            found = {entry["backupId"] for entry in Repository.open(MemoryStore(copy)).list("v")}
            assert found in ({*contents}, {*contents} - {victim})
            gone.add(victim not in found)
            Repository.open(MemoryStore(copy)).delete("v", victim)
            for backup_id in {*contents} - {victim}:
                assert restored(MemoryStore(copy), tmp_path, backup_id) == contents[backup_id]
            check_usage(MemoryStore(copy))
    assert gone == {True, False}
