"""Deleting a Vault: look, decide (core.plan_vault_deletion), do one thing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from blockvault.api import DeletionHold, Vault, as_dict
from blockvault.core.conditions import condition_while, ready_conditions
from blockvault.core.decision import Missing, Refusal
from blockvault.core.hold import Answer, VaultHoldView, answer_of, decide_vault_hold, standing_hold
from blockvault.core.other_vaults import deleted_together, sharing
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
from .credentials import renew_movers
from .leaving import is_leaving
from .places import Place, mass_deletion_of, vault_place
from .resources import BACKUPS, VAULTS
from .upkeep import observe_run, perform

# Vaults that are gone are remembered for so long, from their deletion on: no class counts over more than a day.
REMEMBERED = timedelta(days=2)


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
            context.deleted_vaults.append((vault.metadata.deletion_timestamp or utc_now(), namespace))
        context.wakeups.wake_all()  # others may have waited for its place
        return None
    if step.reason and deletes_data(vault) and not view.leaving:
        await operations.write_status(context, VAULTS, obj, _status(vault, step))
    if view.deletion is None and step.deletion is not None:
        for backup in view.backups:
            context.wakeups.wake(backup.metadata.uid)  # some wait for this
    if step.action is not None:
        await _perform(context, vault, view, step.action)
    return step.requeue


async def _observe(context: Context, vault: Vault) -> DeletionView:
    leaving = await is_leaving(context, VAULTS, str(vault.metadata.namespace))
    view, hold = DeletionView(utc_now(), vault, leaving), standing_hold(vault)
    waits = hold is not None and view.deletion is None and answer_of(vault, hold) is Answer.WAIT
    if waits and not leaving and deletes_data(vault):
        return replace(view, hold=(Answer.WAIT, hold))  # many may wait so: no more is looked at
    run = await observe_run(context, vault, run_of(vault))
    view = replace(view, job=run.job, pods=run.pods, has_secret=run.has_secret, nodes=run.nodes)
    if view.leaving or not deletes_data(vault):
        return view
    everyone = Vault.readable(await context.gateway.list_objects(VAULTS))
    view = replace(view, shared=sharing(vault, everyone))
    if view.shared:
        return view
    place = await vault_place(context, vault)
    backups = own_backups(vault, await operations.backups_of(context, vault))
    names = {b.metadata.name for b in backups}
    reading = await operations.restores_of(context, vault.metadata.namespace, names)
    view = replace(
        view,
        problem=place if isinstance(place, Refusal | Missing) else None,
        backups=backups,
        restores=sorted(r.metadata.name for r in reading),
    )
    status = vault.status
    erasing = view.deletion is not None and view.deletion.run and not view.deletion.ended_at
    if erasing and isinstance(place, Place):
        await renew_movers(context, vault, place)
    stored = ((status.backups or 0) + (status.in_trash or 0)) if status else 0
    if isinstance(place, Place) and wants_store(view):
        try:
            found = await context.stores.check(place.access)
            stored = found.backups + found.in_trash
        except (StoreError, EngineError) as error:
            words = f"{place.storage.location}: {error} {error.remedy}"
            view = replace(view, problem=Refusal(error.reason, words))
    if view.deletion is None:
        # Also while nothing can be deleted: what is many now is many when it can.
        view = replace(view, hold=await _hold(context, vault, everyone, max(stored, len(backups))))
    return view


async def _hold(
    context: Context, vault: Vault, everyone: list[Vault], stored: int
) -> tuple[Answer, DeletionHold | None]:
    limit = await mass_deletion_of(context, vault)
    now = utc_now()
    context.deleted_vaults = [each for each in context.deleted_vaults if each[0] >= now - REMEMBERED]
    counted, gone = deleted_together(vault, everyone, context.deleted_vaults, limit)
    here = counted.count(str(vault.metadata.namespace))
    return decide_vault_hold(
        VaultHoldView(now, vault, limit, stored, here, len(counted), len(everyone) + gone)
    )


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
    words = step.hold.message if step.hold else None
    conditions = condition_while(
        conditions, "DeletionHeld", "True", "MassDeletion", words, generation=generation, now=now
    )
    status: dict[str, Any] = {"phase": "Deleting", "reason": step.reason, "message": step.message}
    status["deletionHold"] = as_dict(step.hold) if step.hold else None
    status["conditions"] = conditions
    if step.deletion is not None:
        before = vault.status.deletion if vault.status else None
        status["deletion"] = (as_dict(before) if before else {}) | step.deletion
    return status


async def _perform(context: Context, vault: Vault, view: DeletionView, action: Action) -> None:
    if action is not Action.DELETE_BACKUPS:
        assert vault.status is not None  # nothing is erased of a Vault whose store never answered
        number = run_of(vault)
        run = await observe_run(context, vault, number)
        await perform(context, vault, run, Upkeep(action), "erase", number, storeId=vault.status.store_id)
        return
    present = [b.metadata for b in view.backups if not b.metadata.deletion_timestamp][:BATCH]
    await asyncio.gather(
        *(context.gateway.delete(BACKUPS, meta.name, meta.namespace, uid=meta.uid) for meta in present)
    )
