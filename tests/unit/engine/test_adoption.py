"""Rules 9 to 11, clause by clause: what of a dead run is adopted, and what never is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine.errors import AttemptFenced
from blockvault.engine.names import ObjectName
from blockvault.engine.root import Roots
from blockvault.stores import ObjectInfo
from tests.unit.engine.support import (
    Crash,
    MemoryStore,
    backup,
    check_usage,
    commit,
    noise,
    opened,
    restored,
    state_of,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK, SECTOR, BLOCKS = 4096, 64, 12


def patched(content: bytes, salt: int) -> bytes:
    """The same blocks, each with another second sector."""
    changed = bytearray(content)
    for number in range(len(content) // BLOCK):
        at = number * BLOCK + SECTOR
        changed[at : at + SECTOR] = noise(1, 1000 * salt + number)[:SECTOR]
    return bytes(changed)


def die(store: MemoryStore, source: Path, **options: Any) -> set[ObjectName]:
    """A run of operation `op` sends everything and dies before its root. The names of its segments."""
    before = segments(store)
    dying = store.view()

    def stop(number: int, kind: str, key: str) -> None:
        if kind == "put" and "/roots/" in key:
            raise Crash(key)

    dying.before = stop
    with pytest.raises(Crash):
        backup(dying, source, operation_id="op", **options)
    return segments(store) - before


def segments(store: MemoryStore) -> set[ObjectName]:
    return {ObjectName.parse(key.rpartition("/")[2]) for key in store.objects if "/segments/" in key}


def needs(store: MemoryStore) -> set[ObjectName]:
    """What the newest backup needs."""
    found = volume_of(store)
    return set(Roots(store, found.lineage).summary(ObjectName.parse(found.state.roots[-1].object)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(noise(BLOCKS))
    return tmp_path / "source"


def check(store: MemoryStore, source: Path, tmp_path: Path, backup_id: str) -> None:
    assert restored(store, tmp_path, backup_id) == source.read_bytes()
    check_usage(store)


@pytest.mark.parametrize("differs", ["nothing", "parent", "revision", "size"])
def test_patches_are_adopted_only_when_all_is_as_it_was(
    store: MemoryStore, source: Path, tmp_path: Path, differs: str
) -> None:
    """Rule 9: the same parent, at the same revision, and the same size. The same sectors differ each time."""
    content = source.read_bytes()
    backup(store, source)
    source.write_bytes(patched(content, 1))
    dead = die(store, source)
    assert dead
    if differs == "parent":
        source.write_bytes(patched(content, 2))
        backup(store, source, operation_id="other")
        source.write_bytes(patched(content, 1))
    elif differs == "revision":
        commit(store, lambda state: setattr(state.roots[0], "revision", 2))
    elif differs == "size":
        source.write_bytes(source.read_bytes() + bytes(BLOCK))
    made = backup(store, source, operation_id="op")
    assert bool(needs(store) & dead) == (differs == "nothing")
    check(store, source, tmp_path, made.backup_id)


def test_whole_blocks_are_adopted_on_any_parent(store: MemoryStore, source: Path, tmp_path: Path) -> None:
    """Rule 9: their hash is that of the block just read, and nothing else is needed."""
    backup(store, source)
    source.write_bytes(noise(BLOCKS, 2))
    dead = die(store, source)
    content = source.read_bytes()
    source.write_bytes(noise(BLOCKS, 3))
    backup(store, source, operation_id="other")
    source.write_bytes(content)
    made = backup(store, source, operation_id="op")
    assert dead <= needs(store)
    check(store, source, tmp_path, made.backup_id)


def test_a_patch_is_not_taken_for_a_whole_block(store: MemoryStore, source: Path, tmp_path: Path) -> None:
    """Rule 9: it has the hash of the whole block, and is not the whole block."""
    backup(store, source)
    source.write_bytes(patched(source.read_bytes(), 1))
    dead = die(store, source)
    made = backup(store, source, operation_id="op", full=True)
    assert not needs(store) & dead
    check(store, source, tmp_path, made.backup_id)


def test_epochs_are_carried_on(store: MemoryStore, source: Path, tmp_path: Path) -> None:
    """Rule 10: one entry for the operation, with all that its dead runs have sent; none of it is collected."""
    first = die(store, source)
    with open(source, "ab") as file:
        file.write(noise(BLOCKS, 2))
    second = die(store, source)
    (attempt,) = state_of(store).attempts
    assert (attempt.epoch, attempt.adopts) == (2, [1])
    assert not opened(store).collect("v")[0].deleted_objects
    made = backup(store, source, operation_id="op")
    assert first | second <= needs(store)
    assert not state_of(store).attempts
    check(store, source, tmp_path, made.backup_id)


def test_what_was_given_up_meanwhile_is_not_adopted(store: MemoryStore, source: Path, tmp_path: Path) -> None:
    """Rule 10: the entry stood when the run read the state, and not any more in the one that its commit follows."""
    dead = die(store, source)
    slow, dying = store.view(), store.view()

    def stop(number: int, kind: str, key: str) -> None:
        if kind == "delete" and "/segments/" in key:
            raise Crash("what is condemned is still there")

    def collect(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            slow.before = lambda *_: None
            with pytest.raises(Crash):
                opened(dying).collect("v", attempt_seconds=-1)

    dying.before, slow.before = stop, collect
    made = backup(slow, source, operation_id="op")
    assert state_of(store).condemned
    assert not needs(store) & dead
    opened(store).collect("v")
    assert not segments(store) & dead
    check(store, source, tmp_path, made.backup_id)


@pytest.mark.parametrize("listed", ["gone", "longer"])
def test_what_is_adopted_is_read_back(store: MemoryStore, source: Path, tmp_path: Path, listed: str) -> None:
    """Rule 10: a listing may show what is not there, or not in that size; such blocks are sent again."""
    lost, *others = sorted(die(store, source))
    (key,) = [key for key in store.objects if key.endswith(f"/segments/{lost}")]
    size = len(store.objects[key])

    class Lagging(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            found = [info for info in super().list(prefix) if info.key != key]
            return iter([*found, ObjectInfo(key, size + 5)] if key.startswith(prefix) else found)

    if listed == "gone":
        del store.objects[key]
    made = backup(Lagging(store.objects), source, operation_id="op")
    assert needs(store) & {lost, *others} == {*others}
    check(store, source, tmp_path, made.backup_id)


@pytest.mark.parametrize("whose", ["its own", "adopted"])
def test_a_run_of_which_anything_is_condemned_is_refused(
    store: MemoryStore, source: Path, whose: str
) -> None:
    """Rule 11: also when only what it took over is, and although its attempt still stands."""
    backup(store, source)
    source.write_bytes(noise(BLOCKS, 2))
    dead = min(die(store, source))
    slow = store.view()

    def condemn(number: int, kind: str, key: str) -> None:
        if kind == "put" and "/roots/" in key:
            slow.before = lambda *_: None
            paths = opened(store)._volumes.find("v").lineage.paths  # type: ignore[union-attr]
            sent = key if whose == "its own" else paths.segment(dead)
            commit(store, lambda state: state.condemned.append(sent))

    slow.before = condemn
    with pytest.raises(AttemptFenced, match="were condemned"):
        backup(slow, source, operation_id="op")
    assert len(state_of(store).roots) == 1
