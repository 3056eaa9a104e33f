"""Upkeep of a Vault's store: look, decide (core.plan_upkeep), do one thing."""

from __future__ import annotations

from dataclasses import replace

from blockvault.api import UpkeepStatus, Vault
from blockvault.core.conditions import timestamp
from blockvault.core.decision import Missing, Refusal
from blockvault.core.naming import job_name
from blockvault.core.objects import Object, deleting
from blockvault.core.plan_upkeep import BUDGET, Action, UpkeepView, decide_upkeep, due_at, next_cleaning
from blockvault.core.tasks import upkeep_tasks

from . import operations
from .context import Context, upkeep_key, utc_now
from .gateway import GatewayError
from .movers import mover_job, mover_request, mover_secret
from .places import mover_template, vault_of, vault_place
from .resources import JOBS, SECRETS, VAULTS
from .templates import Owner

STEP_SECONDS, RUNNING_SECONDS, IDLE_SECONDS = 1.0, 5.0, 600.0


def owner_of(vault: Vault) -> Owner:
    """The Vault as owner of what its upkeep makes."""
    meta = vault.metadata
    return Owner(VAULTS.kind, str(meta.namespace), meta.name, meta.uid)


async def reconcile_upkeep(context: Context, namespace: str, name: str) -> float | None:
    """One step of upkeep. Returns seconds until the next look, None when the Vault is gone."""
    there = await vault_of(context, namespace, name)
    if there is None:
        return None
    _, vault = there
    if vault.status is None or vault.status.phase != "Available":
        return IDLE_SECONDS
    view = await _observe(context, vault)
    step = decide_upkeep(view)
    if step.status is not None:
        await context.gateway.patch_status(VAULTS, name, namespace, {"upkeep": step.status})
        whole = {"startedAt": view.status.started_at} | step.status
        context.note_tasks(upkeep_tasks(vault, view.status.run, whole, context.clock()))
        return STEP_SECONDS
    if step.action is not None:
        await _perform(context, vault, view, step.action)
        return STEP_SECONDS
    if view.running:
        return RUNNING_SECONDS
    return min(IDLE_SECONDS, max(STEP_SECONDS, (due_at(view) - view.now).total_seconds()))


async def end_upkeep(context: Context, obj: Object) -> float | None:
    """What the deletion of a Vault does to its upkeep: nothing of it stays. Returns seconds until the next step."""
    vault = Vault.model_validate(obj)
    view = await _observe(context, vault)
    # A pod on a dead node never ends: it is not waited for, as nothing may hang on our finalizer (F18).
    view = replace(view, pods=[pod for pod in view.pods if not deleting(pod)])
    action = next_cleaning(view)
    if action is None:
        return None
    await _perform(context, vault, view, action)
    return STEP_SECONDS


async def want_upkeep(context: Context, vault: Vault) -> None:
    """Ask for a run soon: something was deleted for good."""
    meta = vault.metadata
    wanted = {"upkeep": {"wanted": timestamp(context.clock())}}
    await context.gateway.patch_status(VAULTS, meta.name, meta.namespace, wanted)
    context.wakeups.wake(upkeep_key(meta.uid))


async def _observe(context: Context, vault: Vault) -> UpkeepView:
    meta, namespace = vault.metadata, context.settings.namespace
    status = (vault.status.upkeep if vault.status else None) or UpkeepStatus()
    if not status.run:
        return UpkeepView(context.clock(), meta.uid, meta.creation_timestamp, status)
    return UpkeepView(
        context.clock(),
        meta.uid,
        meta.creation_timestamp,
        status,
        await context.gateway.get(JOBS, job_name(meta.uid, status.run), namespace),
        await operations.own_pods(context, meta.uid),
        await operations.has_secret(context, meta.uid),
        utc_now(),
    )


async def _perform(context: Context, vault: Vault, view: UpkeepView, action: Action) -> None:
    gateway, namespace, owner = context.gateway, context.settings.namespace, owner_of(vault)
    match action:
        case Action.CREATE_SECRET:
            place = await vault_place(context, vault)
            if isinstance(place, Refusal | Missing):
                raise GatewayError(0, f"Vault {vault.metadata.name}", place.message)
            request = mover_request("upkeep", owner, place.access, budget=BUDGET)
            await gateway.ensure(SECRETS, mover_secret(owner, namespace, request, place.access))
        case Action.CREATE_JOB:
            template = await mover_template(context, vault)
            job = mover_job(owner, context.settings, template, run=view.status.run, device=False)
            await gateway.ensure(JOBS, job)
        case Action.DELETE_JOB:
            await gateway.delete(JOBS, job_name(owner.uid, view.status.run), namespace)
        case Action.DELETE_PODS:
            await operations.delete_pods(context, view.pods)
        case Action.DELETE_SECRET:
            await operations.delete_secret(context, owner.uid)
