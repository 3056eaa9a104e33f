"""Deletions of a Vault's Backups are counted together, and held where there are too many (core.hold)."""

from __future__ import annotations

from datetime import datetime, timedelta

from blockvault.api import Backup, MassDeletion, Vault
from blockvault.core.hold import Answer, HoldView, counts, decide_hold
from blockvault.core.plan_vault_deletion import own_backups

from . import operations
from .context import Context
from .places import Place
from .resources import VAULTS


async def answer_for(context: Context, vault: Vault, place: Place) -> tuple[Answer, str]:
    """Whether deletions of this Vault's Backups go on, and what the hold says."""
    vault_class = place.storage.vault_class
    limit = (vault_class.spec.mass_deletion if vault_class else None) or MassDeletion()
    meta = vault.metadata
    # One look at a time: each of many deletions asks, and the hold is made once.
    async with context.locks[f"{meta.uid}/hold"]:
        obj = await context.gateway.get(VAULTS, meta.name, meta.namespace)
        if obj is None or obj["metadata"]["uid"] != meta.uid:
            return Answer.WAIT, "The Vault is gone."
        now = context.clock()
        found = [
            *await operations.backups_of(context, vault, "Available"),
            *await operations.backups_of(context, vault, "Deleting"),
        ]
        present = [b for b in own_backups(vault, found) if counts(b)]
        going = sum(bool(b.metadata.deletion_timestamp) for b in present)
        lately = recent(context, meta.uid, now, limit)
        current = Vault.model_validate(obj)
        answer, hold = decide_hold(HoldView(now, current, limit, going, len(present), len(lately)))
        before = current.status.deletion_hold if current.status else None
        if hold != before:
            status = {"deletionHold": hold.model_dump(by_alias=True) if hold else None}
            await context.gateway.patch_status(VAULTS, meta.name, meta.namespace, status)
            if hold is not None:
                await operations.tell_vault(context, obj["metadata"], "DeletionHeld", hold.message)
            context.wakeups.wake(meta.uid)
        return answer, hold.message if hold else ""


def note_deletion(context: Context, vault: Vault, backup: Backup) -> None:
    """Remember that a Backup's data was deleted just now."""
    if counts(backup):
        context.deletions[vault.metadata.uid].append(context.clock())


def recent(context: Context, vault_uid: str, now: datetime, limit: MassDeletion) -> list[datetime]:
    """The deletions of a Vault within the time that its class looks at."""
    left = [
        moment for moment in context.deletions[vault_uid] if now - moment < timedelta(minutes=limit.minutes)
    ]
    context.deletions[vault_uid] = left
    return left
