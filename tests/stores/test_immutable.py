"""Locked backups against somebody who has the credentials that made them, on a real Ceph gateway and on moto."""

from __future__ import annotations

import random
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import BackupRequest, KeyRing, Repository, VaultKey, runtime
from blockvault.engine.doctor import examine
from blockvault.engine.locks import BackupLock
from blockvault.stores import ObjectLock, ObjectNotFound, StoreLocation, StoreRefused
from blockvault.stores.s3 import S3Store
from tests.stores.test_object_lock import LOCKED, VERSIONED, server  # noqa: F401

RING = KeyRing(VaultKey(bytes(range(32))))
DAYS = ObjectLock("Governance", 2)


@pytest.fixture
def place(server: tuple[Any, StoreLocation]) -> StoreLocation:  # noqa: F811
    return replace(server[1], url=f"s3://{LOCKED}/immutable-{secrets.token_hex(6)}", object_lock=None)


@pytest.fixture
def client(server: tuple[Any, StoreLocation]) -> Any:  # noqa: F811
    return server[0]


def opened(place: StoreLocation) -> Repository:
    """As whoever makes backups opens it: only the store's record says that there are locks."""
    return Repository.open(S3Store(place, retry_seconds=5), RING)


def versions(client: Any, place: StoreLocation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for page in client.get_paginator("list_object_versions").paginate(
        Bucket=LOCKED, Prefix=place.prefix + "/"
    ):
        found += page.get("Versions", [])
    return found


def backups(place: StoreLocation, folder: Path, count: int) -> list[tuple[str, bytes]]:
    """(id, content) of each of so many backups of a volume that changes a bit."""
    content, made = bytearray(random.Random(3).randbytes(1 << 20)), []
    for number in range(count):
        content[number * 4096 : number * 4096 + 9] = b"increment"
        (folder / "source").write_bytes(content)
        result = opened(place).backup(BackupRequest(str(folder / "source"), "v"))
        assert result.type == ("incremental" if number else "full")
        made.append((result.backup_id, bytes(content)))
    return made


def check(place: StoreLocation, folder: Path, made: list[tuple[str, bytes]]) -> None:
    """Each backup restores to its bytes, and all of it verifies."""
    repository = opened(place)
    assert [row["backupId"] for row in repository.list()] == [backup_id for backup_id, _ in made]
    for backup_id, content in made:
        repository.restore("v", str(folder / "target"), backup_id, force=True)
        assert (folder / "target").read_bytes() == content
    assert opened(place).verify()["ok"]


def test_what_stolen_credentials_do_changes_nothing(
    client: Any, place: StoreLocation, tmp_path: Path
) -> None:
    """They delete every version, hide every object below a marker, and store others over all of them."""
    Repository.init(S3Store(place, retry_seconds=5), RING, lock=DAYS)
    made = backups(place, tmp_path, 3)
    before = versions(client, place)
    kept = {(each["Key"], each["VersionId"]) for each in before if "/canary/" not in each["Key"]}
    for each in before:
        with pytest.raises(client.exceptions.ClientError):
            client.delete_object(Bucket=LOCKED, Key=each["Key"], VersionId=each["VersionId"])
    for number, each in enumerate(before):
        metadata = {"blockvault-created": "1"} if number % 2 else {}
        client.put_object(Bucket=LOCKED, Key=each["Key"], Body=b"gone for ransom", Metadata=metadata)
        if number % 3:
            client.delete_object(Bucket=LOCKED, Key=each["Key"])
    assert kept <= {(each["Key"], each["VersionId"]) for each in versions(client, place)}
    check(place, tmp_path, made)
    # And backups go on, incremental ones, on what is below.
    (tmp_path / "source").write_bytes(made[-1][1][::-1])
    result = opened(place).backup(BackupRequest(str(tmp_path / "source"), "v"))
    assert result.type == "incremental"
    check(place, tmp_path, [*made, (result.backup_id, made[-1][1][::-1])])


def test_what_the_key_takes_out_of_the_catalogue_is_still_restored(
    place: StoreLocation, tmp_path: Path
) -> None:
    """Somebody who has the key too deletes backups, the volume, and collects: the commits before lead to all of it."""
    Repository.init(S3Store(place, retry_seconds=5), RING, lock=DAYS)
    made = backups(place, tmp_path, 3)
    before = opened(place).usage()[0]["commit"]
    thief = opened(place)
    assert all(thief.delete("v", backup_id) for backup_id, _ in made)
    (done,) = thief.collect()
    assert (done.deleted_objects, done.locked_objects > 0) == (0, True)
    assert thief.delete_volume("v")
    (done,) = thief.collect()
    assert done.deleted_objects == 0
    repository = opened(place)
    assert repository.list() == []
    assert [row["backupId"] for row in repository.list("v", commit=before)] == [each for each, _ in made]
    for backup_id, content in made:
        target = tmp_path / backup_id
        repository.restore("v", str(target), backup_id, commit=before)
        assert target.read_bytes() == content


def test_what_is_inherited_is_extended_and_collected_when_it_may(
    place: StoreLocation, tmp_path: Path
) -> None:
    """By a clock that is set ahead for the engine: what was locked in the past is extended for a backup of today."""
    Repository.init(S3Store(place, retry_seconds=5), RING, lock=DAYS)
    made = backups(place, tmp_path, 2)
    store = opened(place).store
    keys = [info.key for info in store.list("lineages/") if "/commits/" not in info.key]
    ends = [store.lock_until(key) for key in keys]
    later = datetime.now(UTC) + timedelta(days=3)
    with runtime.use(runtime.Runtime(wall=later.timestamp)):
        repository = opened(place)
        repository.store._wall = later.timestamp  # type: ignore[attr-defined]
        result = repository.backup(BackupRequest(str(tmp_path / "source"), "v"))
        assert [
            check["detail"]
            for check in examine(S3Store(place, retry_seconds=5), RING)
            if check["level"] == "fail"
        ] == []
    moved = [store.lock_until(key) for key in keys]
    assert all(
        old is not None and new is not None and new > old for old, new in zip(ends, moved, strict=True)
    )
    assert min(end for end in moved if end is not None) >= later + timedelta(days=2)
    assert result.locked_until is not None
    # Deleted, what only they need waits for the end of its lock, and fails no collect.
    repository = opened(place)
    for backup_id, _ in made:
        assert repository.delete("v", backup_id)
    (done,) = repository.collect()
    assert (done.deleted_objects, done.warnings) == (0, [])
    assert done.locked_objects > 0
    assert repository.usage()[0]["lockedBytes"] == done.locked_bytes
    requests = repository.store.traffic.requests["head"]
    (again,) = repository.collect()
    assert again.locked_objects == done.locked_objects
    assert repository.store.traffic.requests["head"] == requests  # nothing is asked for twice


def test_doctor_sees_a_lock_that_is_missing(
    place: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Repository.init(S3Store(place, retry_seconds=5), RING, lock=DAYS)
    with monkeypatch.context() as patch:
        patch.setattr(S3Store, "lock_new", lambda self, lock: None)
        patch.setattr(BackupLock, "_move", lambda self, keys, until: None)
        backups(place, tmp_path, 1)
    found = examine(S3Store(place, retry_seconds=5), RING)
    assert [(c["check"], c["exitCode"]) for c in found if c["level"] == "fail"] == [("volume v", 65)]
    assert any("it is not locked" in check["detail"] for check in found)


def test_a_bucket_without_object_lock_is_refused(server: tuple[Any, StoreLocation]) -> None:  # noqa: F811
    place = replace(server[1], url=f"s3://{VERSIONED}/immutable-{secrets.token_hex(6)}")
    store = S3Store(place, retry_seconds=5)
    with pytest.raises(StoreRefused, match="made without object lock"):
        Repository.init(store, lock=DAYS)
    with pytest.raises(ObjectNotFound):
        store.get("blockvault")
