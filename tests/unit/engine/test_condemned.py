"""Rules 11 and 12, clause by clause: what collect condemns, when it deletes, and what stops it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blockvault.engine import BackupResult, ChangedList, StoredDataDamaged, collect, summary
from blockvault.engine.commitlog import MILESTONE
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import ListingImplausible
from blockvault.engine.names import ObjectName
from blockvault.engine.root import Roots, checksum_of, encode
from blockvault.engine.state import State
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

DATA = ("/segments/", "/pages/", "/roots/")


def is_data(key: str) -> bool:
    return any(folder in key for folder in DATA)


def data_of(store: MemoryStore) -> set[str]:
    return {key for key in store.objects if is_data(key)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(noise(12))
    return tmp_path / "source"


@pytest.fixture
def made(store: MemoryStore, source: Path) -> BackupResult:
    """What one backup needs, and what one that was deleted did."""
    gone = backup(store, source)
    source.write_bytes(noise(12, 2))
    kept = backup(store, source, full=True)
    opened(store).delete("v", gone.backup_id)
    return kept


def test_what_is_deleted_stands_condemned(store: MemoryStore, made: BackupResult) -> None:
    """Rule 11: in the newest commit, when it is deleted; and the state forgets it only when it has gone."""
    watched, deleted = store.view(), []

    def watch(number: int, kind: str, key: str) -> None:
        if kind == "delete" and is_data(key):
            deleted.append(key)
            assert key in state_of(store).condemned

    watched.before = watch
    opened(watched).collect("v")
    assert deleted
    assert not state_of(store).condemned


def test_what_was_deleted_and_not_forgotten_is_forgotten(store: MemoryStore, made: BackupResult) -> None:
    """Rule 11: a collect that died before its last commit has left nothing that another would condemn."""
    dying, before = store.view(), state_of(store)

    def stop(number: int, kind: str, key: str) -> None:
        if kind == "create" and key.endswith(f"{before.number + 2:016d}"):
            raise Crash(key)

    dying.before = stop
    with pytest.raises(Crash):
        opened(dying).collect("v")
    assert state_of(store).condemned
    opened(store).collect("v")
    assert not state_of(store).condemned


def test_a_commit_condemns_no_more_than_one_request_deletes(
    store: MemoryStore, made: BackupResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 11: commits stay small however much goes, also where another collector has condemned something else."""
    monkeypatch.setattr(collect, "ROUND", 3)
    ahead = MemoryStore(dict(store.objects))
    opened(ahead).collect("v")
    unneeded = sorted(data_of(store) - data_of(ahead))
    assert len(unneeded) > 6
    watched, most = store.view(), []

    def rival(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            watched.before = lambda *_: None
            commit(store, lambda state: state.condemned.extend(unneeded[-3:]))

    def watch(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            most.append(len(state_of(store).condemned))

    watched.before, watched.after = rival, watch
    opened(watched).collect("v")
    assert max(most) == 3
    opened(store).collect("v")
    assert data_of(store) == data_of(ahead)
    check_usage(store)


def test_what_a_backup_needs_is_not_deleted_even_when_condemned(
    store: MemoryStore, made: BackupResult
) -> None:
    """Rule 11: then a rule was broken before; it stops there."""
    before = data_of(store)
    (entry,) = state_of(store).roots
    (root,) = [key for key in before if key.endswith(entry.object)]
    commit(store, lambda state: state.condemned.append(root))
    with pytest.raises(ListingImplausible, match="is condemned, and a backup needs it"):
        opened(store).collect("v")
    assert data_of(store) == before


def test_a_collector_that_slept_deletes_nothing_by_what_it_knew(
    store: MemoryStore, made: BackupResult, source: Path, tmp_path: Path
) -> None:
    """Rule 11: its commit takes a number that was trimmed, and so does not count; what it took out was undeleted."""
    trashed = backup(store, source, full=True)
    opened(store).delete("v", trashed.backup_id, keep_seconds=1e-9)
    slow = store.view()

    def sleep(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            slow.before = lambda *_: None
            opened(store).undelete("v", trashed.backup_id)
            for _ in range(2 * MILESTONE):
                commit(store)
            assert opened(store).collect("v")[0].trimmed_commits

    slow.before = sleep
    done = opened(slow).collect("v")
    assert not done[0].deleted_objects
    assert restored(store, tmp_path, trashed.backup_id) == source.read_bytes()
    check_usage(store)


def test_a_root_that_was_committed_meanwhile_is_not_condemned(
    store: MemoryStore, made: BackupResult, source: Path, tmp_path: Path
) -> None:
    """Rules 2 and 11: no attempt protected it when collect chose it; it is decided anew by what the commit follows."""
    opened(store).collect("v")
    ahead = MemoryStore(dict(store.objects))
    same = backup(ahead, source, changed=ChangedList([]))
    root, entered = sorted(set(ahead.objects) - set(store.objects), key=lambda key: "/commits/" in key)
    assert is_data(root)
    store.objects[root] = ahead.objects[root]
    slow = store.view()

    def arrive(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            store.objects.setdefault(entered, ahead.objects[entered])

    slow.before = arrive
    assert not opened(slow).collect("v")[0].deleted_objects
    assert restored(store, tmp_path, same.backup_id) == source.read_bytes()
    check_usage(store)


def test_a_root_that_was_collected_meanwhile_is_not_committed(
    store: MemoryStore, made: BackupResult, source: Path, tmp_path: Path
) -> None:
    """Rule 11: a backup in one commit is refused after any other one, and made in two."""
    slow = store.view()

    def collect(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            slow.before = lambda *_: None
            assert opened(store).collect("v")[0].deleted_objects

    slow.before = collect
    same = backup(slow, source, changed=ChangedList([]))
    assert restored(store, tmp_path, same.backup_id) == source.read_bytes()
    check_usage(store)


def test_a_base_is_needed_although_patches_hide_it_wholly(
    store: MemoryStore, source: Path, tmp_path: Path
) -> None:
    """Rule 12: decoding takes it all the same."""
    first = backup(store, source)
    for half in (0, 2048):
        with open(source, "r+b") as file:
            file.seek(half)
            file.write(noise(1, half + 5)[:2048])
        last = backup(store, source)
    segment = [key for key in data_of(store) if "/segments/00000001-" in key]
    opened(store).delete("v", first.backup_id)
    opened(store).collect("v")
    assert {*segment} <= data_of(store)
    assert restored(store, tmp_path, last.backup_id) == source.read_bytes()
    check_usage(store)


def test_a_root_is_needed_on_which_a_summary_is_based(
    store: MemoryStore, source: Path, tmp_path: Path
) -> None:
    """Rule 12: although its backup was deleted; and the others' roots have to name it in a row that ends."""
    first = backup(store, source)
    with open(source, "r+b") as file:
        file.write(noise(1, 5))
    second = backup(store, source)
    found = volume_of(store)
    names = [ObjectName.parse(entry.object) for entry in found.state.roots]
    opened(store).delete("v", first.backup_id)
    opened(store).collect("v")
    below = found.lineage.paths.root(names[0])
    assert below in store.objects
    assert restored(store, tmp_path, second.backup_id) == source.read_bytes()
    check_usage(store)
    root = Roots(store, found.lineage).at(names[0])
    size = len(store.objects[below])
    facts = {**root.facts, "summary": {"base": {"object": str(names[1]), "bytes": size}, "depth": 1}}
    store.objects[below] = encode(below, names[0], facts, root.records, root.samples, None)
    before = data_of(store)
    with pytest.raises(StoredDataDamaged, match="not of depth"):
        Roots(store, found.lineage).objects(names)
    with pytest.raises(StoredDataDamaged, match="nothing may be deleted"):
        opened(store).collect("v")
    assert data_of(store) == before


@pytest.mark.parametrize("folder", ["/segments/", "/pages/"])
def test_an_object_of_another_size_stops_it(store: MemoryStore, made: BackupResult, folder: str) -> None:
    """Rule 12: all that is needed has to be in the listing, with its size. A root of another one cannot be read."""
    (entry,) = state_of(store).roots
    key = min(key for key in data_of(store) if f"{folder}{entry.object[:8]}" in key)
    store.objects[key] += b"more"
    before = data_of(store)
    with pytest.raises(ListingImplausible, match="not in the store's listing as they should be"):
        opened(store).collect("v")
    assert data_of(store) == before


def test_what_a_run_sends_meanwhile_is_not_looked_at(
    store: MemoryStore, made: BackupResult, source: Path
) -> None:
    """Rule 12: it began after the state was read, so that nothing there protects it; a dry run does not count it."""
    wanted = opened(store).collect("v", dry_run=True)[0].deleted_objects
    watched = store.view()

    def begin(number: int, kind: str, key: str) -> None:
        if kind == "list" and key.endswith("/segments/"):
            watched.before = lambda *_: None
            dying = store.view()
            dying.before = lambda number, kind, key: stop() if kind == "put" and "/roots/" in key else None
            with pytest.raises(Crash):
                backup(dying, source, full=True)

    def stop() -> None:
        raise Crash

    watched.before = begin
    assert opened(watched).collect("v", dry_run=True)[0].deleted_objects == wanted
    assert state_of(store).attempts


@pytest.mark.parametrize("lost", ["of a pin", "below a pin"])
def test_what_a_pin_needs_cannot_be_told(store: MemoryStore, source: Path, tmp_path: Path, lost: str) -> None:
    """Rule 12: then nothing is deleted, although every backup that is left could be read."""
    first = backup(store, source)
    with open(source, "r+b") as file:
        file.write(noise(1, 5))
    second = backup(store, source)
    backup(store, source, full=True)
    reader = store.view()
    roots = {entry.id: entry.object for entry in state_of(store).roots}

    def delete(number: int, kind: str, key: str) -> None:
        if "/segments/" in key:
            reader.before = lambda *_: None
            for each in (first, second):
                opened(store).delete("v", each.backup_id)
            gone = roots[(second if lost == "of a pin" else first).backup_id]
            (key,) = [key for key in store.objects if key.endswith(gone)]
            del store.objects[key]
            before = data_of(store)
            with pytest.raises(StoredDataDamaged, match=r"what a restore begun at .* reads cannot be told"):
                opened(store).collect("v")
            assert data_of(store) == before

    reader.before = delete
    opened(reader).restore("v", str(tmp_path / "target"), second.backup_id)
    assert opened(store).collect("v")[0].deleted_objects, "when it has ended, that goes"


@pytest.mark.parametrize("wrong", ["more", "fewer"])
def test_a_summary_that_names_other_objects_than_the_pages_is_found(
    store: MemoryStore, source: Path, wrong: str
) -> None:
    """Rule 12: verify computes what is needed anew, and compares; all that the summary names is there."""
    backup(store, source)
    found = volume_of(store)
    assert opened(store).verify("v")["ok"]
    (entry,) = found.state.roots
    name, paths = ObjectName.parse(entry.object), found.lineage.paths
    root = Roots(store, found.lineage).at(name)
    records = root.records[1:].copy()
    if wrong == "more":
        records = np.concatenate([root.records[:1], root.records])
        records[0]["nonce"], records[0]["sequence"] = 1, 0
        key = paths.object(Kind(int(records[0]["kind"])), summary.name_of(records[0]))
        store.objects[key] = bytes(int(records[0]["size"]))
    data = encode(paths.root(name), name, root.facts, records, root.samples, None)
    store.objects[paths.root(name)] = data

    def change(state: State) -> None:
        state.roots[0].object_bytes, state.roots[0].object_checksum = len(data), checksum_of(data)

    commit(store, change)
    rows = opened(store).verify("v")["damaged"]
    assert "its summary names other objects than its pages reach" in {row["cause"] for row in rows}


def test_an_object_of_somebody_else_stops_it(store: MemoryStore, made: BackupResult) -> None:
    """Rule 12: nobody can say what it is needed for."""
    key = next(key for key in store.objects if "/segments/" in key)
    store.objects[f"{key.rpartition('/')[0]}/notes.txt"] = b"mine"
    before = data_of(store)
    with pytest.raises(ListingImplausible, match="not an object of a store of backups"):
        opened(store).collect("v")
    assert data_of(store) == before
