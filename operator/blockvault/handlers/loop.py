"""The level loop: look, take one step, sleep until woken, until the object is finished."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from blockvault.cluster.context import Context
from blockvault.cluster.gateway import GatewayError

log = logging.getLogger(__name__)

API_RETRY_SECONDS = 3.0
DEFECT_RETRY_SECONDS = 15.0
# Of a loop in a crowd: it rests so many times as long as its look took, but no longer than so many seconds.
REST, MOST_REST_SECONDS = 2.0, 10.0


class Loops:
    """The loops of the objects that want one, by key: each begins and ends by what the events of its object say.

    Not Kopf's daemons: for a kind that has any, Kopf keeps the last body of every object in memory, finished ones too.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def want(self, key: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have that loop, unless it runs."""
        former = self._tasks.get(key)
        if former is None or former.done():
            task = self._tasks[key] = asyncio.create_task(loop(), name=key)
            task.add_done_callback(lambda done: self._forget(key, done))

    async def end(self, *keys: str) -> None:
        """End these, wherever they are, and wait until they have; those that do not run are no error."""
        tasks = [task for key in keys if (task := self._tasks.get(key)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """End all."""
        await self.end(*self._tasks)

    def _forget(self, key: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is done:
            del self._tasks[key]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("The loop %s has ended by an error", key, exc_info=error)


async def run_loop(
    context: Context,
    kind: str,
    uid: str,
    step: Callable[[], Awaitable[float | None]],
    *,
    crowd: asyncio.Semaphore | None = None,
) -> None:
    """Run steps until one returns None. Ends early only by cancellation.

    `crowd`: of loops that look at all that a Vault has, which is many MiB: so many look at a time. And whatever wakes
    them, they pause after each look for longer than it took, since 256 Backups that end one after the other would have
    them do nothing else.
    """
    context.wakeups.begin(uid, kind)
    try:
        while True:
            async with crowd or contextlib.nullcontext(), context.locks[uid]:
                began = time.monotonic()
                seconds = await _guarded(context, kind, uid, step)
                took = time.monotonic() - began
            if seconds is None:
                return
            if crowd is not None:
                await asyncio.sleep(min(REST * took, MOST_REST_SECONDS))
            await context.wakeups.sleep(uid, seconds)
    finally:
        context.wakeups.forget(uid)
        context.locks.pop(uid, None)


async def _guarded(
    context: Context, kind: str, uid: str, step: Callable[[], Awaitable[float | None]]
) -> float | None:
    try:
        return await step()
    except GatewayError as error:
        log.warning("%s %s: %s; trying again in %.0f s", kind, uid, error, API_RETRY_SECONDS)
        context.figures.observe_reconcile_error(kind)
        return API_RETRY_SECONDS
    except Exception:  # a defect in one object's reconciliation must not end its loop; it is logged whole
        log.exception("%s %s: unexpected error; trying again in %.0f s", kind, uid, DEFECT_RETRY_SECONDS)
        context.figures.observe_reconcile_error(kind)
        return DEFECT_RETRY_SECONDS
