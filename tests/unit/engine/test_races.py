"""The commit protocol: rivals at every step, slept writers, listings that lag (DESIGN: docs/format.md, section 8)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from blockvault.engine import (
    AttemptFenced,
    CommitContention,
    FormatUnsupported,
    ParentNotFound,
    Repository,
    runtime,
)
from blockvault.engine.commitlog import MILESTONE
from blockvault.engine.commits import Commits
from blockvault.engine.lineage import lineage_of
from tests.unit.engine.support import (
    Crash,
    MemoryStore,
    at_call,
    backup,
    check_usage,
    note,
    opened,
    restored,
    with_feature,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
LINEAGE = lineage_of("lineage", bytes(32), encrypted=False, single_writer=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"".join(bytes([i] * BLOCK) for i in range(1, 40)))
    return path


def calls_of_a_backup(store: MemoryStore, source: Path) -> int:
    copy = MemoryStore(dict(store.objects))
    backup(copy, source)
    return copy.calls


@pytest.mark.parametrize("rival_work", ["backup", "delete", "same-operation"])
def test_a_rival_at_every_request(store: MemoryStore, source: Path, tmp_path: Path, rival_work: str) -> None:
    first = backup(store, source)
    content = source.read_bytes()
    source.write_bytes(content[: 20 * BLOCK] + b"new" + content[20 * BLOCK + 3 :])
    for at in range(1, calls_of_a_backup(store, source) + 1):
        racing = MemoryStore(dict(store.objects))
        calm = racing.view()
        theirs: list[str] = []

        def rival(calm: MemoryStore = calm, theirs: list[str] = theirs) -> None:
            if rival_work == "delete":
                assert Repository.open(calm).delete("v", first.backup_id)
            else:
                name = "op" if rival_work == "same-operation" else "other"
                theirs.append(backup(calm, source, operation_id=name).backup_id)

        racing.before = at_call(at, rival)
        ours = {backup(racing, source, operation_id="op").backup_id}
        assert rival_work != "same-operation" or [*ours] == theirs
        listed = {entry["backupId"] for entry in Repository.open(calm).list("v")}
        assert listed == ours | {*theirs} | ({first.backup_id} if rival_work != "delete" else set())
        assert len(listed) == {"backup": 3, "delete": 1, "same-operation": 2}[rival_work]
        for backup_id in listed - {first.backup_id}:
            assert restored(calm, tmp_path, backup_id) == source.read_bytes()
        check_usage(calm)


def test_a_run_that_was_given_up_cannot_commit(store: MemoryStore, source: Path) -> None:
    """PROTOCOL rule 4: as soon as its replacement has begun, the former run must not commit any more."""
    backup(store, source)
    racing = MemoryStore(store.objects)

    def replaced() -> None:
        replacement = racing.view()
        replacement.before = lambda number, kind, key: stop() if kind == "put" else None
        with pytest.raises(Crash):
            backup(replacement, source, operation_id="op", full=True)

    def stop() -> None:
        raise Crash("the replacement has only begun")

    begun: list[int] = []

    def at_first_upload(number: int, kind: str, key: str) -> None:
        if kind == "put" and not begun:
            begun.append(number)
            replaced()

    racing.before = at_first_upload
    with pytest.raises(AttemptFenced):
        backup(racing, source, operation_id="op", full=True)
    assert len(Repository.open(store).list("v")) == 1
    found = Repository.open(store)._volumes.find("v")
    assert found is not None
    assert len(found.state.attempts) == 1
    assert backup(store, source, operation_id="op").type == "incremental"


@pytest.mark.parametrize("parent_goes", [False, True])
@pytest.mark.parametrize("dead", [False, True])
def test_a_run_that_slept_before_it_began(
    store: MemoryStore, source: Path, tmp_path: Path, parent_goes: bool, dead: bool
) -> None:
    """Its first commit takes a number that was trimmed: the second finds that out, or the first, if it adopts."""
    parent = backup(store, source)
    content = source.read_bytes()
    source.write_bytes(content[: 20 * BLOCK] + b"new" + content[20 * BLOCK + 3 :])
    if dead:
        dying = MemoryStore(store.objects)

        def die(number: int, kind: str, key: str) -> None:
            if kind == "put" and "/roots/" in key:
                raise Crash

        dying.before = die
        with pytest.raises(Crash):
            backup(dying, source, operation_id="op", full=True)
    slow = MemoryStore(store.objects)

    def sleep(number: int, kind: str, key: str) -> None:
        if kind == "create":
            slow.before = lambda *_: None
            calm = Repository.open(store.view())
            found = calm._volumes.find("v")
            assert found is not None
            for _ in range(MILESTONE + 70):
                found = replace(found, state=Commits(store.view(), found.lineage).update(note, found.state))
            if parent_goes:
                assert calm.delete("v", parent.backup_id)
            (done,) = calm.collect("v", attempt_seconds=10 if dead else 1000)
            assert done.trimmed_commits
            assert bool(done.deleted_objects) == parent_goes

    slow.before = sleep
    # No clock shows the sleep, however long this takes.
    still = time.time()
    with runtime.use(runtime.Runtime(wall=lambda: still, monotonic=lambda: 0.0)):
        if dead:
            made = backup(slow, source, operation_id="op")
            assert restored(store, tmp_path, made.backup_id) == source.read_bytes()
        else:
            with pytest.raises(AttemptFenced):
                backup(slow, source, operation_id="op")
            assert Repository.open(store).find_operation("v", "op") is None
    check_usage(store)


def test_a_first_run_that_slept_before_it_began(store: MemoryStore, source: Path, tmp_path: Path) -> None:
    """Rule 18: what it asks about the key comes after a first commit that counts, so that is looked at."""
    for operation in ("dead", "op"):
        slow = store.view()

        def sleep(
            number: int, kind: str, key: str, operation: str = operation, slow: MemoryStore = slow
        ) -> None:
            if kind == "put" and operation == "dead":
                raise Crash
            if kind == "create" and "/commits/" in key and operation == "op":
                slow.before = lambda *_: None
                calm = Repository.open(store.view())
                found = calm._volumes.find("v")
                assert found is not None
                for _ in range(MILESTONE + 70):
                    found = replace(
                        found, state=Commits(store.view(), found.lineage).update(note, found.state)
                    )
                assert calm.collect("v")[0].trimmed_commits

        slow.before = sleep
        still = time.time()
        with runtime.use(runtime.Runtime(wall=lambda still=still: still, monotonic=lambda: 0.0)):  # type: ignore[misc]
            if operation == "dead":
                with pytest.raises(Crash):
                    backup(slow, source, operation_id=operation)
            else:
                made = backup(slow, source, operation_id=operation)
    assert restored(store, tmp_path, made.backup_id) == source.read_bytes()


@pytest.mark.parametrize("clock", ["monotonic", "wall"])
@pytest.mark.parametrize("dies", [False, True])
def test_a_run_that_sees_by_a_clock_that_it_slept(
    store: MemoryStore, source: Path, tmp_path: Path, clock: str, dies: bool
) -> None:
    """It begins anew, so that all it uploads is under an epoch that others know: they can go on collecting."""
    backup(store, source)
    content = source.read_bytes()
    source.write_bytes(content[: 20 * BLOCK] + b"new" + content[20 * BLOCK + 3 :])
    slow = MemoryStore(store.objects)
    asleep = [0.0]

    def die(number: int, kind: str, key: str) -> None:
        if dies and "/roots/" in key and kind == "put":
            raise Crash

    def sleep(number: int, kind: str, key: str) -> None:
        if kind == "create":
            asleep[0] += 3600.0
            slow.before = die
            calm = Repository.open(store.view())
            found = calm._volumes.find("v")
            assert found is not None
            for _ in range(MILESTONE + 70):
                found = replace(found, state=Commits(store.view(), found.lineage).update(note, found.state))
            (done,) = calm.collect("v", attempt_seconds=1000)
            assert done.trimmed_commits

    slow.before = sleep
    shown = {clock: lambda: getattr(time, {"wall": "time"}.get(clock, clock))() + asleep[0]}
    with runtime.use(runtime.Runtime(**shown)):
        if dies:
            with pytest.raises(Crash):
                backup(slow, source)
        else:
            made = backup(slow, source)
            assert restored(store, tmp_path, made.backup_id) == source.read_bytes()
    state = Repository.open(store)._volumes.find("v")
    assert state is not None
    known = state.state.epoch
    uploaded = [int(key.split("/segments/")[1][:8], 16) for key in store.objects if "/segments/" in key]
    assert max(uploaded) == known
    Repository.open(store).collect("v")
    check_usage(store)


def test_a_lineage_with_unknown_features_is_not_written(store: MemoryStore, source: Path) -> None:
    """It is still read: restores go on working beside a newer version."""
    made = backup(store, source)
    found = Repository.open(store)._volumes.find("v")
    assert found is not None
    key = found.lineage.paths.commit(found.state.number)
    store.objects[key] = with_feature(store.objects[key], key, offset=24)
    with pytest.raises(FormatUnsupported, match="must not write"):
        backup(store, source)
    before = dict(store.objects)
    writes: list[Callable[[Repository], object]] = [
        lambda repository: repository.delete("v", made.backup_id),
        lambda repository: repository.delete("v", made.backup_id, keep_seconds=60),
        lambda repository: repository.delete_volume("v"),
        lambda repository: repository.collect("v"),
        lambda repository: repository.compact("v"),
        lambda repository: repository.heal("v"),
        lambda repository: repository.take_over("v", "other"),
    ]
    for write in writes:
        with pytest.raises(FormatUnsupported):
            write(Repository.open(store))
    assert store.objects == before
    assert restored(store, source.parent, made.backup_id) == source.read_bytes()
    store.objects[key] = with_feature(store.objects[key], key, offset=16)
    with pytest.raises(FormatUnsupported, match="features 0x80"):
        Repository.open(store).list("v")


def test_attempts_of_dead_runs_do_not_pile_up(store: MemoryStore, source: Path) -> None:
    backup(store, source)
    for number in range(40):
        racing = MemoryStore(store.objects)
        racing.before = lambda n, kind, key: (_ for _ in ()).throw(RuntimeError) if kind == "put" else None
        with pytest.raises(RuntimeError):
            backup(racing, source, operation_id=f"dead-{number}", full=True)
    newest = Repository.open(store)._volumes.find("v")
    assert newest is not None
    assert len(newest.state.attempts) == 32
    assert backup(store, source).type == "incremental"


def test_a_parent_that_is_not_there_is_refused(store: MemoryStore, source: Path) -> None:
    backup(store, source)
    with pytest.raises(ParentNotFound, match="nonsense"):
        backup(store, source, parent="nonsense")


@pytest.mark.parametrize("times", [12, 100])
def test_a_collect_that_is_overtaken_again_and_again(store: MemoryStore, source: Path, times: int) -> None:
    """What it reads is replaced under its hands. That is no damage: it begins anew, or says that others are busy."""
    backup(store, source)
    other = store.view()
    overtaken = 0

    def replace_all(number: int, kind: str, key: str) -> None:
        nonlocal overtaken
        if kind == "get" and "/roots/" in key and overtaken < times:
            overtaken += 1
            (listed,) = opened(other).list("v")
            assert opened(other).delete("v", listed["backupId"])
            backup(other, source)
            opened(other).collect("v")

    store.before = replace_all
    if times == 100:
        with pytest.raises(CommitContention, match="others changed it"):
            opened(store).collect("v")
    else:
        opened(store).collect("v")
        assert overtaken == times
    store.before = lambda *_: None
    check_usage(store)
