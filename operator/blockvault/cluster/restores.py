"""Restores: look at what is there, decide (core.plan_restore), do one thing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from blockvault.api import Backup, Restore, Vault, format_quantity, parse_quantity
from blockvault.core.decision import Decision, Missing, Refusal
from blockvault.core.mover import final_report
from blockvault.core.naming import (
    CLAIM_LABEL,
    DEVICE_PATH,
    HAVE_ANNOTATION,
    NAME_ANNOTATION,
    OPERATION_LABEL,
    RECLAIM_POLICY_ANNOTATION,
    RESTORE_ANNOTATION,
    claim_label,
    former_name,
    owned_name,
    volume_name,
)
from blockvault.core.objects import Object, claim_is_bound, snapshot_is_ready
from blockvault.core.plan_in_place import clean_in_place
from blockvault.core.plan_restore import Target, decide_restore
from blockvault.core.restoring import (
    RESTORED,
    TERMINAL,
    Action,
    Copy,
    RawClaim,
    RestoreView,
    annotation,
    next_cleaning,
    policy_pending,
)
from blockvault.core.source import read_source
from blockvault.engine import EngineError
from blockvault.stores import StoreError

from . import in_place, operations, workloads
from .backups import rivals
from .context import Context, utc_now
from .gateway import GatewayError
from .movers import mover_job, mover_request, mover_secret
from .places import mover_template, vault_place
from .resources import (
    ATTACHMENTS,
    BACKUPS,
    CLAIMS,
    JOBS,
    RESTORES,
    SECRETS,
    SNAPSHOT_CONTENTS,
    SNAPSHOTS,
    STORAGE_CLASSES,
    VAULTS,
    VOLUMES,
)
from .templates import Owner, raw_claim, restored_volume, target_claim

# A store that cannot be told of a restore now is told later.
RECORD_SECONDS = 30.0


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
    if decision.reason == "Moving" and (figures := await operations.progress(context, view.pods)):
        status["progress"] = figures
    if decision.outcome is not None:
        status |= await _outcome(context, view)
    status |= in_place.noted(context, view, decision)
    await operations.write_status(context, RESTORES, obj, status)
    if decision.finished or (decision.phase == RESTORED and "restoredAt" in status):
        _count(context, view, decision)
    if decision.action is Action.RECORD:
        return await _record(context, owner, view, obj)
    if decision.action is not None:
        await perform(context, owner, view, Action(decision.action), decision.detail)
    return decision.next_look


async def _record(context: Context, owner: Owner, view: RestoreView, obj: Object) -> float:
    if not await in_place.record(context, owner, view):
        return RECORD_SECONDS
    meta = obj["metadata"]
    await context.gateway.patch_status(RESTORES, meta["name"], meta["namespace"], {"recorded": True})
    return 0.2


async def clean_restore(context: Context, obj: Object) -> float | None:
    """What the deletion of a Restore does: an unfinished one leaves nothing behind, a finished one all.

    One that could still be rolled back lets the former data go.
    """
    restore = Restore.model_validate(obj)
    if restore.status and restore.status.phase in ("Completed", "RolledBack", "Skipped"):
        return None
    view, owner = await observe(context, restore)
    if restore.status and restore.status.phase == RESTORED:
        if policy_pending(view.former_volume):
            await perform(context, owner, view, Action.DISCARD_FORMER)
            return 1.0
        return None
    if view.in_place:
        step = clean_in_place(view)
        if step is None:
            return None
        if step.action is not None:
            await perform(context, owner, view, Action(step.action), step.detail)
        return 1.0
    action = next_cleaning(view)
    if action is None:
        return None
    await perform(context, owner, view, action)
    return 1.0


def owner_of(restore: Restore, backup: Backup | None) -> Owner:
    """The Restore as owner of what is made for it, and the claim that it fills, where that is known."""
    meta, spec = restore.metadata, restore.spec
    new_claim = spec.target.new_claim
    noted = restore.status.claim if restore.status else None
    original = backup.spec.claim if backup and spec.target.original else ""
    claim = new_claim.name if new_claim else noted or original
    return Owner("Restore", str(meta.namespace), meta.name, meta.uid, claim)


async def observe(context: Context, restore: Restore) -> tuple[RestoreView, Owner]:
    """All that a decision about this Restore looks at."""
    gateway, namespace = context.gateway, str(restore.metadata.namespace)
    ref = restore.spec.backup_ref
    backup_obj = await gateway.get(BACKUPS, ref.name, namespace) if ref else None
    backup = Backup.model_validate(backup_obj) if backup_obj else None
    owner = owner_of(restore, backup)
    uid = owner.uid
    vault = await gateway.get(VAULTS, backup.spec.vault_ref.name, namespace) if backup else None
    raw = await gateway.get(CLAIMS, owned_name(uid), context.settings.namespace)
    raw_volume, new_volume, former_volume = await _volumes(context, uid, raw)
    view = RestoreView(
        now=utc_now(),
        calendar=context.clock(),
        restore=restore,
        claim=owner.claim,
        backup=backup,
        vault=Vault.model_validate(vault) if vault else None,
        storage_classes=await gateway.list_objects(STORAGE_CLASSES),
        rivals=await rivals(context, namespace, owner.claim, uid),
        target=await gateway.get(CLAIMS, owner.claim, namespace) if owner.claim else None,
        raw_claim=raw,
        raw_volume=raw_volume,
        new_volume=new_volume,
        former_volume=former_volume,
        attached=raw_volume is not None and await _attached(context, raw_volume),
        has_secret=await operations.has_secret(context, uid),
        job=await operations.own_job(context, uid),
        pods=await operations.own_pods(context, uid),
    )
    if view.outcome is None and not (raw and claim_is_bound(raw)):
        view = replace(view, copies=await _copies(context, owner, backup))
    if restore.spec.target.original is not None:
        view = await _observe_original(context, owner, view)
    return view, owner


async def _observe_original(context: Context, owner: Owner, view: RestoreView) -> RestoreView:
    """What a Restore of the claim that was backed up looks at besides."""
    status = view.restore.status
    exchange = status.exchange if status else None
    name = exchange.volume if exchange else ((view.target or {}).get("spec") or {}).get("volumeName")
    volume = await context.gateway.get(VOLUMES, name) if name else None
    users, now, stored = await asyncio.gather(
        workloads.users_of(context, owner.namespace, owner.claim),
        workloads.now(context, owner.namespace, list(status.workloads or []) if status else []),
        _stored(context, view),
    )
    return replace(
        view,
        claim_volume=volume,
        claim_attached=volume is not None and await _attached(context, volume),
        users=users,
        workloads=now,
        stored=stored,
    )


async def _stored(context: Context, view: RestoreView) -> dict[str, Any] | Missing | None:
    """What the store knows of the backup, asked before work begins; why it cannot be asked."""
    begun = view.raw_claim is not None or view.target_is_ours or view.outcome is not None
    exchange = view.restore.status and view.restore.status.exchange
    if begun or exchange or view.vault is None or view.backup is None or view.backup.status is None:
        return None
    if not view.backup.status.volumes or not view.backup.status.volumes[0].backup_id:
        return None
    place = await vault_place(context, view.vault)
    if isinstance(place, Refusal | Missing):
        return Missing(place.reason, place.message)
    stored = view.backup.status.volumes[0]
    volume = stored.lineage_volume or volume_name(str(view.restore.metadata.namespace), stored.claim)
    try:
        found = await context.stores.describe(place.access, volume, str(stored.backup_id))
    except (StoreError, EngineError) as error:
        return Missing(error.reason, f"{error} {error.remedy}")
    return (
        found
        if found is not None
        else Missing(
            "BackupNotStored",
            f"The store has no backup {stored.backup_id} of {volume} any more, or in the trash only.",
        )
    )


async def _copies(context: Context, owner: Owner, backup: Backup | None) -> list[Copy]:
    """Kept snapshots that hold a backup of the same volume, the newest first (D7)."""
    volumes = backup.status.volumes if backup and backup.status else []
    if backup is None or not volumes:
        return []
    labels = {CLAIM_LABEL: claim_label(owner.namespace, backup.spec.claim)}
    kept = await context.gateway.list_objects(SNAPSHOTS, context.settings.namespace, labels=labels)
    found: list[Copy] = []
    for snapshot in sorted(kept, key=lambda s: str(s["metadata"].get("creationTimestamp")), reverse=True):
        source = read_source(await context.gateway.get(SNAPSHOT_CONTENTS, snapshot["metadata"]["name"]))
        if source is None or not snapshot_is_ready(snapshot):
            continue
        held = await _held(context, owner.namespace, snapshot)
        if held is not None and held[0] == volumes[0].lineage_volume:
            size = (snapshot.get("status") or {}).get("restoreSize")
            least = parse_quantity(size) if size else 0
            found.append(Copy(snapshot["metadata"]["name"], held[1], source.storage_class, least))
    return found


async def _held(context: Context, namespace: str, snapshot: Object) -> tuple[str, str] | None:
    """The lineage and the id of the backup that a kept snapshot holds."""
    name = annotation(snapshot, NAME_ANNOTATION)
    uid = (snapshot["metadata"].get("labels") or {}).get(OPERATION_LABEL)
    obj = await context.gateway.get(BACKUPS, name, namespace) if name else None
    if obj is None or obj["metadata"]["uid"] != uid:
        return None
    made = Backup.model_validate(obj)
    if made.status is None or made.status.phase != "Available" or not made.status.volumes:
        return None
    volume = made.status.volumes[0]
    return (volume.lineage_volume or "", volume.backup_id) if volume.backup_id else None


async def _volumes(
    context: Context, uid: str, raw: Object | None
) -> tuple[Object | None, Object | None, Object | None]:
    """The raw volume, the new one and the former one. The raw one is marked once kept, to be found by itself."""
    marked = await context.gateway.list_objects(VOLUMES, labels={OPERATION_LABEL: uid})
    named = {v["metadata"]["name"]: v for v in marked}
    new, former = named.pop(owned_name(uid), None), named.pop(former_name(uid), None)
    old = next(iter(named.values()), None)
    if old is None and raw is not None and raw["spec"].get("volumeName"):
        old = await context.gateway.get(VOLUMES, raw["spec"]["volumeName"])
    return old, new, former


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
            job = mover_job(owner, context.settings, template, node_affinity=affinity.get("required"))
            await gateway.ensure(JOBS, job)
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


async def _create_target(context: Context, owner: Owner, view: RestoreView, target: Target) -> None:
    """Take the name of the new claim. One that somebody made meanwhile is left alone and refused next."""
    made = await context.gateway.ensure(CLAIMS, target_claim(owner, target, view.mark))
    if annotation(made, RESTORE_ANNOTATION) != owner.uid:
        context.wakeups.wake(owner.uid)


async def _create_raw_claim(context: Context, owner: Owner, wanted: RawClaim) -> None:
    copy = wanted.copy
    have = {HAVE_ANNOTATION: copy.backup_id} if copy else {}
    size = format_quantity(wanted.size)
    body = raw_claim(
        owner,
        context.settings.namespace,
        wanted.storage_class,
        size,
        snapshot=copy.snapshot if copy else None,
        **have,
    )
    await context.gateway.ensure(CLAIMS, body)


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
        have=annotation(view.raw_claim, HAVE_ANNOTATION),
    )
    secret = mover_secret(owner, context.settings.namespace, request, place.access)
    await context.gateway.ensure(SECRETS, secret)
