"""A Vault's resources and its policy: look, decide (core.association, core.runs), make and remove Backups."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from blockvault.api import Backup, BackupPolicy, Restore, Vault, as_dict, not_served
from blockvault.core.association import CLAIM, MOST_RESOURCES, Associations, associate
from blockvault.core.conditions import timestamp
from blockvault.core.dissociation import LeavingPlan, LeavingView, plan_leaving
from blockvault.core.lateness import due_at, is_failing
from blockvault.core.naming import MANAGED_BY, MANAGED_BY_LABEL, RUN_ANNOTATION, volume_name
from blockvault.core.objects import Object
from blockvault.core.retention import Verdict
from blockvault.core.runs import IDLE_SECONDS, NewBackup, RunPlan, RunView, plan_runs, volume_of
from blockvault.core.tasks import skipped_task
from blockvault.metrics.shapes import ClaimFigures, seconds_of

from . import operations
from .context import Context
from .gateway import ConflictError, GatewayError
from .places import limits_of, mass_deletion_of, vault_of
from .resources import BACKUPS, CLAIMS, POLICIES, RESTORES, VAULTS

# Numbers of one run's Backups; a vault holds no more resources than a quarter of these.
MOST_NUMBERS = 1024


async def reconcile_runs(context: Context, namespace: str, name: str) -> float | None:
    """One look at a Vault's resources and policy. Returns seconds until the next, None when the Vault is gone."""
    there = await vault_of(context, namespace, name)
    if there is None:
        return None
    obj, vault = there
    if not_served(vault):
        return IDLE_SECONDS
    held, view = await _observe(context, vault)
    plan = plan_runs(view)
    for new in plan.make:
        await _make(context, vault, new, view.backups)
    for verdict in plan.remove:
        await _remove(context, verdict, view.backups)
    for claim, skipped in plan.skipped:
        words = f"{claim} at {skipped.slot}: {skipped.message}"
        await operations.tell_vault(context, obj["metadata"], skipped.reason, words)
        context.note_tasks([skipped_task(vault, claim, skipped, context.clock())])
    leaving = await _plan_leaving(context, vault, held, view, plan.anomalies.held)
    for verdict in leaving.remove:
        await _remove(context, verdict, view.backups)
    for reason, words in leaving.told:
        await operations.tell_vault(context, obj["metadata"], reason, words)
    before = vault.status.dissociation_hold if vault.status else None
    if leaving.hold is not None and leaving.hold != before:
        await operations.tell_vault(context, obj["metadata"], "DeletionHeld", leaving.hold.message)
    # Last of all: what was not done for an error is decided again.
    for found in plan.anomalies.new:
        await operations.tell_vault(context, obj["metadata"], found.reason, found.message, phase="Error")
    status = _status(held, plan, view.backups)
    status["leaving"] = [as_dict(each) for each in leaving.leaving]
    status["dissociationHold"] = leaving.hold.model_dump(by_alias=True) if leaving.hold else None
    await operations.write_status(context, VAULTS, obj, status)
    _count(context, vault, plan, view)
    shown = (vault.status.anomalies if vault.status else None) or []
    if leaving.hold != before or plan.anomalies.entries != shown:
        context.wakeups.wake(vault.metadata.uid)  # its condition says so
    seconds = min(plan.next_look, leaving.next_look or plan.next_look)
    return context.idle(seconds) if seconds >= IDLE_SECONDS else seconds


def _count(context: Context, vault: Vault, plan: RunPlan, view: RunView) -> None:
    """What the figures say of the claims and slots of this look."""
    namespace, name = str(vault.metadata.namespace), vault.metadata.name
    for _, skipped in plan.skipped:
        context.figures.observe_skipped((namespace, name), skipped.reason)
    by_volume: dict[str, list[Backup]] = defaultdict(list)
    for backup in view.backups:
        by_volume[volume_of(backup)].append(backup)
    claims = [
        ClaimFigures(
            line.name,
            seconds_of(line.last_backup_at),
            seconds_of(due_at(view.policy, plan.policy, line)),
            is_failing(by_volume[volume_name(namespace, line.name)]),
        )
        for line in plan.lines
        if line.since
    ]
    context.figures.set_claims(namespace, name, claims)


async def _plan_leaving(
    context: Context, vault: Vault, held: Associations, view: RunView, odd: frozenset[str]
) -> LeavingPlan:
    limit = await mass_deletion_of(context, vault)
    names = [line.name for line in held.lines]
    return plan_leaving(LeavingView(view.now, vault, limit, held.left, names, view.backups, odd))


async def _observe(context: Context, vault: Vault) -> tuple[Associations, RunView]:
    gateway, namespace, now = context.gateway, str(vault.metadata.namespace), context.clock()
    claims, vaults, limits, policy, backups, busy = await asyncio.gather(
        gateway.list_objects(CLAIMS, namespace),
        gateway.list_objects(VAULTS, namespace),
        limits_of(context, vault),
        _policy_of(context, vault),
        operations.backups_of(context, vault),
        _busy(context, namespace),
    )
    held = associate(
        vault,
        {claim["metadata"]["name"]: claim for claim in claims},
        [Vault.model_validate(each) for each in vaults],
        now,
        MOST_RESOURCES if limits.resources is None else limits.resources,
    )
    return held, RunView(now, vault, held.lines, policy, backups, busy)


async def _policy_of(context: Context, vault: Vault) -> BackupPolicy | None:
    ref = vault.spec.policy_ref
    policy = await context.gateway.get(POLICIES, ref.name, vault.metadata.namespace) if ref else None
    return BackupPolicy.model_validate(policy) if policy else None


async def _busy(context: Context, namespace: str) -> frozenset[str]:
    """Backups that an unfinished Restore names, or has chosen."""
    found = await operations.unfinished(context, RESTORES, namespace)
    return frozenset(name for r in found if (name := Restore.model_validate(r).reads))


async def _make(context: Context, vault: Vault, new: NewBackup, present: list[Backup]) -> None:
    """Make a Backup under the first free number of its run; nothing when the run has one of this claim already."""
    spec: Object = {
        "vaultRef": {"name": vault.metadata.name},
        "resource": {"kind": CLAIM, "name": new.claim},
        "full": new.full,
    }
    if new.description:
        spec["description"] = new.description
    taken = {b.metadata.name for b in present}
    for number in range(1, MOST_NUMBERS):
        name = f"{new.prefix}-{number:04}"
        if name in taken:
            continue
        metadata = {
            "name": name,
            "namespace": vault.metadata.namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            "annotations": new.annotations,
        }
        try:
            made = await context.gateway.create(BACKUPS, {"metadata": metadata, "spec": spec})
        except ConflictError:
            found = await context.gateway.get(BACKUPS, name, vault.metadata.namespace)
            if found is not None and _is_of(Backup.model_validate(found), new):
                return  # it was made just now, and the answer was lost
            continue
        present.append(Backup.model_validate(made))
        return
    raise GatewayError(0, f"Vault {vault.metadata.name}", f"no name is free for {new.prefix} of {new.claim}")


def _is_of(backup: Backup, new: NewBackup) -> bool:
    return backup.spec.claim == new.claim and backup.metadata.annotations.get(RUN_ANNOTATION) == new.run


async def _remove(context: Context, verdict: Verdict, backups: list[Backup]) -> None:
    """Delete a Backup that a rule removes, saying why; only the one that was judged."""
    meta = next(b.metadata for b in backups if b.metadata.name == verdict.name)
    obj: Object = {"metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}}
    status = {"phase": "Deleting", "reason": verdict.reason, "message": verdict.message}
    await operations.tell(context, BACKUPS, obj, status)
    # Told from what somebody deletes, which may be held.
    await context.gateway.patch_status(BACKUPS, meta.name, meta.namespace, {"removedBy": verdict.reason})
    await context.gateway.delete(BACKUPS, meta.name, meta.namespace, uid=meta.uid)


def _status(held: Associations, plan: RunPlan, backups: list[Backup]) -> dict[str, Any]:
    # With its empty fields, which a merge would otherwise leave as they were.
    policy = plan.policy.model_dump(by_alias=True, mode="json") if plan.policy else None
    return {
        "resources": [as_dict(line) for line in plan.lines],
        "associatedBytes": held.bytes,
        "policy": policy,
        "nextRun": timestamp(plan.next_run) if plan.next_run else None,
        "lastRunNow": plan.last_run_now,
        "anomalies": [each.model_dump(by_alias=True, mode="json") for each in plan.anomalies.entries],
        **({} if any(b.metadata.deletion_timestamp for b in backups) else {"deletionHold": None}),
    }
