"""Backups ask for a place among those at work, and say that they wait (core.turns)."""

from __future__ import annotations

from blockvault.api import Backup
from blockvault.core.automatic import origin_status
from blockvault.core.decision import Decision
from blockvault.core.objects import Object
from blockvault.core.plan_backup import Action, BackupView
from blockvault.core.rates import most_at_once
from blockvault.core.turns import Waiting

from . import operations
from .context import Context
from .places import limits_of
from .resources import BACKUPS

# What waits for its Vault in the middle gives its place to others meanwhile.
STANDING_STILL = ("VaultNotFound", "VaultNotAvailable")
# Of a Backup that waits for its turn: it is woken, and looks by itself only for what was missed.
QUEUED_UP, QUEUE_SECONDS = "Queued", 30.0


async def has_turn(context: Context, view: BackupView, decision: Decision) -> bool:
    """Whether the Backup may do what was decided: one that begins needs a place among those at work (F10)."""
    meta, vault = view.backup.metadata, _vault_of(view.backup)
    if decision.action is Action.CREATE_SNAPSHOT and view.vault is not None:
        await _seed_turns(context)
        most = most_at_once(await limits_of(context, view.vault))
        return context.turns.take(Waiting(meta.creation_timestamp, meta.uid, vault, most))
    if view.started and view.outcome is None and decision.reason not in STANDING_STILL:
        context.turns.keep(meta.uid, vault)
    else:
        leave_turn(context, meta.uid)
    return True


async def _seed_turns(context: Context) -> None:
    """After a start, those at work have their places before anybody begins."""
    if context.turns.seeded:
        return
    for obj in await context.gateway.list_objects(BACKUPS, fields={"status.phase": "Creating"}):
        found = Backup.model_validate(obj)
        if found.status and not found.status.operation:
            context.turns.keep(found.metadata.uid, _vault_of(found))
    context.turns.seeded = True


def leave_turn(context: Context, uid: str) -> None:
    """Give a Backup's place to those that wait, and wake them."""
    for other in context.turns.leave(uid):
        context.wakeups.wake(other)


async def wait_for_turn(context: Context, obj: Object, backup: Backup) -> float:
    """Say that a Backup waits; the figures in it do not make it another status each time. Seconds until it looks."""
    former = obj.get("status") or {}
    message = f"Waiting for its turn: at work are {context.turns.words(_vault_of(backup))}."
    if former.get("reason") == QUEUED_UP:
        message = former.get("message", message)
    decision = Decision("Pending", QUEUED_UP, message)
    status = operations.decided_status(decision, former, backup.metadata.generation, context)
    await operations.write_status(context, BACKUPS, obj, status | origin_status(backup))
    return QUEUE_SECONDS


def _vault_of(backup: Backup) -> str:
    return f"{backup.metadata.namespace}/{backup.spec.vault_ref.name}"
