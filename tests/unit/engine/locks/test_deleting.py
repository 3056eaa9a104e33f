"""What cannot be deleted yet: it waits, and fails nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository, VaultKey, rotation
from blockvault.engine.lockwait import WAITING
from blockvault.engine.rotation import Rotation
from blockvault.stores import ObjectLock
from tests.unit.engine import support
from tests.unit.engine.locks.locking import DAY, Clock, LockingStore, made, volume_in
from tests.unit.engine.support import backup, noise, opened

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def store(clock: Clock, tmp_path: Path) -> LockingStore:
    """Two full backups of a volume, of the first day and of the eleventh."""
    store, source = made(clock), tmp_path / "source"
    source.write_bytes(noise(24))
    backup(store.view(), source)
    clock.now += 10 * DAY
    backup(store.view(), source, full=True)
    return store


def segments(store: LockingStore) -> int:
    return sum("/segments/" in key for key in store.objects)


def test_a_deleted_backup_waits_for_the_end_of_its_lock(store: LockingStore, clock: Clock) -> None:
    before, first = segments(store), opened(store).list("v")[0]["backupId"]
    assert opened(store.view()).delete("v", first)
    assert [row["backupId"] for row in opened(store).list("v")] != [first]
    (done,) = opened(store.view()).collect("v")
    assert (done.deleted_objects, done.warnings, segments(store)) == (0, [], before)
    assert done.locked_until == "2026-03-02T00:00:00Z"  # 60 days after the first of January
    asked = store.asked.total()
    for _ in range(40):
        clock.now += DAY
        opened(store.view()).collect("v")
    assert store.asked.total() == asked
    clock.now += 10 * DAY
    (done,) = opened(store.view()).collect("v")
    assert done.deleted_objects > 0
    assert (done.locked_objects, done.locked_until) == (0, None)
    assert segments(store) == before // 2
    assert volume_in(store).state.extra[WAITING] == {"epochs": {}, "objects": 0, "bytes": 0}
    assert not store.refused


def test_a_dry_run_says_the_same_and_notes_nothing(store: LockingStore) -> None:
    opened(store.view()).delete("v", opened(store).list("v")[0]["backupId"])
    objects = dict(store.objects)
    (told,) = opened(store.view()).collect("v", dry_run=True)
    assert store.objects == objects
    (done,) = opened(store.view()).collect("v")
    assert (told.locked_objects, told.locked_bytes, told.locked_until) == (
        done.locked_objects,
        done.locked_bytes,
        done.locked_until,
    )


def test_a_lock_that_nobody_knew_of_fails_no_collect(store: LockingStore, clock: Clock) -> None:
    """A legal hold, or clocks that differ: what the store refuses stays, and is tried again."""
    opened(store.view()).delete("v", opened(store).list("v")[0]["backupId"])
    clock.now += 55 * DAY
    before, real = segments(store), store.ends.copy()
    client = store.view()
    client.ends = dict.fromkeys(real, clock.now + DAY)
    client.lock_until = store.lock_until  # type: ignore[method-assign]
    (done,) = opened(client).collect("v")
    assert segments(store) == before
    assert any("locked" in words for words in done.warnings)
    (done,) = opened(store.view()).collect("v")
    assert segments(store) < before


def test_a_deleted_volume_goes_when_all_of_it_may(store: LockingStore, clock: Clock) -> None:
    assert opened(store.view()).delete_volume("v")
    (done,) = opened(store.view()).collect()
    assert (done.deleted_objects, done.warnings) == (0, [])
    assert done.locked_objects > 0
    clock.now += 61 * DAY
    (done,) = opened(store.view()).collect()
    assert done.deleted_objects > 0
    assert segments(store) == 0
    assert not store.refused


def test_segments_that_are_locked_for_long_are_not_compacted(clock: Clock, tmp_path: Path) -> None:
    store, source = made(clock), tmp_path / "source"
    content = noise(24)
    source.write_bytes(content)
    first = backup(store.view(), source).backup_id
    source.write_bytes(noise(23, 2) + content[23 * 4096 :])
    backup(store.view(), source)
    opened(store.view()).delete("v", first)
    assert opened(store.view()).compact("v", budget=1 << 20).segments == 0
    clock.now += 16 * DAY
    assert opened(store.view()).compact("v", budget=1 << 20).segments > 0


def test_the_old_key_goes_when_its_lock_has_ended(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "QUIET_SECONDS", 0.0)
    old, new = VaultKey(bytes(32)), VaultKey(bytes(range(32)))
    store, source = LockingStore(clock), tmp_path / "source"
    Repository.init(store, KeyRing(old), lock=ObjectLock("Governance", 30))
    source.write_bytes(noise(4))
    monkeypatch.setattr(support, "RING", KeyRing(old))
    backup(store.view(), source)
    done = Rotation(store.view(), KeyRing(new, old)).run()
    assert (done.old_key_removed, done.waiting_for) == (False, [])
    assert done.locked is not None
    monkeypatch.setattr(support, "RING", KeyRing(new))
    clock.now += 61 * DAY
    backup(store.view(), source)  # it extends what opens with its own key only
    done = Rotation(store.view(), KeyRing(new, old)).run()
    assert (done.old_key_removed, done.locked) == (True, None)
