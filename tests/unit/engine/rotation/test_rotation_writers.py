"""Rotation of the vault's key against those who write at the same time, with the old key or the new one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from blockvault.engine import (
    BackupRequest,
    Interrupted,
    KeyRing,
    KeyRotated,
    Repository,
    VolumeDeleted,
)
from blockvault.engine.rotation import RotationResult
from tests.unit.engine.rotation.rotating import NEW, OLD, THIRD, content, rotate, save, under
from tests.unit.engine.support import Crash, CrashingStore, MemoryStore, at_call

pytestmark = pytest.mark.usefixtures("small")


def test_a_volume_begun_meanwhile_is_wrapped_refused_or_caught(
    objects: dict[str, bytes], tmp_path: Path, source: Path
) -> None:
    """The rotation runs at each of the writer's requests."""
    counting = MemoryStore(dict(objects))
    save(counting, source, "new", OLD)
    ends = set()
    for at in range(1, counting.calls + 1):
        copy = dict(objects)
        store = MemoryStore(copy)
        results: list[RotationResult] = []
        store.before = at_call(at, lambda c=copy, r=results: r.append(rotate(MemoryStore(c))))  # type: ignore[misc]
        try:
            save(store, source, "new", OLD)
            # The run stood when the rotation came by: the old key stays until it is asked again.
            assert content(MemoryStore(copy), tmp_path, "new", NEW) == source.read_bytes()
            ends.add("made" if results[0].old_key_removed else "waited for")
            assert rotate(MemoryStore(copy)).old_key_removed
        except KeyRotated:
            ends.add("refused")
        # Whatever happened, the old key can go, and the name is not lost.
        save(MemoryStore(copy), source, "new", NEW)
        assert content(MemoryStore(copy), tmp_path, "new", NEW) == source.read_bytes()
        assert len({each["volume"] for each in Repository.open(MemoryStore(copy), KeyRing(NEW)).list()}) == 4
    assert {"refused", "waited for"} <= ends


def test_a_writer_that_died_before_it_was_confirmed_does_not_count(
    objects: dict[str, bytes], tmp_path: Path, source: Path
) -> None:
    """The next writer with the old key sees it, puts nothing in, and lets the name go."""
    store = MemoryStore(objects)

    def first_commit(number: int, kind: str, key: str) -> None:
        if kind == "create" and key.endswith("commits/0000000000000001"):
            raise Crash

    store.after = first_commit
    hidden: dict[str, bytes] = {}

    def sleep(number: int, kind: str, key: str) -> None:
        # The rotation passes after the key was wrapped and before the volume has a record.
        if kind == "create" and key.startswith("volumes/") and not hidden:
            hidden["done"] = b""
            assert rotate(MemoryStore(objects)).old_key_removed

    store.before = sleep
    with pytest.raises(Crash):
        save(store, source, "new", OLD)
    with pytest.raises(KeyRotated):
        save(MemoryStore(objects), source, "new", OLD)
    save(MemoryStore(objects), source, "new", NEW)
    assert content(MemoryStore(objects), tmp_path, "new", NEW) == source.read_bytes()


def rotated_while_it_slept(objects: dict[str, bytes], source: Path, at: int, *, after: bool) -> bool:
    """A writer sleeps before its first creation while the key is rotated, wakes, and dies at a request.

    Whether it came so far as to sleep.
    """
    store = CrashingStore(objects, at, after=after)
    die, slept = store.before, False

    def sleep(number: int, kind: str, key: str) -> None:
        nonlocal slept
        if kind == "create" and not slept:
            slept = True
            rotate(MemoryStore(objects))
        die(number, kind, key)

    store.before = sleep
    with suppress(Crash, KeyRotated):
        save(store, source, "new", OLD)
    return slept


def test_a_writer_that_died_with_a_key_that_is_gone_blocks_nobody(
    objects: dict[str, bytes], tmp_path: Path, source: Path
) -> None:
    """At each of its requests; nobody has its key any more."""
    counting = MemoryStore(dict(objects))
    save(counting, source, "new", OLD)
    abandoned = 0
    for at in range(1, counting.calls + 1):
        for after in (False, True):
            copy = dict(objects)
            slept = rotated_while_it_slept(copy, source, at, after=after)
            assert len(Repository.open(MemoryStore(copy), KeyRing(NEW if slept else OLD)).list()) == 3
            if not slept:
                continue
            further = dict(copy)
            save(MemoryStore(copy), source, "new", NEW)
            assert content(MemoryStore(copy), tmp_path, "new", NEW) == source.read_bytes()
            abandoned += sum(b'{"empty":true,"status":"Deleted"}' in copy[key] for key in copy)
            assert rotate(MemoryStore(further), THIRD, NEW).old_key_removed
            save(MemoryStore(further), source, "new", THIRD)
            assert len(Repository.open(MemoryStore(further), KeyRing(THIRD)).list()) == 4
    assert abandoned > 2


def woken(objects: dict[str, bytes], source: Path, first: int, at: int) -> None:
    """A writer before whose request `first` the key is rotated, and before `at` another one saves the same volume."""
    store = MemoryStore(objects)
    rotations: list[RotationResult] = []
    rotating = at_call(first, lambda: rotations.append(rotate(MemoryStore(objects))))
    saving = at_call(at, lambda: save(MemoryStore(objects), source, "new", NEW))

    def meanwhile(number: int, kind: str, key: str) -> None:
        rotating(number, kind, key)
        saving(number, kind, key)

    store.before = meanwhile
    with pytest.raises((KeyRotated, VolumeDeleted)):
        save(store, source, "new", OLD)
    assert len(rotations) == 1
    if store.calls < at:  # it was refused before
        save(MemoryStore(objects), source, "new", NEW)


def test_a_writer_that_wakes_after_its_volume_was_set_free(
    objects: dict[str, bytes], tmp_path: Path, source: Path
) -> None:
    """With a key that was rotated, at each request: it is refused, and what others made meanwhile stays."""
    counting = MemoryStore(dict(objects))
    creations: list[int] = []
    counting.before = lambda number, kind, _: creations.append(number) if kind == "create" else None
    save(counting, source, "new", OLD)
    for at in range(creations[0], counting.calls + 1):
        copy = dict(objects)
        woken(copy, source, creations[0], at)
        assert len(Repository.open(MemoryStore(copy), KeyRing(NEW)).list("new")) == 1
        assert content(MemoryStore(copy), tmp_path, "new", NEW) == source.read_bytes()


def test_its_successor_with_both_keys_wraps_it(objects: dict[str, bytes], source: Path) -> None:
    store = MemoryStore(objects)

    def sleep(number: int, kind: str, key: str) -> None:
        if kind == "create" and key.startswith("volumes/") and len(store.objects) == len(objects):
            store.before = lambda *_: None
            rotate(MemoryStore(objects))

    def die(number: int, kind: str, key: str) -> None:
        if kind == "create" and key.endswith("commits/0000000000000001"):
            raise Crash

    store.before, store.after = sleep, die
    with pytest.raises(Crash):
        save(store, source, "new", OLD)
    save(MemoryStore(objects), source, "new", NEW, OLD)
    assert len(Repository.open(MemoryStore(objects), KeyRing(NEW)).list("new")) == 1


def test_a_run_with_the_old_key_keeps_it(objects: dict[str, bytes], tmp_path: Path, source: Path) -> None:
    """Until it has ended: then another rotation takes the old key away."""
    request = BackupRequest(str(source), "a", operation_id="op", full=True, threads=1)

    def stop(_: object) -> None:
        raise Interrupted("stopped")

    request.report = stop
    with pytest.raises(Interrupted):
        Repository.open(MemoryStore(objects), KeyRing(OLD)).backup(request)
    result = rotate(MemoryStore(objects))
    assert not result.old_key_removed
    assert [(run["volume"], run["operationId"]) for run in result.waiting_for] == [("a", "op")]
    assert under(MemoryStore(objects), NEW) == {tuple(sorted((OLD.fingerprint, NEW.fingerprint)))}
    assert content(MemoryStore(objects), tmp_path, "a", OLD) == source.read_bytes()
    again = BackupRequest(str(source), "a", operation_id="op", full=True, threads=1)
    Repository.open(MemoryStore(objects), KeyRing(NEW)).backup(again)
    assert rotate(MemoryStore(objects)).old_key_removed
