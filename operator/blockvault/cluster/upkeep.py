"""Upkeep of a Vault's store: look, decide (core.plan_upkeep), do one thing."""

from __future__ import annotations

from typing import Any

from blockvault.api import UpkeepStatus, Vault
from blockvault.core.admission import VAULT_WORKS
from blockvault.core.conditions import timestamp
from blockvault.core.decision import Missing, Refusal
from blockvault.core.lost_nodes import nodes_named
from blockvault.core.naming import job_name
from blockvault.core.plan_upkeep import BUDGET, Action, UpkeepView, decide_upkeep, due_at
from blockvault.core.tasks import upkeep_tasks

from . import operations
from .context import Context, upkeep_key, utc_now
from .gateway import GatewayError
from .given_up import nodes_of
from .movers import mover_job, mover_request, mover_secret
from .places import mover_template, rate_of_backups, vault_of, vault_place
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
    if vault.status is None or vault.status.phase not in VAULT_WORKS:
        return context.idle(IDLE_SECONDS)
    view = await observe_run(context, vault, (vault.status.upkeep or UpkeepStatus()).run)
    step = decide_upkeep(view)
    if step.status is not None:
        await context.gateway.patch_status(VAULTS, name, namespace, {"upkeep": step.status})
        if step.status.get("endedAt"):
            well = step.status.get("reason") == "Completed"
            context.figures.observe_upkeep(step.status, "succeeded" if well else "failed")
        whole = {"startedAt": view.status.started_at} | step.status
        context.note_tasks(upkeep_tasks(vault, view.status.run, whole, context.clock()))
        return STEP_SECONDS
    if step.action is not None:
        await perform(context, vault, view, step.action, "upkeep", budget=BUDGET)
        return STEP_SECONDS
    if view.running:
        return RUNNING_SECONDS
    return min(context.idle(IDLE_SECONDS), max(STEP_SECONDS, (due_at(view) - view.now).total_seconds()))


async def want_upkeep(context: Context, vault: Vault) -> None:
    """Ask for a run soon: something was deleted for good."""
    meta = vault.metadata
    wanted = {"upkeep": {"wanted": timestamp(context.clock())}}
    await context.gateway.patch_status(VAULTS, meta.name, meta.namespace, wanted)
    context.wakeups.wake(upkeep_key(meta.uid))


async def observe_run(context: Context, vault: Vault, run: int) -> UpkeepView:
    """What is there of a run on a Vault's store; of run 0 nothing is."""
    meta, namespace = vault.metadata, context.settings.namespace
    status = (vault.status.upkeep if vault.status else None) or UpkeepStatus()
    if not run:
        return UpkeepView(context.clock(), meta.uid, meta.creation_timestamp, status)
    pods = await operations.own_pods(context, meta.uid)
    return UpkeepView(
        context.clock(),
        meta.uid,
        meta.creation_timestamp,
        status,
        await context.gateway.get(JOBS, job_name(meta.uid, run), namespace),
        pods,
        await operations.has_secret(context, meta.uid),
        utc_now(),
        await nodes_of(context, nodes_named(pods)),
    )


async def perform(
    context: Context,
    vault: Vault,
    view: UpkeepView,
    action: Action,
    operation: str,
    run: int | None = None,
    **request: Any,
) -> None:
    """Carry out one action of a run of that operation; each may be repeated. `run`: as the status has it, if not given.

    Raises GatewayError where the Vault's place cannot be told.
    """
    gateway, namespace, owner = context.gateway, context.settings.namespace, owner_of(vault)
    number = view.status.run if run is None else run
    match action:
        case Action.CREATE_SECRET:
            place = await vault_place(context, vault)
            if isinstance(place, Refusal | Missing):
                raise GatewayError(0, f"Vault {vault.metadata.name}", place.message)
            rate = await rate_of_backups(context, vault)
            body = mover_request(operation, owner, place.access, limitRate=rate, **request)
            await gateway.ensure(SECRETS, mover_secret(owner, namespace, body, place.access))
        case Action.CREATE_JOB:
            template = await mover_template(context, vault)
            job = mover_job(owner, context.settings, template, run=number, device=False)
            await gateway.ensure(JOBS, job)
        case Action.DELETE_JOB:
            await gateway.delete(JOBS, job_name(owner.uid, number), namespace)
        case Action.DELETE_PODS:
            await operations.delete_pods(context, view.pods)
        case Action.DELETE_SECRET:
            await operations.delete_secret(context, owner.uid)
