"""Objects that are damaged around what backups need: that is copied out of them, proven, and nothing else changes."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository, StoredDataDamaged, VaultKey, evacuate
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import name_of
from blockvault.engine.root import Roots
from tests.unit.engine import support
from tests.unit.engine.support import (
    Crash,
    CrashingStore,
    MemoryStore,
    at_call,
    backup,
    check_usage,
    opened,
    places_around,
    restored,
    state_of,
    tree_of,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
BLOCKS = 80

Contents = dict[str, bytes]


@pytest.fixture(params=["clear", "encrypted"])
def contents(
    request: pytest.FixtureRequest, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Contents:
    """Backups with patches upon patches and pages stored as patches; what the one that was deleted had is dead."""
    if request.param == "encrypted":
        monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(range(32)))))
        store.objects.clear()
        Repository.init(store, support.RING)
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    made = {backup(store, source).backup_id: source.read_bytes()}
    for number, (block, length) in enumerate([(10, 70), (12, 3 * BLOCK), (12, 70), (12, 100), (50, BLOCK)]):
        with open(source, "r+b") as file:
            file.seek(block * BLOCK + 64)
            file.write(random.Random(number).randbytes(length))
        made[backup(store, source).backup_id] = source.read_bytes()
    for backup_id in list(made)[:2]:
        opened(store).delete("v", backup_id)
        del made[backup_id]
    opened(store).collect("v")
    return made


def needed(store: MemoryStore) -> list[str]:
    """Keys of all segments and page objects that backups need."""
    found = volume_of(store)
    roots = Roots(store, found.lineage)
    keys = {
        found.lineage.paths.object(usage.kind, name)
        for entry in found.state.roots
        for name, usage in roots.summary(ObjectName.parse(entry.object)).items()
    }
    return sorted(keys)


def some(store: MemoryStore) -> list[str]:
    """A segment and a page object, of whole blocks and pages."""
    keys = needed(store)
    return [next(key for key in keys if folder in key) for folder in ("/segments/", "/pages/")]


def flip(store: MemoryStore, key: str, at: int) -> None:
    data = bytearray(store.objects[key])
    data[at] ^= 0x10
    store.objects[key] = bytes(data)


def check(store: MemoryStore, folder: Path, contents: Contents) -> None:
    assert [entry.id for entry in state_of(store).roots] == list(contents)
    for backup_id, content in contents.items():
        assert restored(store, folder, backup_id) == content
    check_usage(store)


def test_each_object_is_replaced(store: MemoryStore, tmp_path: Path, contents: Contents) -> None:
    """Every one of them, one after the other: segments, and pages with leaves, inner pages, patches, digests."""
    hashes = {entry["backupId"]: entry["rootHash"] for entry in opened(store).list("v")}
    keys = needed(store)
    assert len(keys) > 20
    for number, key in enumerate(keys[:: 3 if opened(store).encrypted else 1]):
        store_ = MemoryStore(dict(store.objects))
        places = places_around(store.objects[key])
        flip(store_, key, places[number % len(places)])
        found = opened(store_).verify("v", every_byte=True)
        assert {(row["object"], row["length"]) for row in found["damaged"]} == {(key, 0)}
        done = opened(store_).evacuate("v", [key])
        assert (done.objects, done.left) == (1, {})
        assert done.roots == len({row["backupId"] for row in found["damaged"]})
        assert key not in needed(store_)
        assert opened(store_).verify("v", every_byte=True)["ok"]
        opened(store_).collect("v")
        assert key not in store_.objects
        check(store_, tmp_path, contents)
        assert {row["backupId"]: row["rootHash"] for row in opened(store_).list("v")} == hashes


def test_all_objects_at_once(
    store: MemoryStore, tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are evacuated together; the next backup builds on what was made, and stores little."""
    monkeypatch.setattr(evacuate, "AT_ONCE", 3)
    keys = needed(store)
    for key in keys:
        flip(store, key, 100)
    assert not opened(store).verify("v", every_byte=True)["ok"]
    assert opened(store).evacuate("v", keys).objects == len(keys)
    assert not set(needed(store)) & set(keys)
    assert opened(store).verify("v", every_byte=True)["ok"]
    source = tmp_path / "source"
    with open(source, "r+b") as file:
        file.seek(30 * BLOCK)
        file.write(b"changed")
    before = set(store.objects)
    contents[backup(store, source).backup_id] = source.read_bytes()
    # Its sector digests were made anew as well: one sector is sent, not a block.
    (fresh,) = [key for key in store.objects.keys() - before if "/segments/" in key]
    assert len(store.objects[fresh]) < BLOCK / 4
    check(store, tmp_path, contents)
    assert opened(store).compact("v", budget=1 << 40).segments >= 0
    check(store, tmp_path, contents)


def test_copies_are_what_directories_say(store: MemoryStore, tmp_path: Path, contents: Contents) -> None:
    """What was made can be compacted, which relies on directories, and on the hashes in them."""
    keys = [key for key in needed(store) if "/segments/" in key]
    opened(store).evacuate("v", keys)
    for backup_id in list(contents)[:-2]:
        opened(store).delete("v", backup_id)
        del contents[backup_id]
    from tests.unit.engine.test_compact import compact

    assert compact(store, alive_share=1.1).segments > 0
    check(store, tmp_path, contents)
    assert opened(store).verify("v", every_byte=True)["ok"]


def test_what_cannot_be_proven_is_left(store: MemoryStore, tmp_path: Path, contents: Contents) -> None:
    """A block in the object is damaged too: no copy gives it a fresh checksum, and the others are replaced."""
    keys = needed(store)
    segment = next(key for key in keys if "/segments/" in key)
    flip(store, segment, 200)
    damaged = opened(store).verify("v")["damaged"]
    assert {row["object"] for row in damaged} == {segment}
    done = opened(store).evacuate("v", keys)
    assert segment in done.left
    assert all("damaged as well" in why for why in done.left.values())
    assert done.objects == len(keys) - len(done.left)
    assert segment in needed(store)
    assert {row["object"] for row in opened(store).verify("v")["damaged"]} == {segment}
    lost = {row["backupId"] for row in damaged}
    for backup_id, content in contents.items():
        if backup_id in lost:
            with pytest.raises(StoredDataDamaged):
                restored(store, tmp_path, backup_id)
        else:
            assert restored(store, tmp_path, backup_id) == content
    check_usage(store)
    # The next backup stores the block anew, old ones get it, and then nothing is in the way.
    backup(store, tmp_path / "source")
    opened(store).heal("v")
    assert opened(store).evacuate("v", done.left).left == {}
    assert opened(store).verify("v")["ok"]
    check_usage(store)


def test_a_base_is_not_proven_by_what_covers_its_damage(store: MemoryStore, tmp_path: Path) -> None:
    """A later backup has a patch on the very sector that is damaged and so gives its hash; the base does not go along."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(4 * BLOCK))
    made = {backup(store, source).backup_id: source.read_bytes()}
    segment = min(key for key in store.objects if "/segments/" in key)
    with open(source, "r+b") as file:
        file.seek(3 * 64)
        file.write(random.Random(2).randbytes(64))
    made[backup(store, source).backup_id] = source.read_bytes()
    flip(store, segment, 128 + 3 * 64)
    done = opened(store).evacuate("v", [segment])
    assert (done.objects, list(done.left)) == (0, [segment])
    first, second = made
    with pytest.raises(StoredDataDamaged, match=segment):
        restored(store, tmp_path, first)
    assert restored(store, tmp_path, second) == made[second]


def test_a_copy_that_goes_wrong_is_not_relied_on(
    store: MemoryStore, tmp_path: Path, contents: Contents
) -> None:
    """Copies are read back before any root names them."""

    class Spoiling(MemoryStore):
        def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
            spoiled = bytearray(data)
            if "/segments/" in key:
                spoiled[200] ^= 1
            super().put(key, spoiled)

    key = next(key for key in needed(store) if "/segments/" in key)
    with pytest.raises(StoredDataDamaged, match="a copy just made"):
        opened(Spoiling(store.objects)).evacuate("v", [key])
    assert state_of(store).attempts == []
    assert all(entry.revision == 1 for entry in state_of(store).roots)
    check(store, tmp_path, contents)


def test_a_page_that_cannot_be_read_is_in_the_way(store: MemoryStore, contents: Contents) -> None:
    found = volume_of(store)
    last = BLOCKS // 4 - 1
    ref = tree_of(store, found.state.roots[-1]).inner(1, last // 4).entries[last % 4]
    flip(store, found.lineage.paths.pages(name_of(ref)), int(ref["offset"]) + 3)
    # Nothing of the victim is known to lie below it; but nobody can say what does.
    victim = max(key for key in needed(store) if "/segments/" in key)
    with pytest.raises(StoredDataDamaged, match=str(name_of(ref))):
        opened(store).evacuate("v", [victim])
    assert state_of(store).attempts == []
    assert all(entry.revision == 1 for entry in state_of(store).roots)


def test_what_is_no_such_object_is_passed_over(store: MemoryStore, contents: Contents) -> None:
    number = state_of(store).number
    keys = [key for key in store.objects if "/roots/" in key or "/commits/" in key]
    keys += ["blockvault", f"lineages/{'0' * 32}/segments/00000001-00000001-0000000000000001"]
    done = opened(store).evacuate("v", keys)
    assert (done.objects, done.roots, done.left) == (0, 0, {})
    assert state_of(store).number == number


@pytest.mark.parametrize("contents", ["clear"], indirect=True)
def test_a_crash_at_every_request(store: MemoryStore, tmp_path: Path, contents: Contents) -> None:
    keys = some(store)
    counting = MemoryStore(dict(store.objects))
    opened(counting).evacuate("v", keys)
    for at in range(1, counting.calls + 1, 5):
        objects = dict(store.objects)
        with pytest.raises(Crash):
            opened(CrashingStore(objects, at, after=at % 2 == 0)).evacuate("v", keys)
        check(MemoryStore(objects), tmp_path, contents)
    again = MemoryStore(objects)
    opened(again).evacuate("v", keys)
    assert not set(needed(again)) & set(keys)
    check(again, tmp_path, contents)


@pytest.mark.parametrize("contents", ["clear"], indirect=True)
def test_others_in_the_middle(store: MemoryStore, tmp_path: Path, contents: Contents) -> None:
    """A backup, a deletion and a collect at every few requests: nobody misses anything."""
    keys = some(store)
    source = tmp_path / "source"
    victim = list(contents)[1]
    counting = MemoryStore(dict(store.objects))
    opened(counting).evacuate("v", keys)
    for at in range(1, counting.calls + 1, 9):
        racing = MemoryStore(dict(store.objects))
        left = {backup_id: content for backup_id, content in contents.items() if backup_id != victim}

        def act(calm: MemoryStore, left: Contents) -> None:
            opened(calm).delete("v", victim)
            left[backup(calm, source).backup_id] = source.read_bytes()
            opened(calm).collect("v")

        racing.before = at_call(at, partial(act, racing.view(), left))
        opened(racing).evacuate("v", keys)
        racing.before = lambda *_: None
        check(racing, tmp_path, left)
        opened(racing).collect("v")
        check(racing, tmp_path, left)
