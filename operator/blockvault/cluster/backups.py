"""Backups: look at what is there, decide (core.plan_backup), do one thing."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, replace
from typing import Any

from blockvault.api import Backup, Restore, Vault, format_quantity, parse_quantity
from blockvault.core.admission import Rival
from blockvault.core.automatic import expiry_status, origin_of, origin_status
from blockvault.core.catalogue import imported
from blockvault.core.decision import Decision, Missing, Refusal
from blockvault.core.lost_nodes import attempt_of, lost_names, nodes_named
from blockvault.core.mover import final_report
from blockvault.core.naming import DEVICE_PATH, owned_name, volume_name
from blockvault.core.objects import Object
from blockvault.core.plan_backup import TERMINAL, Action, BackupView, decide_backup
from blockvault.core.source import Source, describe_source, read_source
from blockvault.core.timings import Timing
from blockvault.engine import EngineError
from blockvault.metrics.figures import Outcome
from blockvault.stores import StoreError

from . import given_up, operations, snapshots
from .catalogue import show_stored
from .changed import changed_blocks, token_audience
from .context import Context, runs_key, utc_now
from .gateway import GatewayError
from .movers import mover_job, mover_request, mover_secret
from .places import Place, mover_template, rate_of_backups, vault_place
from .resources import (
    BACKUPS,
    CLAIMS,
    JOBS,
    RESTORES,
    SECRETS,
    SNAPSHOT_CLASSES,
    STORAGE_CLASSES,
    VAULTS,
    VOLUMES,
)
from .templates import Owner, raw_claim
from .turns import has_turn, wait_for_turn

log = logging.getLogger(__name__)


async def reconcile_backup(context: Context, namespace: str, name: str) -> float | None:
    """One look and one step. Returns seconds until the next look, None when there is nothing left to do."""
    obj = await context.gateway.get(BACKUPS, name, namespace)
    if obj is None or obj["metadata"].get("deletionTimestamp"):
        return None
    backup = Backup.model_validate(obj)
    if backup.status and backup.status.phase in TERMINAL:
        return None
    stored = imported(backup)
    if stored is not None:
        return await show_stored(context, obj, backup, stored)
    owner = owner_of(backup)
    if context.turns.waits(owner.uid) and not backup.spec.cancel:
        return await wait_for_turn(context, obj, backup)
    if backup.status is not None and backup.status.phase != "Pending":
        return await _step(context, obj, backup, owner)
    waits = context.admission.locked()
    async with context.admission:
        now = await context.gateway.get(BACKUPS, name, namespace) if waits else obj
        if now is None or now["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            return 0.0  # it was changed while it waited
        return await _step(context, obj, backup, owner)


async def _step(context: Context, obj: Object, backup: Backup, owner: Owner) -> float | None:
    view, found = await observe(context, backup, owner)
    decision = decide_backup(view)
    if not await has_turn(context, view, decision):
        return await wait_for_turn(context, obj, backup)
    status = operations.decided_status(decision, obj.get("status") or {}, backup.metadata.generation, context)
    if not (backup.status and backup.status.trigger):
        status |= origin_status(backup)
    status |= await _progress(context, view, decision)
    if decision.action is Action.CREATE_SNAPSHOT and view.claim and view.volume:
        # Before the snapshot, and in the status, which is no tenant's to write.
        status["source"] = describe_source(view.claim, view.volume).to_json()
    elif decision.finished:
        status["source"] = None
    if decision.outcome is not None:
        status |= await _outcome(context, view, decision, owner, status["timings"])
    await operations.write_status(context, BACKUPS, obj, status)
    if decision.finished:
        _count(context, backup, {**(obj.get("status") or {}), **status})
        if view.vault is not None:
            context.wakeups.wake(view.vault.metadata.uid)  # its usage has changed
            context.wakeups.wake(runs_key(view.vault.metadata.uid))  # and rules may remove others now
    if decision.action is not None:
        await perform(context, owner, view, found, Action(decision.action), decision.detail)
    return decision.next_look


def owner_of(backup: Backup) -> Owner:
    """The Backup as owner of what is made for it."""
    meta = backup.metadata
    return Owner("Backup", str(meta.namespace), meta.name, meta.uid, backup.spec.claim, attempt_of(backup))


async def observe(
    context: Context, backup: Backup, owner: Owner
) -> tuple[BackupView, snapshots.SnapshotObjects]:
    """All that a decision about this Backup looks at. What only its beginning looks at is not read later."""
    gateway, own = context.gateway, context.settings.namespace
    found, vault, former, clone, mover = await asyncio.gather(
        snapshots.observe(context, owner),
        gateway.get(VAULTS, backup.spec.vault_ref.name, owner.namespace),
        snapshots.of_claim(context, owner),
        gateway.get(CLAIMS, owner.mover_name, own),
        given_up.mover_of(context, owner),
    )
    view = BackupView(
        now=utc_now(),
        backup=backup,
        operator_namespace=own,
        vault=Vault.model_validate(vault) if vault else None,
        snapshot=found.snapshot,
        content=found.content,
        own_snapshot=found.own_snapshot,
        own_content=found.own_content,
        clone=clone,
        has_secret=mover.has_secret,
        job=mover.job,
        pods=mover.pods,
        former_snapshots=former,
        attempt=owner.attempt,
        given_up=mover.given_up,
        nodes=await given_up.nodes_of(context, nodes_named([*mover.pods, *mover.given_up.pods])),
    )
    if not view.started and view.outcome is None:
        view = await _with_beginning(context, owner, view)
    return view, found


async def _with_beginning(context: Context, owner: Owner, view: BackupView) -> BackupView:
    """The view with what is read to begin: the claim, where it lies, and who else works on it."""
    gateway = context.gateway
    claim, classes, others = await asyncio.gather(
        gateway.get(CLAIMS, owner.claim, owner.namespace),
        gateway.list_objects(SNAPSHOT_CLASSES),
        rivals(context, owner.namespace, owner.claim, owner.uid, "Backup"),
    )
    spec = (claim or {}).get("spec") or {}
    volume, storage_class = spec.get("volumeName"), spec.get("storageClassName")
    return replace(
        view,
        claim=claim,
        volume=await gateway.get(VOLUMES, volume) if volume else None,
        storage_class=await gateway.get(STORAGE_CLASSES, storage_class) if storage_class else None,
        snapshot_classes=classes,
        rivals=others,
    )


async def rivals(context: Context, namespace: str, claim: str, uid: str, kind: str) -> list[Rival]:
    """Other unfinished operations on a claim: Backups that read it, Restores that make or change it.

    For a Backup (`kind`), Restores that only wait are none: they may wait for this very Backup, or for a person.
    """
    if not claim:
        return []
    found: list[Rival] = []
    for obj in await operations.unfinished(context, BACKUPS, namespace, spec__resource__name=claim):
        backup = Backup.model_validate(obj)
        if not imported(backup):  # one that only shows what the store has works on no claim
            found.append(_rival("Backup", backup))
    for obj in await operations.unfinished(context, RESTORES, namespace):
        restore = Restore.model_validate(obj)
        if claim == await _claim_of(context, restore):
            found.append(_rival("Restore", restore))
    return [r for r in found if r.uid != uid and (r.at_work or kind != "Backup" or r.kind == "Backup")]


async def _claim_of(context: Context, restore: Restore) -> str | None:
    """The claim that a Restore fills."""
    spec = restore.spec
    if spec.target.new_claim is not None:
        return spec.target.new_claim.name
    if spec.target.original is None:
        return None
    if restore.status and restore.status.claim:
        return restore.status.claim
    if spec.latest_of is not None:
        return spec.latest_of.resource.name
    if spec.backup_ref is None:
        return None
    backup = await context.gateway.get(BACKUPS, spec.backup_ref.name, restore.metadata.namespace)
    return Backup.model_validate(backup).spec.claim if backup else None


def _rival(kind: str, obj: Backup | Restore) -> Rival:
    meta = obj.metadata
    at_work = bool(obj.status and obj.status.phase not in (None, "Pending"))
    return Rival(meta.creation_timestamp, meta.uid, kind, meta.name, at_work)


async def _progress(context: Context, view: BackupView, decision: Decision) -> dict[str, Any]:
    if decision.reason != "Moving":
        return {}
    figures = await operations.progress(context, view.pods)
    return {"progress": figures} if figures else {}


async def _outcome(
    context: Context, view: BackupView, decision: Decision, owner: Owner, timings: list[Timing]
) -> dict[str, Any]:
    """What a run that has just ended leaves in the status, besides how it ended."""
    status = await operations.mover_status(context, view.job, view.pods, timings)
    report = final_report(view.job, view.pods) if view.job else None
    if decision.outcome is not None and decision.outcome.succeeded and report is not None:
        result = report.result
        source = read_source(view.own_content, _noted(view))
        status |= expiry_status(origin_of(view.backup))
        status |= {
            "type": str(result.get("type", "")).capitalize() or None,
            "location": view.vault.status.location if view.vault and view.vault.status else None,
            "volumes": [
                {
                    "claim": owner.claim,
                    "size": result.get("size"),
                    "backupId": result.get("backupId"),
                    "rootHash": result.get("rootHash"),
                    "changedBlockSource": result.get("changedBlockSource"),
                    "changedBlockReason": result.get("fallbackReason"),
                    "lineageVolume": result.get("volume"),
                    "bytesScanned": result.get("bytesScanned"),
                    "bytesChanged": result.get("bytesChanged"),
                    "bytesStored": result.get("bytesStored"),
                    "lockedUntil": result.get("lockedUntil"),
                    "fileSystem": result.get("fileSystem"),
                    "volumeMode": source.volume_mode if source else None,
                    "storageClassName": source.storage_class if source else None,
                    "snapshotTime": _snapshot_time(view),
                    "seconds": result.get("seconds"),
                    "requests": _total(result.get("requests")),
                    "retries": result.get("retries"),
                    "throttles": result.get("throttles"),
                }
            ],
            "progress": {
                "phase": "Done",
                "bytesScanned": result.get("bytesScanned"),
                "bytesChanged": result.get("bytesChanged"),
                "bytesStored": result.get("bytesStored"),
                "bytesTotal": result.get("size"),
                "percent": 100,
            },
        }
    return status


def _total(requests: Any) -> int | None:
    if isinstance(requests, dict):
        return sum(int(v) for v in requests.values())
    return int(requests) if requests is not None else None


def _snapshot_time(view: BackupView) -> str | None:
    for snapshot in (view.own_snapshot, view.snapshot):
        time = ((snapshot or {}).get("status") or {}).get("creationTime")
        if time:
            return str(time)
    return None


def _count(context: Context, backup: Backup, status: dict[str, Any]) -> None:
    """Count a run that has ended, by its whole status."""
    volumes = status.get("volumes") or [{}]
    kind = str(status.get("type") or "unknown").lower()
    outcome: Outcome = "succeeded" if status["phase"] == "Available" else "failed"
    place = (str(backup.metadata.namespace), backup.spec.vault_ref.name)
    context.figures.observe_backup(place, {**volumes[0], "type": kind}, outcome)
    operations.count_steps(context, BACKUPS.kind, status)


async def perform(
    context: Context,
    owner: Owner,
    view: BackupView,
    found: snapshots.SnapshotObjects,
    action: Action,
    detail: Any = None,
) -> None:
    """Carry out one action; each may be repeated."""
    gateway = context.gateway
    match action:
        case Action.CREATE_SNAPSHOT:
            await snapshots.create(context, owner, detail)
        case Action.RETAIN_CONTENT | Action.RESTORE_CONTENT:
            assert view.content is not None
            policy = "Retain" if action is Action.RETAIN_CONTENT else "Delete"
            await snapshots.set_policy(context, view.content, policy)
        case Action.BIND_CONTENT:
            assert view.content is not None
            await snapshots.bind_content(context, owner, view.content, _source(view))
        case Action.BIND_SNAPSHOT:
            assert view.own_content is not None
            await snapshots.bind_snapshot(context, owner, view.own_content)
        case Action.DROP_SOURCE_SNAPSHOT:
            await snapshots.drop_source(context, owner, found)
        case Action.CREATE_CLONE:
            await gateway.ensure(CLAIMS, _clone(context, owner, view))
        case Action.CREATE_SECRET:
            await _create_secret(context, owner, view)
        case Action.CREATE_JOB:
            await _create_job(context, owner, view)
        case Action.DELETE_GIVEN_UP:
            await given_up.delete(context, view.given_up)
        case Action.DELETE_JOB:
            await operations.delete_job(context, owner.uid, owner.attempt)
        case Action.DELETE_PODS:
            await operations.delete_pods(context, view.pods)
        case Action.DELETE_CLONE:
            assert view.clone is not None
            await given_up.delete_with_storage(context, view.clone)
        case Action.DELETE_SECRET:
            await operations.delete_secret(context, owner.uid, owner.attempt)
        case Action.FORGET_STORED:
            await _forget_stored(context, owner, view)
        case Action.DELETE_SNAPSHOT:
            await snapshots.delete(context, owner, found)
        case Action.DELETE_FORMER_SNAPSHOTS:
            await snapshots.delete_kept(context, view.former_snapshots)


async def _forget_stored(context: Context, owner: Owner, view: BackupView) -> None:
    """Let no mover commit any more that may live on, wherever that is, then delete the Secret of the last one.

    Of a Backup that was cancelled, what one has committed before goes as well. A store that cannot be reached now does
    not hold the cancelling up: the Backup's deletion does it again.
    """
    place = await vault_place(context, view.vault) if view.vault is not None else None
    if isinstance(place, Place):
        volume = volume_name(owner.namespace, owner.claim)
        try:
            await context.stores.end_operation(place.access, volume, owner.uid)
            found = await context.stores.find_operation(place.access, volume, owner.uid)
            if found is not None and view.backup.spec.cancel:
                await context.stores.delete_backup(place.access, volume, str(found["backupId"]))
        except (StoreError, EngineError) as error:
            log.warning("Backup %s/%s: %s", owner.namespace, owner.name, error)
    await operations.delete_secret(context, owner.uid, owner.attempt)


def _source(view: BackupView) -> Source:
    source = read_source(view.own_content, _noted(view))
    if source is None:
        name = view.backup.metadata.name
        raise GatewayError(0, f"Backup {name}", "its status lost what describes the claim")
    return source


def _noted(view: BackupView) -> str | None:
    return view.backup.status.source if view.backup.status else None


def _clone(context: Context, owner: Owner, view: BackupView) -> Object:
    """The raw claim on the snapshot, as large as the larger of the snapshot and the claim's volume."""
    assert view.own_snapshot is not None
    source = _source(view)
    restore_size = (view.own_snapshot.get("status") or {}).get("restoreSize")
    size = max(parse_quantity(size) for size in (restore_size, source.capacity) if size)
    return raw_claim(
        owner,
        context.settings.namespace,
        source.storage_class,
        format_quantity(size),
        snapshot=owned_name(owner.uid),
    )


async def _create_secret(context: Context, owner: Owner, view: BackupView) -> None:
    assert view.vault is not None
    source = _source(view)
    place = await vault_place(context, view.vault)
    if isinstance(place, Refusal | Missing):
        # The vault was Available a moment ago; its own reconciler will say what is wrong with it.
        raise GatewayError(0, f"Vault {view.vault.metadata.name}", place.message)
    backup = view.backup
    meta = {
        "namespace": owner.namespace,
        "claim": owner.claim,
        "backup": owner.name,
        "uid": owner.uid,
        **origin_status(backup),
        "description": backup.spec.description or "",
        "snapshotTime": _snapshot_time(view) or "",
        "source": asdict(source),
    }
    request = mover_request(
        "backup",
        owner,
        place.access,
        volume=volume_name(owner.namespace, owner.claim),
        device=DEVICE_PATH,
        full=bool(backup.spec.full),
        compareWith=None if backup.spec.full else "latest",
        changedBlocks=None if backup.spec.full else await changed_blocks(context, owner, view),
        limitRate=await rate_of_backups(context, view.vault),
        meta=meta,
    )
    secret = mover_secret(owner, context.settings.namespace, request, place.access)
    await context.gateway.ensure(SECRETS, secret)


async def _create_job(context: Context, owner: Owner, view: BackupView) -> None:
    assert view.vault is not None
    template = await mover_template(context, view.vault)
    job = mover_job(
        owner,
        context.settings,
        template,
        node_affinity=_source(view).node_affinity,
        avoid=lost_names(view.nodes, view.now),
        token_audience=None if view.backup.spec.full else await token_audience(context, view),
    )
    await context.gateway.ensure(JOBS, job)
