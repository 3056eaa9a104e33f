"""Stores that cannot create exclusively: nothing is overwritten, and what two writers did is seen and stops them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from blockvault.engine import BadRequest, KeyRing, Repository
from blockvault.engine.commitlog import CommitLog
from blockvault.engine.commits import Commits
from blockvault.engine.errors import TwoWriters
from blockvault.stores import NoConditionalCreate
from tests.unit.engine.support import (
    Crash,
    CrashingStore,
    MemoryStore,
    at_call,
    backup,
    check_usage,
    opened,
    restored,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096


class Lax(MemoryStore):
    """Creates a name twice without a word, as some stores do."""

    def create(self, key: str, data: bytes | bytearray | memoryview) -> None:
        def work() -> None:
            self.objects[key] = bytes(data)

        self._request("create", key, work)

    def view(self) -> Lax:
        return Lax(self.objects)


class LaxCrashing(CrashingStore, Lax):
    """Lax, and dies."""


@pytest.fixture
def store() -> Lax:
    made = Lax()
    Repository.init(made, KeyRing(), single_writer=True)
    return made


def write(path: Path, seed: int) -> bytes:
    path.write_bytes(random.Random(seed).randbytes(12 * BLOCK))
    return path.read_bytes()


def test_it_must_be_asked_for() -> None:
    with pytest.raises(NoConditionalCreate):
        Repository.init(Lax())


def test_one_writer(store: Lax, tmp_path: Path) -> None:
    """Everything works, and no two commits have one name."""
    source = tmp_path / "source"
    contents = {}
    for seed in range(40):
        content = write(source, seed % 5)
        contents[backup(store, source).backup_id] = content
        if len(contents) > 3:
            victim = min(contents)
            assert opened(store).delete("v", victim, keep_seconds=60)
            assert opened(store).undelete("v", victim)
            assert opened(store).delete("v", victim)
            del contents[victim]
    (done,) = opened(store).collect("v")
    assert done.deleted_objects
    assert done.trimmed_commits
    commits = [key.rpartition("/")[2] for key in store.objects if "/commits/" in key]
    assert all(len(name) == 16 + 1 + 16 for name in commits)
    for backup_id, content in contents.items():
        assert restored(store, tmp_path, backup_id) == content
    check_usage(store)
    assert len(opened(store).branches("v")) == 1


@pytest.mark.parametrize("work", ["backup", "collect"])
def test_two_writers(store: Lax, tmp_path: Path, work: str) -> None:
    """At every request of one, the other does all of its work: each sees that, or goes on from it."""
    source = tmp_path / "source"
    contents = {}
    for seed in (1, 2, 3):
        contents_of = write(source, seed)
        contents[backup(store, source).backup_id] = contents_of
    opened(store).delete("v", list(contents)[1])
    del contents[list(contents)[1]]
    content = write(source, 4)

    def act(used: MemoryStore) -> None:
        if work == "backup":
            backup(used, source)
        else:
            opened(used).collect("v")

    counting = Lax(dict(store.objects))
    act(counting)
    stopped = 0
    for at in range(1, counting.calls + 1):
        racing = Lax(dict(store.objects))
        theirs: list[str] = []

        def rival(racing: Lax = racing, theirs: list[str] = theirs) -> None:
            theirs.append(backup(racing.view(), source).backup_id)

        racing.before = at_call(at, rival)
        try:
            act(racing)
        except TwoWriters:
            stopped += 1
        calm = racing.view()
        (their,) = theirs
        if CommitLog(calm, opened(calm)._volumes.find("v").lineage).list().doubled:  # type: ignore[union-attr]
            refuses_all_but_reading(calm, tmp_path, source)
            choose(calm, their)
        everything = {**contents, their: content}
        assert everything.keys() <= {entry["backupId"] for entry in opened(calm).list("v")}
        for backup_id, wanted in everything.items():
            assert restored(calm, tmp_path, backup_id) == wanted
        check_usage(calm)
        assert restored(calm, tmp_path, backup(calm, source).backup_id) == content
        opened(calm).collect("v")
        check_usage(calm)
    assert stopped


def refuses_all_but_reading(store: Lax, folder: Path, source: Path) -> None:
    before = dict(store.objects)
    (backup_id, *_) = (entry["backupId"] for entry in opened(store).list("v"))
    assert restored(store, folder, backup_id)
    for refused in (
        lambda: opened(store).delete("v", backup_id),
        lambda: opened(store).delete_volume("v"),
        lambda: opened(store).collect("v"),
        lambda: opened(store).compact("v"),
        lambda: backup(store, source),
    ):
        with pytest.raises(TwoWriters, match="/commits/0"):
            refused()
    assert store.objects == before


def choose(store: Lax, backup_id: str) -> None:
    """Keep the branch that has the backup; a crash at any moment leaves it to be done again."""
    assert len(opened(store).branches("v")) > 1

    def keep(used: MemoryStore) -> None:
        ends = [end for end in opened(used).branches("v") if backup_id in end["backups"]]
        opened(used).choose_branch("v", ends[-1]["commitId"])

    counting = Lax(dict(store.objects))
    keep(counting)
    for at in (counting.calls - 2, counting.calls - 1, counting.calls):
        copy = dict(store.objects)
        with pytest.raises(Crash):
            keep(LaxCrashing(copy, at, after=True))
        again = Lax(copy)
        if len(opened(again).branches("v")) > 1:
            keep(again)
        (end,) = opened(again).branches("v")
        assert backup_id in end["backups"]
    keep(store)


def test_choosing_where_there_is_no_choice(store: Lax, tmp_path: Path) -> None:
    write(tmp_path / "source", 1)
    backup(store, tmp_path / "source")
    (end,) = opened(store).branches("v")
    for wrong in (end["commitId"], "nonsense"):
        with pytest.raises(BadRequest, match="no branches"):
            opened(store).choose_branch("v", wrong)


def test_a_run_of_the_other_branch_cannot_commit(store: Lax, tmp_path: Path) -> None:
    """Epochs go on above those of all branches, and no attempt outlives the choice."""
    write(tmp_path / "source", 1)
    backup(store, tmp_path / "source")
    found = volume_of(store)
    log = CommitLog(store, found.lineage)
    for _ in range(2):
        # Two writers that looked at the same moment.
        racing = Lax(dict(store.objects))
        racing.before = lambda number, kind, key: (_ for _ in ()).throw(Crash) if kind == "put" else None
        with pytest.raises(Crash):
            backup(racing, tmp_path / "source", full=True)
        new = racing.objects.keys() - store.objects.keys()
        (made,) = [key for key in new if "/commits/" in key]
        store.objects[made + "x"] = racing.objects[made]  # hidden from the second
    for key in [key for key in store.objects if key.endswith("x")]:
        store.objects[key[:-1]] = store.objects.pop(key)
    assert len(log.list().doubled) == 2
    one, two = opened(store).branches("v")
    opened(store).choose_branch("v", two["commitId"])
    newest = Commits(store, found.lineage).newest()
    assert newest is not None
    assert newest.attempts == []
    assert newest.epoch == found.state.epoch + 1
    assert [end["backups"] for end in opened(store).branches("v")] == [two["backups"]] == [one["backups"]]


def test_who_restores_is_no_second_writer(store: Lax, tmp_path: Path) -> None:
    """A pin would be a commit, and two at once cannot be told apart: reading never stops the writer."""
    content = write(tmp_path / "source", 1)
    backup(store, tmp_path / "source")
    reader, commits = store.view(), {key for key in store.objects if "/commits/" in key}

    def meanwhile(number: int, kind: str, key: str) -> None:
        if kind == "create" or "/segments/" in key:
            reader.before = lambda *_: None
            backup(store.view(), tmp_path / "source", full=True)

    reader.before = meanwhile
    result = opened(reader).restore("v", str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == content
    assert "one writer" in str(result.unpinned)
    assert len({key for key in store.objects if "/commits/" in key} - commits) == 2
    check_usage(store)
    backup(store, tmp_path / "source")
    assert len(opened(store).branches("v")) == 1
