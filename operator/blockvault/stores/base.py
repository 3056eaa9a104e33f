"""What the engine needs of an object store, and what all stores share: counters and patience."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

import tenacity

from blockvault.stores.errors import (
    AlreadyExists,
    ObjectNotFound,
    StoreError,
    StoreThrottled,
    StoreUnreachable,
)
from blockvault.stores.location import ObjectLock

Data = bytes | bytearray | memoryview
T = TypeVar("T")

# Keys that begin so are never locked: they are stored and deleted to try the store out.
UNLOCKED = "canary/"
# What says whether objects are locked here. It is read before that is known, so its first version always counts.
RECORD = "blockvault"

# A request that keeps failing while others succeed is given up after this many times the patience.
STUBBORN_FACTOR = 4


@dataclass(frozen=True, slots=True)  # a listing holds half a million of them
class ObjectInfo:
    """One object: key relative to the store's prefix, size in bytes, and a tag of its version.

    The tag is opaque: two that differ mean that the object was stored again. Only tags of one store compare.
    `modified`: when it was stored, by the store's own clock, in seconds since 1970; 0 where that is not known.
    """

    key: str
    size: int
    etag: str | None = None
    modified: float = field(default=0.0, compare=False)


class Traffic:
    """Requests by kind and bytes both ways, since the store was opened. Retries count, as they are billed.

    `retries`: requests that were repeated; `throttles`: those of them that were as the store asked to slow down.
    """

    def __init__(self) -> None:
        self.retries = 0
        self.throttles = 0
        self.requests: Counter[str] = Counter()
        self.bytes_up = 0
        self.bytes_down = 0
        self._lock = threading.Lock()

    def count(self, kind: str, *, up: int = 0, down: int = 0) -> None:
        """Note one request (or none, when `kind` is empty) and its payload in bytes."""
        with self._lock:
            if kind:
                self.requests[kind] += 1
            self.bytes_up += up
            self.bytes_down += down

    def retried(self, error: BaseException | None) -> None:
        """Note that what failed by this error is tried again."""
        with self._lock:
            self.retries += 1
            self.throttles += isinstance(error, StoreThrottled)

    @property
    def total_requests(self) -> int:
        """All requests of all kinds."""
        return sum(self.requests.values())


class ObjectStore(Protocol):
    """Objects by key, relative to the store's own prefix. Safe to use from several threads.

    Assumed of every store: a GET after a successful creation sees it, and absence is a clean
    `ObjectNotFound`, never made from an error. Listings may lag.
    """

    url: str
    traffic: Traffic

    @property
    def requests(self) -> dict[str, int]:
        """Requests so far, by kind: get, put, create, list, delete, head."""

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes from `start`; fewer than `length` only at its end, none past it.

        A body cut short on its way is asked for again, never returned. Raises ObjectNotFound.
        """

    def put(self, key: str, data: Data) -> None:
        """Store under a name that nobody else uses (it may replace our own earlier try)."""

    def create(self, key: str, data: Data) -> None:
        """Store only if the name is free; raises AlreadyExists if other bytes than `data` are there.

        `data` must hold something unique, so that our own bytes are told from a rival's after a lost answer.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose key begins with `prefix`, in no promised order."""

    def folders(self, prefix: str) -> set[str]:
        """What lies between `prefix`, which is empty or ends in a slash, and the next slash in keys that have both.

        Costs as many objects as it finds names, however many lie below them. Lags as listings do. A directory may
        have names below which nothing is left.
        """

    def delete(self, keys: Iterable[str]) -> None:
        """Delete; a key that is not there is no error.

        Raises ObjectLocked when any is locked still, after all the others were deleted.
        """

    def stat(self, key: str) -> ObjectInfo:
        """Size and tag of one object. Raises ObjectNotFound."""

    def lock_new(self, lock: ObjectLock) -> None:
        """From now on, lock what is stored, and read, list and lock of each key the version that was stored first.

        What somebody stores over an object, or hides it by, then changes nothing. Raises StoreRefused where there are
        no locks at all; whether the bucket has them is for `check_locks` to say.
        """

    def check_locks(self) -> None:
        """Raises StoreRefused unless objects can be locked here."""

    def lock_until(self, key: str) -> datetime | None:
        """Until when nobody can delete the object (in UTC); None without a lock. Raises ObjectNotFound."""

    def extend_lock(self, keys: Iterable[str], until: datetime) -> None:
        """Move the locks' ends to `until` where they end earlier; never the other way.

        Cheap for keys that are in order. Raises ObjectNotFound after all others were moved, and StoreRefused when the
        store is used without object lock.
        """


class Patience:
    """Repeats what failed for a passing reason until `retry_seconds` went by without one success anywhere.

    One clock serves all threads of a store: while others get through, it is alive and waiting is right. It
    starts with the first failure: a body that a slow link or a bandwidth limit keeps for long is none.
    """

    def __init__(
        self,
        retry_seconds: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        retried: Callable[[BaseException | None], None] = lambda _: None,
    ) -> None:
        self._retried = retried
        self.retry_seconds = retry_seconds
        self._sleep = sleep
        self._clock = clock
        self._last_success = -math.inf

    def call(self, work: Callable[[], T]) -> T:
        """`work()`, repeated after each retryable StoreError; the last error when patience runs out."""
        failed: float | None = None

        def hopeless(_: tenacity.RetryCallState) -> bool:
            nonlocal failed
            now = self._clock()
            if failed is None:
                failed = now
            silent = now - max(failed, self._last_success)
            return silent >= self.retry_seconds or now - failed >= STUBBORN_FACTOR * self.retry_seconds

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, StoreError) and e.retryable),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
            stop=hopeless,
            before_sleep=lambda state: self._retried(state.outcome.exception() if state.outcome else None),
            sleep=self._sleep,
            reraise=True,
        )
        result = retrying(work)
        self._last_success = self._clock()
        return result

    def create(self, create: Callable[[], None], read: Callable[[], bytes], data: Data, what: str) -> None:
        """A conditional creation whose answer may get lost, or be about our own former try.

        `create` and `read` make one request each, for the object `what`. Every doubt is resolved by reading back and
        comparing bytes. Raises AlreadyExists when other bytes than `data` are there, which two readings say.
        """

        def work() -> None:
            try:
                create()
            except AlreadyExists:
                # A 412 may be about our own bytes (a former answer was lost), a 409 about nothing yet.
                try:
                    # A body may be spoiled on its way: nobody is told that others were first before a second look.
                    if all(read() != data for _ in range(2)):
                        raise
                except ObjectNotFound as gone:
                    raise StoreUnreachable(f"{what}: conflicting creation, nothing there") from gone

        self.call(work)
