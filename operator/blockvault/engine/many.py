"""Several backups in one run, side by side, within one budget of threads and memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from blockvault.engine import memory, runtime
from blockvault.engine.errors import BadRequest
from blockvault.engine.packs import PAGES_SIZE, SEGMENT_SIZE, UPLOADS_IN_FLIGHT
from blockvault.engine.progress import BackupResult
from blockvault.engine.repository import Repository
from blockvault.engine.scan import BATCH_SIZE
from blockvault.engine.work import BackupRequest
from blockvault.stores import BlockvaultError, ObjectInfo, ObjectLock, ObjectStore, Traffic
from blockvault.stores.base import Data

MIB = 1 << 20

# The program itself with an S3 client, and what its memory allocators keep between backups (measured).
BASE_MEMORY = 120 * MIB
# Backups side by side unless something else is said: while one waits for the store, another reads.
AT_ONCE = 4


@dataclass(frozen=True)
class Budget:
    """What all backups together may use. `memory` in bytes; None: as much as they do well with."""

    at_once: int | None = None
    threads: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Share:
    """How the budget is used: so many backups side by side, each with so many threads."""

    at_once: int
    threads: int


def footprint(threads: int) -> int:
    """Most bytes that one backup holds: objects on their way and being made, and blocks that threads found."""
    # One that grows is for a moment there twice.
    objects = (UPLOADS_IN_FLIGHT + 2) * SEGMENT_SIZE + PAGES_SIZE
    return objects + (3 * threads + 1) * BATCH_SIZE


def share(budget: Budget, backups: int) -> Share:
    """Divide the budget. Raises BadRequest when not even one backup fits."""
    threads = budget.threads or (os.cpu_count() or 1) + 1
    at_once = max(1, min(backups, budget.at_once or AT_ONCE))
    if budget.memory is None:
        return Share(at_once, max(1, threads // at_once))
    smallest = BASE_MEMORY + footprint(1)
    if budget.memory < smallest:
        raise BadRequest(
            f"{budget.memory // MIB} MiB of memory are too few for a backup",
            remedy=f"Allow at least {-(-smallest // MIB)} MiB.",
        )
    while BASE_MEMORY + at_once * footprint(1) > budget.memory:
        at_once -= 1
    each = max(1, threads // at_once)
    while BASE_MEMORY + at_once * footprint(each) > budget.memory:
        each -= 1
    return Share(at_once, each)


class View:
    """A store, seen by one of several who use it: what they request is counted apart."""

    def __init__(self, store: ObjectStore) -> None:
        self.url = store.url
        self.traffic = Traffic()
        self._store = store

    @property
    def requests(self) -> dict[str, int]:
        """See ObjectStore."""
        return dict(self.traffic.requests)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ObjectStore."""
        self.traffic.count("get")
        data = self._store.get(key, start, length)
        self.traffic.count("", down=len(data))
        return data

    def put(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self.traffic.count("put", up=len(data))
        self._store.put(key, data)

    def create(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self.traffic.count("create", up=len(data))
        self._store.create(key, data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        self.traffic.count("list")
        return self._store.list(prefix)

    def folders(self, prefix: str) -> set[str]:
        """See ObjectStore."""
        self.traffic.count("list")
        return self._store.folders(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore."""
        self.traffic.count("delete")
        self._store.delete(keys)

    def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        self.traffic.count("head")
        return self._store.stat(key)

    def lock_new(self, lock: ObjectLock) -> None:
        """See ObjectStore."""
        self._store.lock_new(lock)

    def check_locks(self) -> None:
        """See ObjectStore."""
        self.traffic.count("head")
        self._store.check_locks()

    def lock_until(self, key: str) -> datetime | None:
        """See ObjectStore."""
        self.traffic.count("head")
        return self._store.lock_until(key)

    def extend_lock(self, keys: Iterable[str], until: datetime) -> None:
        """See ObjectStore."""
        self.traffic.count("put")
        self._store.extend_lock(keys, until)


Outcome = BackupResult | BlockvaultError


def back_up(
    repository: Repository,
    requests: list[BackupRequest],
    budget: Budget,
    ended: Callable[[BackupRequest, Outcome], None] = lambda request, outcome: None,
) -> list[Outcome]:
    """Make all backups, in the order given as far as the budget allows; one that fails does not stop the others.

    Gives a result or an error for each request. `ended` is called as each of them ends, from any thread.
    """
    divided = share(budget, len(requests))

    def one(request: BackupRequest) -> Outcome:
        request.threads = divided.threads
        outcome: Outcome
        own = repository.seen_by(View(repository.store)) if len(requests) > 1 else repository
        try:
            outcome = own.backup(request)
        except BlockvaultError as error:
            outcome = error
        if len(requests) > 1:
            memory.give_back()  # else it would count against the next one's
        ended(request, outcome)
        return outcome

    pool = runtime.executor(divided.at_once, "backup")
    try:
        futures = [pool.submit(one, request) for request in requests]
        for future in futures:
            future.exception()  # a defect in one lets the others end as well
        return [future.result() for future in futures]
    finally:
        # Who is interrupted here does not wait for reads and uploads on their way.
        pool.shutdown(wait=False, cancel_futures=True)
