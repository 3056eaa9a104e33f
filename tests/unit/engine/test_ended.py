"""An operation whose backup was deleted stays ended: a run that comes late does not bring it back."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from blockvault.engine import AttemptFenced, BackupResult, ChangedList, OperationEnded, exit_code
from blockvault.engine.commits import Commits
from blockvault.engine.state import OUTCOMES, Outcome
from blockvault.exitcodes import NOT_FOUND
from blockvault.mover import words
from tests.unit.engine.support import MemoryStore, at_call, backup, check_usage, opened, state_of, volume_of

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(random.Random(1).randbytes(12 * BLOCK))
    return tmp_path / "source"


def run(store: MemoryStore, source: Path) -> BackupResult:
    return backup(store, source, operation_id="op")


@pytest.mark.parametrize("keep", [0.0, 1000.0], ids=["for good", "into the trash"])
def test_deleted_at_every_request_of_a_second_run(store: MemoryStore, source: Path, keep: float) -> None:
    """The rival makes the operation's backup, and somebody deletes it; whenever the other run wakes, it stays so."""
    backup(store, source)
    counting = MemoryStore(dict(store.objects))
    run(counting, source)
    refused = fenced = 0
    for at in range(1, counting.calls + 1):
        racing = MemoryStore(dict(store.objects))

        def rival(calm: MemoryStore) -> None:
            made = run(calm, source).backup_id
            assert opened(calm).delete("v", made, keep_seconds=keep)
            opened(calm).collect("v")

        racing.before = at_call(at, partial(rival, racing.view()))
        try:
            run(racing, source)
        except OperationEnded:
            refused += 1
        except AttemptFenced:
            fenced += 1
        racing.before = lambda *_: None
        assert [entry["backupId"] for entry in opened(racing).list("v") if entry["operationId"] == "op"] == [
            entry.id for entry in state_of(racing).roots if "trash" in entry.labels
        ]
        assert len(state_of(racing).roots) == (2 if keep else 1)
        with pytest.raises(OperationEnded):
            run(racing, source)
        assert not [one for one in state_of(racing).attempts if one.operation == "op"]
        check_usage(racing)
    assert refused > 3
    assert not fenced, "that would say: repeat it"


def test_also_where_nothing_changed(store: MemoryStore, source: Path) -> None:
    """One commit makes such a backup, and it is as much refused."""
    parent = backup(store, source)
    unchanged = partial(backup, store, source, operation_id="op", changed=ChangedList([], parent.backup_id))
    opened(store).delete("v", unchanged().backup_id)
    with pytest.raises(OperationEnded):
        unchanged()
    assert len(state_of(store).roots) == 1


def test_what_comes_back_from_the_trash_is_the_result_again(store: MemoryStore, source: Path) -> None:
    made = run(store, source)
    opened(store).delete("v", made.backup_id, keep_seconds=1000)
    with pytest.raises(OperationEnded, match="in the trash until"):
        run(store, source)
    opened(store).undelete("v", made.backup_id)
    assert run(store, source).backup_id == made.backup_id


def test_a_trash_that_was_emptied_is_remembered(
    store: MemoryStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long ago the backup was made, the commit that removed it tells."""
    others = [backup(store, source, operation_id=f"other-{n}").backup_id for n in range(2)]
    others.append(run(store, source).backup_id)
    for backup_id in others:
        opened(store).delete("v", backup_id, keep_seconds=0.001)
    found = volume_of(store)
    for _ in range(OUTCOMES):
        Commits(store, found.lineage).update(lambda state: (state, Outcome("", "note")), found.state)
    monkeypatch.setattr("blockvault.engine.runtime.now", lambda: "2999-01-01T00:00:00Z")
    (done,) = opened(store).collect("v")
    assert len(done.emptied) == 3
    for operation in ("other-0", "other-1", "op"):
        with pytest.raises(OperationEnded, match="was deleted"):
            backup(store, source, operation_id=operation)


def test_no_job_repeats_it() -> None:
    error = OperationEnded("gone")
    assert exit_code(error) == NOT_FOUND
    assert words.failure(error, [])["error"]["retryable"] is False
    assert words.failure(error, [])["error"]["reason"] == "OperationEnded"


def test_f3_an_operation_that_was_given_up_ends_at_every_request_of_its_run(
    store: MemoryStore, source: Path
) -> None:
    """A mover on a node that nobody hears of lives on: once it is given up for good, it makes no backup."""
    backup(store, source)
    counting = MemoryStore(dict(store.objects))
    run(counting, source)
    ended = made = 0
    for at in range(1, counting.calls + 1):
        racing = MemoryStore(dict(store.objects))
        calm = racing.view()
        racing.before = at_call(at, partial(opened(calm).end_operation, "v", "op"))
        try:
            run(racing, source)
            made += 1
        except AttemptFenced:
            ended += 1
        racing.before = lambda *_: None
        operations = [entry.operation for entry in state_of(racing).roots]
        assert operations.count("op") == (1 if len(operations) == 2 else 0)
        if len(operations) == 1:
            with pytest.raises(OperationEnded):
                run(racing, source)
        assert not [one for one in state_of(racing).attempts if one.operation == "op"]
        check_usage(racing)
    assert ended > 3
    assert made, "what was committed before stays"


def test_f3_giving_an_operation_up_twice_is_the_same_as_once(store: MemoryStore, source: Path) -> None:
    opened(store).end_operation("v", "op")  # there is no such volume
    kept = backup(store, source, operation_id="made").backup_id
    opened(store).end_operation("v", "made")
    opened(store).end_operation("v", "op")
    number = state_of(store).number
    opened(store).end_operation("v", "op")
    assert state_of(store).number == number
    assert [entry.id for entry in state_of(store).roots] == [kept]


def test_f2_a_run_that_was_given_up_takes_nothing_over_from_a_later_one(
    store: MemoryStore, source: Path
) -> None:
    """It had not begun when its node was lost: it begins while the one in its place is at work."""
    backup(store, source)
    racing = MemoryStore(dict(store.objects))
    said: list[str] = []

    def late() -> None:
        with pytest.raises(AttemptFenced, match="a later one has taken its place"):
            backup(racing.view(), source, operation_id="op", turn=1)
        said.append("fenced")

    def at_first_upload(_: int, kind: str, key: str) -> None:
        if kind == "put" and "/segments/" in f"/{key}" and not said:
            late()

    racing.before = at_first_upload
    made = backup(racing, source, operation_id="op", turn=2, full=True)
    assert said == ["fenced"]
    # When that is done, the late one finds it, as any that asks again.
    racing.before = lambda *_: None
    assert backup(racing, source, operation_id="op", turn=1).backup_id == made.backup_id
