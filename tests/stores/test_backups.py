"""The engine on every store: two volumes, three backups, a deletion, restores."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository
from blockvault.stores import ObjectStore, StoreLocation, open_store

MIB = 1 << 20


def test_backups_and_restores(store: ObjectStore, location: StoreLocation, tmp_path: Path) -> None:
    Repository.init(store)
    source = tmp_path / "volume"
    source.write_bytes(random.Random(1).randbytes(40 * MIB) + bytes(10 * MIB) + b"text" * MIB)
    contents = {}

    def take(volume: str) -> str:
        # Opened anew each time, as another process would.
        repository = Repository.open(open_store(location, retry_seconds=5))
        result = repository.backup(BackupRequest(str(source), volume))
        contents[result.backup_id] = (volume, source.read_bytes())
        return result.backup_id

    first = take("ns/a")
    take("ns/b")
    with open(source, "r+b") as file:
        file.seek(20 * MIB)
        file.write(b"changed")
        file.truncate(60 * MIB)
    take("ns/a")
    repository = Repository.open(store)
    assert repository.delete("ns/a", first)
    del contents[first]
    assert [volume["backups"] for volume in repository.usage()] == [1, 1]
    for number, (backup_id, (volume, content)) in enumerate(contents.items()):
        target = tmp_path / f"target-{number}"
        repository.restore(volume, str(target), backup_id)
        assert target.read_bytes() == content


@pytest.mark.parametrize("location", ["moto"], indirect=True)
def test_a_place_that_is_moved_stays_readable(
    store: ObjectStore, location: StoreLocation, tmp_path: Path
) -> None:
    """Keys are relative: copied from S3 to a directory, a store is the same store (A13)."""
    Repository.init(store)
    source = tmp_path / "volume"
    source.write_bytes(b"moved" * MIB)
    made = Repository.open(store).backup(BackupRequest(str(source), "v"))
    copy = open_store(StoreLocation(f"file://{tmp_path}/copy"), make=True)
    for info in store.list(""):
        copy.put(info.key, store.get(info.key))
    Repository.open(copy).restore("v", str(tmp_path / "target"), made.backup_id)
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
