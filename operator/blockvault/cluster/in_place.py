"""The effects of a Restore in place (core.plan_in_place), and what its status notes before they happen."""

from __future__ import annotations

import logging
from typing import Any

from blockvault.api import StoppedWorkload, as_dict
from blockvault.core.conditions import timestamp
from blockvault.core.decision import Decision, Missing, Refusal
from blockvault.core.exchange import handle_of, now_stopped
from blockvault.core.naming import (
    FENCED_ANNOTATION,
    RECLAIM_POLICY_ANNOTATION,
    RESTORED_BY_ANNOTATION,
    former_name,
    owned_name,
)
from blockvault.core.objects import Object
from blockvault.core.plan_in_place import window_of
from blockvault.core.restore_model import RESTORED, Action, RawClaim, RestoreView
from blockvault.core.restoring import COPY_FAILED
from blockvault.core.runs import volume_of
from blockvault.core.workloads import Workload, key_of
from blockvault.engine import EngineError, OwnedElsewhere
from blockvault.stores import StoreError

from . import operations, workloads
from .context import Context
from .places import vault_place
from .resources import CLAIMS, RESTORES, VOLUMES
from .templates import (
    Owner,
    claims_volume,
    parked_reference,
    parked_volume,
    reference_to,
    release_patch,
    restored_volume,
    retain_patch,
)

log = logging.getLogger(__name__)

# Restores that a claim remembers.
MOST_MARKS = 32


def noted(context: Context, view: RestoreView, decision: Decision) -> dict[str, Any]:
    """What the status has to say before the decision is carried out, so that a crash after it loses nothing."""
    status: dict[str, Any] = {}
    if decision.action is Action.CREATE_RAW_CLAIM and isinstance(decision.detail, RawClaim):
        status["source"] = "Snapshot" if decision.detail.copy else "Store"
        if view.in_place and view.claim_volume is not None and view.target is not None:
            status["exchange"] = {
                "claimUid": view.target["metadata"]["uid"],
                "volume": view.claim_volume["metadata"]["name"],
                "formerHandle": handle_of(view.claim_volume),
            }
    made = view.new_volume or view.raw_volume
    exchange = view.restore.status.exchange if view.restore.status else None
    # It changes where the node of a mover was lost, and another volume is filled.
    known = exchange.restored_handle if exchange is not None else None
    if view.in_place and exchange is not None and made is not None and known != handle_of(made):
        status["exchange"] = {"restoredHandle": handle_of(made)}
    if decision.reason == COPY_FAILED:
        status["source"] = "Store"
    if view.in_place:
        status |= _stopped(view, decision)
    former = view.restore.status
    if decision.phase == RESTORED and not (former and former.restored_at) and view.claim_volume is not None:
        now = context.clock()
        status["restoredAt"] = timestamp(now)
        status["rollbackUntil"] = timestamp(now + window_of(view))
    return status


def _stopped(view: RestoreView, decision: Decision) -> dict[str, Any]:
    stops = decision.action is Action.STOP_WORKLOAD
    merged = _noted_workloads(
        view, decision.detail if stops else None, over=decision.phase in (RESTORED, "RolledBack", "Error")
    )
    return {"workloads": merged} if merged else {}


def _noted_workloads(view: RestoreView, one: Workload | None, *, over: bool = False) -> list[dict[str, Any]]:
    """What the Restore has stopped, and stops now; `over`: it is done with all of them."""
    known = list(view.restore.status.workloads or []) if view.restore.status else []
    current = {key_of(w): w for w in now_stopped(view)}
    if one is not None:
        current.setdefault(
            str(one),
            StoppedWorkload.model_validate({"kind": one.kind, "name": one.name, "replicas": one.replicas}),
        )
    if over:
        current = {key: w.model_copy(update={"ended": True}) for key, w in current.items()}
    merged = {key_of(w): w for w in known} | current
    return [as_dict(w) for w in merged.values()]


async def perform(context: Context, owner: Owner, view: RestoreView, action: Action, detail: Any) -> None:
    """Carry out one action that only a Restore in place has; each may be repeated."""
    gateway, namespace = context.gateway, owner.namespace
    match action:
        case Action.STOP_WORKLOAD:
            await workloads.scale(context, namespace, detail.kind, detail.name, 0)
            # Whoever scales it back from now on is told of, and not fought with.
            done = [
                w | {"stopped": True} if f"{w['kind']} {w['name']}" == str(detail) else w
                for w in _noted_workloads(view, detail)
            ]
            await gateway.patch_status(RESTORES, owner.name, namespace, {"workloads": done})
        case Action.START_WORKLOAD:
            await workloads.scale(context, namespace, detail.kind, detail.name, detail.replicas)
        case Action.MARK_CLAIM:
            marks = [*view.marks, view.mark][-MOST_MARKS:]
            patch = {"metadata": {"annotations": {RESTORED_BY_ANNOTATION: ",".join(marks)}}}
            await gateway.patch(CLAIMS, owner.claim, namespace, patch)
        case Action.PARK_RESTORED:
            await _park_restored(context, owner, view)
        case Action.CREATE_CLAIM_VOLUME:
            assert view.target is not None
            await gateway.ensure(VOLUMES, claims_volume(view.target, detail, view.former_volume))
        case Action.DELETE_FORMER_OBJECT | Action.DISCARD_FORMER:
            assert view.former_volume is not None
            await _let_go(context, view.former_volume, whole=action is Action.DISCARD_FORMER)
        case _:
            assert view.claim_volume is not None
            await _on_claims_volume(context, owner, view, view.claim_volume, action)


async def _on_claims_volume(
    context: Context, owner: Owner, view: RestoreView, volume: Object, action: Action
) -> None:
    gateway, name = context.gateway, volume["metadata"]["name"]
    match action:
        case Action.RETAIN_CLAIM_VOLUME:
            await gateway.patch(VOLUMES, name, None, retain_patch(owner.uid, volume))
        case Action.SET_CLAIM_POLICY:
            policy = volume["metadata"]["annotations"][RECLAIM_POLICY_ANNOTATION]
            await gateway.patch(VOLUMES, name, None, release_patch(policy))
        case Action.FENCE | Action.UNFENCE:
            assert view.target is not None
            await gateway.patch(VOLUMES, name, None, _reference(context, owner, view.target, action))
        case Action.PARK_FORMER:
            body = parked_volume(owner, context.settings.namespace, volume, former_name(owner.uid))
            await gateway.ensure(VOLUMES, body)
        case Action.DELETE_CLAIM_VOLUME:
            await gateway.delete(VOLUMES, name, uid=volume["metadata"]["uid"])
        case _:
            raise AssertionError(f"{action} is not one of a Restore in place")


def _reference(context: Context, owner: Owner, claim: Object, action: Action) -> Object:
    """The patch by which a PersistentVolume lets go of its claim, or takes it again."""
    reference, mark = reference_to(claim), None
    if action is Action.FENCE:
        reference = parked_reference(owner, context.settings.namespace, former_name(owner.uid))
        mark = claim["metadata"]["uid"]
    return {
        "spec": {"claimRef": {**reference, "resourceVersion": None}},
        "metadata": {"annotations": {FENCED_ANNOTATION: mark}},
    }


async def _park_restored(context: Context, owner: Owner, view: RestoreView) -> None:
    """The restored storage under a name of ours: from the raw volume, or from the claim on the way back."""
    name = owned_name(owner.uid)
    like = filled_volume(owner, view) if view.raw_volume is not None else view.claim_volume
    assert like is not None
    await context.gateway.ensure(VOLUMES, parked_volume(owner, context.settings.namespace, like, name))


def filled_volume(owner: Owner, view: RestoreView) -> Object:
    """The PersistentVolume for the claim on the raw volume that the mover has filled.

    One without a file system gets that of its class when it is mounted.
    """
    assert view.raw_volume is not None
    assert view.target is not None
    result = view.restore.status.result if view.restore.status else None
    class_name = view.target["spec"].get("storageClassName")
    found = next((c for c in view.storage_classes if c["metadata"]["name"] == class_name), {})
    at_first_use = (found.get("parameters") or {}).get("csi.storage.k8s.io/fstype")
    file_system = (result.file_system if result else None) or at_first_use
    return restored_volume(owner, view.raw_volume, view.target, file_system)


async def _let_go(context: Context, volume: Object, *, whole: bool) -> None:
    """Remove the object that keeps a storage, or (`whole`) let the storage go as well, as its class says."""
    meta = volume["metadata"]
    if whole:
        await operations.set_reclaim_policy(context, volume, meta["annotations"][RECLAIM_POLICY_ANNOTATION])
    else:
        await context.gateway.delete(VOLUMES, meta["name"], uid=meta["uid"])


async def record(context: Context, owner: Owner, view: RestoreView) -> bool:
    """Note in the store that this backup was restored in place under this name (F30); False when it failed.

    Of a volume that another cluster owns nothing is written: there the claim alone remembers it.
    """
    if view.vault is None or view.backup is None or view.backup.status is None:
        return False
    place = await vault_place(context, view.vault)
    if isinstance(place, Refusal | Missing):
        return False
    backup_id = str(view.backup.status.volumes[0].backup_id)
    try:
        await context.stores.note_restored(place.access, volume_of(view.backup), backup_id, view.full_name)
    except OwnedElsewhere:
        return True
    except (StoreError, EngineError) as error:
        log.warning("Restore %s/%s: %s", owner.namespace, owner.name, error)
        return False
    return True
