"""Old backups get back what a later one has stored anew: the same bytes, read back before, and nothing else."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository, StoredDataDamaged, VaultKey, runtime
from blockvault.engine.leaf import Leaf
from blockvault.engine.names import ObjectName
from tests.unit.engine import support
from tests.unit.engine.support import (
    Crash,
    CrashingStore,
    MemoryStore,
    at_call,
    backup,
    check_usage,
    opened,
    repeatable,
    restored,
    state_of,
    tree_of,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
BLOCKS = 60
# Blocks that are damaged: 8 has changed in the second backup, 40 changes before it can be stored anew.
DAMAGED = (3, 7, 8, 40)

Contents = dict[str, bytes]


@pytest.fixture(params=["clear", "encrypted"])
def contents(
    request: pytest.FixtureRequest, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Contents:
    """Three backups with blocks that are damaged in all of them, and a fourth that has stored them anew."""
    if request.param == "encrypted":
        monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(range(32)))))
        store.objects.clear()
        Repository.init(store, support.RING)
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    made = {}
    for number in range(3):
        with open(source, "r+b") as file:
            for block in (20, 8) if number == 1 else (20,):
                file.seek(block * BLOCK + 64 * number)
                file.write(random.Random(number).randbytes(64))
        made[backup(store, source).backup_id] = source.read_bytes()
    with open(source, "r+b") as file:
        file.seek(DAMAGED[-1] * BLOCK)
        file.write(b"changed before it was stored anew")
    damage(store)
    assert not opened(store).verify("v")["ok"]
    made[backup(store, source).backup_id] = source.read_bytes()
    return made


def leaf_of(store: MemoryStore, number: int, block: int) -> Leaf:
    _, leaf = next(tree_of(store, state_of(store).roots[number]).leaves([block // 4]))
    assert leaf is not None
    return leaf


def damage(store: MemoryStore) -> None:
    """Flip a bit of each damaged block's base, which all backups share."""
    found = volume_of(store)
    for block in DAMAGED:
        base = leaf_of(store, -1, block).base(block % 4)
        assert base is not None
        key = found.lineage.paths.segment(base.name)
        data = bytearray(store.objects[key])
        data[base.offset + base.length // 2] ^= 1
        store.objects[key] = bytes(data)


def readable(store: MemoryStore, folder: Path, contents: Contents) -> int:
    """How many backups can be read; none may be read as something else. The last always is."""
    count = 0
    for entry in state_of(store).roots:
        try:
            assert restored(store, folder, entry.id) == contents[entry.id]
            count += 1
        except StoredDataDamaged:
            assert entry.id != list(contents)[-1]
    return count


def mend_last_block(store: MemoryStore, source: Path, contents: Contents) -> None:
    """The volume gets back what it had: the next backup stores that too."""
    first = next(iter(contents.values()))
    with open(source, "r+b") as file:
        file.seek(DAMAGED[-1] * BLOCK)
        file.write(first[DAMAGED[-1] * BLOCK : (DAMAGED[-1] + 1) * BLOCK])
    contents[backup(store, source).backup_id] = source.read_bytes()


def test_a_lost_root_is_in_nobodys_way(store: MemoryStore, tmp_path: Path, contents: Contents) -> None:
    """The others are mended: first what they need is written down anew, where the lost root said it, then blocks."""
    entry = state_of(store).roots[0]
    found = volume_of(store)
    del store.objects[found.lineage.paths.root(ObjectName.parse(entry.object))]
    done = opened(store).rebuild("v")
    assert (done.roots, done.lost) == (2, [entry.id])
    assert opened(store).heal("v").roots == 2
    mend_last_block(store, tmp_path / "source", contents)
    assert opened(store).heal("v").roots == 2
    assert opened(store).delete("v", entry.id)
    del contents[entry.id]
    assert readable(store, tmp_path, contents) == len(contents) == 4
    opened(store).collect("v")
    check_usage(store)


def test_older_backups_are_mended(store: MemoryStore, tmp_path: Path, contents: Contents) -> None:
    hashes = {entry["backupId"]: entry["rootHash"] for entry in opened(store).list("v")}
    assert readable(store, tmp_path, contents) == 1
    done = opened(store).heal("v")
    # All but block 40, and block 8 as it was in the first backup: no later one has those bytes.
    assert (done.blocks, done.roots) == (3 + 3 + 2, 3)
    check_usage(store)
    assert readable(store, tmp_path, contents) == 1
    assert len(state_of(store).damaged) == 2
    assert opened(store).heal("v").roots == 0
    mend_last_block(store, tmp_path / "source", contents)
    assert opened(store).heal("v").blocks == 3
    assert readable(store, tmp_path, contents) == len(contents) - 1 == 4
    assert len(state_of(store).damaged) == 1
    assert (
        hashes.items() <= {entry["backupId"]: entry["rootHash"] for entry in opened(store).list("v")}.items()
    )
    check_usage(store)
    opened(store).delete("v", next(iter(contents)))
    opened(store).collect("v")
    assert opened(store).verify("v")["ok"]
    assert state_of(store).damaged == []
    assert readable(store, tmp_path, contents) == 4
    check_usage(store)


def test_what_is_damaged_as_well_mends_nothing(
    store: MemoryStore, tmp_path: Path, contents: Contents
) -> None:
    """A copy that nobody has read back yet is read before anything relies on it."""
    damage(store)
    assert opened(store).heal("v").roots == 0
    assert all(entry.revision == 1 for entry in state_of(store).roots)
    check_usage(store)


@pytest.mark.parametrize("contents", ["clear"], indirect=True)
def test_a_crash_at_every_request(store: MemoryStore, tmp_path: Path, contents: Contents) -> None:
    mend_last_block(store, tmp_path / "source", contents)
    counting = MemoryStore(dict(store.objects))
    opened(counting).heal("v")
    moment = runtime.wall()
    left: list[dict[str, bytes]] = []
    seen = set()
    for at in range(1, counting.calls + 1):
        for after in (False, True):
            objects = dict(store.objects)
            with pytest.raises(Crash), repeatable(moment):
                opened(CrashingStore(objects, at, after=after)).heal("v")
            if objects not in left:
                left.append(objects)
                again = MemoryStore(dict(objects))
                seen.add(readable(again, tmp_path, contents))
                check_usage(again)
    assert seen == {2, 4}


@pytest.mark.parametrize("contents", ["clear"], indirect=True)
@pytest.mark.parametrize("rival", ["delete the donor", "delete a patient", "backup"])
def test_others_in_the_middle(store: MemoryStore, tmp_path: Path, contents: Contents, rival: str) -> None:
    """What a backup was mended with goes with another one: then it is not mended, and nobody misses anything."""
    source = tmp_path / "source"
    counting = MemoryStore(dict(store.objects))
    opened(counting).heal("v")
    ids = list(contents)
    gone = {"delete the donor": ids[-1], "delete a patient": ids[0], "backup": None}[rival]
    moment = runtime.wall()
    ends: list[dict[str, bytes]] = []
    done = set()
    for at in range(1, counting.calls + 1):
        racing = MemoryStore(dict(store.objects))

        def act(calm: MemoryStore) -> None:
            if gone is None:
                backup(calm, source)
            else:
                opened(calm).delete("v", gone)
                opened(calm).collect("v")

        racing.before = at_call(at, partial(act, racing.view()))
        with repeatable(moment):
            done.add(opened(racing).heal("v").roots)
        racing.before = lambda *_: None
        if racing.objects in ends:
            continue
        ends.append(dict(racing.objects))
        left = [entry.id for entry in state_of(racing).roots]
        assert left[: len(ids) - (gone is not None)] == [one for one in ids if one != gone]
        assert len(left) == len(ids) + (1 if gone is None else -1), f"request {at}"
        for _ in range(2):
            for entry in state_of(racing).roots:
                if entry.id not in ids[:3]:
                    assert restored(racing, tmp_path, entry.id) == source.read_bytes()
            check_usage(racing)
            opened(racing).collect("v")
    assert done == {"delete the donor": {0, 3}, "delete a patient": {2, 3}, "backup": {3}}[rival]
