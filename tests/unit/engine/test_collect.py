"""Collect and trash: what somebody needs is never deleted; what nobody needs goes, and everything stays explicit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import BackupNotFound, ChangedList, KeyRing, Repository, VaultKey, runtime
from blockvault.engine.collect import Collected
from blockvault.engine.commits import Commits
from blockvault.engine.errors import (
    AttemptFenced,
    ListingImplausible,
    OwnedElsewhere,
    RollbackSuspected,
    VolumeNotFound,
)
from blockvault.engine.rollback import Seen
from blockvault.engine.state import Outcome, State
from blockvault.stores import AccessDenied, ObjectInfo
from tests.unit.engine import support
from tests.unit.engine.support import (
    Crash,
    CrashingStore,
    MemoryStore,
    at_call,
    backup,
    check_usage,
    commit,
    opened,
    restored,
    state_of,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
DATA = ("/segments/", "/pages/", "/roots/")


def write(path: Path, seed: int, blocks: int = 30) -> Path:
    path.write_bytes(random.Random(seed).randbytes(blocks * BLOCK))
    return path


def data_of(store: MemoryStore) -> set[str]:
    return {key for key in store.objects if any(folder in key for folder in DATA)}


def collect(store: MemoryStore, **options: Any) -> Collected:
    (done,) = opened(store).collect("v", **options)
    return done


def needed(store: MemoryStore) -> set[str]:
    from blockvault.engine.collect import Collector

    found = volume_of(store)
    return set(Collector(store, found.lineage)._needed(found.state).keys(found.lineage.paths))


@pytest.fixture
def kept(store: MemoryStore, tmp_path: Path) -> dict[str, bytes]:
    """Three backups of changing contents, of which the second is deleted; and what a dead run has left."""
    source = tmp_path / "source"
    contents = {}
    for seed in (1, 2, 3):
        write(source, seed)
        contents[backup(store, source).backup_id] = source.read_bytes()
    victim = list(contents)[1]
    opened(store).delete("v", victim)
    del contents[victim]
    write(source, 9)
    counting = MemoryStore(dict(store.objects))
    backup(counting, source, operation_id="dead")
    with pytest.raises(Crash):
        backup(CrashingStore(store.objects, counting.calls - 7, after=True), source, operation_id="dead")
    return contents


def check(store: MemoryStore, folder: Path, contents: dict[str, bytes]) -> None:
    assert sorted(entry["backupId"] for entry in opened(store).list("v")) == sorted(contents)
    for backup_id, content in contents.items():
        assert restored(store, folder, backup_id) == content
    check_usage(store)


def test_what_nobody_needs_goes(store: MemoryStore, tmp_path: Path, kept: dict[str, bytes]) -> None:
    """The dead run's objects stay while its attempt stands: it may still go on."""
    before = data_of(store)
    (dead,) = state_of(store).attempts
    sent = {key for key in before if f"/{dead.epoch:08x}-" in key}
    assert sent
    planned = collect(store, dry_run=True)
    assert data_of(store) == before
    done = collect(store)
    assert (done.deleted_objects, done.deleted_bytes) == (planned.deleted_objects, planned.deleted_bytes)
    assert done.deleted_objects == len(before) - len(data_of(store)) > 3
    assert data_of(store) == needed(store) | sent
    check(store, tmp_path, kept)
    assert collect(store).deleted_objects == 0
    # The run goes on with what it had sent; the backups together then need exactly what is there.
    source = tmp_path / "source"
    kept[backup(store, source, operation_id="dead").backup_id] = source.read_bytes()
    collect(store)
    assert data_of(store) == needed(store)
    check(store, tmp_path, kept)


def test_a_run_given_up_for_its_age_cannot_commit(store: MemoryStore, tmp_path: Path) -> None:
    """A clock that is wrong costs the run, never a backup."""
    source = write(tmp_path / "source", 1)
    first = backup(store, source)
    write(source, 2)
    slow = MemoryStore(store.objects)

    def before_the_root(number: int, kind: str, key: str) -> None:
        if kind == "put" and "/roots/" in key:
            slow.before = lambda *_: None
            done = collect(MemoryStore(store.objects), attempt_seconds=-1)
            assert len(done.given_up) == 1
            assert done.deleted_objects > 0

    slow.before = before_the_root
    with pytest.raises(AttemptFenced):
        backup(slow, source)
    assert [entry["backupId"] for entry in opened(store).list("v")] == [first.backup_id]
    collect(store)
    assert data_of(store) == needed(store)


def test_a_crash_at_every_request(store: MemoryStore, tmp_path: Path, kept: dict[str, bytes]) -> None:
    counting = MemoryStore(dict(store.objects))
    collect(counting, attempt_seconds=-1)
    for at in range(1, counting.calls + 1):
        for after in (False, True):
            objects = dict(store.objects)
            with pytest.raises(Crash):
                collect(CrashingStore(objects, at, after=after), attempt_seconds=-1)
            check(MemoryStore(objects), tmp_path, kept)
            again = MemoryStore(objects)
            collect(again, attempt_seconds=-1)
            assert data_of(again) == needed(again)
            assert state_of(again).condemned == []
            check(again, tmp_path, kept)


@pytest.mark.parametrize("rival", ["backup", "delete", "collect", "undelete"])
def test_others_in_the_middle(store: MemoryStore, tmp_path: Path, kept: dict[str, bytes], rival: str) -> None:
    """At every request of a collect another commits."""
    source = tmp_path / "source"
    trashed = next(iter(kept))
    opened(store).delete("v", trashed, keep_seconds=3600)
    counting = MemoryStore(dict(store.objects))
    collect(counting)
    for at in range(1, counting.calls + 1):
        racing = MemoryStore(dict(store.objects))
        contents = dict(kept)

        def act(racing: MemoryStore = racing, contents: dict[str, bytes] = contents) -> None:
            other = MemoryStore(racing.objects)
            if rival == "backup":
                contents[backup(other, source).backup_id] = source.read_bytes()
            elif rival == "delete":
                opened(other).delete("v", list(kept)[1])
                del contents[list(kept)[1]]
            elif rival == "collect":
                collect(other)
            else:
                opened(other).undelete("v", trashed)

        racing.before = at_call(at, act)
        try:
            collect(racing)
        except ListingImplausible:
            assert rival == "delete"
        racing.before = lambda *_: None
        check(racing, tmp_path, contents)


@pytest.mark.parametrize("folder", ["segments/", "pages/", "roots/"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_listing_that_is_empty_or_partial_deletes_nothing(
    store: MemoryStore, kept: dict[str, bytes], folder: str, share: float
) -> None:
    """F11: an empty or partial listing never means delete."""
    before = dict(store.objects)

    class Partial(MemoryStore):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            found = sorted(super().list(prefix), key=lambda info: info.key)
            return iter(found[: int(len(found) * share)] if prefix.endswith(folder) else found)

    partial = Partial(store.objects)
    with pytest.raises(ListingImplausible, match="not in the store's listing"):
        collect(partial)
    assert store.objects == before


def test_objects_of_a_later_epoch_stop_it(store: MemoryStore, kept: dict[str, bytes]) -> None:
    """The newest commits are gone: what they named is not deleted as if it were an orphan's."""
    objects = dict(store.objects)
    commits = sorted(key for key in objects if "/commits/" in key)
    for key in commits[3:]:
        del objects[key]
    rolled = MemoryStore(objects)
    before = dict(objects)
    with pytest.raises(RollbackSuspected, match="later epoch"):
        collect(rolled)
    assert objects == before


def test_a_root_made_without_an_attempt_is_no_sign_of_a_rollback(store: MemoryStore, tmp_path: Path) -> None:
    """What was read before it was put may be a commit that does not count: one that this store does not have."""
    source = write(tmp_path / "source", 1)
    contents = {backup(store, source).backup_id: source.read_bytes()}
    ahead = MemoryStore(dict(store.objects))
    backup(ahead, write(source, 2))
    before = set(ahead.objects)

    def crash(number: int, kind: str, key: str) -> None:
        if kind == "put" and "/roots/" in key:
            raise Crash(key)

    ahead.after = crash
    with pytest.raises(Crash):
        backup(ahead, source, changed=ChangedList([]))
    (orphan,) = set(ahead.objects) - before
    store.objects[orphan] = ahead.objects[orphan]
    assert collect(store).deleted_objects == 1
    assert orphan not in store.objects
    check(store, tmp_path, contents)


def test_a_number_seen_before(store: MemoryStore, kept: dict[str, bytes]) -> None:
    number, lineage = state_of(store).number, state_of(store).lineage
    with pytest.raises(RollbackSuspected, match="seen before"):
        collect(store, seen={lineage: Seen(number + 1)})
    assert collect(store, seen={lineage: Seen(number)}).deleted_objects > 0


def test_summaries_that_disagree_with_the_commit_stop_it(store: MemoryStore, kept: dict[str, bytes]) -> None:
    def wrong(state: State) -> None:
        state.used_bytes += 1

    commit(store, wrong)
    with pytest.raises(ListingImplausible, match="by the newest commit"):
        collect(store)


def test_what_the_store_refuses_to_delete_is_named(store: MemoryStore, kept: dict[str, bytes]) -> None:
    """Locked objects: a warning, not a failure; the next collect tries again."""

    class Locked(MemoryStore):
        def delete(self, keys: Any) -> None:
            keys = list(keys)
            if any("/segments/" in key for key in keys):
                raise AccessDenied("locked until later")
            super().delete(keys)

    before = data_of(store)
    done = collect(Locked(store.objects))
    assert (done.deleted_objects, len(done.warnings)) == (0, 1)
    assert data_of(store) == before
    assert collect(store).deleted_objects > 0


def test_condemned_objects_are_never_named_again(store: MemoryStore, tmp_path: Path) -> None:
    source = write(tmp_path / "source", 1)
    backup(store, source)
    write(source, 2)
    slow = MemoryStore(store.objects)

    def condemn(number: int, kind: str, key: str) -> None:
        if kind == "put" and "/roots/" in key:
            slow.before = lambda *_: None
            other = MemoryStore(store.objects)
            found = volume_of(other)

            def decide(state: State) -> tuple[State, Outcome]:
                name = next(key for key in other.objects if "/segments/00000002" in key)
                state.condemned = [name]
                return state, Outcome("", "condemn")

            Commits(other, found.lineage).update(decide, found.state)

    slow.before = condemn
    with pytest.raises(AttemptFenced, match="condemned"):
        backup(slow, source)


def test_old_commits_are_trimmed_and_chains_go_on(store: MemoryStore, tmp_path: Path) -> None:
    source = write(tmp_path / "source", 1, 5)
    contents = {}
    for seed in range(50):
        write(source, seed, 5)
        contents = {backup(store, source, full=True).backup_id: source.read_bytes()}
        for entry in opened(store).list("v")[:-1]:
            opened(store).delete("v", entry["backupId"])
    newest = state_of(store).number
    assert newest > 140
    done = collect(store)
    left = sorted(int(key[-16:]) for key in store.objects if "/commits/" in key)
    assert done.trimmed_commits > 50
    assert {number for number in left if number <= newest - 64} <= {64, 128}
    assert [number for number in left if number > newest - 64]
    check(store, tmp_path, contents)


def test_the_trash(store: MemoryStore, tmp_path: Path) -> None:
    """F18: deleted backups come back for as long as was said; `latest` never means one of them."""
    source = tmp_path / "source"
    made = []
    for seed in (1, 2):
        write(source, seed)
        made.append((backup(store, source), source.read_bytes()))
    (first, _), (second, content) = made
    repository = opened(store)
    used = repository.usage()[0]["usedBytes"]
    assert repository.delete("v", second.backup_id, keep_seconds=3600)
    (usage,) = repository.usage()
    assert (usage["usedBytes"], usage["backups"], usage["inTrash"]) == (used, 1, 1)
    assert 30 * BLOCK < usage["trashBytes"] < used
    assert repository.show("v")["backupId"] == first.backup_id
    assert "until" in repository.show("v", second.backup_id)["labels"]["trash"]
    collect(store)
    assert restored(store, tmp_path, second.backup_id) == content
    assert repository.undelete("v", second.backup_id)
    assert not repository.undelete("v", second.backup_id)
    assert repository.show("v")["backupId"] == second.backup_id
    assert repository.usage()[0]["trashBytes"] == 0
    repository.delete("v", second.backup_id, keep_seconds=3600)
    with runtime.use(runtime.Runtime(wall=lambda: __import__("time").time() + 3700)):
        done = collect(store)
    assert done.emptied == [second.backup_id]
    assert done.deleted_objects > 0
    with pytest.raises(BackupNotFound):
        repository.undelete("v", second.backup_id)
    assert [entry["backupId"] for entry in repository.list("v")] == [first.backup_id]
    assert repository.delete("v", first.backup_id, keep_seconds=1)
    with pytest.raises(BackupNotFound, match="1 in the trash"):
        repository.show("v")


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_volume_deleted_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool) -> None:
    """Its key goes first; the last commit outlives its data; the name can be used again, with another lineage."""
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(32))) if encrypted else KeyRing())
    store = MemoryStore()
    Repository.init(store, support.RING)
    source = write(tmp_path / "source", 1)
    backup(store, source)
    backup(store, source, volume="other")
    lineage = state_of(store).lineage
    assert opened(store).delete_volume("v")
    assert not opened(store).delete_volume("v")
    with pytest.raises(VolumeNotFound):
        opened(store).list("v")
    collect(store)
    left = {key for key in store.objects if lineage in key}
    assert left
    assert all("/commits/" in key for key in left)
    write(source, 2)
    result = backup(store, source)
    assert result.type == "full"
    assert state_of(store).lineage != lineage
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
    assert [done.volume for done in opened(store).collect()]
    assert len(opened(store).list("other")) == 1


def test_another_clusters_backups_are_read_only(store: MemoryStore, tmp_path: Path) -> None:
    """Two clusters on one store: neither deletes the other's data; taking over is explicit."""
    source = write(tmp_path / "source", 1)
    from blockvault.engine import BackupRequest

    mine, theirs = Repository.open(store, actor="one"), Repository.open(store, actor="two")
    result = mine.backup(BackupRequest(str(source), "v", threads=1))
    assert state_of(store).owner == {"cluster": "one", "since": state_of(store).owner["since"]}  # type: ignore[index]
    for refused in (
        lambda: theirs.delete("v", result.backup_id),
        lambda: theirs.delete("v", result.backup_id, keep_seconds=10),
        lambda: theirs.delete_volume("v"),
        lambda: theirs.collect("v"),
        lambda: theirs.compact("v"),
        lambda: theirs.backup(BackupRequest(str(source), "v", threads=1)),
        lambda: opened(store).delete("v", result.backup_id),
    ):
        with pytest.raises(OwnedElsewhere, match="belong to one"):
            refused()
    assert len(theirs.list("v")) == 1
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
    theirs.take_over("v", "two")
    with pytest.raises(OwnedElsewhere, match="belong to two"):
        mine.delete("v", result.backup_id)
    assert theirs.delete("v", result.backup_id)
