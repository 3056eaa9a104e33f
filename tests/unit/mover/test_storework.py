"""Store work for the operator: real processes, with limits that hold."""

from __future__ import annotations

import asyncio
import base64
import os
import pickle
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from blockvault import exitcodes
from blockvault.engine import (
    Access,
    BackupRequest,
    BadKey,
    KeyMissing,
    KeyRotated,
    NotAVault,
    OwnedElsewhere,
    errors,
    exit_code,
)
from blockvault.stores import (
    BlockvaultError,
    BucketNotFound,
    Credentials,
    StoreLocation,
    StoreUnreachable,
)
from blockvault.stores import errors as store_errors
from blockvault.storework import StoreWork
from blockvault.storework.pool import WorkFailed


@pytest_asyncio.fixture
async def work() -> AsyncIterator[StoreWork]:
    pool = StoreWork(max_workers=2)
    yield pool
    await pool.close()


@pytest.fixture
def access(tmp_path: Path) -> Access:
    return Access(StoreLocation(f"file://{tmp_path}/store"), actor="here")


def test_f10_what_is_opened_keeps_to_the_rate(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr("blockvault.stores.RateLimit.take", lambda self, count: taken.append(count))
    access.make()
    assert not taken, "making and checking it is for the operator"
    replace(access, limit_rate=1000).open()
    assert sum(taken) > 0


@pytest.fixture
def silent() -> Iterator[Access]:
    """A store that takes connections and never answers."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield Access(StoreLocation("s3://bucket/x", endpoint=endpoint, credentials=Credentials("a", "b")))
    listening.close()


async def test_the_life_of_a_store(work: StoreWork, access: Access, tmp_path: Path) -> None:
    made = await work.check(access)
    assert (made.used_bytes, made.backups) == (0, 0)
    (tmp_path / "volume").write_bytes(b"x" * 100_000)
    request = BackupRequest(str(tmp_path / "volume"), "ns/claim", operation_id="uid")
    backup = access.open().backup(request)
    assert await work.check(access) == type(made)(made.store_id, backup.used_bytes, 1)
    assert await work.usage(access) == backup.used_bytes
    found = await work.find_operation(access, "ns/claim", "uid")
    assert found is not None
    assert (found["backupId"], found["rootHash"]) == (backup.backup_id, backup.root_hash)
    assert await work.find_operation(access, "ns/claim", "other") is None
    assert await work.find_operation(access, "ns/other", "uid") is None
    await work.end_operation(access, "ns/claim", "uid")  # it is done
    await work.end_operation(access, "ns/other", "uid")
    assert [b["backupId"] for b in await work.list_backups(access)] == [backup.backup_id]
    assert await work.delete_backup(access, "ns/claim", backup.backup_id)
    assert not await work.delete_backup(access, "ns/claim", backup.backup_id)
    assert not await work.delete_backup(access, "ns/none", backup.backup_id)
    assert await work.usage(access) == 0


async def test_f18_what_is_deleted_is_trash_first_and_comes_back(
    work: StoreWork, access: Access, tmp_path: Path
) -> None:
    await work.check(access)
    (tmp_path / "volume").write_bytes(b"x" * 100_000)
    made = access.open().backup(BackupRequest(str(tmp_path / "volume"), "v"))
    assert await work.delete_backup(access, "v", made.backup_id, keep_seconds=86400)
    found = await work.check(access)
    assert (found.backups, found.in_trash, found.trash_bytes) == (0, 1, made.used_bytes)
    assert await work.undelete(access, "v", made.backup_id)
    assert not await work.undelete(access, "v", made.backup_id)
    found = await work.check(access)
    assert (found.backups, found.in_trash, found.trash_bytes) == (1, 0, 0)


async def test_f18_the_trash_is_emptied_until_the_rest_fits_and_no_further(
    work: StoreWork, access: Access, tmp_path: Path
) -> None:
    await work.check(access)
    made = []
    for number in range(4):
        (tmp_path / "volume").write_bytes(os.urandom(300_000))
        made.append(access.open().backup(BackupRequest(str(tmp_path / "volume"), f"v{number}")))
    for number, days in ((0, 3), (1, 1), (2, 2)):
        await work.delete_backup(access, f"v{number}", made[number].backup_id, keep_seconds=days * 86400)
    used = (await work.check(access)).used_bytes
    assert await work.empty_trash(access, used) == []
    assert await work.empty_trash(access, used - 1) == [made[1].backup_id], "the next that would go"
    assert await work.empty_trash(replace(access, actor="there"), 0) == []
    assert await work.empty_trash(access, 0) == [made[2].backup_id, made[0].backup_id]
    assert (await work.check(access)).backups == 1


async def test_what_came_back_from_the_trash_meanwhile_is_not_discarded(
    access: Access, tmp_path: Path
) -> None:
    """Who empties the trash has read it before; what is in it is said by the state that the commit follows."""
    access.make()
    (tmp_path / "volume").write_bytes(os.urandom(300_000))
    made = access.open().backup(BackupRequest(str(tmp_path / "volume"), "v"))
    repository = access.open()
    assert not repository.discard("v", made.backup_id)
    repository.delete("v", made.backup_id, keep_seconds=60)
    access.open().undelete("v", made.backup_id)
    assert not repository.discard("v", made.backup_id)
    assert len(access.open().list("v")) == 1
    repository.delete("v", made.backup_id, keep_seconds=60)
    assert repository.discard("v", made.backup_id)
    assert not repository.discard("v", made.backup_id)


async def test_f7_an_encrypted_store_opens_with_its_key_which_is_rotated(
    work: StoreWork, access: Access, tmp_path: Path
) -> None:
    old, new = os.urandom(32), base64.b64encode(os.urandom(32)) + b"\n"
    before = replace(access, key=old)
    assert (await work.check(before)).encrypted
    (tmp_path / "volume").write_bytes(b"x" * 100_000)
    made = before.open().backup(BackupRequest(str(tmp_path / "volume"), "v"))
    with pytest.raises(KeyMissing):
        await work.check(access)
    with pytest.raises(BadKey):
        await work.check(replace(access, key=b"short"))
    after = replace(access, key=new, previous_key=old)
    assert (await work.check(after)).backups == 1
    rotated = await work.rotate(after)
    assert (rotated["oldKeyRemoved"], rotated["generation"]) == (True, 2)
    assert [row["backupId"] for row in await work.list_backups(replace(access, key=new))] == [made.backup_id]
    with pytest.raises(KeyRotated):
        await work.check(before)


async def test_f5_what_belongs_to_another_cluster_is_seen_and_not_deleted(
    work: StoreWork, access: Access, tmp_path: Path
) -> None:
    await work.check(access)
    (tmp_path / "volume").write_bytes(b"x" * 100_000)
    made = access.open().backup(BackupRequest(str(tmp_path / "volume"), "v"))
    there = replace(access, actor="there")
    assert (await work.check(there)).foreign == {"v": "here"}
    with pytest.raises(OwnedElsewhere):
        await work.delete_backup(there, "v", made.backup_id)
    assert (await work.check(access)).foreign == {}


async def test_a_volume_that_lost_its_commits_does_not_make_the_store_unfit(
    work: StoreWork, access: Access, tmp_path: Path
) -> None:
    """The others are served and counted, and what happened to the one is said."""
    await work.check(access)
    (tmp_path / "volume").write_bytes(b"x" * 100_000)
    repository = access.open()
    made = {
        name: repository.backup(BackupRequest(str(tmp_path / "volume"), name))
        for name in ("ns/lost", "ns/whole")
    }
    (lineage,) = (row["lineage"] for row in repository.usage("ns/lost"))
    for commit in (tmp_path / "store/lineages" / lineage / "commits").iterdir():
        commit.unlink()
    found = await work.check(access)
    assert (found.used_bytes, found.backups) == (made["ns/whole"].used_bytes, 1)
    ((volume, cause, remedy),) = found.unreadable
    assert volume == "ns/lost"
    assert f"lineages/{lineage}/commits/: no commit is there" in cause
    assert "docs/disaster-recovery.md" in remedy
    with pytest.raises(errors.CommitsLost):
        await work.list_backups(access, "ns/lost")
    assert len(await work.list_backups(access, "ns/whole")) == 1


async def test_errors_come_back_as_they_are(work: StoreWork, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAVault, match="no store") as caught:
        await work.usage(Access(StoreLocation(f"file://{tmp_path}/empty")))
    assert caught.value.remedy == NotAVault.remedy
    with pytest.raises(BucketNotFound):
        await work.usage(Access(StoreLocation(f"file://{tmp_path}/absent")))


async def test_a_store_that_hangs_is_given_up(work: StoreWork, access: Access, silent: Access) -> None:
    """And the pool is of use afterwards."""
    started = time.monotonic()
    with pytest.raises(StoreUnreachable, match="did not end in 2 s"):
        await work.check(silent, timeout=2)
    assert time.monotonic() - started < 6
    assert (await work.check(access)).backups == 0


async def test_a_worker_that_dies_is_replaced(work: StoreWork, access: Access) -> None:
    await work.check(access)
    (worker,) = work._idle
    assert worker._process is not None
    assert worker._process.pid is not None
    os.kill(worker._process.pid, 9)
    with pytest.raises(WorkFailed):
        await work.usage(access)
    assert await work.usage(access) == 0


async def test_no_more_processes_than_allowed(work: StoreWork, access: Access) -> None:
    await work.check(access)
    assert await asyncio.gather(*(work.usage(access) for _ in range(6))) == [0] * 6
    assert len(work._idle) <= 2


async def test_a_cancelled_call_leaves_no_busy_worker(
    work: StoreWork, access: Access, silent: Access
) -> None:
    for _ in range(3):
        call = asyncio.create_task(work.check(silent))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert (await work.check(access)).backups == 0


def all_errors() -> list[type[BlockvaultError]]:
    kinds = [*vars(errors).values(), *vars(store_errors).values()]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BlockvaultError)]


@pytest.mark.parametrize("kind", sorted(set(all_errors()), key=lambda kind: kind.__name__))
def test_every_error_survives_a_process_border_and_has_a_code(kind: type[BlockvaultError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what and why", remedy="what to do")))
    assert type(error) is kind
    assert (str(error), error.remedy) == ("what and why", "what to do")
    assert kind.remedy
    if kind.__name__ not in ("BlockvaultError", "StoreError", "EngineError"):
        assert kind.reason == kind.__name__
        assert exit_code(error) in set(exitcodes.MEANINGS) - {exitcodes.OK, exitcodes.INTERNAL}
        if kind.retryable:
            assert exit_code(error) == exitcodes.TEMPORARY


async def test_a_tenants_store_that_never_answers_holds_up_nobody_else() -> None:
    """Each tenant has one worker at most, and stores of classes have their own."""
    work = StoreWork(max_workers=2)
    async with AsyncExitStack() as stack:
        for tenant in ("one", "two"):
            await stack.enter_async_context(work._place(tenant))
        again = [asyncio.create_task(_enter(work, tenant)) for tenant in ("one", "one", "three")]
        for _ in range(2):
            await asyncio.wait_for(_enter(work, None), 10)
        assert not any(task.done() for task in again)
    await asyncio.wait_for(asyncio.gather(*again), 10)
    async with work._place("one"):
        await asyncio.wait_for(_enter(work, "three"), 10)  # a second worker of tenants is for others


async def _enter(work: StoreWork, tenant: str | None) -> None:
    async with work._place(tenant):
        pass


def _fill_memory(access: Access) -> int:
    filled = []
    while True:
        filled.append(b"x" * (8 << 20))
        time.sleep(0.01)


async def test_a_worker_that_needs_too_much_memory_ends_alone(access: Access) -> None:
    """What a tenant's bucket makes of a listing may be of any size; the operator has the memory of one container."""
    work = StoreWork()
    with pytest.raises(WorkFailed, match="needed more than"):
        await work._call(_fill_memory, access, timeout=60)
    assert await work.check(access), "another one takes its place"
    await work.close()
