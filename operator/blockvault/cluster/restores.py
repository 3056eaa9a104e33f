"""Restores: look at what is there, decide (core.plan_restore), do one thing."""

from __future__ import annotations

from typing import Any

from blockvault.api import Restore, format_quantity
from blockvault.core.decision import Decision, Missing, Refusal
from blockvault.core.exchange import EXCHANGING
from blockvault.core.lost_nodes import lost_names
from blockvault.core.mover import final_report
from blockvault.core.naming import (
    DEVICE_PATH,
    HAVE_ANNOTATION,
    OPERATION_LABEL,
    RECLAIM_POLICY_ANNOTATION,
    RESTORE_ANNOTATION,
)
from blockvault.core.objects import Object
from blockvault.core.plan_in_place import cleaning_step
from blockvault.core.plan_restore import SELECTED_NODE, Target, decide_restore
from blockvault.core.rates import restore_rate
from blockvault.core.restore_model import (
    RESTORED,
    ROLLING_BACK,
    TERMINAL,
    Action,
    RawClaim,
    RestoreView,
    annotation,
)
from blockvault.core.restoring import policy_pending
from blockvault.core.runs import volume_of
from blockvault.core.timings import Timing

from . import given_up, in_place, operations
from .context import Context
from .gateway import GatewayError
from .movers import mover_job, mover_request, mover_secret
from .places import limits_of, mover_template, vault_place
from .resources import (
    CLAIMS,
    JOBS,
    RESTORES,
    SECRETS,
    VOLUMES,
)
from .restore_view import observe
from .templates import Owner, raw_claim, release_patch, retain_patch, target_claim

# A store that cannot be told of a restore now is told later.
RECORD_SECONDS = 30.0
MOVING_SECONDS = 5.0


async def reconcile_restore(context: Context, namespace: str, name: str) -> float | None:
    """One look and one step. Returns seconds until the next look, None when there is nothing left to do."""
    obj = await context.gateway.get(RESTORES, name, namespace)
    if obj is None or obj["metadata"].get("deletionTimestamp"):
        return None
    restore = Restore.model_validate(obj)
    if restore.status and restore.status.phase in TERMINAL:
        return None
    view, owner = await observe(context, restore)
    decision = decide_restore(view)
    status = operations.decided_status(
        decision, obj.get("status") or {}, restore.metadata.generation, context
    )
    status["claim"] = owner.claim or None
    if view.backup is not None and decision.phase != "Pending":
        status["backup"] = view.backup.metadata.name
    if view.empty and decision.phase != "Pending":
        status["empty"] = True
    if decision.reason == "Moving" and (figures := await operations.progress(context, view.pods)):
        status["progress"] = figures
    if decision.outcome is not None:
        status |= await _outcome(context, view, status["timings"])
    status |= in_place.noted(context, view, decision)
    await operations.write_status(context, RESTORES, obj, status)
    _count(context, view, decision, {**(obj.get("status") or {}), **status})
    if decision.action is Action.RECORD:
        return await _record(context, owner, view, obj, decision.detail)
    if decision.action is not None:
        await perform(context, owner, view, Action(decision.action), decision.detail)
    if decision.reason == "Moving":  # its Job's end wakes us; looks show how far it has come
        return MOVING_SECONDS
    if decision.phase == "Pending" and decision.next_look is not None:
        return max(decision.next_look, _pause(restore))
    return decision.next_look


def _pause(restore: Restore) -> float:
    """Seconds between two looks of one that waits: those that ask the store each time ask it less often."""
    if restore.spec.latest_of is not None:
        return 10.0
    return 5.0 if restore.spec.target.original is not None else 0.0


async def _record(
    context: Context, owner: Owner, view: RestoreView, obj: Object, otherwise: Action | None
) -> float:
    if not await in_place.record(context, owner, view):
        if otherwise is None:
            return RECORD_SECONDS
        await perform(context, owner, view, otherwise)
    meta = obj["metadata"]
    await context.gateway.patch_status(RESTORES, meta["name"], meta["namespace"], {"recorded": True})
    return 0.2


async def clean_restore(context: Context, obj: Object) -> float | None:
    """What the deletion of a Restore does: an unfinished one leaves nothing behind, a finished one all.

    One that could still be rolled back lets the former data go.
    """
    restore = Restore.model_validate(obj)
    phase = restore.status.phase if restore.status else None
    if phase in TERMINAL:
        return None
    view, owner = await observe(context, restore)
    if phase in (RESTORED, ROLLING_BACK) and restore.spec.rollback and view.former_volume is not None:
        return await _end_rollback(context, owner, view)
    if phase == RESTORED:
        if policy_pending(view, view.former_volume):
            await perform(context, owner, view, Action.DISCARD_FORMER)
            return 1.0
        return None
    step = cleaning_step(view)
    if step is None:
        return None
    if step.action is not None:
        await perform(context, owner, view, Action(step.action), step.detail)
    return 1.0


async def _outcome(context: Context, view: RestoreView, timings: list[Timing]) -> dict[str, Any]:
    status = await operations.mover_status(context, view.job, view.pods, timings)
    report = final_report(view.job, view.pods) if view.job else None
    if report is not None and report.ok:
        result = report.result
        status["result"] = {
            key: result.get(key)
            for key in ("backupId", "bytesWritten", "bytesRead", "seconds", "size", "fileSystem")
        }
        status["progress"] = {
            "phase": "Done",
            "bytesWritten": result.get("bytesWritten"),
            "bytesTotal": result.get("size"),
            "percent": 100,
        }
    return status


async def _end_rollback(context: Context, owner: Owner, view: RestoreView) -> float | None:
    """A deletion while the former data was asked back: it comes back first, or stays where it is.

    What waits for somebody does not hold the deletion up: the former data is kept then, with the policy Retain.
    """
    step = decide_restore(view)
    if step.action is not None:
        await perform(context, owner, view, Action(step.action), step.detail)
        return 0.5
    return 1.0 if step.reason in (EXCHANGING, "Binding", "StoppingWorkload", "Detaching") else None


def _count(context: Context, view: RestoreView, decision: Decision, now: dict[str, Any]) -> None:
    """Count a run that has come to its end with this decision: in place when the claim has its data, not later."""
    status = view.restore.status
    restored = status is not None and status.restored_at is not None
    done = decision.phase == RESTORED if view.in_place else decision.phase == "Completed"
    if restored or not (done or decision.phase == "Error"):
        return
    result = status.result.model_dump(by_alias=True, exclude_none=True) if status and status.result else {}
    namespace = str(view.restore.metadata.namespace)
    context.figures.observe_restore(namespace, result, "succeeded" if done else "failed")
    operations.count_steps(context, RESTORES.kind, now)


async def perform(
    context: Context, owner: Owner, view: RestoreView, action: Action, detail: Any = None
) -> None:
    """Carry out one action; each may be repeated."""
    gateway = context.gateway
    match action:
        case Action.CREATE_TARGET:
            await _create_target(context, owner, view, detail)
        case Action.CREATE_RAW_CLAIM:
            await _create_raw_claim(context, owner, detail)
        case Action.CREATE_SECRET:
            await _create_secret(context, owner, view)
        case Action.CREATE_JOB:
            assert view.vault is not None
            template = await mover_template(context, view.vault)
            # The claim's pods may be bound to where its volume is: so is the one that takes its place.
            affinity = ((view.claim_volume or {}).get("spec") or {}).get("nodeAffinity") or {}
            job = mover_job(
                owner,
                context.settings,
                template,
                node_affinity=affinity.get("required"),
                avoid=lost_names(view.nodes, view.now),
            )
            await gateway.ensure(JOBS, job)
        case Action.DELETE_GIVEN_UP:
            await given_up.delete(context, view.given_up)
        case Action.DELETE_JOB:
            await operations.delete_job(context, owner.uid, owner.attempt)
        case Action.DELETE_PODS:
            await operations.delete_pods(context, view.pods)
        case Action.DELETE_SECRET:
            await operations.delete_secret(context, owner.uid, owner.attempt)
        case Action.DELETE_RAW_CLAIM:
            await operations.delete_raw_claim(context, owner.uid, owner.attempt)
        case Action.DELETE_TARGET:
            assert view.target is not None
            await gateway.delete(CLAIMS, owner.claim, owner.namespace, uid=view.target["metadata"]["uid"])
        case _ if action in ON_VOLUMES:
            await _perform_on_volumes(context, owner, view, action)
        case _:
            await in_place.perform(context, owner, view, action, detail)


ON_VOLUMES = (
    Action.RETAIN_RAW_VOLUME,
    Action.CREATE_VOLUME,
    Action.DELETE_RAW_VOLUME,
    Action.HAND_OVER_POLICY,
    Action.DELETE_VOLUME_OBJECT,
    Action.DISCARD_VOLUME,
    Action.DISCARD_RAW_VOLUME,
)


async def _perform_on_volumes(context: Context, owner: Owner, view: RestoreView, action: Action) -> None:
    gateway = context.gateway
    raw, new = view.raw_volume, view.new_volume
    match action:
        case Action.RETAIN_RAW_VOLUME if raw:
            await _retain(context, owner, raw)
        case Action.CREATE_VOLUME if raw and view.target:
            await gateway.ensure(VOLUMES, in_place.filled_volume(owner, view))
        case Action.DELETE_RAW_VOLUME if raw:
            await gateway.delete(VOLUMES, raw["metadata"]["name"], uid=raw["metadata"]["uid"])
        case Action.HAND_OVER_POLICY if new:
            patch = release_patch(new["metadata"]["annotations"][RECLAIM_POLICY_ANNOTATION])
            await gateway.patch(VOLUMES, new["metadata"]["name"], None, patch)
        case Action.DELETE_VOLUME_OBJECT if new:
            await gateway.delete(VOLUMES, new["metadata"]["name"], uid=new["metadata"]["uid"])
        case Action.DISCARD_VOLUME if new:
            await operations.set_reclaim_policy(context, new, "Delete")
        case Action.DISCARD_RAW_VOLUME if raw:
            await operations.set_reclaim_policy(context, raw, "Delete")
        case _:
            raise AssertionError(f"{action} without the volume that it is about")


async def _retain(context: Context, owner: Owner, raw: Object) -> None:
    """Keep the storage while its owner changes, and mark its volume, to be found without its claim."""
    patch = retain_patch(owner.uid, raw)
    patch["metadata"]["labels"] = {OPERATION_LABEL: owner.uid}
    await context.gateway.patch(VOLUMES, raw["metadata"]["name"], None, patch)


async def _create_target(context: Context, owner: Owner, view: RestoreView, target: Target) -> None:
    """Take the name of the new claim. One that somebody made meanwhile is left alone and refused next."""
    made = await context.gateway.ensure(CLAIMS, target_claim(owner, target, view.mark))
    if annotation(made, RESTORE_ANNOTATION) != owner.uid:
        context.wakeups.wake(owner.uid)


async def _create_raw_claim(context: Context, owner: Owner, wanted: RawClaim) -> None:
    copy = wanted.copy
    notes = {HAVE_ANNOTATION: copy.backup_id} if copy else {}
    if wanted.node:
        notes[SELECTED_NODE] = wanted.node
    size = format_quantity(wanted.size)
    body = raw_claim(
        owner,
        context.settings.namespace,
        wanted.storage_class,
        size,
        snapshot=copy.snapshot if copy else None,
        **notes,
    )
    await context.gateway.ensure(CLAIMS, body)


async def _create_secret(context: Context, owner: Owner, view: RestoreView) -> None:
    assert view.vault is not None
    assert view.backup is not None
    assert view.backup.status is not None
    place = await vault_place(context, view.vault)
    if isinstance(place, Refusal | Missing):
        raise GatewayError(0, f"Vault {view.vault.metadata.name}", place.message)
    request = mover_request(
        "restore",
        owner,
        place.access,
        volume=volume_of(view.backup),
        device=DEVICE_PATH,
        backupId=view.backup.status.volumes[0].backup_id,
        have=annotation(view.raw_claim, HAVE_ANNOTATION),
        limitRate=restore_rate(await limits_of(context, view.vault), context.settings.max_bandwidth),
    )
    secret = mover_secret(owner, context.settings.namespace, request, place.access)
    await context.gateway.ensure(SECRETS, secret)
