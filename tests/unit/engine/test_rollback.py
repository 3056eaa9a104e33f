"""What shows that a store was set back, or has lost commits: nothing is deleted, nothing begins anew over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import EngineError, KeyRing, NotAVault, Repository, StoredDataDamaged, VaultKey
from blockvault.engine.commitlog import CommitLog
from blockvault.engine.commits import Commits
from blockvault.engine.errors import CommitsLost, RollbackSuspected
from blockvault.engine.relocate import Relocation
from blockvault.engine.rollback import Seen
from blockvault.engine.state import Outcome
from tests.unit.engine import support
from tests.unit.engine.support import (
    Crash,
    CrashingStore,
    MemoryStore,
    at_call,
    backup,
    noise,
    opened,
    restored,
    state_of,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("small")

DATA = ("/segments/", "/pages/", "/roots/")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(noise(12))
    return tmp_path / "source"


def data_of(store: MemoryStore) -> set[str]:
    return {key for key in store.objects if any(folder in key for folder in DATA)}


def lose_commits(store: MemoryStore, last: int = 0) -> None:
    """So many of a store's latest commits; all of them by default."""
    for key in sorted(key for key in store.objects if "/commits/" in key)[-last:]:
        del store.objects[key]


def before_any_commit(number: int, kind: str, key: str) -> None:
    if "/commits/" in key:
        raise Crash(key)


@pytest.mark.parametrize("encrypted", [False, True])
def test_all_commits_lost(source: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool) -> None:
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(32))) if encrypted else KeyRing())
    store = MemoryStore()
    Repository.init(store, support.RING)
    backup(store, source, "v")
    lose_commits(store)
    backup(store, source, "other")
    before = data_of(store)
    for look in (
        lambda: backup(store, source, "v"),
        lambda: opened(store).list(),
        lambda: opened(store).list("v"),
        lambda: opened(store).collect(),
    ):
        with pytest.raises(CommitsLost, match="no commit is there") as raised:
            look()
        assert "accept-rollback" in raised.value.remedy
    found = opened(store).verify()
    assert not found["ok"]
    assert [row["volume"] for row in found["damaged"]] == ["v"]
    assert "no commit is there" in found["damaged"][0]["cause"]
    failed = [check for check in opened(store).doctor() if check["level"] == "fail"]
    assert [check["check"] for check in failed] == ["volume v"]
    assert "CommitsLost" in failed[0]["detail"]
    # One volume's loss hides no other.
    told: list[tuple[str, EngineError]] = []
    rows = opened(store).list(failed=lambda name, error: told.append((name, error)))
    assert [row["volume"] for row in rows] == ["other"]
    done = opened(store).collect(refused=lambda name, error: told.append((name, error)))
    assert [each.volume for each in done] == ["other"]
    assert [name for name, _ in told] == ["v", "v"]
    assert data_of(store) == before


def test_all_commits_lost_of_a_lineage_that_no_key_opens(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks as if its writer had died before the first commit, and its name were free."""
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(32))))
    store = MemoryStore()
    Repository.init(store, support.RING)
    backup(store, source)
    for key in [
        key for key in store.objects if "/commits/" in key or ("/keys/" in key and "lineages" in key)
    ]:
        del store.objects[key]
    with pytest.raises(CommitsLost):
        backup(store, source)


def test_a_lineage_of_which_only_data_is_left(store: MemoryStore, source: Path) -> None:
    backup(store, source)
    for key in [key for key in store.objects if "/commits/" in key or key.startswith("volumes/")]:
        del store.objects[key]
    found = opened(store).verify()
    assert "no commit is there" in found["damaged"][0]["cause"]


def test_a_writer_that_died_before_its_first_commit_is_no_loss(store: MemoryStore, source: Path) -> None:
    counting = MemoryStore(dict(store.objects))
    backup(counting, source)
    for at in range(1, counting.calls + 1):
        for after in (False, True):
            objects = dict(store.objects)
            with pytest.raises(Crash):
                backup(CrashingStore(objects, at, after=after), source)
            again = MemoryStore(objects)
            assert opened(again).verify()["ok"]
            backup(again, source)
            assert len(opened(again).list("v")) in (1, 2)


def test_a_first_backup_made_while_somebody_looks(store: MemoryStore, source: Path, tmp_path: Path) -> None:
    """Whoever reads finds a volume without commits, and then data: it is younger than the look at the commits."""
    dying = MemoryStore(store.objects)
    dying.before = before_any_commit
    with pytest.raises(Crash):
        backup(dying, source)
    assert not [key for key in store.objects if "/commits/" in key]
    made: list[str] = []
    for at in range(1, 12):
        racing = MemoryStore(dict(store.objects))
        calm = racing.view()

        def rival(calm: MemoryStore = calm) -> None:
            made.append(backup(calm, source).backup_id)

        racing.before = at_call(at, rival)
        opened(racing).list()
        opened(racing).find_operation("v", "op")
        backup(racing, source)
        assert restored(racing, tmp_path, made[-1]) == source.read_bytes()
    assert len(made) == 11


@pytest.mark.parametrize("left", ["volumes/", "lineages/", "keys/"])
def test_a_store_without_its_record_is_not_made_again(store: MemoryStore, source: Path, left: str) -> None:
    backup(store, source)
    record = store.objects.pop("blockvault")
    for key in [key for key in store.objects if not key.startswith(left)]:
        del store.objects[key]
    store.objects.setdefault(f"{left}00000002", b"a later key")
    for make in (Repository.init, Repository.open):
        with pytest.raises(StoredDataDamaged, match="is gone, although") as raised:
            make(store)
        assert "Do not run init" in raised.value.remedy
    assert "blockvault" not in store.objects
    store.objects["blockvault"] = record
    Repository.open(store)


def test_a_store_that_somebody_makes_meanwhile(source: Path) -> None:
    for at in range(1, 12):
        store = MemoryStore()
        calm = store.view()

        def rival(calm: MemoryStore = calm) -> None:
            Repository.init(calm)
            backup(calm, source)

        store.before = at_call(at, rival)
        made = Repository.init(store)
        assert made.store_id == Repository.open(calm).store_id
    with pytest.raises(NotAVault):
        Repository.open(MemoryStore())


def change(source: Path, seed: int) -> Path:
    source.write_bytes(noise(12, seed))
    return source


def backups(store: MemoryStore) -> list[str]:
    return [row["backupId"] for row in opened(store).list("v")]


def epochs(keys: set[str]) -> set[str]:
    return {key.rpartition("/")[2][:8] for key in keys}


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_rollback_is_not_forgotten(store: MemoryStore, source: Path, tmp_path: Path, lost: int) -> None:
    """The next run would get the lost one's epoch, and what that has left would be rubbish."""
    for seed in range(5):
        backup(store, change(source, seed), full=True)
    kept = backups(store)[:-lost]
    lose_commits(store, 2 * lost)
    before = data_of(store)
    with pytest.raises(RollbackSuspected, match="later epoch"):
        opened(store).collect()
    made = [backup(store, change(source, 90 + number)).backup_id for number in range(lost + 2)]
    assert state_of(store).rollback is not None
    assert backups(store) == [*kept, *made], "backups go on"
    assert not epochs(data_of(store) - before) & epochs(before), "under epochs above all that is there"
    for forbidden in (
        lambda: opened(store).collect(),
        lambda: opened(store).collect(dry_run=True),
        lambda: opened(store).delete("v", made[0]),
        lambda: opened(store).delete("v", made[0], keep_seconds=100),
        lambda: opened(store).delete_volume("v"),
    ):
        with pytest.raises(RollbackSuspected, match="noticed") as raised:
            forbidden()
        assert "accept-rollback" in raised.value.remedy
    assert before <= data_of(store)
    rows = opened(store).verify()["damaged"]
    assert [row["volume"] for row in rows] == ["v"]
    assert "was set back" in rows[0]["cause"]
    failed = [check for check in opened(store).doctor() if check["level"] == "fail"]
    assert ["RollbackSuspected" in check["detail"] for check in failed] == [True]
    # A person decides; then what was lost may go, and nothing else.
    assert opened(store).accept_rollback("v")
    assert not opened(store).accept_rollback("v")
    assert opened(store).collect()[0].deleted_objects > 0
    assert opened(store).verify()["ok"]
    assert backups(store) == [*kept, *made]
    assert restored(store, tmp_path, made[-1]) == source.read_bytes()


def test_a_compaction_notices_it_as_well(store: MemoryStore, source: Path) -> None:
    for seed in range(3):
        backup(store, change(source, seed), full=True)
    lose_commits(store, 2)
    found = volume_of(store)
    state, names = Relocation(store, found.lineage, None).begin(found.state)
    assert state.rollback is not None
    assert names.epoch == 4, "above the lost one"


def test_a_crash_at_every_request_of_the_run_that_notices(store: MemoryStore, source: Path) -> None:
    for seed in range(3):
        backup(store, change(source, seed), full=True)
    lose_commits(store, 2)
    before = data_of(store)
    counting = MemoryStore(dict(store.objects))
    backup(counting, source)
    for at in range(1, counting.calls + 1):
        objects = dict(store.objects)
        with pytest.raises(Crash):
            backup(CrashingStore(objects, at, after=True), source)
        again = MemoryStore(objects)
        with pytest.raises(RollbackSuspected):
            opened(again).collect(attempt_seconds=-1)
        backup(again, change(source, at))
        with pytest.raises(RollbackSuspected):
            opened(again).collect(attempt_seconds=-1)
        assert before <= data_of(again)


def test_accepted_before_any_run_has_noticed(store: MemoryStore, source: Path) -> None:
    for seed in range(3):
        backup(store, change(source, seed), full=True)
    lose_commits(store, 2)
    assert any("of epoch 3" in check["detail"] for check in opened(store).doctor())
    assert opened(store).accept_rollback("v")
    assert opened(store).collect()[0].deleted_objects > 0
    backup(store, source)
    assert state_of(store).rollback is None
    assert opened(store).verify()["ok"]


@pytest.mark.parametrize("single_writer", [False, True])
def test_accepted_without_any_commit(source: Path, tmp_path: Path, single_writer: bool) -> None:
    store = MemoryStore()
    Repository.init(store, single_writer=single_writer)
    backup(store, source)
    lost = data_of(store)
    lose_commits(store)
    assert opened(store).accept_rollback("v")
    made = backup(store, change(source, 2)).backup_id
    assert lost <= data_of(store)
    opened(store).collect()
    assert not lost & data_of(store)
    assert opened(store).verify()["ok"]
    assert restored(store, tmp_path, made) == source.read_bytes()


def test_runs_side_by_side_suspect_nothing(store: MemoryStore, source: Path) -> None:
    """A rival's root of the next epoch, seen before its commit is."""
    backup(store, source)
    counting = MemoryStore(dict(store.objects))
    backup(counting, change(source, 2))
    for at in range(1, counting.calls + 1):
        racing = MemoryStore(dict(store.objects))
        calm = racing.view()
        racing.before = at_call(at, lambda calm=calm: backup(calm, source, full=True))  # type: ignore[misc]
        backup(racing, source)
        assert state_of(racing).rollback is None
        assert len(backups(racing)) == 3


@pytest.mark.parametrize("further", [0, 1, 130])
def test_a_commit_seen_before_is_not_in_the_past(store: MemoryStore, source: Path, further: int) -> None:
    """Set back as a whole, and gone on with: the numbers alone do not tell."""
    backup(store, source)
    other = MemoryStore(dict(store.objects))
    backup(store, change(source, 2))
    state = state_of(store)
    seen = {state.lineage: Seen(state.number, state.commit_id)}
    backup(other, change(source, 3))
    for each in (store, other):
        found = volume_of(each)
        state = found.state
        for _ in range(further):
            state = Commits(each, found.lineage).update(lambda s: (s, Outcome("", "note")), state)
        CommitLog(each, found.lineage).trim(state.number)
    opened(store).collect(seen=seen)
    assert opened(store).verify(seen=seen)["ok"]
    with pytest.raises(RollbackSuspected, match="another commit"):
        opened(other).collect(seen=seen)
    assert "was set back" in opened(other).verify(seen=seen)["damaged"][0]["cause"]
    assert any("another commit" in check["detail"] for check in opened(other).doctor(seen))
