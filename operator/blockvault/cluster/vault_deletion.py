"""Deleting a Vault: look, decide (core.plan_vault_deletion), do one thing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from blockvault.api import DeletionHold, MassDeletion, Restore, Vault, as_dict
from blockvault.core.conditions import ready_conditions, remove_condition, set_condition
from blockvault.core.decision import Missing, Refusal
from blockvault.core.hold import Answer, VaultHoldView, decide_vault_hold, standing_hold
from blockvault.core.plan_upkeep import Action as Upkeep
from blockvault.core.plan_vault_deletion import (
    BATCH,
    Action,
    DeletionView,
    Step,
    decide_deletion,
    deletes_data,
    own_backups,
    run_of,
    wants_store,
)
from blockvault.engine import EngineError
from blockvault.stores import StoreError

from . import operations
from .context import Context, utc_now
from .leaving import is_leaving
from .places import Place, vault_place
from .resources import BACKUPS, RESTORES, VAULTS
from .upkeep import observe_run, perform


async def delete_vault(context: Context, namespace: str, name: str, uid: str) -> float | None:
    """One step of a Vault's deletion. Returns seconds until the next step, None when its finalizer may go."""
    obj = await context.gateway.get(VAULTS, name, namespace)
    if obj is None or obj["metadata"]["uid"] != uid:
        return None
    vault = Vault.model_validate(obj)
    view = await _observe(context, vault)
    step = decide_deletion(view)
    if step.done:
        if step.reason:
            await operations.write_status(context, VAULTS, obj, _status(vault, step))
        if vault.status and vault.status.deletion:
            context.deleted_vaults.append((utc_now(), namespace))
        context.wakeups.wake_all()  # others may have waited for its place
        return None
    if step.reason and deletes_data(vault) and not view.leaving:
        await operations.write_status(context, VAULTS, obj, _status(vault, step))
    if step.action is not None:
        await _perform(context, vault, view, step.action)
    return step.requeue


async def _observe(context: Context, vault: Vault) -> DeletionView:
    meta = vault.metadata
    run = await observe_run(context, vault, run_of(vault))
    view = DeletionView(
        utc_now(),
        vault,
        await is_leaving(context, VAULTS, str(meta.namespace)),
        job=run.job,
        pods=run.pods,
        has_secret=run.has_secret,
    )
    if view.leaving or not deletes_data(vault):
        return view
    place = await vault_place(context, vault)
    backups = own_backups(vault, await operations.backups_of(context, vault))
    view = replace(
        view,
        problem=place if isinstance(place, Refusal | Missing) else None,
        backups=backups,
        restores=await _restores(context, vault, {b.metadata.name for b in backups}),
    )
    stored = 0
    if isinstance(place, Place) and wants_store(view):
        try:
            found = await context.stores.check(place.access)
            stored = found.backups + found.in_trash
        except (StoreError, EngineError) as error:
            words = f"{place.storage.location}: {error} {error.remedy}"
            view = replace(view, problem=Refusal(error.reason, words))
    if view.deletion is None and view.problem is None and isinstance(place, Place):
        view = replace(view, hold=await _hold(context, vault, place, max(stored, len(backups))))
    elif view.deletion is None and (hold := standing_hold(vault)) is not None:
        view = replace(view, hold=(Answer.WAIT, hold))
    return view


async def _hold(
    context: Context, vault: Vault, place: Place, stored: int
) -> tuple[Answer, DeletionHold | None]:
    vault_class = place.storage.vault_class
    limit = (vault_class.spec.mass_deletion if vault_class else None) or MassDeletion()
    now, namespace = utc_now(), str(vault.metadata.namespace)
    since = now - timedelta(minutes=limit.minutes)
    everyone = [Vault.model_validate(v) for v in await context.gateway.list_objects(VAULTS)]
    going = [
        str(v.metadata.namespace)
        for v in everyone
        if deletes_data(v) and v.metadata.deletion_timestamp and v.metadata.deletion_timestamp >= since
        if v.metadata.uid != vault.metadata.uid
        if v.status and ((v.status.backups or 0) + (v.status.in_trash or 0) or v.status.deletion)
    ]
    context.deleted_vaults = [each for each in context.deleted_vaults if each[0] >= since]
    gone = [where for _, where in context.deleted_vaults]
    counted = [*going, *gone, namespace]
    return decide_vault_hold(
        VaultHoldView(
            now,
            vault,
            limit,
            stored,
            counted.count(namespace),
            len(counted),
            len(everyone) + len(gone),
        )
    )


async def _restores(context: Context, vault: Vault, names: set[str]) -> list[str]:
    """Restores at work that read one of these Backups."""
    found = [
        Restore.model_validate(r)
        for r in await context.gateway.list_objects(
            RESTORES, vault.metadata.namespace, fields={"status.phase": "Restoring"}
        )
    ]
    return sorted(r.metadata.name for r in found if r.spec.backup_ref and r.spec.backup_ref.name in names)


def _status(vault: Vault, step: Step) -> dict[str, Any]:
    now, generation = utc_now(), vault.metadata.generation
    former = [as_dict(c) for c in (vault.status.conditions if vault.status else [])]
    conditions = ready_conditions(
        former,
        "stalled" if step.stuck else "reconciling",
        step.reason,
        step.message,
        generation=generation,
        now=now,
    )
    conditions = remove_condition(conditions, "DeletionHeld")
    status: dict[str, Any] = {"phase": "Deleting", "reason": step.reason, "message": step.message}
    if step.hold is not None:
        words = step.hold.message
        conditions = set_condition(
            conditions, "DeletionHeld", "True", "MassDeletion", words, generation=generation, now=now
        )
    status["deletionHold"] = as_dict(step.hold) if step.hold else None
    status["conditions"] = conditions
    if step.deletion is not None:
        before = vault.status.deletion if vault.status else None
        status["deletion"] = (as_dict(before) if before else {}) | step.deletion
    return status


async def _perform(context: Context, vault: Vault, view: DeletionView, action: Action) -> None:
    if action is not Action.DELETE_BACKUPS:
        number = run_of(vault)
        run = await observe_run(context, vault, number)
        await perform(context, vault, run, Upkeep(action), "erase", number)
        return
    present = [b.metadata for b in view.backups if not b.metadata.deletion_timestamp][:BATCH]
    await asyncio.gather(
        *(context.gateway.delete(BACKUPS, meta.name, meta.namespace, uid=meta.uid) for meta in present)
    )
