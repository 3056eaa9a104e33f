"""Buckets that keep versions, and locks on them, on a real Ceph gateway and on moto (F13: immutable backups)."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from blockvault.engine import BackupRequest, Repository, check_store
from blockvault.stores import (
    AlreadyExists,
    BadLocation,
    ObjectLock,
    ObjectLocked,
    ObjectNotFound,
    StoreLocation,
    StoreRefused,
    open_store,
)
from blockvault.stores.base import UNLOCKED
from blockvault.stores.s3 import S3Store
from blockvault.stores.s3_versions import Lock
from tests.stores.conftest import BUCKET, KEYS, in_gateway
from tests.stores.faulty_server import LOSE_ANSWER, FaultyServer

LOCKED, VERSIONED = "conformance-locked", "conformance-versions"
COMPLIANCE = ObjectLock("Compliance", 1)


@pytest.fixture(scope="module", params=["moto", "rgw"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Any, StoreLocation]]:
    """A boto3 client and a location there, with one bucket with object lock and one that only keeps versions."""
    if request.param == "rgw":
        gateway = request.getfixturevalue("rgw")
        place, client = in_gateway(gateway), gateway.client()
    else:
        endpoint = request.getfixturevalue("moto_endpoint")
        place = StoreLocation(f"s3://{BUCKET}/x", endpoint=endpoint, credentials=KEYS)
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            aws_access_key_id=KEYS.access_key, aws_secret_access_key=KEYS.secret_key,
        )  # fmt: skip
    client.create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
    client.create_bucket(Bucket=VERSIONED)
    client.put_bucket_versioning(Bucket=VERSIONED, VersioningConfiguration={"Status": "Enabled"})
    yield client, place
    with ThreadPoolExecutor(8) as pool:
        versions = client.list_object_versions(Bucket=VERSIONED).get("Versions", [])
        list(
            pool.map(
                lambda v: client.delete_object(Bucket=VERSIONED, Key=v["Key"], VersionId=v["VersionId"]),
                versions,
            )
        )


def opened(
    server: tuple[Any, StoreLocation], bucket: str, lock: ObjectLock | None = None, **options: Any
) -> S3Store:
    url = f"s3://{bucket}/test-{secrets.token_hex(6)}"
    return S3Store(replace(server[1], url=url, object_lock=lock), retry_seconds=5, **options)


@pytest.fixture
def locked(server: tuple[Any, StoreLocation]) -> S3Store:
    return opened(server, LOCKED, COMPLIANCE)


@pytest.fixture(params=["locked", "versions only"])
def keeping(request: pytest.FixtureRequest, server: tuple[Any, StoreLocation]) -> S3Store:
    """Both kinds of buckets that keep versions."""
    if request.param == "locked":
        return opened(server, LOCKED, COMPLIANCE)
    return opened(server, VERSIONED)


def versions(store: S3Store, key: str) -> list[str]:
    return store._versions.of(store._prefix + key).versions


@pytest.mark.parametrize("mode", ["Governance", "Compliance"])
def test_what_is_locked_cannot_be_deleted(server: tuple[Any, StoreLocation], mode: Any) -> None:
    store = opened(server, LOCKED, ObjectLock(mode, 1))
    store.put("segment", b"data")
    store.create("commit", b"state")
    for key, data in (("segment", b"data"), ("commit", b"state")):
        end = store.lock_until(key)
        assert end is not None
        assert timedelta(hours=23) < end - datetime.now(UTC) <= timedelta(days=1, seconds=1)
        with pytest.raises(ObjectLocked, match=f"{key}: locked until 20"):
            store.delete([key])
        assert store.get(key) == data
    assert {info.key for info in store.list("")} == {"segment", "commit"}


def test_after_its_time_it_can(server: tuple[Any, StoreLocation], locked: S3Store) -> None:
    plain = S3Store(replace(locked._location, object_lock=None), retry_seconds=5)
    plain.put("short", b"data")
    end = datetime.now(UTC) + timedelta(seconds=10)  # a busy machine needs some for the next requests
    locked._versions.set_lock(locked._prefix + "short", versions(locked, "short")[0], Lock("Compliance", end))
    with pytest.raises(ObjectLocked):
        plain.delete(["short"])
    time.sleep((end - datetime.now(UTC)).total_seconds() + 1)
    plain.delete(["short"])
    with pytest.raises(ObjectNotFound):
        locked.get("short")
    assert versions(locked, "short") == []


def test_what_is_not_locked_goes_although_others_are(locked: S3Store) -> None:
    plain = S3Store(replace(locked._location, object_lock=None), retry_seconds=5)
    locked.put("a", b"1")
    plain.put("b", b"2")
    with pytest.raises(ObjectLocked, match="1 of 2 objects"):
        locked.delete(["a", "b"])
    assert [info.key for info in locked.list("")] == ["a"]


def test_locks_move_forward_only(locked: S3Store) -> None:
    locked.put("a", b"1")
    locked.create("b", b"2")
    first = locked.lock_until("a")
    assert first is not None
    later = datetime.now(UTC) + timedelta(days=3, microseconds=5)
    locked.extend_lock(["a", "b"], later)
    moved = [locked.lock_until("a"), locked.lock_until("b")]
    assert all(end is not None and timedelta(0) <= end - later < timedelta(seconds=1) for end in moved)
    puts = locked.requests["put"]
    locked.extend_lock(["a", "b"], first)
    locked.extend_lock(["a", "b"], later)
    assert [locked.lock_until("a"), locked.lock_until("b")] == moved
    assert locked.requests["put"] == puts


def test_many_locks_are_moved_by_few_requests(locked: S3Store) -> None:
    """A listing for all, one request each to look, one each to move; none of what lies between is touched."""
    keys = [f"many/{number:03d}" for number in range(40)]
    for key in keys:
        locked.put(key, b"1")
    before = dict(locked.requests)
    until = datetime.now(UTC) + timedelta(days=4)
    locked.extend_lock((key for key in keys if key != "many/020"), until)
    made = {kind: count - before.get(kind, 0) for kind, count in locked.requests.items()}
    # moto leaves out the first key past a marker, so that it is asked for by itself.
    assert made in ({"list": 1, "head": 39, "put": 39}, {"list": 2, "head": 39, "put": 39})
    ends = [locked.lock_until(key) for key in keys]
    assert [end is not None and end >= until.replace(microsecond=0) for end in ends] == [
        key != "many/020" for key in keys
    ]


def test_what_is_stored_over_data_is_not_read(locked: S3Store) -> None:
    """Data objects have no metadata that tells: of all keys the first version counts, and is what a listing shows."""
    locked.put("segment", b"ours")
    client, path = locked._versions._client, locked._prefix + "segment"
    client.put_object(Bucket=LOCKED, Key=path, Body=b"theirs, and longer")
    fresh = S3Store(locked._location, retry_seconds=5)
    assert fresh.get("segment", 1, 2) == b"ur"
    assert [info.size for info in fresh.list("")] == [4]
    assert fresh.stat("segment").size == 4
    client.delete_object(Bucket=LOCKED, Key=path)
    assert [info.key for info in fresh.list("seg")] == ["segment"]
    with pytest.raises(ObjectNotFound):
        fresh.stat("seg")


def test_a_listing_of_versions_goes_on_after_a_page(locked: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the versions of one key are on two pages."""
    for number in range(3):
        locked.put("a", b"%d" % number)
        locked.put("b", b"%d" % number)
    client = locked._versions._client
    whole = client.list_object_versions
    monkeypatch.setattr(client, "list_object_versions", lambda **given: whole(MaxKeys=2, **given))
    assert [info.key for info in locked.list("")] == ["a", "b"]
    assert (locked.get("a"), locked.get("b")) == (b"0", b"0")
    assert locked._firsts.version("b") == versions(locked, "b")[-1]


def test_an_unlocked_object_can_be_locked_later(locked: S3Store) -> None:
    S3Store(replace(locked._location, object_lock=None)).put("a", b"1")
    assert locked.lock_until("a") is None
    locked.extend_lock(["a"], datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(ObjectLocked):
        locked.delete(["a"])


def test_locks_of_what_is_not_there(locked: S3Store) -> None:
    with pytest.raises(ObjectNotFound):
        locked.lock_until("nothing")
    with pytest.raises(ObjectNotFound):
        locked.extend_lock(["nothing"], datetime.now(UTC))


def test_a_lock_is_extended_below_what_somebody_stored_over_it(locked: S3Store) -> None:
    """Stolen credentials may store another version, or a delete marker, and wait for the lock's end."""
    locked.put("a", b"ours")
    path = locked._prefix + "a"
    locked._versions._client.put_object(Bucket=LOCKED, Key=path, Body=b"theirs")
    locked._versions._client.delete_object(Bucket=LOCKED, Key=path)
    until = datetime.now(UTC) + timedelta(days=9)
    locked.extend_lock(["a"], until)
    lock = locked._versions.lock(path, versions(locked, "a")[-1])
    assert lock is not None
    assert lock.until >= until.replace(microsecond=0)


def test_canaries_are_not_locked(locked: S3Store) -> None:
    check_store(locked)
    assert versions(locked, UNLOCKED) == []
    assert list(locked.list("")) == []


def test_a_bucket_without_object_lock_is_refused_with_words(server: tuple[Any, StoreLocation]) -> None:
    store = opened(server, VERSIONED, COMPLIANCE)
    with pytest.raises(StoreRefused) as caught:
        store.put("a", b"1")
    assert "made with object lock enabled" in caught.value.remedy


def test_creation_is_exclusive(keeping: S3Store) -> None:
    """Ceph 16 applies the condition to the version that is made: only the order of versions tells the winner."""
    start = threading.Barrier(8)

    def attempt(race: int, number: int) -> bool:
        start.wait(60)
        try:
            keeping.create(f"race/{race}", b"%d" % number)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for race in range(12):
            won = list(pool.map(attempt, [race] * 8, range(8)))
            assert won.count(True) == 1
            assert keeping.get(f"race/{race}") == b"%d" % won.index(True)
            assert keeping.get(f"race/{race}", 0, 1) == b"%d" % won.index(True)


def test_a_created_object_is_the_first_one_for_ever(keeping: S3Store) -> None:
    """Neither a later version nor a delete marker frees the name, or changes what readers get."""
    keeping.create("commit", b"first")
    with pytest.raises(AlreadyExists):
        keeping.create("commit", b"second")
    keeping.create("commit", b"first")  # our own repetition
    path, client = keeping._prefix + "commit", keeping._versions._client
    client.delete_object(Bucket=keeping._location.bucket, Key=path)
    with pytest.raises(AlreadyExists):
        keeping.create("commit", b"third")


def test_a_delete_marker_hides_nothing_that_is_locked(locked: S3Store) -> None:
    locked.create("commit", b"first")
    locked.put("segment", b"data")
    for key in ("commit", "segment"):
        locked._versions._client.delete_object(Bucket=LOCKED, Key=locked._prefix + key)
    assert locked.get("commit") == b"first"
    assert locked.get("segment", 1, 2) == b"at"
    with pytest.raises(ObjectNotFound):
        locked.get("absent")


def test_a_loser_that_cannot_clean_up_is_not_read(
    server: tuple[Any, StoreLocation], keeping: S3Store
) -> None:
    """It died between storing its version and looking whether it was the first."""
    keeping.create("commit", b"first")
    path, client = keeping._prefix + "commit", keeping._versions._client
    client.put_object(
        Bucket=keeping._location.bucket, Key=path, Body=b"loser's", Metadata={"blockvault-created": "1"}
    )
    assert keeping.get("commit") == b"first"
    assert keeping.get("commit", 1, 3) == b"irs"


@pytest.mark.parametrize("action", [LOSE_ANSWER, 500])
def test_a_creation_in_doubt_is_ours_exactly_once(
    server: tuple[Any, StoreLocation], keeping: S3Store, action: Any
) -> None:
    seen: list[str] = []

    def plan(method: str, path: str, number: int) -> str | int | None:
        if method == "PUT" and not seen:
            seen.append(path)
            return action
        return None

    proxy = FaultyServer(keeping._location.endpoint or "", plan)
    try:
        store = S3Store(replace(keeping._location, endpoint=proxy.endpoint), retry_seconds=5)
        store.create("commit", b"mine")
        with pytest.raises(AlreadyExists):
            store.create("commit", b"theirs")
        assert keeping.get("commit") == b"mine"
        assert seen
    finally:
        proxy.close()


def test_backups_are_immutable_and_yet_incremental(locked: S3Store, tmp_path: Path) -> None:
    """The engine on a locked store: what it has stored stays, and its next backups build on it."""
    Repository.init(locked)
    source, target = tmp_path / "source", tmp_path / "target"
    content = bytearray(random.Random(3).randbytes(3 << 20))
    made = []
    for number in range(3):
        content[number * 4096 : number * 4096 + 9] = b"increment"
        source.write_bytes(content)
        repository = Repository.open(S3Store(locked._location, retry_seconds=5))
        made.append((repository.backup(BackupRequest(str(source), "v")), bytes(content)))
    assert [result.type for result, _ in made] == ["full", "incremental", "incremental"]
    assert made[1][0].bytes_stored < 1 << 20
    keys = [info.key for info in locked.list("")]
    assert all(locked.lock_until(key) is not None for key in keys)
    with pytest.raises(ObjectLocked, match=f"{len(keys)} of {len(keys)} objects"):
        locked.delete(keys)
    for result, then in made:
        Repository.open(locked).restore("v", str(target), result.backup_id)
        assert target.read_bytes() == then
        target.unlink()


def test_deletion_leaves_no_version_and_no_marker(server: tuple[Any, StoreLocation]) -> None:
    store = opened(server, VERSIONED)
    for text in (b"1", b"2", b"3"):
        store.put("a", text)
    store.put("ab", b"other")
    client = server[0]
    client.delete_object(Bucket=VERSIONED, Key=store._prefix + "a")
    store.delete(["a", "absent"])
    left = client.list_object_versions(Bucket=VERSIONED, Prefix=store._prefix)
    assert [v["Key"].rpartition("/")[2] for v in left["Versions"]] == ["ab"]
    assert "DeleteMarkers" not in left


def test_versioning_that_begins_later_is_noticed(server: tuple[Any, StoreLocation]) -> None:
    client, bucket = server[0], f"later-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=bucket)
    store = opened(server, bucket)
    store.create("a", b"1")
    assert store.requests == {"create": 1}
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    store.create("b", b"1")
    with pytest.raises(AlreadyExists):
        store.create("b", b"2")
    store.delete(["a", "b"])
    assert "Versions" not in client.list_object_versions(Bucket=bucket)


def test_ids_without_versions_are_no_versions(moto_endpoint: str) -> None:
    """As Garage has it: every answer names a version, and none is kept."""
    place = StoreLocation(
        f"s3://{BUCKET}/ids-{secrets.token_hex(4)}", endpoint=moto_endpoint, credentials=KEYS
    )
    proxy = FaultyServer(moto_endpoint, lambda *_: None, add={"x-amz-version-id": "0123"})
    try:
        store = S3Store(replace(place, endpoint=proxy.endpoint), retry_seconds=5)
        store.create("a", b"1")
        assert store.get("a") == b"1"
        with pytest.raises(AlreadyExists):
            store.create("a", b"2")
        store.delete(["a"])
        assert list(store.list("")) == []
        assert store.requests["head"] == 1
    finally:
        proxy.close()


def test_a_lock_needs_words_that_fit() -> None:
    for wrong in (("Strict", 1), ("Compliance", 0)):
        with pytest.raises(BadLocation):
            ObjectLock(*wrong)  # type: ignore[arg-type]
    with pytest.raises(BadLocation, match="directory has no object lock"):
        StoreLocation("file:///x", object_lock=COMPLIANCE)
    location = StoreLocation("s3://b/p", object_lock=COMPLIANCE)
    assert StoreLocation.from_dict(location.to_dict()) == location


def test_stores_without_locks_say_so(tmp_path: Any, server: tuple[Any, StoreLocation]) -> None:
    directory = open_store(StoreLocation(f"file://{tmp_path}"))
    directory.put("a", b"")
    assert directory.lock_until("a") is None
    with pytest.raises(ObjectNotFound):
        directory.lock_until("b")
    for store in (directory, opened(server, VERSIONED)):
        with pytest.raises(StoreRefused, match="object lock"):
            store.extend_lock(["a"], datetime.now(UTC))
