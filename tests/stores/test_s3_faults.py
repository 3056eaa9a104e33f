"""S3 as it is in the field.

Lost answers, conflicts, throttling, wrong keys, servers that ignore conditions.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from blockvault import stores
from blockvault.engine import Repository
from blockvault.engine.exitcodes import exit_code
from blockvault.exitcodes import INTERNAL, REFUSED
from blockvault.stores import (
    AccessDenied,
    AlreadyExists,
    BadLocation,
    BlockvaultError,
    BucketNotFound,
    ClockSkew,
    Credentials,
    InvalidCredentials,
    NoConditionalCreate,
    ObjectNotFound,
    ObjectStore,
    StoreLocation,
    StoreRefused,
    StoreThrottled,
    StoreUnreachable,
    open_store,
    s3_clients,
)
from tests.servers.ceph import S3
from tests.stores.conftest import BUCKET, KEYS, in_gateway
from tests.stores.faulty_server import (
    CUT,
    DROP,
    FLIP,
    LOSE_ANSWER,
    SHORT,
    SPOIL,
    TRICKLE,
    TWICE,
    FaultyServer,
    Plan,
)

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
    return first("PUT", action)


def first(wanted: str, action: str | int) -> Plan:
    """`action` for the first request of a method, and nothing else."""
    seen: list[str] = []

    def plan(method: str, path: str, number: int) -> str | int | None:
        if method == wanted and not seen:
            seen.append(path)
            return action
        return None

    return plan


@pytest.mark.parametrize("action", [LOSE_ANSWER, DROP, TWICE, 500, 503, 409, "PreconditionFailed"])
def test_a_creation_in_doubt_is_ours_exactly_once(behind: Behind, action: str | int) -> None:
    store = behind(first_put(action))
    store.create("commit", b"mine")
    assert store.get("commit") == b"mine"
    with pytest.raises(AlreadyExists):
        store.create("commit", b"theirs")


@pytest.mark.parametrize(
    ("action", "start", "length"),
    [
        (action, start, length)
        for action in (CUT, SHORT, TRICKLE, DROP, LOSE_ANSWER, 500)
        for start, length in ((0, None), (100, 5000), (100, None), (9000, 5000))
        # A whole object that is shorter in every word of the answer: only hashes of what is in it tell.
        if (action, start) != (SHORT, 0)
    ],
)
def test_a_body_that_does_not_arrive_whole_is_asked_for_again(
    behind: Behind, action: str | int, start: int, length: int | None
) -> None:
    store = behind(first("GET", action))
    data = secrets.token_bytes(10_000)
    store.put("x", data)
    assert store.get("x", start, length) == data[start : None if length is None else start + length]
    assert store.requests["get"] == (1 if action == TRICKLE else 2)


def test_a_body_that_never_arrives_whole_is_an_error(behind: Behind) -> None:
    store = behind(lambda method, path, number: SHORT if method == "GET" else None, retry_seconds=0.3)
    store.put("x", bytes(10_000))
    with pytest.raises(StoreUnreachable, match="bytes came instead of"):
        store.get("x", 100, 5000)


@pytest.mark.parametrize("action", [LOSE_ANSWER, TWICE, DROP])
def test_an_upload_arrives_whole_and_once(behind: Behind, action: str) -> None:
    store = behind(first_put(action))
    data = secrets.token_bytes(10_000)
    store.put("x", data)
    assert store.get("x") == data
    assert len(list(store.list(""))) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        ("SignatureDoesNotMatch", InvalidCredentials, "AWS_SECRET_ACCESS_KEY"),
        ("InvalidAccessKeyId", InvalidCredentials, "AWS_ACCESS_KEY_ID"),
        ("ExpiredToken", InvalidCredentials, "session token"),
        ("AccessDenied", AccessDenied, "PutObject"),
        ("RequestTimeTooSkewed", ClockSkew, "clocks"),
        ("NotImplemented", StoreRefused, "options"),
    ],
)
def test_refusals_are_not_tried_again_and_say_what_helps(
    behind: Behind, method: str, code: str, kind: type[BlockvaultError], remedy: str
) -> None:
    # What HEAD refuses, GET refuses as well.
    refused = (method, "GET") if method == "HEAD" else (method,)
    store = behind(lambda m, path, number: code if m in refused and "versioning" not in path else None)
    calls: dict[str, Callable[[], object]] = {
        "GET": lambda: store.get("x"),
        "PUT": lambda: store.put("x", b""),
        "HEAD": lambda: store.stat("x"),
        "POST": lambda: store.delete(["x"]),
    }
    with pytest.raises(kind) as caught:
        calls[method]()
    assert code in str(caught.value)
    assert remedy in caught.value.remedy
    assert not caught.value.retryable
    assert exit_code(caught.value) == REFUSED


def test_a_token_that_expires_midway_ends_the_run(behind: Behind) -> None:
    store = behind(lambda method, path, number: "ExpiredToken" if number > 2 else None)
    store.put("a", b"1")
    store.put("b", b"2")
    with pytest.raises(InvalidCredentials, match="ExpiredToken"):
        store.put("c", b"3")
    assert store.requests == {"put": 3}


def test_a_lost_answer_does_not_hide_a_rival(behind: Behind) -> None:
    store = behind(first_put(DROP))
    rival = behind(lambda *_: None)
    rival._prefix = store._prefix  # type: ignore[attr-defined]
    rival.create("commit", b"theirs")
    with pytest.raises(AlreadyExists):
        store.create("commit", b"mine")
    assert store.get("commit") == b"theirs"


@pytest.mark.parametrize("action", [SHORT, SPOIL])
def test_a_spoiled_body_does_not_make_our_own_creation_a_rivals(behind: Behind, action: str) -> None:
    lose, spoil = first_put(LOSE_ANSWER), first("GET", action)
    store = behind(lambda *request: lose(*request) or spoil(*request))
    store.create("commit", b"mine")
    assert store.requests == {"create": 2, "get": 2}
    assert store.get("commit") == b"mine"


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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_clients, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(s3_clients, "REQUEST_SECONDS", 2)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that accepts connections and says nothing."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(0)
        yield made


def unreachable(endpoint: str) -> str:
    """What is said of a store there."""
    location = StoreLocation("s3://bucket/x", endpoint=endpoint, credentials=KEYS)
    with pytest.raises(StoreUnreachable) as raised:
        open_store(location, retry_seconds=0.1).get("k")
    return str(raised.value)


def test_e5_nobody_listens() -> None:
    assert "http://127.0.0.1:1: Connection refused" in unreachable("http://127.0.0.1:1")


def test_e5_a_name_that_leads_nowhere() -> None:
    assert "http://no-such-host.invalid: failed to lookup address" in unreachable(
        "http://no-such-host.invalid"
    )


@pytest.mark.usefixtures("impatient")
def test_e5_a_store_that_accepts_and_never_answers(listener: socket.socket) -> None:
    listener.listen(100)
    place = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert f"{place}: no answer within 2.0 s" in unreachable(place)


@pytest.mark.usefixtures("impatient")
def test_e5_packets_that_are_dropped(listener: socket.socket) -> None:
    """As by a firewall: here by a queue that is full."""
    address = listener.getsockname()
    with ExitStack() as held:
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        assert f"http://127.0.0.1:{address[1]}: no connection within 1.0 s" in unreachable(
            f"http://127.0.0.1:{address[1]}"
        )


def test_a_store_that_ignores_conditions_is_refused(behind: Behind) -> None:
    store = behind(lambda *_: None, strip=("if-none-match",))
    with pytest.raises(NoConditionalCreate):
        Repository.init(store)
    with pytest.raises(ObjectNotFound):
        store.get("blockvault")
    assert list(store.list("canary/")) == []


def test_a_store_that_knows_no_conditions_is_told_from_one_that_fails(behind: Behind) -> None:
    store = behind(lambda method, path, number: "NotImplemented" if method == "PUT" else None)
    with pytest.raises(NoConditionalCreate, match="NotImplemented"):
        Repository.init(store)
    with pytest.raises(StoreRefused):
        store.put("x", b"")


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


def test_every_store_error_has_an_exit_code() -> None:
    kinds = [getattr(stores, name) for name in stores.__all__]
    found = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, stores.StoreError)]
    without = [k.__name__ for k in found if k is not stores.StoreError and exit_code(k("x")) == INTERNAL]
    assert without == []


def test_a_real_server_refuses_with_the_right_words(rgw: S3) -> None:
    place = in_gateway(rgw)
    assert place.credentials is not None
    wrong = [
        (replace(place, credentials=Credentials(place.credentials.access_key, "wrong")), InvalidCredentials),
        (replace(place, credentials=Credentials("NOBODY", "wrong")), InvalidCredentials),
        (replace(place, url="s3://no-such-bucket/x"), BucketNotFound),
    ]
    stranger = rgw.make_user(f"stranger-{secrets.token_hex(4)}")
    wrong.append(
        (replace(place, credentials=Credentials(stranger.access_key, stranger.secret_key)), AccessDenied)
    )
    calls: list[Callable[[ObjectStore], object]] = [
        lambda store: store.get("k"),
        lambda store: store.stat("k"),
        lambda store: store.put("k", b""),
        lambda store: store.create("k", b""),
        lambda store: list(store.list("")),
        lambda store: store.delete(["k"]),
    ]
    for location, kind in wrong:
        for call in calls:
            with pytest.raises(kind):
                call(open_store(location, retry_seconds=5))


def test_a_real_server_notices_what_changed_on_the_way(rgw: S3) -> None:
    """By the signature, which is over the body as well: the upload is made again."""
    place = in_gateway(rgw)
    for call in ("put", "create"):
        proxy = FaultyServer(rgw.endpoint, first_put(FLIP))
        store = open_store(replace(place, endpoint=proxy.endpoint), retry_seconds=5)
        getattr(store, call)(call, b"0123456789")
        assert store.get(call) == b"0123456789"
        assert store.requests[call] == 2
        proxy.close()
