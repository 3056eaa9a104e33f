"""All of one cluster goes, in whatever state it was left; what is another one's stays (A6, F5)."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository
from blockvault.engine.erasing import erase
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
