"""Rule 18, clause by clause: what must be true before the old key may go, and what a first commit must have seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockvault.engine import (
    BackupRequest,
    Interrupted,
    KeyRing,
    KeyRotated,
    Repository,
    StoredDataDamaged,
    VaultKey,
    rotation,
    runtime,
)
from blockvault.engine import keys as wraps
from blockvault.engine.attempts import Begin, begin, end_unborn
from blockvault.engine.commits import Commits
from blockvault.engine.lineage import Lineage, lineage_of
from blockvault.engine.names import generation_key
from blockvault.engine.state import COMPACT, DELETED, RESTORE, Attempt, Outcome, RootEntry, State
from blockvault.engine.volumes import Volume
from blockvault.stores import ObjectInfo
from tests.unit.engine.rotation.rotating import NEW, OLD, THIRD, rotate, save
from tests.unit.engine.support import Crash, MemoryStore

pytestmark = pytest.mark.usefixtures("small")


def opened(objects: dict[str, bytes], volume: str, *keys: VaultKey) -> Volume:
    found = Repository.open(MemoryStore(objects), KeyRing(*keys))._volumes.find(volume)
    assert found is not None
    return found


def wrapped_under(objects: dict[str, bytes], fingerprint: str) -> list[str]:
    return [key for key in objects if key.endswith(f"/keys/{fingerprint}")]


def of_another_key(objects: dict[str, bytes]) -> Lineage:
    """The lineage of volume a, as if its key were another one."""
    volume = opened(objects, "a", OLD)
    return lineage_of(volume.lineage.id, bytes(range(32)), encrypted=True, single_writer=False)


def test_a_wrap_that_does_not_read_back_keeps_the_old_key(objects: dict[str, bytes]) -> None:
    """Done is only what opens with the new key, and not what was sent."""

    class Losing(MemoryStore):
        def create(self, key: str, data: bytes | bytearray | memoryview) -> None:
            if not key.endswith(f"/keys/{NEW.fingerprint}"):
                super().create(key, data)

    with pytest.raises(StoredDataDamaged, match="does not read back"):
        rotate(Losing(objects))
    assert len(wrapped_under(objects, OLD.fingerprint)) == 3


def test_a_wrap_of_another_key_keeps_the_old_one(objects: dict[str, bytes]) -> None:
    """What the new key opens has to be the lineage's own key."""
    other = of_another_key(objects)
    wraps.wrap(MemoryStore(objects), other, NEW)
    with pytest.raises(StoredDataDamaged, match="two different keys"):
        rotate(MemoryStore(objects))
    assert len(wrapped_under(objects, OLD.fingerprint)) == 3


def test_another_key_than_was_wrapped_reads_back(objects: dict[str, bytes]) -> None:
    """Somebody put it there in between."""
    other = of_another_key(objects)
    forged = MemoryStore()
    wraps.wrap(forged, other, NEW)
    ((path, body),) = forged.objects.items()

    class Exchanging(MemoryStore):
        def create(self, key: str, data: bytes | bytearray | memoryview) -> None:
            super().create(key, body if key == path else data)

    with pytest.raises(StoredDataDamaged, match="does not read back"):
        rotate(Exchanging(objects))
    assert len(wrapped_under(objects, OLD.fingerprint)) == 3


def test_listings_are_repeated_after_a_while(
    objects: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that lags needs time to show what is young."""
    monkeypatch.setattr(rotation, "QUIET_SECONDS", 7.0)
    slept: list[float] = []
    with runtime.use(runtime.Runtime(sleep=slept.append)):
        assert rotate(MemoryStore(objects)).old_key_removed
    assert slept == [7.0]


def interrupted(objects: dict[str, bytes], source: Path, *keys: VaultKey) -> None:
    def stop(_: object) -> None:
        raise Interrupted("stopped")

    request = BackupRequest(str(source), "a", operation_id="op", full=True, threads=1, report=stop)
    with pytest.raises(Interrupted):
        Repository.open(MemoryStore(objects), KeyRing(*keys)).backup(request)


def test_a_run_with_the_new_key_keeps_nothing(objects: dict[str, bytes], source: Path) -> None:
    rotate(MemoryStore(objects))
    interrupted(objects, source, NEW)
    assert rotate(MemoryStore(objects)).old_key_removed


@pytest.mark.parametrize("kind", [COMPACT, RESTORE])
def test_who_makes_no_backup_keeps_nothing(objects: dict[str, bytes], kind: str) -> None:
    """He was given the lineage's own key, which stays as it is."""
    volume = opened(objects, "a", OLD)

    def enter(state: State) -> tuple[State, Outcome]:
        state.attempts.append(Attempt("other", "other", 0, None, 0, runtime.now(), kind=kind))
        return state, Outcome("", "test")

    Commits(MemoryStore(objects), volume.lineage).update(enter, volume.state)
    assert rotate(MemoryStore(objects)).old_key_removed


def test_a_generation_that_no_listing_shows_is_found(objects: dict[str, bytes], source: Path) -> None:
    """By its number: else a writer with the old key would take it for the newest."""

    class Lagging(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return iter([info for info in super().list(prefix) if not info.key.startswith("keys/")])

    rotate(MemoryStore(objects))
    rotate(MemoryStore(objects), THIRD, NEW)
    with pytest.raises(KeyRotated, match=f"rotated to {THIRD.fingerprint}"):
        save(Lagging(objects), source, "new", NEW, OLD)


def test_who_loses_the_next_generation_wraps_nothing(objects: dict[str, bytes]) -> None:
    """Another one rotates to another key, and is first."""
    store = MemoryStore(objects)

    def rival(number: int, kind: str, key: str) -> None:
        if kind == "create" and key == generation_key(2):
            store.before = lambda *_: None
            rotate(MemoryStore(objects), THIRD, OLD)

    store.before = rival
    with pytest.raises(KeyRotated, match=THIRD.fingerprint):
        rotate(store)
    assert not wrapped_under(objects, NEW.fingerprint)


def test_a_record_names_no_lineage_that_nobody_can_open(objects: dict[str, bytes], source: Path) -> None:
    """Its key lies there before, whenever the writer dies."""
    store, known = MemoryStore(objects), wrapped_under(objects, OLD.fingerprint)

    def look(number: int, kind: str, key: str) -> None:
        if kind == "create" and key.startswith("volumes/"):
            assert len(wrapped_under(objects, OLD.fingerprint)) == len(known) + 1
            raise Crash

    store.before = look
    with pytest.raises(Crash):
        save(store, source, "new", OLD)


def test_a_writer_that_was_refused_sets_the_name_free(objects: dict[str, bytes], source: Path) -> None:
    """By itself; who comes after it need not find out that nothing is in its lineage."""
    store = MemoryStore(objects)

    def rotated(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            store.before = lambda *_: None
            rotate(MemoryStore(objects))

    store.before = rotated
    with pytest.raises(KeyRotated):
        save(store, source, "new", OLD)
    lineages = {
        volume.state.lineage: volume.state
        for volume in Repository.open(MemoryStore(objects), KeyRing(NEW, OLD))._volumes.all()
    }
    assert [state.status for state in lineages.values()].count(DELETED) == 1
    assert len(lineages) == 4


def test_a_lineage_that_another_cluster_took_over_is_not_ended(
    objects: dict[str, bytes], source: Path
) -> None:
    """Its new owner ends it: not whom it does not belong to any more."""
    store = MemoryStore(objects)

    def rotated(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            rotate(MemoryStore(objects))
            store.before = lambda *_: None
            store.after = taken_over

    def taken_over(number: int, kind: str, key: str) -> None:
        store.after = lambda *_: None
        Repository.open(MemoryStore(objects), KeyRing(NEW, OLD)).take_over("new", "two")

    store.before = rotated
    one = Repository.open(store, KeyRing(OLD), actor="one")
    with pytest.raises(KeyRotated):
        one.backup(BackupRequest(str(source), "new", threads=1))
    state = opened(objects, "new", NEW, OLD).state
    assert state.status != DELETED
    assert state.owner is not None
    assert state.owner["cluster"] == "two"


@pytest.mark.parametrize("other", ["nobody", "the same key", "the new key", "a backup"])
def test_a_lineage_that_others_use_is_not_ended(other: str) -> None:
    """Theirs may count: a run with another key may be confirmed, and a backup is one."""
    state = State("lineage", "v")
    begin(state, Begin("mine", "op", 4096, None, OLD.fingerprint))
    if other in ("the same key", "the new key"):
        key = OLD.fingerprint if other == "the same key" else NEW.fingerprint
        begin(state, Begin("theirs", "other", 4096, None, key))
    elif other == "a backup":
        name = "00000001-00000001-0000000000000001"
        figures = dict.fromkeys(
            ("bytesScanned", "bytesChanged", "bytesStored", "requests", "seconds", "changedBlockSource",
             "fallbackReason", "unreadable", "fileSystem", "peakMemoryBytes")
        )  # fmt: skip
        state.roots.append(
            RootEntry("id", "done", name, 1, "", "", 4096, "full", None, runtime.now(), figures)
        )
    ended = end_unborn(state, "mine")
    assert (ended is not None) == (other in ("nobody", "the same key"))
    assert (state.status == DELETED) == (ended is not None)
