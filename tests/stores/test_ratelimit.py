"""The bandwidth limit, on a clock that only sleeping moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from blockvault.stores import Credentials, DirectoryStore, ObjectStore, RateLimit, StoreLocation, open_store
from blockvault.stores.base import Patience, Traffic
from blockvault.stores.errors import StoreRefused, StoreThrottled, StoreUnreachable
from blockvault.stores.s3 import S3Store

from .conftest import BUCKET, KEYS

MIB = 1 << 20


class Clock:
    """Time for one thread: it passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def limited(rate: float) -> tuple[RateLimit, Clock]:
    clock = Clock()
    return RateLimit(rate, clock=clock, sleep=clock.sleep), clock


def test_a_burst_of_a_second_is_free_and_then_the_rate_holds() -> None:
    limit, clock = limited(100)
    limit.take(100)
    assert clock.slept == []
    for _ in range(10):
        limit.take(50)
    assert clock.now - 1000 == pytest.approx(5)


def test_a_body_larger_than_the_bucket_goes_into_debt() -> None:
    limit, clock = limited(100)
    limit.take(1000)
    assert clock.slept == [pytest.approx(9)]


def test_a_long_pause_saves_up_no_more_than_a_burst() -> None:
    limit, clock = limited(100)
    limit.take(100)
    clock.now += 3600
    limit.take(200)
    assert clock.slept == [pytest.approx(1)]


def test_threads_queue_up_behind_each_other() -> None:
    """Whoever comes while another waits pays for both: the sum never runs faster than the rate."""
    waits: list[float] = []
    limit = RateLimit(100, clock=lambda: 0.0, sleep=waits.append)
    threads = [threading.Thread(target=limit.take, args=(100,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [1, 2, 3, 4]


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_is_positive(rate: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        RateLimit(rate)


@pytest.fixture(params=["directory", "moto"])
def throttled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ObjectStore, Clock]:
    limit, clock = limited(MIB)
    if request.param == "directory":
        return DirectoryStore(str(tmp_path), limit=limit), clock
    endpoint = request.getfixturevalue("moto_endpoint")
    location = StoreLocation(f"s3://{BUCKET}/rate-{tmp_path.name}", endpoint=endpoint, credentials=KEYS)
    return S3Store(location, limit=limit), clock


def test_payload_of_both_directions_counts(throttled: tuple[ObjectStore, Clock]) -> None:
    store, clock = throttled
    store.put("a", bytes(3 * MIB))  # a second of it is the burst
    assert clock.now - 1000 == pytest.approx(2)
    store.create("b", bytes(MIB))
    assert clock.now - 1000 == pytest.approx(3)
    store.get("a")
    assert clock.now - 1000 == pytest.approx(6)
    store.get("a", 5, MIB)
    assert clock.now - 1000 == pytest.approx(7)
    list(store.list(""))
    store.delete(["a", "b"])
    assert clock.now - 1000 == pytest.approx(7)


def test_a_slow_limit_does_not_use_up_the_patience() -> None:
    """A body that waits for longer than the patience is still tried again when it fails."""
    clock = Clock()
    patience = Patience(5, sleep=clock.sleep, clock=clock)
    tries: list[Callable[[], None]] = []

    def work() -> str:
        clock.sleep(60)
        tries.append(work)  # type: ignore[arg-type]
        if len(tries) < 2:
            raise StoreUnreachable("once")
        return "done"

    assert patience.call(work) == "done"


def test_e2_what_is_repeated_is_counted_and_what_the_store_asked_for() -> None:
    clock, traffic = Clock(), Traffic()
    patience = Patience(60, sleep=clock.sleep, clock=clock, retried=traffic.retried)
    errors = [StoreThrottled("slow down"), StoreUnreachable("once"), StoreThrottled("slow down")]

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert patience.call(work) == "done"
    assert (traffic.retries, traffic.throttles) == (3, 2)
    errors.append(StoreRefused("no"))
    with pytest.raises(StoreRefused):
        patience.call(work)
    assert traffic.retries == 3, "what is not tried again is no retry"


def test_the_limit_is_given_by_whoever_opens(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    store = open_store(StoreLocation(f"file://{tmp_path}/s"), limit_rate=5.0)
    assert store._limit.bytes_per_second == 5  # type: ignore[attr-defined]
    other = open_store(StoreLocation("s3://b/p", credentials=Credentials("a", "b")), limit_rate=7.0)
    assert other._limit.bytes_per_second == 7  # type: ignore[attr-defined]
