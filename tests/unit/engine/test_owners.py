"""A volume is taken over by another cluster in the midst of what its former owner does: that changes nothing more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository
from blockvault.engine.errors import OwnedElsewhere
from tests.unit.engine.support import MemoryStore, check_usage, noise, state_of

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def mine(store: MemoryStore, tmp_path: Path) -> Repository:
    """Backups of cluster one: the first deleted, so that there is something to compact; one due in the trash."""
    repository = Repository.open(store, actor="one")
    blocks = [noise(1, seed) for seed in range(40)]
    made = []
    for run in range(4):
        (tmp_path / "source").write_bytes(b"".join(blocks))
        made.append(repository.backup(BackupRequest(str(tmp_path / "source"), "v", threads=1)).backup_id)
        for number in range(40):
            if number % 4:
                blocks[number] = noise(1, 100 * (run + 1) + number)
    repository.delete("v", made[0])
    repository.delete("v", made[1], keep_seconds=1e-9)
    return repository


def taken_over(store: MemoryStore, kind: str, part: str, *, nth: int = 1, after: bool = False) -> MemoryStore:
    """The store, of which cluster two takes the volume over around the nth request of that kind for such a key."""
    hooked, left = store.view(), [nth]

    def hook(number: int, asked: str, key: str) -> None:
        left[0] -= asked == kind and part in key
        if not left[0]:
            left[0] = -1
            Repository.open(store.view()).take_over("v", "two")

    if after:
        hooked.after = hook
    else:
        hooked.before = hook
    return hooked


def refused(store: MemoryStore, act: Callable[[Repository], object]) -> None:
    with pytest.raises(OwnedElsewhere, match="belong to two, not to one"):
        act(Repository.open(store, actor="one"))


def test_a_backup_in_flight_is_refused(store: MemoryStore, mine: Repository, tmp_path: Path) -> None:
    """Its success would be that of a cluster that the volume does not belong to any more."""
    before = [entry.id for entry in state_of(store).roots]
    hooked = taken_over(store, "put", "/roots/")
    refused(hooked, lambda one: one.backup(BackupRequest(str(tmp_path / "source"), "v", threads=1)))
    assert [entry.id for entry in state_of(store).roots] == before
    assert not state_of(store).attempts, "what it sent is left to the new owner's collect"
    two = Repository.open(store, actor="two")
    assert two.collect("v")[0].deleted_objects
    check_usage(store)


def test_a_backup_that_was_made_before_stays(store: MemoryStore, mine: Repository, tmp_path: Path) -> None:
    """Taken over right behind its second commit: it counts, and its run says so."""
    hooked = taken_over(store, "create", "/commits/", nth=2, after=True)
    one = Repository.open(hooked, actor="one")
    made = one.backup(BackupRequest(str(tmp_path / "source"), "v", threads=1))
    assert made.backup_id in {entry.id for entry in state_of(store).roots}


@pytest.mark.parametrize(("nth", "after"), [(1, False), (1, True), (2, False), (2, True), (3, False)])
def test_a_collect_goes_no_further(store: MemoryStore, mine: Repository, nth: int, after: bool) -> None:
    """At each commit that it makes: it empties the trash, condemns, forgets."""
    data = {key for key in store.objects if "/commits/" not in key}
    hooked = taken_over(store, "create", "/commits/", nth=nth, after=after)
    refused(hooked, lambda one: one.collect("v"))
    state = state_of(store)
    emptied, condemned = (nth, after) >= (1, True), (nth, after) >= (2, True)
    assert (len(state.roots), bool(state.condemned)) == (2 if emptied else 3, condemned)
    if nth < 3:
        assert data <= store.objects.keys(), "nothing was deleted"
    Repository.open(store, actor="two").collect("v")
    check_usage(store)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_compaction_goes_no_further(store: MemoryStore, mine: Repository, nth: int) -> None:
    before = state_of(store)
    refused(taken_over(store, "create", "/commits/", nth=nth), lambda one: one.compact("v", budget=10**9))
    after = state_of(store)
    assert [entry.object for entry in after.roots] == [entry.object for entry in before.roots]
    assert Repository.open(store, actor="two").compact("v", budget=10**9).roots, (
        "there is something to compact"
    )
