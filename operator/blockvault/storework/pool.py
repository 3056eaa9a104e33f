"""A bounded pool of processes. One that does not answer in time is killed and replaced."""
# The limit is kept by killing the process, which cancelling a coroutine would not do.
# ruff: noqa: ASYNC109

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakValueDictionary

from blockvault.engine import Access, memory
from blockvault.stores import BlockvaultError, StoreError, StoreUnreachable
from blockvault.storework import work

CHECK_SECONDS = 60.0
CALL_SECONDS = 60.0
# A process that was needed for a while, and is not any more, ends after so long: with the next work of another.
IDLE_SECONDS = 30.0
# Beside the work it waits for listings that may lag; interrupted, it goes on where it was.
ROTATE_SECONDS = 300.0
# Bytes that one worker may have in memory, of the operator's 1 GiB; and how often that is looked at.
MOST_MEMORY = 384 << 20
WATCH_SECONDS = 0.1
EX_TEMPFAIL = 75


class WorkFailed(StoreError):  # noqa: N818 - named after its reason
    """The worker process died or met a defect."""

    reason = "StoreWorkFailed"
    retryable = True


class StoreWork:
    """Store work for asyncio. Calls wait while all workers are busy; processes start when first needed.

    Stores that tenants have chosen by themselves have workers of their own, and each tenant one of them at a time: a
    store that never answers holds up those of nobody else.
    """

    def __init__(self, max_workers: int = 2) -> None:
        self._slots = asyncio.Semaphore(max_workers)
        self._tenants_slots = asyncio.Semaphore(max_workers)
        self._tenants: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._idle: list[_Worker] = []
        self._closed = False

    async def check(self, access: Access, timeout: float = CHECK_SECONDS) -> work.StoreStatus:
        """Make the store here or open it, and prove by a canary that it is fit.

        Raises StoreError or EngineError with a reason; StoreUnreachable after `timeout` seconds.
        """
        found: work.StoreStatus = await self._call(work.check, access, timeout=timeout)
        return found

    async def delete_backup(
        self,
        access: Access,
        volume: str,
        backup_id: str,
        *,
        keep_seconds: float = 0.0,
        timeout: float = CALL_SECONDS,
    ) -> bool:
        """Move a backup into the trash for so long, or for good; False when it was not there. Raises as `check`."""
        return bool(
            await self._call(work.delete_backup, access, volume, backup_id, keep_seconds, timeout=timeout)
        )

    async def undelete(
        self, access: Access, volume: str, backup_id: str, timeout: float = CALL_SECONDS
    ) -> bool:
        """Bring a backup back from the trash; False when it was not in it. Raises as `check`, and BackupNotFound."""
        return bool(await self._call(work.undelete, access, volume, backup_id, timeout=timeout))

    async def backups_and_neighbours(
        self, access: Access, volume: str, timeout: float = CALL_SECONDS
    ) -> tuple[list[dict[str, Any]] | None, list[str], list[str]]:
        """See work.backups_and_neighbours. Raises as `check`."""
        found: tuple[list[dict[str, Any]] | None, list[str], list[str]] = await self._call(
            work.backups_and_neighbours, access, volume, timeout=timeout
        )
        return found

    async def note_restored(
        self, access: Access, volume: str, backup_id: str, by: str, timeout: float = CALL_SECONDS
    ) -> None:
        """Remember with a backup that it was restored over its volume. Raises as `check`, and OwnedElsewhere."""
        await self._call(work.note_restored, access, volume, backup_id, by, timeout=timeout)

    async def describe(
        self, access: Access, volume: str, backup_id: str, timeout: float = CALL_SECONDS
    ) -> dict[str, Any] | None:
        """All that is known of a backup; None when it is not there, or in the trash. Raises as `check`."""
        found: dict[str, Any] | None = await self._call(
            work.describe, access, volume, backup_id, timeout=timeout
        )
        return found

    async def take_over(self, access: Access, cluster: str, timeout: float = CALL_SECONDS) -> list[str]:
        """Let the volumes of a cluster belong to this one. Their names. Raises as `check`."""
        found: list[str] = await self._call(work.take_over, access, cluster, timeout=timeout)
        return found

    async def empty_trash(self, access: Access, down_to: int, timeout: float = CALL_SECONDS) -> list[str]:
        """Empty the trash until no more than so many bytes are used; ids of what went. Raises as `check`."""
        found: list[str] = await self._call(work.empty_trash, access, down_to, timeout=timeout)
        return found

    async def rotate(self, access: Access, timeout: float = ROTATE_SECONDS) -> dict[str, Any]:
        """Wrap all lineages' keys under the new key; see rotation.RotationResult. Raises as `check`."""
        found: dict[str, Any] = await self._call(work.rotate, access, timeout=timeout)
        return found

    async def find_operation(
        self, access: Access, volume: str, operation_id: str, timeout: float = CALL_SECONDS
    ) -> dict[str, Any] | None:
        """The result of a backup operation if it has committed. Raises as `check`."""
        found: dict[str, Any] | None = await self._call(
            work.find_operation, access, volume, operation_id, timeout=timeout
        )
        return found

    async def end_operation(
        self, access: Access, volume: str, operation_id: str, timeout: float = CALL_SECONDS
    ) -> None:
        """Let no run of a backup operation commit any more; nothing where one has. Raises as `check`."""
        await self._call(work.end_operation, access, volume, operation_id, timeout=timeout)

    async def usage(self, access: Access, timeout: float = CALL_SECONDS) -> int:
        """Used bytes of all volumes of the store. Raises as `check`."""
        return int(await self._call(work.usage, access, timeout=timeout))

    async def list_backups(
        self, access: Access, volume: str | None = None, timeout: float = CALL_SECONDS
    ) -> list[dict[str, Any]]:
        """Backups of one volume, or of all. Raises as `check`."""
        found: list[dict[str, Any]] = await self._call(work.list_backups, access, volume, timeout=timeout)
        return found

    async def close(self) -> None:
        """Stop the processes."""
        self._closed = True
        workers, self._idle = self._idle, []
        for worker in workers:
            await asyncio.to_thread(worker.kill)

    @asynccontextmanager
    async def _place(self, tenant: str | None) -> AsyncIterator[None]:
        """A worker's place, when it is this one's turn."""
        if tenant is None:
            async with self._slots:
                yield
        else:
            async with self._tenants.setdefault(tenant, asyncio.Lock()), self._tenants_slots:
                yield

    async def _call(self, function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
        async with self._place(arguments[0].location.tenant):
            worker = self._idle.pop() if self._idle else _Worker()
            task = asyncio.create_task(asyncio.to_thread(worker.call, function, arguments, timeout))
            try:
                # Shielded: a cancelled caller must not leave a worker behind in the middle of its work.
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                worker.kill()
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
                raise
            finally:
                if worker.usable and not self._closed:
                    worker.idle_since = time.monotonic()
                    self._idle.append(worker)
                elif worker.usable:
                    worker.kill()
                self._end_idle()

    def _end_idle(self) -> None:
        """End what nobody has needed for a while: each process is 70 MiB. The one used last is used next."""
        while self._idle and time.monotonic() - self._idle[0].idle_since > IDLE_SECONDS:
            self._idle.pop(0).kill()


class _Worker:
    """One process and the pipe to it. Started by spawn: a fork of a threaded program can hang."""

    def __init__(self) -> None:
        self._pipe: Connection | None = None
        self._process: BaseProcess | None = None
        self.usable = True
        self.idle_since = 0.0

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], timeout: float) -> Any:
        """Blocks for up to `timeout` seconds."""
        name = function.__name__
        try:
            pipe = self._start()
            pipe.send((function, arguments))
            if not pipe.poll(timeout):
                self.kill()
                raise StoreUnreachable(f"{arguments[0].url}: {name} did not end in {timeout:.0f} s")
            outcome = pipe.recv()
        except (EOFError, OSError) as error:
            self.kill()
            most = f", perhaps because it needed more than {MOST_MEMORY >> 20} MiB"
            raise WorkFailed(
                f"{arguments[0].url}: the process for {name} ended unexpectedly{most}"
            ) from error
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _start(self) -> Connection:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, far = context.Pipe()
            self._process = context.Process(target=_serve, args=(far,), daemon=True, name="storework")
            self._process.start()
            far.close()
        return self._pipe

    def kill(self) -> None:
        """End the process at once. A thread that waits for it sees the end of the pipe."""
        self.usable = False
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _watch_memory() -> None:
    """End this process when it needs too much memory: what a tenant's store says may be of any size.

    Where the whole container ran out of it, the operator would end with its workers.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        with open("/proc/self/statm", "rb") as file:
            resident = int(file.read().split()[1]) * page
        if resident > MOST_MEMORY:
            os._exit(EX_TEMPFAIL)
        time.sleep(WATCH_SECONDS)


def _serve(pipe: Connection) -> None:
    threading.Thread(target=_watch_memory, name="memory", daemon=True).start()
    # The parent decides when to end; a signal to the whole group is its affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.keep_little()
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            outcome = function(*arguments)
        except BlockvaultError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001 - a defect must reach the caller, not end the worker silently
            outcome = WorkFailed(f"{function.__name__}: {type(error).__name__}: {error}")
        pipe.send(outcome)
