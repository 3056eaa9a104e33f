"""Rule 7, clause by clause: two commits of one number in a store for one writer, and choosing between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import ChangedList, KeyRing, Repository
from blockvault.engine.attempts import Begin, begin
from blockvault.engine.commitlog import MILESTONE, CommitLog
from blockvault.engine.commits import Commits
from blockvault.engine.errors import OwnedElsewhere, TwoWriters
from blockvault.engine.lineage import erased_lineage, lineage_of
from blockvault.engine.names import LineagePaths, ObjectName
from blockvault.engine.state import Outcome, State
from tests.unit.engine.support import Crash, backup, noise, note, opened, state_of, volume_of
from tests.unit.engine.test_single_writer import Lax, LaxCrashing

pytestmark = pytest.mark.usefixtures("small")

LINEAGE = lineage_of("lineage", bytes(32), encrypted=False, single_writer=True)


def nothing(state: State) -> None:
    """No change."""


def chain(store: Lax) -> tuple[Commits, State]:
    """Commits without backups."""
    commits = Commits(store, LINEAGE)
    return commits, commits.update(note, State(LINEAGE.id, "v"))


def fork(store: Lax, *branches: list[Callable[[State], object]]) -> list[State]:
    """Several writers that saw the same commit each add theirs, one for each change. Their last states."""
    found = volume_of(store)
    ends = []
    before = dict(store.objects)
    for changes in branches:
        alone = Lax(dict(before))
        state = found.state
        for change in changes:

            def decide(state: State, change: Callable[[State], object] = change) -> tuple[State, Outcome]:
                change(state)
                return note(state)

            state = Commits(alone, found.lineage).update(decide, state)
        store.objects.update(alone.objects)
        ends.append(state)
    return ends


@pytest.fixture
def store(tmp_path: Path) -> Lax:
    """One backup, made by nobody's cluster."""
    made = Lax()
    Repository.init(made, KeyRing(), single_writer=True)
    (tmp_path / "source").write_bytes(noise(6))
    backup(made, tmp_path / "source")
    return made


def test_one_writer_goes_on_from_the_newest(store: Lax) -> None:
    """What it has read may be old; nothing would tell it, as its name is never taken."""
    commits, old = chain(store)
    newest = commits.update(note, old)
    assert commits.update(note, old).number == newest.number + 1
    assert not CommitLog(store, LINEAGE).list().doubled


@pytest.mark.parametrize("relied_on", [True, False])
def test_who_made_the_second_commit_is_told_at_once(store: Lax, relied_on: bool) -> None:
    """Also where the next commit would tell whether this one counts."""
    _, old = chain(store)
    racing = Lax(store.objects)

    def rival(number: int, kind: str, key: str) -> None:
        if kind == "create":
            racing.before = lambda *_: None
            Commits(store, LINEAGE).update(note, old)

    racing.before = rival
    with pytest.raises(TwoWriters):
        Commits(racing, LINEAGE).update(note, old, check=lambda made: relied_on)


def test_nothing_that_was_condemned_is_deleted(store: Lax) -> None:
    """By one of the branches; the other may need it, whatever a rule says, as one of them goes."""
    key = next(key for key in store.objects if "/segments/" in key)
    junk = str(ObjectName(1, 999, 1))
    store.objects[key.rpartition("/")[0] + "/" + junk] = b"junk"
    condemned: list[Callable[[State], object]] = [
        lambda state: state.condemned.append(key.rpartition("/")[0] + "/" + junk)
    ]
    fork(store, condemned, condemned)
    before = dict(store.objects)
    with pytest.raises(TwoWriters):
        opened(store).collect("v")
    assert store.objects == before


def test_no_commit_is_trimmed_when_the_second_comes_late(store: Lax) -> None:
    """After collect has read the state; it deletes no data, so that it makes no commit which would show it."""
    fork(store, [nothing] * (MILESTONE + 5))
    fork(store, [nothing], [nothing])
    late = max(key for key in store.objects if "/commits/" in key)
    body = store.objects.pop(late)
    before = dict(store.objects)
    racing = Lax(store.objects)

    def rival(number: int, kind: str, key: str) -> None:
        if kind == "list" and key.endswith("/segments/"):
            store.objects[late] = body

    racing.before = rival
    with pytest.raises(TwoWriters):
        opened(racing).collect("v")
    assert store.objects == {**before, late: body}


def test_nothing_is_written_or_deleted_by_anybody(store: Lax, tmp_path: Path) -> None:
    """By no way in."""
    (entry,) = state_of(store).roots
    fork(store, [nothing], [nothing])
    before = dict(store.objects)
    ways: list[Callable[[Repository], Any]] = [
        lambda one: one.delete("v", entry.id),
        lambda one: one.delete("v", entry.id, keep_seconds=60),
        lambda one: one.undelete("v", entry.id),
        lambda one: one.delete_volume("v"),
        lambda one: one.collect("v"),
        lambda one: one.collect("v", dry_run=True),
        lambda one: one.compact("v"),
        lambda one: one.rebuild("v"),
        lambda one: one.heal("v"),
        lambda one: one.take_over("v", "two"),
        lambda one: one.accept_rollback("v"),
    ]
    for way in ways:
        with pytest.raises(TwoWriters):
            way(opened(store))
    for changed in (None, ChangedList([])):
        with pytest.raises(TwoWriters):
            backup(store, tmp_path / "source", changed=changed)
    assert store.objects == before


def test_a_backup_of_nothing_has_an_attempt_all_the_same(store: Lax, tmp_path: Path) -> None:
    """Its root needs one: two commits of one number would not be seen until there are two."""
    before = state_of(store)
    backup(store, tmp_path / "source", changed=ChangedList([]))
    after = state_of(store)
    assert (after.number, after.epoch) == (before.number + 2, before.epoch + 1)
    assert ObjectName.parse(after.roots[-1].object).epoch == after.epoch


def test_a_lineage_that_two_began_is_not_ended_without_its_key() -> None:
    """Who has not the key cannot tell the branches apart either."""
    store = Lax()
    _, first = chain(store)
    alone = Lax({})
    chain(alone)
    store.objects.update(alone.objects)
    before = dict(store.objects)
    with pytest.raises(TwoWriters):
        Commits(store, erased_lineage(first.lineage, single_writer=True)).abandon()
    assert store.objects == before


def branched(store: Lax) -> tuple[State, State]:
    """The first branch is longer, and has begun more runs; each has condemned something."""

    def run(state: State) -> None:
        assert begin(state, Begin(f"run-{state.number}", f"op-{state.number}", 4096, None)) is not None

    def condemn(number: int) -> Callable[[State], object]:
        paths = LineagePaths(state_of(store).lineage)
        return lambda state: state.condemned.append(paths.segment(ObjectName(1, 900 + number, 1)))

    longer, shorter = fork(store, [condemn(1), run, run], [condemn(2)])
    assert (longer.epoch, shorter.epoch) == (3, 1)
    return longer, shorter


@pytest.mark.parametrize("kept", [0, 1])
def test_what_is_chosen_goes_on_above_both(store: Lax, kept: int) -> None:
    """Rule 11 as well: what either condemned stays condemned; no epoch and no number is used again."""
    ends = branched(store)
    opened(store).choose_branch("v", ends[kept].commit_id)
    newest = state_of(store)
    assert not newest.doubled
    assert (newest.number, newest.epoch) == (max(end.number for end in ends) + 1, 3)
    assert sorted(newest.condemned) == sorted(key for end in ends for key in end.condemned)
    assert not newest.attempts
    left = {int(key.rpartition("/")[2][:16]) for key in store.objects if "/commits/" in key}
    assert ends[kept].number in left, "the commits that led to it stay"
    assert len(left) == newest.number - (2 if kept else 0)


def test_a_crash_leaves_the_choice_made_or_still_to_be_made(store: Lax) -> None:
    """At each request: never one branch as it was, on which runs that the other began could go on."""
    _, chosen = branched(store)
    counting = Lax(dict(store.objects))
    opened(counting).choose_branch("v", chosen.commit_id)
    for at in range(1, counting.calls + 1):
        for after in (False, True):
            objects = dict(store.objects)
            with pytest.raises(Crash):
                opened(LaxCrashing(objects, at, after=after)).choose_branch("v", chosen.commit_id)
            left = Lax(objects)
            made = state_of(left).outcomes[-1].action == "choose"
            assert made or len(opened(left).branches("v")) == 2


def test_only_the_owner_chooses(store: Lax) -> None:
    opened(store).take_over("v", "one")
    _, chosen = fork(store, [nothing], [nothing])
    before = dict(store.objects)
    with pytest.raises(OwnedElsewhere, match="belong to one"):
        Repository.open(store, actor="two").choose_branch("v", chosen.commit_id)
    assert store.objects == before
    Repository.open(store, actor="one").choose_branch("v", chosen.commit_id)
