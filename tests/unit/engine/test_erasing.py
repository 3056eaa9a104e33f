"""All of one cluster goes, in whatever state it was left; what is another one's stays (A6, F5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository
from blockvault.engine.erasing import erase
from blockvault.engine.volumes import Volume
from blockvault.stores import AccessDenied
from tests.unit.engine.support import MemoryStore, at_call, noise

pytestmark = pytest.mark.usefixtures("small")


def make(store: MemoryStore, actor: str, volume: str, path: Path, runs: int = 2) -> list[str]:
    repository = Repository.open(store, actor=actor)
    made = []
    for run in range(runs):
        path.write_bytes(b"".join(noise(1, 100 * run + n) for n in range(8)))
        made.append(repository.backup(BackupRequest(str(path), volume, threads=1)).backup_id)
    return made


@pytest.fixture
def filled(store: MemoryStore, tmp_path: Path) -> MemoryStore:
    """Two volumes of cluster one, the first with a backup in the trash; one of cluster two."""
    for actor, volume in (("one", "a"), ("one", "b"), ("two", "c")):
        made = make(store, actor, volume, tmp_path / "source")
        if volume == "a":
            Repository.open(store, actor=actor).delete(volume, made[0], keep_seconds=1000)
    return store


def data(store: MemoryStore) -> set[str]:
    """What holds data or opens it."""
    return {key for key in store.objects if key.startswith("lineages/") and "/commits/" not in key}


def test_a6_all_of_it_goes_with_the_trash_and_what_is_foreign_stays(filled: MemoryStore) -> None:
    foreign = data(filled) - data_of(filled, "one")
    result = erase(Repository.open(filled, actor="one"))
    assert (result.volumes, result.failed, result.errors) == (2, 0, [])
    assert (result.foreign, result.foreign_names) == (1, ["c"])
    assert result.deleted_bytes > 0
    assert data(filled) == foreign
    two = Repository.open(filled, actor="two")
    assert len(two.list()) == 2
    assert two.verify("c")["ok"]
    # Done again it finds nothing to do.
    again = erase(Repository.open(filled, actor="one"))
    assert (again.deleted_objects, again.failed, again.foreign) == (0, 0, 1)


def test_f5_what_belongs_to_nobody_stays(filled: MemoryStore, tmp_path: Path) -> None:
    """As the command line leaves it without an actor."""
    nobodys = Repository.open(filled)
    (tmp_path / "source").write_bytes(noise(1, 7))
    nobodys.backup(BackupRequest(str(tmp_path / "source"), "d", threads=1))
    result = erase(Repository.open(filled, actor="one"))
    assert (result.volumes, result.foreign, result.foreign_names, result.failed) == (2, 2, ["c", "d"], 0)
    assert nobodys.verify("d")["ok"]


def test_f18_a_mover_that_slept_ends_nothing_that_was_made_since(filled: MemoryStore, tmp_path: Path) -> None:
    """Another one has erased it all meanwhile, and the same volume is backed up anew."""
    awake = Repository.open(filled, actor="one")
    slow = Repository.open(filled, actor="one")
    ending = slow.end

    def sleep(found: Volume) -> None:
        if found.state.volume == "a" and not made_anew:
            erase(awake)
            made_anew.extend(make(filled, "one", "a", tmp_path / "source", 1))
        ending(found)

    made_anew: list[str] = []
    slow.end = sleep  # type: ignore[method-assign]
    erase(slow)
    assert [row["backupId"] for row in awake.list("a")] == made_anew
    assert awake.verify("a")["ok"]


def data_of(store: MemoryStore, actor: str) -> set[str]:
    copy = MemoryStore(dict(store.objects))
    erase(Repository.open(copy, actor=actor))
    return data(store) - data(copy)


def test_a6_interrupted_at_any_request_it_goes_on(filled: MemoryStore) -> None:
    counting = MemoryStore(dict(filled.objects))
    erase(Repository.open(counting, actor="one"))
    after = data(counting)
    for at in range(1, counting.calls + 1, 3):
        store = MemoryStore(dict(filled.objects))

        def die(_: MemoryStore = store) -> None:
            raise KeyboardInterrupt

        store.before = at_call(at, die)
        with pytest.raises(KeyboardInterrupt):
            erase(Repository.open(store, actor="one"))
        store.before = lambda *_: None
        assert erase(Repository.open(store, actor="one")).failed == 0
        assert data(store) == after


def test_what_a_store_refuses_to_delete_is_told(filled: MemoryStore) -> None:
    def refuse(number: int, kind: str, key: str) -> None:
        if kind == "delete":
            raise AccessDenied("memory: no deletion here")

    filled.before = refuse
    result = erase(Repository.open(filled, actor="one"))
    assert result.failed == 2
    assert result.errors[0]["reason"] == "AccessDenied"
    assert "no deletion here" in result.errors[0]["message"]
