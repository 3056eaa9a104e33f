"""Restores: look at what is there, decide (core.plan_restore), do one thing."""

from __future__ import annotations

from typing import Any

from blockvault.api import Backup, Restore, Vault, format_quantity
from blockvault.core.decision import Decision, Missing, Refusal
from blockvault.core.mover import final_report
from blockvault.core.naming import (
    DEVICE_PATH,
    OPERATION_LABEL,
    RECLAIM_POLICY_ANNOTATION,
    RESTORE_ANNOTATION,
    owned_name,
    volume_name,
)
from blockvault.core.objects import Object
from blockvault.core.plan_restore import TERMINAL, Action, RestoreView, Target, decide_restore, next_cleaning

from . import operations
from .backups import rivals
from .context import Context, utc_now
from .gateway import GatewayError
from .movers import mover_job, mover_request, mover_secret
from .places import mover_template, vault_place
from .resources import ATTACHMENTS, BACKUPS, CLAIMS, JOBS, RESTORES, SECRETS, STORAGE_CLASSES, VAULTS, VOLUMES
from .templates import Owner, raw_claim, restored_volume, target_claim


async def reconcile_restore(context: Context, namespace: str, name: str) -> float | None:
    """One look and one step. Returns seconds until the next look, None when there is nothing left to do."""
    obj = await context.gateway.get(RESTORES, name, namespace)
    if obj is None or obj["metadata"].get("deletionTimestamp"):
        return None
    restore = Restore.model_validate(obj)
    if restore.status and restore.status.phase in TERMINAL:
        return None
    owner = owner_of(restore)
    view = await observe(context, restore, owner)
    decision = decide_restore(view)
    status = operations.decided_status(
        decision, obj.get("status") or {}, restore.metadata.generation, context
    )
    status["claim"] = owner.claim
    if decision.reason == "Moving" and (figures := await operations.progress(context, view.pods)):
        status["progress"] = figures
    if decision.outcome is not None:
        status |= await _outcome(context, view)
    await operations.write_status(context, RESTORES, obj, status)
    if decision.finished:
        _count(context, view, decision)
    if decision.action is not None:
        await perform(context, owner, view, Action(decision.action), decision.detail)
    return decision.next_look


async def clean_restore(context: Context, obj: Object) -> float | None:
    """What the deletion of a Restore does: an unfinished one leaves nothing behind, a finished one all."""
    restore = Restore.model_validate(obj)
    if restore.status and restore.status.phase == "Completed":
        return None
    owner = owner_of(restore)
    view = await observe(context, restore, owner)
    action = next_cleaning(view)
    if action is None:
        return None
    await perform(context, owner, view, action)
    return 1.0


def owner_of(restore: Restore) -> Owner:
    """The Restore as owner of what is made for it."""
    meta, target = restore.metadata, restore.spec.target.new_claim
    return Owner("Restore", str(meta.namespace), meta.name, meta.uid, target.name if target else "")


async def observe(context: Context, restore: Restore, owner: Owner) -> RestoreView:
    """All that a decision about this Restore looks at."""
    gateway, uid, namespace = context.gateway, owner.uid, owner.namespace
    ref = restore.spec.backup_ref
    backup_obj = await gateway.get(BACKUPS, ref.name, namespace) if ref else None
    backup = Backup.model_validate(backup_obj) if backup_obj else None
    vault = await gateway.get(VAULTS, backup.spec.vault_ref.name, namespace) if backup else None
    raw = await gateway.get(CLAIMS, owned_name(uid), context.settings.namespace)
    raw_volume, new_volume = await _volumes(context, uid, raw)
    return RestoreView(
        now=utc_now(),
        restore=restore,
        backup=backup,
        vault=Vault.model_validate(vault) if vault else None,
        storage_classes=await gateway.list_objects(STORAGE_CLASSES),
        rivals=await rivals(context, namespace, owner.claim, uid),
        target=await gateway.get(CLAIMS, owner.claim, namespace) if owner.claim else None,
        raw_claim=raw,
        raw_volume=raw_volume,
        new_volume=new_volume,
        attached=raw_volume is not None and await _attached(context, raw_volume),
        has_secret=await operations.has_secret(context, uid),
        job=await operations.own_job(context, uid),
        pods=await operations.own_pods(context, uid),
    )


async def _volumes(context: Context, uid: str, raw: Object | None) -> tuple[Object | None, Object | None]:
    """The raw volume and the new one. The raw one is marked once kept, to be found without its claim."""
    marked = await context.gateway.list_objects(VOLUMES, labels={OPERATION_LABEL: uid})
    new = next((v for v in marked if v["metadata"]["name"] == owned_name(uid)), None)
    old = next((v for v in marked if v["metadata"]["name"] != owned_name(uid)), None)
    if old is None and raw is not None and raw["spec"].get("volumeName"):
        old = await context.gateway.get(VOLUMES, raw["spec"]["volumeName"])
    return old, new


async def _attached(context: Context, volume: Object) -> bool:
    name = volume["metadata"]["name"]
    attachments = await context.gateway.list_objects(ATTACHMENTS)
    return any((a["spec"].get("source") or {}).get("persistentVolumeName") == name for a in attachments)


async def _outcome(context: Context, view: RestoreView) -> dict[str, Any]:
    mover = await operations.mover_status(context, view.job, view.pods)
    status: dict[str, Any] = {"mover": mover} if mover else {}
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


def _count(context: Context, view: RestoreView, decision: Decision) -> None:
    status = view.restore.status
    result = status.result.model_dump(by_alias=True, exclude_none=True) if status and status.result else {}
    context.figures.observe_restore(result, "succeeded" if decision.phase == "Completed" else "failed")


async def perform(
    context: Context, owner: Owner, view: RestoreView, action: Action, detail: Any = None
) -> None:
    """Carry out one action; each may be repeated."""
    gateway, namespace = context.gateway, context.settings.namespace
    match action:
        case Action.CREATE_TARGET:
            await _create_target(context, owner, detail)
        case Action.CREATE_RAW_CLAIM:
            assert view.target is not None
            spec = view.target["spec"]
            size = spec["resources"]["requests"]["storage"]
            await gateway.ensure(CLAIMS, raw_claim(owner, namespace, spec["storageClassName"], size))
        case Action.CREATE_SECRET:
            await _create_secret(context, owner, view)
        case Action.CREATE_JOB:
            assert view.vault is not None
            template = await mover_template(context, view.vault)
            await gateway.ensure(JOBS, mover_job(owner, context.settings, template))
        case Action.DELETE_JOB:
            await operations.delete_job(context, owner.uid)
        case Action.DELETE_PODS:
            await operations.delete_pods(context, view.pods)
        case Action.DELETE_SECRET:
            await operations.delete_secret(context, owner.uid)
        case Action.DELETE_RAW_CLAIM:
            await operations.delete_raw_claim(context, owner.uid)
        case Action.DELETE_TARGET:
            assert view.target is not None
            await gateway.delete(CLAIMS, owner.claim, owner.namespace, uid=view.target["metadata"]["uid"])
        case _:
            await _perform_on_volumes(context, owner, view, action)


async def _perform_on_volumes(context: Context, owner: Owner, view: RestoreView, action: Action) -> None:
    gateway = context.gateway
    raw, new = view.raw_volume, view.new_volume
    match action:
        case Action.RETAIN_RAW_VOLUME if raw:
            await _retain(context, owner, raw)
        case Action.CREATE_VOLUME if raw and view.target:
            result = view.restore.status.result if view.restore.status else None
            file_system = result.file_system if result else None
            await gateway.ensure(VOLUMES, restored_volume(owner, raw, view.target, file_system))
        case Action.DELETE_RAW_VOLUME if raw:
            await gateway.delete(VOLUMES, raw["metadata"]["name"], uid=raw["metadata"]["uid"])
        case Action.HAND_OVER_POLICY if new:
            await _set_policy(context, new, new["metadata"]["annotations"][RECLAIM_POLICY_ANNOTATION])
        case Action.DELETE_VOLUME_OBJECT if new:
            await gateway.delete(VOLUMES, new["metadata"]["name"], uid=new["metadata"]["uid"])
        case Action.DISCARD_VOLUME if new:
            await _set_policy(context, new, "Delete")
        case Action.DISCARD_RAW_VOLUME if raw:
            await _set_policy(context, raw, "Delete")
        case _:
            raise AssertionError(f"{action} without the volume that it is about")


async def _retain(context: Context, owner: Owner, raw: Object) -> None:
    """Keep the storage while its owner changes; the policy to end with is remembered beside it, once."""
    annotations = raw["metadata"].get("annotations") or {}
    policy = annotations.get(RECLAIM_POLICY_ANNOTATION) or raw["spec"]["persistentVolumeReclaimPolicy"]
    patch = {
        "metadata": {
            "labels": {OPERATION_LABEL: owner.uid},
            "annotations": {RECLAIM_POLICY_ANNOTATION: policy},
        },
        "spec": {"persistentVolumeReclaimPolicy": "Retain"},
    }
    await context.gateway.patch(VOLUMES, raw["metadata"]["name"], None, patch)


async def _set_policy(context: Context, volume: Object, policy: str) -> None:
    patch = {"spec": {"persistentVolumeReclaimPolicy": policy}}
    await context.gateway.patch(VOLUMES, volume["metadata"]["name"], None, patch)


async def _create_target(context: Context, owner: Owner, target: Target) -> None:
    """Take the name of the new claim. One that somebody made meanwhile is left alone and refused next."""
    body = target_claim(
        owner, target.storage_class, format_quantity(target.size), target.volume_mode, target.access_modes
    )
    made = await context.gateway.ensure(CLAIMS, body)
    ours = (made["metadata"].get("annotations") or {}).get(RESTORE_ANNOTATION) == owner.uid
    if not ours:
        context.wakeups.wake(owner.uid)


async def _create_secret(context: Context, owner: Owner, view: RestoreView) -> None:
    assert view.vault is not None
    assert view.backup is not None
    assert view.backup.status is not None
    place = await vault_place(context, view.vault)
    if isinstance(place, Refusal | Missing):
        raise GatewayError(0, f"Vault {view.vault.metadata.name}", place.message)
    stored = view.backup.status.volumes[0]
    request = mover_request(
        "restore",
        owner,
        place.access,
        volume=stored.lineage_volume or volume_name(owner.namespace, stored.claim),
        device=DEVICE_PATH,
        backupId=stored.backup_id,
    )
    secret = mover_secret(owner, context.settings.namespace, request, place.access)
    await context.gateway.ensure(SECRETS, secret)
