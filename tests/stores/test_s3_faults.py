"""S3 as it is in the field.

Lost answers, conflicts, throttling, wrong keys, servers that ignore conditions.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest

from blockvault.engine import Repository
from blockvault.stores import (
    AccessDenied,
    AlreadyExists,
    BadLocation,
    BucketNotFound,
    Credentials,
    InvalidCredentials,
    NoConditionalCreate,
    ObjectNotFound,
    ObjectStore,
    StoreLocation,
    StoreThrottled,
    StoreUnreachable,
    open_store,
)
from tests.stores.conftest import BUCKET, KEYS
from tests.stores.faulty_server import DROP, LOSE_ANSWER, FaultyServer, Plan

Behind = Callable[..., ObjectStore]


@pytest.fixture
def behind(moto_endpoint: str) -> Iterator[Behind]:
    """A store behind a proxy that follows a plan."""
    servers = []

    def make(plan: Plan, retry_seconds: float = 5, strip: tuple[str, ...] = ()) -> ObjectStore:
        server = FaultyServer(moto_endpoint, plan, strip=strip)
        servers.append(server)
        url = f"s3://{BUCKET}/faults-{secrets.token_hex(6)}"
        return open_store(
            StoreLocation(url, endpoint=server.endpoint, credentials=KEYS), retry_seconds=retry_seconds
        )

    yield make
    for server in servers:
        server.close()


def first_put(action: str | int) -> Plan:
    """`action` for the first PUT, and nothing else."""
    seen: list[str] = []

    def plan(method: str, path: str, number: int) -> str | int | None:
        if method == "PUT" and not seen:
            seen.append(path)
            return action
        return None

    return plan


@pytest.mark.parametrize("action", [LOSE_ANSWER, DROP, 500, 503, 409])
def test_a_creation_in_doubt_is_ours_exactly_once(behind: Behind, action: str | int) -> None:
    store = behind(first_put(action))
    store.create("commit", b"mine")
    assert store.get("commit") == b"mine"
    with pytest.raises(AlreadyExists):
        store.create("commit", b"theirs")


def test_a_lost_answer_does_not_hide_a_rival(behind: Behind) -> None:
    store = behind(first_put(DROP))
    rival = behind(lambda *_: None)
    rival._prefix = store._prefix  # type: ignore[attr-defined]
    rival.create("commit", b"theirs")
    with pytest.raises(AlreadyExists):
        store.create("commit", b"mine")
    assert store.get("commit") == b"theirs"


@pytest.mark.parametrize(("action", "kind"), [(500, StoreUnreachable), (503, StoreThrottled)])
def test_patience_ends_with_the_cause(behind: Behind, action: int, kind: type[Exception]) -> None:
    store = behind(lambda *_: action, retry_seconds=0.5)
    with pytest.raises(kind):
        store.get("x")
    assert store.requests["get"] > 1


def test_patience_lasts_while_the_store_fails_for_a_while(behind: Behind) -> None:
    store = behind(lambda m, p, number: 500 if number <= 3 else None)
    store.put("x", b"1")
    assert store.requests["put"] == 4


def test_a_wrong_key_is_not_tried_again(behind: Behind) -> None:
    store = behind(lambda *_: 403)
    with pytest.raises(InvalidCredentials, match="SignatureDoesNotMatch"):
        store.get("x")
    assert store.requests == {"get": 1}


def test_an_absent_bucket_is_no_absent_object(moto_endpoint: str) -> None:
    store = open_store(StoreLocation("s3://not-there/x", endpoint=moto_endpoint, credentials=KEYS))
    for call in (
        lambda: store.get("k"),
        lambda: store.stat("k"),
        lambda: store.put("k", b""),
        lambda: store.create("k", b""),
        lambda: list(store.list("")),
        lambda: store.delete(["k"]),
    ):
        with pytest.raises(BucketNotFound, match="not-there"):
            call()


def test_nobody_listens() -> None:
    location = StoreLocation("s3://bucket/x", endpoint="http://127.0.0.1:1", credentials=KEYS)
    with pytest.raises(StoreUnreachable, match="Connection refused"):
        open_store(location, retry_seconds=0.1).get("k")


def test_a_store_that_ignores_conditions_is_refused(behind: Behind) -> None:
    store = behind(lambda *_: None, strip=("if-none-match",))
    with pytest.raises(NoConditionalCreate):
        Repository.init(store)
    with pytest.raises(ObjectNotFound):
        store.get("blockvault")
    assert list(store.list("canary/")) == []


def test_secrets_are_never_shown() -> None:
    location = StoreLocation("s3://b/p", credentials=Credentials("AKIA-SEEN", "SECRET-SEEN", "TOKEN-SEEN"))
    assert "SEEN" not in repr(location) + repr(location.credentials)
    assert StoreLocation.from_dict(location.to_dict()) == location


@pytest.mark.parametrize("url", ["s3://", "http://x/y", "file://host/dir", "file:dir", "/dir", ""])
def test_what_is_not_a_store(url: str) -> None:
    with pytest.raises(BadLocation, match="not a store"):
        StoreLocation(url)


def test_directory_without_rights(tmp_path: object) -> None:
    """The mapping of OS errors; as root, rights cannot be taken away for real."""
    store = open_store(StoreLocation(f"file://{tmp_path}"), retry_seconds=0.1)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    store._write = refuse  # type: ignore[attr-defined]
    with pytest.raises(AccessDenied, match="Permission denied"):
        store.put("x", b"")
