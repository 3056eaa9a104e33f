"""A root is lost: it can be deleted, and so can all others; what can be mended is; collect waits, and deletes nothing
that anybody needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import KeyRing, StoredDataDamaged, VaultKey, runtime
from blockvault.engine.names import ObjectName
from tests.unit.engine import support
from tests.unit.engine.support import (
    MemoryStore,
    backup,
    check_usage,
    noise,
    opened,
    restored,
    state_of,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
# What was lost, by its key.
LOST: dict[str, bytes] = {}


@pytest.fixture(params=["clear", "encrypted"])
def made(
    request: pytest.FixtureRequest, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """A full backup, two that build on it, and one that is full again; the root of the first is lost."""
    if request.param == "encrypted":
        monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(range(32)))))
        store.objects.clear()
        support.Repository.init(store, support.RING)
    source = tmp_path / "source"
    source.write_bytes(noise(40))
    contents = {}
    for number in range(4):
        with open(source, "r+b") as file:
            file.seek(5 * number * BLOCK)
            file.write(noise(2, number + 5))
        contents[backup(store, source, full=number == 3).backup_id] = source.read_bytes()
    first = state_of(store).roots[0]
    key = key_of(store, first.object)
    LOST.clear()
    LOST[key] = store.objects.pop(key)
    return contents


def key_of(store: MemoryStore, name: str) -> str:
    found = volume_of(store)
    return found.lineage.paths.root(ObjectName.parse(name))


def check(store: MemoryStore, folder: Path, contents: dict[str, bytes]) -> None:
    assert [entry.id for entry in state_of(store).roots] == list(contents)
    for backup_id, content in contents.items():
        assert restored(store, folder, backup_id) == content
    check_usage(store)
    assert opened(store).verify("v")["ok"]


def test_the_way_out(store: MemoryStore, tmp_path: Path, made: dict[str, bytes]) -> None:
    """As docs/disaster-recovery.md says it: verify --repair, delete what it cannot mend, collect."""
    repository = opened(store)
    first, second, third, _ = made
    kept = set(store.objects)
    with pytest.raises(StoredDataDamaged, match=f"{first}, {second}, {third} .*missing") as told:
        repository.collect("v")
    assert "--repair" in told.value.remedy
    rows = repository.verify("v")["damaged"]
    assert {row["backupId"]: "delete" in row["remedy"] for row in rows} == {
        first: True,
        second: False,
        third: False,
    }
    done = repository.rebuild("v")
    assert (done.roots, done.lost) == (2, [first])
    with pytest.raises(StoredDataDamaged, match=f"damaged.*: {first} "):
        repository.collect("v")
    assert kept <= store.objects.keys()
    assert repository.delete("v", first)
    assert repository.collect("v")[0].deleted_objects
    del made[first]
    check(store, tmp_path, made)
    assert repository.rebuild("v").roots == 0
    assert not repository.collect("v")[0].deleted_objects
    assert {key for key in store.objects if "/roots/" in key} == {
        key_of(store, entry.object) for entry in state_of(store).roots
    }


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_every_backup_can_be_deleted(
    store: MemoryStore, tmp_path: Path, made: dict[str, bytes], seconds: float
) -> None:
    """In the trash too, and from there for good. Those of which it cannot be told what they need are not counted."""
    repository = opened(store)
    first, second, third, last = made
    assert repository.delete("v", last, keep_seconds=seconds)
    assert state_of(store).uncounted == repository.usage()[0]["uncounted"] == [first, second, third]
    assert repository.delete("v", first, keep_seconds=seconds)
    with pytest.raises(StoredDataDamaged, match="nothing may be deleted"):
        repository.collect("v")
    with pytest.raises(StoredDataDamaged, match="nothing may be deleted"):
        repository.compact("v", budget=10**9)
    for backup_id in (second, third):
        assert repository.delete("v", backup_id, keep_seconds=seconds)
    if seconds:
        assert repository.undelete("v", last)
    later = runtime.Runtime(wall=lambda: __import__("time").time() + 2000)
    with runtime.use(later):
        assert repository.collect("v")[0].deleted_objects
    check(store, tmp_path, {last: made[last]} if seconds else {})
    assert state_of(store).uncounted == []


def test_it_is_there_again(store: MemoryStore, tmp_path: Path, made: dict[str, bytes]) -> None:
    """Brought back from a copy of the store: the next collect counts what was not counted, and goes on."""
    repository = opened(store)
    last = list(made)[-1]
    repository.delete("v", last)
    assert len(state_of(store).uncounted) == 3
    store.objects.update(LOST)
    assert repository.collect("v")[0].deleted_objects
    assert state_of(store).uncounted == []
    del made[last]
    check(store, tmp_path, made)


def test_backups_go_on(store: MemoryStore, tmp_path: Path, made: dict[str, bytes]) -> None:
    """Also upon one whose summary builds on what is lost, and when it is time to write that whole again."""
    repository = opened(store)
    *_, last = made
    repository.delete("v", last)
    source = tmp_path / "source"
    for number in range(4):
        with open(source, "r+b") as file:
            file.seek(number * BLOCK)
            file.write(b"more")
        made[backup(store, source).backup_id] = source.read_bytes()
    first = next(iter(made))
    del made[last], made[first]
    assert repository.delete("v", first)
    assert repository.rebuild("v").roots
    repository.collect("v")
    check(store, tmp_path, made)


def test_a_backup_with_a_lost_page_is_not_mended(
    store: MemoryStore, tmp_path: Path, made: dict[str, bytes]
) -> None:
    """What it needs cannot be told in full, so it is left as it is, and named."""
    repository = opened(store)
    first, second, _, last = made
    page = max(key for key in store.objects if "/pages/00000002" in key)
    del store.objects[page]
    done = repository.rebuild("v")
    assert {first, second} <= set(done.lost)
    assert last not in done.lost
    with pytest.raises(StoredDataDamaged, match="nothing may be deleted"):
        repository.collect("v")
    for backup_id in done.lost:
        assert repository.delete("v", backup_id)
        del made[backup_id]
    repository.collect("v")
    check(store, tmp_path, made)


def test_a_backup_with_a_lost_segment_is_not_mended(
    store: MemoryStore, tmp_path: Path, made: dict[str, bytes]
) -> None:
    """Rule 12: its pages can be read, but how large it is cannot be told, and a summary says that of each object."""
    first, second, _, last = made
    del store.objects[max(key for key in store.objects if "/segments/00000002" in key)]
    done = opened(store).rebuild("v")
    assert {first, second} <= set(done.lost)
    assert last not in done.lost
