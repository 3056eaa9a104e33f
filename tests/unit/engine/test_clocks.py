"""Clocks that are wrong by years: what is deleted because time has passed needs two of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository, runtime
from blockvault.engine.collect import Collected
from blockvault.engine.runtime import Runtime
from blockvault.stores import StoreLocation, open_store
from tests.unit.engine.support import Crash, MemoryStore, backup, noise, opened, state_of

pytestmark = pytest.mark.usefixtures("small")

DAY = 86_400.0
YEAR = 365 * DAY
YEARS = (-10, -1, 1, 10)
WEEK = 7 * DAY


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(noise(12))
    return tmp_path / "source"


def at(seconds: float) -> Runtime:
    """A machine whose clock is wrong by so much."""
    return Runtime(wall=lambda: time.time() + seconds)


def collect(store: MemoryStore) -> Collected:
    (done,) = opened(store).collect("v")
    return done


@pytest.fixture
def trashed(store: MemoryStore, source: Path) -> MemoryStore:
    """A backup in the trash for a week, and a run that died just now. The store's own clock is right."""
    store.clock = time.time
    backup(store, source)
    gone = backup(store, source, full=True).backup_id
    dying = MemoryStore(store.objects)

    def stop(number: int, kind: str, key: str) -> None:
        if kind == "put" and "/roots/" in key:
            raise Crash(key)

    dying.before = stop
    with pytest.raises(Crash):
        backup(dying, source, full=True)
    assert opened(store).delete("v", gone, keep_seconds=WEEK)
    return store


@pytest.mark.parametrize("years", YEARS)
def test_a_collector_whose_clock_is_wrong(trashed: MemoryStore, years: float) -> None:
    before = set(trashed.objects)
    with runtime.use(at(years * YEAR)):
        done = collect(trashed)
    assert (done.emptied, done.given_up, done.deleted_objects) == ([], [], 0)
    assert bool(done.warnings) == (years > 0)
    assert all("ahead of the store's" in words for words in done.warnings)
    assert set(trashed.objects) == before


@pytest.mark.parametrize("years", YEARS)
def test_a_store_whose_clock_is_wrong(trashed: MemoryStore, years: float) -> None:
    trashed.clock = lambda: time.time() + years * YEAR
    done = collect(trashed)
    assert (done.emptied, done.given_up, done.deleted_objects) == ([], [], 0)


def test_a_store_that_was_idle_for_two_years(trashed: MemoryStore) -> None:
    trashed.clock = lambda: time.time() + 2 * YEAR
    with runtime.use(at(2 * YEAR)):
        done = collect(trashed)
    assert len(done.emptied) == len(done.given_up) == 1
    assert done.deleted_objects > 0
    assert done.warnings == []
    assert not [key for key in trashed.objects if key.startswith("canary/")]


@pytest.mark.parametrize("years", YEARS)
def test_who_deletes_has_a_wrong_clock(store: MemoryStore, source: Path, years: float) -> None:
    """The trash keeps at least as long as was asked for, counted from the newest commit."""
    store.clock = time.time
    backup(store, source)
    gone = backup(store, source).backup_id
    with runtime.use(at(years * YEAR)):
        assert opened(store).delete("v", gone, keep_seconds=WEEK)
    assert collect(store).emptied == []
    entry = state_of(store).root(gone)
    assert entry is not None
    assert runtime.seconds_of(entry.labels["trash"]["until"]) >= time.time() + WEEK - 60
    assert opened(store).undelete("v", gone)


def test_a_directory_has_a_clock_as_well(source: Path, tmp_path: Path) -> None:
    store = open_store(StoreLocation(f"file://{tmp_path}/store"), make=True)
    repository = Repository.init(store)
    repository.backup(BackupRequest(str(source), "v"))
    gone = repository.backup(BackupRequest(str(source), "v")).backup_id
    repository.delete("v", gone, keep_seconds=WEEK)
    with runtime.use(at(10 * YEAR)):
        (done,) = repository.collect("v")
    assert done.emptied == []
    assert done.warnings
    assert not list(store.list("canary/"))
