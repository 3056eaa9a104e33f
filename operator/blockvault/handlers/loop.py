"""The level loop: look, take one step, sleep until woken, until the object is finished."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from blockvault.cluster.context import Context
from blockvault.cluster.gateway import GatewayError

log = logging.getLogger(__name__)

API_RETRY_SECONDS = 3.0
DEFECT_RETRY_SECONDS = 15.0


async def run_loop(
    context: Context, kind: str, uid: str, step: Callable[[], Awaitable[float | None]]
) -> None:
    """Run steps until one returns None. Ends early only by cancellation."""
    try:
        while True:
            async with context.locks[uid]:
                seconds = await _guarded(context, kind, step)
            if seconds is None:
                return
            await context.wakeups.sleep(uid, seconds)
    finally:
        context.wakeups.forget(uid)
        context.locks.pop(uid, None)


async def _guarded(context: Context, kind: str, step: Callable[[], Awaitable[float | None]]) -> float | None:
    try:
        return await step()
    except GatewayError as error:
        log.warning("%s: %s; trying again in %.0f s", kind, error, API_RETRY_SECONDS)
        context.figures.observe_reconcile_error(kind)
        return API_RETRY_SECONDS
    except Exception:  # a defect in one object's reconciliation must not end its loop; it is logged whole
        log.exception("%s: unexpected error; trying again in %.0f s", kind, DEFECT_RETRY_SECONDS)
        context.figures.observe_reconcile_error(kind)
        return DEFECT_RETRY_SECONDS
