"""What shows that a store was set back, or has lost commits: nothing is deleted, nothing begins anew over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import EngineError, KeyRing, NotAVault, Repository, StoredDataDamaged, VaultKey
from blockvault.engine.errors import CommitsLost
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
