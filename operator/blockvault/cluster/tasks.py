"""Tasks: write what reconcilers have left in the book, tell it on the claims, remove what is old (core.taskbook)."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import timedelta

from blockvault.api import Task
from blockvault.core.conditions import parse_timestamp
from blockvault.core.naming import task_name
from blockvault.core.objects import Object
from blockvault.core.task_record import Record, body_of, claim_event, record_of
from blockvault.core.taskbook import Kept, kept_of
from blockvault.core.tasks import closed, operation_of

from . import operations
from .context import Context
from .gateway import ConflictError, GatewayError
from .resources import BACKUPS, CLAIMS, RESTORES, TASKS, VAULTS, Resource

log = logging.getLogger(__name__)

# After a failure, while old Tasks are removed, and at most, in seconds.
RETRY_SECONDS, REMOVING_SECONDS, IDLE_SECONDS = 3.0, 2.0, 600.0
# Old Tasks that are removed in one turn: thousands go at the end of a day, and the API server has other work.
REMOVED_AT_ONCE = 50
# Operations that ended so long ago get the Task that was not written when they did.
MADE_UP = timedelta(days=1)
# Refused for good: a namespace that goes, one that is gone, what the definition does not take.
HOPELESS = (400, 403, 404, 422)

OPERATIONS: dict[str, Resource] = {r.kind: r for r in (BACKUPS, RESTORES, VAULTS)}


async def tend_tasks(context: Context) -> float:
    """One turn. Returns seconds until the next. Raises GatewayError where all Tasks could not be looked through."""
    book, most = context.tasks, context.settings.max_tasks
    failed = await _write_due(context)
    await _remove_some(context)
    if book.sweep_is_due(context.clock(), time.monotonic(), most):
        await _sweep(context, most)
    if failed:
        return RETRY_SECONDS
    waits = book.seconds(time.monotonic())
    return min(IDLE_SECONDS if waits is None else waits, REMOVING_SECONDS if book.going else IDLE_SECONDS)


async def _write_due(context: Context) -> bool:
    """Write what is due. Whether something is left that could not be written now."""
    failed = False
    for record in context.tasks.due(time.monotonic()):
        try:
            await _write(context, record)
        except GatewayError as error:
            if error.status in HOPELESS:
                log.warning("Task %s/%s is not written: %s", record.namespace, record.name, error)
                context.tasks.drop(record)
                continue
            failed = True
            log.warning("Task %s/%s: %s; trying again", record.namespace, record.name, error)
            if error.status == 0:
                break  # nobody answers: each of the others would wait for that too
    return failed


async def _write(context: Context, record: Record) -> None:
    """Create or patch a Task, and tell of its beginning or end on the claim. Twice is the same as once."""
    whole = record
    if record.kind == RESTORES.kind and record.vault is None:
        whole = replace(record, vault=await _vault_of_restore(context, record))
    before = context.tasks.said(record)
    made = await _put(context, whole, there=before is not None)
    event = claim_event(before, whole)
    if event is not None:
        claim = await context.gateway.get(CLAIMS, str(record.resource), record.namespace)
        if claim is not None:
            await operations.tell(context, CLAIMS, claim, event)
    context.tasks.written(record, time.monotonic(), made=made)


async def _put(context: Context, record: Record, *, there: bool) -> bool:
    """Write a Task; whether it was made. One that somebody deleted comes back."""
    body, gateway = body_of(record), context.gateway
    if there:
        try:
            await gateway.patch(TASKS, record.name, record.namespace, body)
        except GatewayError as error:
            if error.status != 404:
                raise
        else:
            return False
    try:
        await gateway.create(TASKS, body)
    except ConflictError as conflict:
        try:
            await gateway.patch(TASKS, record.name, record.namespace, body)
        except GatewayError as error:
            # Gone between the two: another time.
            raise conflict if error.status == 404 else error from error
        return False
    return True


async def _vault_of_restore(context: Context, record: Record) -> str | None:
    restore = await context.gateway.get(RESTORES, record.object, record.namespace)
    ref = ((restore or {}).get("spec") or {}).get("backupRef")
    backup = await context.gateway.get(BACKUPS, ref["name"], record.namespace) if ref else None
    return str(backup["spec"]["vaultRef"]["name"]) if backup else None


async def _remove_some(context: Context) -> None:
    going = context.tasks.going
    for _ in range(min(REMOVED_AT_ONCE, len(going))):
        await context.gateway.delete(TASKS, going[-1].name, going[-1].namespace, uid=going[-1].uid)
        going.pop()


async def _sweep(context: Context, most: int) -> None:
    """Look all Tasks through: what is old goes, what says Running and does not is closed by what its object says."""
    now, first = context.clock(), context.tasks.swept is None
    kept: list[Kept] = []
    running: list[Record] = []
    async for page in context.gateway.pages(TASKS):
        kept += [kept_of(task, now) for task in page]
        running += [record for task in page if (record := _running(task)) is not None]
    for record in running:
        obj = await context.gateway.get(OPERATIONS[record.kind], record.object, record.namespace)
        end = closed(record, obj, now)
        context.tasks.adopt(record)
        if end is not None:
            context.tasks.put(end, time.monotonic())
    if first:
        await _make_up(context, {(task.namespace, task.name) for task in kept})
    context.tasks.sweep_done(kept, now, time.monotonic(), most)


def _running(task: Object) -> Record | None:
    """The record of a Task that says Running; None of others, and of what another version has written."""
    if (task.get("status") or {}).get("phase") != "Running":
        return None
    try:
        record = record_of(Task.model_validate(task))
    except ValueError as error:
        log.warning("Task %s/%s: %s", task["metadata"]["namespace"], task["metadata"]["name"], error)
        return None
    return record if record.kind in OPERATIONS else None


async def _make_up(context: Context, there: set[tuple[str, str]]) -> None:
    """What the operator before this one did not get around to write."""
    now = context.clock()
    for resource in (BACKUPS, RESTORES):
        async for page in context.gateway.pages(resource):
            for obj in page:
                meta = obj["metadata"]
                if (meta["namespace"], task_name(resource.kind, meta["uid"])) in there or not obj.get(
                    "status"
                ):
                    continue
                record = operation_of(resource.kind, obj)
                if record is not None and (
                    record.open or (record.ended and now - parse_timestamp(record.ended) < MADE_UP)
                ):
                    context.tasks.put(record, time.monotonic())
