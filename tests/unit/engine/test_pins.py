"""Readers' pins: what is being read stays, whatever happens meanwhile; who may not pin reads all the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from blockvault.engine import BackupNotFound, EngineError, RestoreResult, StoredDataDamaged, VolumeDeleted
from blockvault.engine.compact import Compaction
from blockvault.engine.errors import ReadOvertaken
from blockvault.engine.pins import Pin
from blockvault.engine.state import ATTEMPTS, PINS
from blockvault.stores import AccessDenied
from tests.unit.engine.support import Crash, MemoryStore, backup, check_usage, opened, state_of, volume_of

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096


@pytest.fixture
def made(store: MemoryStore, tmp_path: Path) -> dict[str, bytes]:
    """Three backups of a volume that changes here and there."""
    source = tmp_path / "source"
    chance = random.Random(1)
    source.write_bytes(chance.randbytes(20 * BLOCK))
    contents = {}
    for _ in range(3):
        with open(source, "r+b") as file:
            for _ in range(4):
                file.seek(chance.randrange(18 * BLOCK))
                file.write(chance.randbytes(BLOCK))
        contents[backup(store, source).backup_id] = source.read_bytes()
    return contents


def restore(
    store: MemoryStore, folder: Path, backup_id: str, *, salvage: bool = False
) -> tuple[RestoreResult, bytes]:
    target = folder / "target"
    target.unlink(missing_ok=True)
    return opened(store).restore("v", str(target), backup_id, salvage=salvage), target.read_bytes()


def compact(store: MemoryStore) -> None:
    found = volume_of(store)
    assert Compaction(store, found.lineage).run(found.state, alive_share=0.9, budget=1 << 40).roots


def at_first(kind: str, part: str, store: MemoryStore, action: Callable[[], None]) -> None:
    """Let `action` run before the first such request."""

    def hook(_: int, this: str, key: str) -> None:
        if this == kind and part in key:
            store.before = lambda *_: None
            action()

    store.before = hook


@pytest.mark.parametrize("part", ["/roots/", "/pages/", "/segments/"])
def test_deleted_and_collected_while_it_is_restored(
    store: MemoryStore, tmp_path: Path, made: dict[str, bytes], part: str
) -> None:
    first = next(iter(made))
    slow = store.view()

    def gone() -> None:
        calm = opened(store.view())
        calm.delete("v", first)
        compact(store.view())
        (done,) = calm.collect("v")
        assert done.given_up == []

    at_first("get", part, slow, gone)
    result, content = restore(slow, tmp_path, first)
    assert result.unpinned is None
    assert content == made[first]
    assert state_of(store).attempts == []
    (done,) = opened(store).collect("v")
    assert done.deleted_objects
    check_usage(store)
    with pytest.raises(BackupNotFound):
        restore(store, tmp_path, first)


def test_who_may_not_write_reads_unpinned(store: MemoryStore, tmp_path: Path, made: dict[str, bytes]) -> None:
    def refuse(_: int, kind: str, key: str) -> None:
        if kind == "create":
            raise AccessDenied(f"{key}: these credentials only read")

    reader = store.view()
    reader.before = refuse
    last = list(made)[-1]
    result, content = restore(reader, tmp_path, last)
    assert content == made[last]
    assert "only read" in str(result.unpinned)


def test_gone_before_it_was_pinned(store: MemoryStore, tmp_path: Path, made: dict[str, bytes]) -> None:
    first = next(iter(made))
    slow = store.view()
    at_first("create", "/commits/", slow, lambda: opened(store.view()).delete("v", first))
    with pytest.raises(BackupNotFound, match="any more"):
        restore(slow, tmp_path, first)
    assert state_of(store).attempts == []
    assert not (tmp_path / "target").exists()


def test_a_pin_of_a_dead_reader_goes_in_time(
    store: MemoryStore, tmp_path: Path, made: dict[str, bytes]
) -> None:
    last = list(made)[-1]
    dying = store.view()

    def dead(_: int, kind: str, key: str) -> None:
        if "/segments/" in key:
            dying.before = lambda *_: (_ for _ in ()).throw(Crash)
            raise Crash

    dying.before = dead
    with pytest.raises(Crash):
        restore(dying, tmp_path, last)
    opened(store).delete("v", last)
    (done,) = opened(store).collect("v")
    assert done.deleted_objects == 0
    (done,) = opened(store).collect("v", attempt_seconds=-1)
    assert len(done.given_up) == 1
    assert done.deleted_objects


def test_pins_and_runs_do_not_push_each_other_out(
    store: MemoryStore, tmp_path: Path, made: dict[str, bytes]
) -> None:
    found = volume_of(store)
    pins = [Pin(store, found, [backup_id]) for backup_id in [*made, *made] * 6]
    entered = [pin.__enter__() for pin in pins]
    assert [pin.unpinned is None for pin in entered].count(True) == PINS
    for number in range(ATTEMPTS + 1):
        dying = store.view()
        dying.before = lambda _, kind, key: (_ for _ in ()).throw(Crash) if kind == "put" else None
        with pytest.raises(Crash):
            backup(dying, tmp_path / "source", operation_id=f"dead-{number}", full=True)
    kinds = [attempt.kind for attempt in state_of(store).attempts]
    assert (kinds.count("restore"), kinds.count("backup")) == (PINS, ATTEMPTS)
    for pin in entered:
        pin.__exit__(None, None, None)
    assert {attempt.kind for attempt in state_of(store).attempts} == {"backup"}


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("pinned", [True, False], ids=["given up", "never pinned"])
@pytest.mark.parametrize("what", ["deleted", "compacted", "all deleted"])
def test_what_went_because_nothing_kept_it_is_no_damage(
    store: MemoryStore, tmp_path: Path, made: dict[str, bytes], what: str, pinned: bool, salvage: bool
) -> None:
    """A pin goes when it is too old, and not everybody may pin: the error says what became of the backup."""
    first, last = next(iter(made)), list(made)[-1]
    reader = store.view()
    wanted = first if what == "deleted" else last

    def gone() -> None:
        calm = opened(store.view())
        if what == "all deleted":
            calm.delete_volume("v")
        else:
            calm.delete("v", first)
            compact(store.view())
        calm.collect("v", attempt_seconds=-1)

    def hook(_: int, kind: str, key: str) -> None:
        if kind == "create" and not pinned:
            raise AccessDenied(f"{key}: these credentials only read")
        if kind == "get" and "/pages/" in key:
            reader.before = lambda *_: None
            gone()

    reader.before = hook
    kinds = {"deleted": BackupNotFound, "compacted": ReadOvertaken, "all deleted": VolumeDeleted}
    with pytest.raises(EngineError) as caught:
        restore(reader, tmp_path, wanted, salvage=salvage)
    assert type(caught.value) is kinds[what]
    if what == "deleted":
        assert ("too old" if pinned else "only read") in str(caught.value)
    if what == "compacted":
        assert restore(store, tmp_path, wanted)[1] == made[wanted]


@pytest.mark.parametrize("pinned", [True, False])
def test_damage_is_still_called_damage(
    store: MemoryStore, tmp_path: Path, made: dict[str, bytes], pinned: bool
) -> None:
    last = list(made)[-1]
    for key in [key for key in store.objects if "/segments/" in key]:
        del store.objects[key]
    reader = store.view()
    if not pinned:
        reader.before = lambda _, kind, key: (
            (_ for _ in ()).throw(AccessDenied(key)) if kind == "create" else None
        )
    with pytest.raises(StoredDataDamaged):
        restore(reader, tmp_path, last)
    result, content = restore(store, tmp_path, last, salvage=True)
    assert result.lost
    assert not any(content)
