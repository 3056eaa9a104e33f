"""What the engine relies on, of every store (F16: a directory as well as S3)."""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from blockvault.engine import Repository, check_store
from blockvault.stores import AlreadyExists, ObjectNotFound, ObjectStore, StoreLocation, open_store


def test_what_is_put_comes_back(store: ObjectStore) -> None:
    data = secrets.token_bytes(100_000)
    store.put("a/b/c", data)
    assert store.get("a/b/c") == data
    assert store.stat("a/b/c").size == len(data)


def test_any_buffer_can_be_put(store: ObjectStore) -> None:
    store.put("array", bytearray(b"0123"))
    store.put("view", memoryview(b"x0123x")[1:5])
    assert store.get("array") == store.get("view") == b"0123"


@pytest.mark.parametrize(
    ("start", "length", "wanted"),
    [
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (8, 2, b"89"),
        (8, 100, b"89"),
        (4, None, b"456789"),
        (2, 0, b""),
        (10, 5, b""),
        (30, 5, b""),
        (30, None, b""),
    ],
)
def test_ranges(store: ObjectStore, start: int, length: int | None, wanted: bytes) -> None:
    store.put("range", b"0123456789")
    assert store.get("range", start, length) == wanted


def test_absence_is_a_clean_answer(store: ObjectStore) -> None:
    for call in (
        lambda: store.get("nothing"),
        lambda: store.get("nothing", 2, 5),
        lambda: store.stat("nothing"),
    ):
        with pytest.raises(ObjectNotFound):
            call()


def test_creation_is_exclusive(store: ObjectStore) -> None:
    store.create("once", b"first")
    with pytest.raises(AlreadyExists):
        store.create("once", b"second")
    assert store.get("once") == b"first"


def test_creating_the_same_bytes_again_is_our_own_repetition(store: ObjectStore) -> None:
    store.create("once", b"unique bytes of ours")
    store.create("once", b"unique bytes of ours")


def test_one_of_many_creators_wins(store: ObjectStore) -> None:
    """Fifty races of eight writers that start together: one winner each, whose bytes are there."""
    start = threading.Barrier(8)

    def attempt(race: int, number: int) -> bool:
        start.wait(60)
        try:
            store.create(f"race/{race}", b"%d" % number)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for race in range(50):
            won = list(pool.map(attempt, [race] * 8, range(8)))
            assert won.count(True) == 1
            assert store.get(f"race/{race}") == b"%d" % won.index(True)


def test_listing_by_prefix(store: ObjectStore) -> None:
    for key in ("l/one", "l/two/three", "l/two-x", "m/one", "lx"):
        store.put(key, b"12345")
    assert {info.key for info in store.list("l/")} == {"l/one", "l/two/three", "l/two-x"}
    assert {info.key for info in store.list("l/two")} == {"l/two/three", "l/two-x"}
    assert {info.key for info in store.list("")} >= {"m/one", "lx"}
    assert {info.size for info in store.list("l/")} == {5}
    assert list(store.list("absent/")) == []


def test_folders(store: ObjectStore) -> None:
    for key in ("f/a/one", "f/a/two", "f/a/b/c", "f/ab/one", "f/file", "fa/b/one"):
        store.put(key, b"12345")
    assert store.folders("f/") == {"a", "ab"}
    assert store.folders("f/a/") == {"b"}
    assert store.folders("") >= {"f", "fa"}
    assert store.folders("absent/") == set()


def test_listing_has_no_end_at_a_thousand(location: StoreLocation) -> None:
    store = open_store(location, retry_seconds=5)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.put(f"many/{i:05d}", b""), range(1005)))
    assert len(list(store.list("many/"))) == 1005
    store.delete(f"many/{i:05d}" for i in range(1005))
    assert list(store.list("many/")) == []


def test_a_tag_tells_versions_apart(store: ObjectStore) -> None:
    store.put("t/a", b"one")
    store.put("t/b", b"two")
    listed = {info.key: info for info in store.list("t/")}
    assert listed == {key: store.stat(key) for key in ("t/a", "t/b")}
    assert all(info.etag and '"' not in info.etag for info in listed.values())
    assert listed["t/a"].etag != listed["t/b"].etag
    store.put("t/a", b"ONE")
    assert store.stat("t/a").etag != listed["t/a"].etag
    assert store.stat("t/b") == listed["t/b"]


def test_an_empty_object_is_one(store: ObjectStore) -> None:
    store.put("empty", b"")
    assert store.get("empty") == store.get("empty", 0, 5) == b""
    assert store.stat("empty").size == 0


def test_deleting_what_is_not_there_is_no_error(store: ObjectStore) -> None:
    store.put("here", b"1")
    store.delete(["here", "not-here"])
    store.delete([])
    with pytest.raises(ObjectNotFound):
        store.get("here")


def test_requests_are_counted(store: ObjectStore) -> None:
    store.put("k", b"12345")
    store.get("k")
    with pytest.raises(ObjectNotFound):
        store.get("absent")
    assert (store.requests["put"], store.requests["get"]) == (1, 2)
    assert (store.traffic.bytes_up, store.traffic.bytes_down) == (5, 5)


def test_who_has_stored_deletes_without_asking(location: StoreLocation) -> None:
    """Whether the bucket keeps versions is told by the answer to what was stored."""
    store = open_store(location, retry_seconds=5)
    store.create("a", b"1")
    store.delete(["a"])
    assert store.requests == {"create": 1, "delete": 1}
    store = open_store(location, retry_seconds=5)
    store.delete(["a"])
    assert list(store.list("")) == []


def test_two_prefixes_do_not_see_each_other(location: StoreLocation) -> None:
    store = open_store(location, retry_seconds=5)
    inner = StoreLocation.from_dict({**location.to_dict(), "url": location.url + "/inner"})
    other = open_store(inner, retry_seconds=5, make=True)
    other.put("k", b"inner")
    with pytest.raises(ObjectNotFound):
        store.get("k")
    assert store.get("inner/k") == b"inner"


def test_the_canary_passes_and_leaves_nothing(store: ObjectStore) -> None:
    check_store(store)
    assert list(store.list("canary/")) == []


def test_a_store_is_made_once(store: ObjectStore) -> None:
    first = Repository.init(store)
    assert Repository.init(store).store_id == Repository.open(store).store_id == first.store_id
