"""A store or a target that is slow, or stuck for a while: what is in flight stays bounded, and it ends well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from blockvault.engine.devices import Source
from blockvault.engine.hashing import Buffer
from blockvault.engine.packs import UPLOADS_IN_FLIGHT
from blockvault.engine.scan import Scanner
from blockvault.engine.target import Target
from tests.unit.engine.support import SMALL, MemoryStore, backup, noise, opened, restore, restored

pytestmark = pytest.mark.usefixtures("small")

BLOCKS = 500
THREADS = 2

# What may have been read and not have arrived: objects on their way, one that waits for its turn and one under
# construction, each with a block too many; batches that are looked at, and one that is taken.
OBJECT = SMALL["SEGMENT_SIZE"] + 2 * SMALL["BLOCK_SIZE"]
MOST_READ = (UPLOADS_IN_FLIGHT + 2) * OBJECT + (2 * THREADS + 2) * SMALL["BATCH_SIZE"]


class Gauge:
    """Bytes that went in so far, safe to count from threads, and whether they have stopped."""

    def __init__(self) -> None:
        self.bytes = self.waiting = self.most = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.bytes += count

    def enter(self, change: int) -> None:
        with self._lock:
            self.waiting += change
            self.most = max(self.most, self.waiting)

    def settle(self, run: Future[object], enough: Callable[[], bool]) -> None:
        """Until `enough` holds, and for a second nothing more goes in."""
        until = time.monotonic() + 60
        seen, since = self.bytes, time.monotonic()
        while not enough() or time.monotonic() - since < 1:
            assert not run.done(), run.result()
            assert time.monotonic() < until
            time.sleep(0.02)
            if self.bytes != seen:
                seen, since = self.bytes, time.monotonic()


class Stuck(MemoryStore):
    """Hangs in storing segments until `goes_on` is set: all of them, or the first `hanging`."""

    def __init__(self, objects: dict[str, bytes], hanging: int = 1 << 30) -> None:
        super().__init__(objects)
        self.goes_on = threading.Event()
        self.puts = Gauge()
        self._left = hanging

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        if "/segments/" in key:
            self._left -= 1
            self.puts.enter(1)
            if self._left >= 0:
                assert self.goes_on.wait(60)
            self.puts.enter(-1)
        super().put(key, data)


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gauge]:
    """Bytes read from the source."""
    gauge, original = Gauge(), Source.read

    def read(self: Source, offset: int, length: int) -> memoryview:
        gauge.add(length)
        return original(self, offset, length)

    with monkeypatch.context() as patch:
        patch.setattr(Source, "read", read)
        yield gauge


def begun(work: Callable[[], object]) -> Future[object]:
    """The work, in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    run = pool.submit(work)
    pool.shutdown(wait=False)
    return run


def test_a_backup_to_a_store_that_hangs(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads no more than has room on the way, waits, and is whole when the store goes on."""
    content = noise(BLOCKS)
    (tmp_path / "source").write_bytes(content)
    assert len(content) > 5 * MOST_READ
    stuck = Stuck(store.objects)
    with reads(monkeypatch) as gauge:
        run = begun(lambda: backup(stuck, tmp_path / "source"))
        try:
            gauge.settle(run, lambda: stuck.puts.waiting == UPLOADS_IN_FLIGHT)
            assert gauge.bytes <= MOST_READ
        finally:
            stuck.goes_on.set()
        run.result(60)
    assert gauge.bytes >= len(content)
    assert stuck.puts.most == UPLOADS_IN_FLIGHT
    (entry,) = opened(store).list("v")
    assert restored(store, tmp_path, entry["backupId"]) == content


def test_a_backup_of_which_one_request_hangs(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go on past it, each when there is room; what hangs is waited for before anything is committed."""
    content = noise(BLOCKS)
    (tmp_path / "source").write_bytes(content)
    stuck = Stuck(store.objects, hanging=1)
    with reads(monkeypatch) as gauge:
        run = begun(lambda: backup(stuck, tmp_path / "source"))
        try:
            gauge.settle(run, lambda: gauge.bytes >= len(content) and stuck.puts.waiting == 1)
            assert opened(store.view()).list("v") == []
        finally:
            stuck.goes_on.set()
        run.result(60)
    assert stuck.puts.most == UPLOADS_IN_FLIGHT
    (entry,) = opened(store).list("v")
    assert restored(store, tmp_path, entry["backupId"]) == content


def test_a_restore_to_a_target_that_hangs(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fetches no more than may wait to be written, and is whole when the target goes on."""
    content = noise(BLOCKS)
    (tmp_path / "source").write_bytes(content)
    made = backup(store, tmp_path / "source").backup_id
    fetched, goes_on, original = Gauge(), threading.Event(), Target.write
    slow = store.view()

    def count(number: int, kind: str, key: str) -> None:
        if kind == "get" and "/segments/" in key:
            fetched.add(SMALL["LARGEST_READ"])

    def write(self: Target, offset: int, buffers: list[Buffer]) -> None:
        fetched.enter(1)
        assert goes_on.wait(60)
        original(self, offset, buffers)

    slow.before = count
    monkeypatch.setattr(Target, "write", write)
    run = begun(lambda: restore(slow, tmp_path / "target", made, threads=THREADS))
    # Requests that fetch and one that is taken; and what is decoded or waits for it.
    most = (THREADS + 1 + 2 * THREADS + 1) * SMALL["LARGEST_READ"]
    assert len(content) > 5 * most
    try:
        fetched.settle(run, lambda: fetched.waiting > 0)
        assert fetched.bytes <= most
    finally:
        goes_on.set()
    run.result(60)
    assert fetched.bytes >= len(content)
    assert (tmp_path / "target").read_bytes() == content


def test_a_scan_is_taken_no_faster_than_its_results(tmp_path: Path) -> None:
    """By itself, as whoever takes the results may be slow for other reasons than a store."""
    taken = []

    class Counting(Scanner):
        def __init__(self) -> None:
            self._threads = THREADS

        def look(self, batch: object) -> list[object]:  # type: ignore[override]
            return []

    def batches() -> Iterator[object]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = Counting().run(batches())  # type: ignore[arg-type]
    for number in range(10):
        next(results)
        assert len(taken) <= number + 2 * THREADS + 2
    results.close()
