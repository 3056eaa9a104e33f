"""What a decision about a Restore looks at, read from the API and, where it matters, from the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from blockvault.api import Backup, Restore, Vault, parse_quantity
from blockvault.core.decision import Missing, Refusal, recorded_outcome
from blockvault.core.kept import held_by, newest_first
from blockvault.core.lost_nodes import attempt_of, nodes_named
from blockvault.core.naming import (
    OPERATION_LABEL,
    former_name,
    owned_name,
)
from blockvault.core.objects import Object, claim_is_bound, snapshot_is_ready
from blockvault.core.plan_restore import SELECTED_NODE
from blockvault.core.restore_model import Copy, RestoreView, annotation, vault_name_of
from blockvault.core.runs import volume_of
from blockvault.core.source import read_source
from blockvault.engine import EngineError
from blockvault.stores import StoreError

from . import given_up, snapshots, workloads
from .backups import rivals
from .context import Context, utc_now
from .latest import Latest, latest_backup
from .places import vault_place
from .resources import (
    ATTACHMENTS,
    BACKUPS,
    CLAIMS,
    STORAGE_CLASSES,
    VAULTS,
    VOLUMES,
)
from .templates import Owner


def owner_of(restore: Restore, backup: Backup | None) -> Owner:
    """The Restore as owner of what is made for it, and the claim that it fills, where that is known."""
    meta, spec = restore.metadata, restore.spec
    new_claim = spec.target.new_claim
    noted = restore.status.claim if restore.status else None
    latest = spec.latest_of.resource.name if spec.latest_of and spec.target.original else ""
    original = backup.spec.claim if backup and spec.target.original else latest
    claim = new_claim.name if new_claim else noted or original
    return Owner("Restore", str(meta.namespace), meta.name, meta.uid, claim, attempt_of(restore))


async def observe(context: Context, restore: Restore) -> tuple[RestoreView, Owner]:
    """All that a decision about this Restore looks at."""
    gateway, namespace = context.gateway, str(restore.metadata.namespace)
    backup, latest, done_before = await _backup(context, restore)
    owner = owner_of(restore, backup)
    uid, vault_name = owner.uid, vault_name_of(restore, backup)
    vault = await gateway.get(VAULTS, vault_name, namespace) if vault_name else None
    raw = await gateway.get(CLAIMS, owner.mover_name, context.settings.namespace)
    raw_volume, new_volume, former_volume = await _volumes(context, uid, raw)
    # What only a beginning, a rollback or a handing over looks at is not read at each look of a transfer.
    outcome = recorded_outcome(restore.status)
    starts = (raw is None and outcome is None) or restore.spec.rollback
    target = await gateway.get(CLAIMS, owner.claim, namespace) if owner.claim else None
    mover = await given_up.mover_of(context, owner)
    attached = await _attached(context, raw_volume) if outcome is not None and raw_volume is not None else ""
    wanted_node = annotation(target, SELECTED_NODE) if owner.attempt > 1 else None
    names = {*nodes_named([*mover.pods, *mover.given_up.pods]), attached, wanted_node or ""}
    view = RestoreView(
        now=utc_now(),
        calendar=context.clock(),
        restore=restore,
        claim=owner.claim,
        backup=backup,
        vault=Vault.model_validate(vault) if vault else None,
        latest=latest,
        done_before=done_before,
        storage_classes=await gateway.list_objects(STORAGE_CLASSES) if starts or outcome else [],
        rivals=await rivals(context, namespace, owner.claim, uid, "Restore") if starts else [],
        target=target,
        raw_claim=raw,
        raw_volume=raw_volume,
        new_volume=new_volume,
        former_volume=former_volume,
        attached=attached,
        has_secret=mover.has_secret,
        job=mover.job,
        pods=mover.pods,
        attempt=owner.attempt,
        given_up=mover.given_up,
        nodes=await given_up.nodes_of(context, names),
    )
    if view.outcome is None and not (raw and claim_is_bound(raw)):
        view = replace(view, copies=await _copies(context, owner, backup))
    if restore.spec.target.original is not None:
        view = await _observe_original(context, owner, view)
    return view, owner


async def _backup(context: Context, restore: Restore) -> tuple[Backup | None, Latest | None, bool]:
    """The Backup to restore: the one that is named, that was chosen when work began, or the latest now.

    And, where the store was asked, whether it knows that a Restore of this name has been done in place (F30).
    """
    status = restore.status
    if restore.reads is not None:
        found = await context.gateway.get(BACKUPS, restore.reads, str(restore.metadata.namespace))
        return (Backup.model_validate(found) if found else None), None, False
    if (status and status.empty) or restore.spec.latest_of is None:
        return None, None, False
    return await latest_backup(context, restore)


async def _observe_original(context: Context, owner: Owner, view: RestoreView) -> RestoreView:
    """What a Restore of the claim that was backed up looks at besides."""
    status = view.restore.status
    exchange = status.exchange if status else None
    name = exchange.volume if exchange else ((view.target or {}).get("spec") or {}).get("volumeName")
    volume = await context.gateway.get(VOLUMES, name) if name else None
    if volume is not None and not _concerns(volume, owner):
        volume = None  # a claim, or a status, can name any
    if view.raw_claim is not None and view.outcome is None:  # nobody is asked to let go of it yet
        return replace(view, claim_volume=volume)
    users, now, stored = await asyncio.gather(
        workloads.users_of(context, owner.namespace, owner.claim),
        workloads.now(context, owner.namespace, list(status.workloads or []) if status else []),
        _stored(context, view),
    )
    attached = await _attached(context, volume) if view.outcome is not None and volume is not None else ""
    where = {attached, *(user.node for user in users)} if view.outcome is not None else set()
    return replace(
        view,
        claim_volume=volume,
        claim_attached=attached,
        users=users,
        workloads=now,
        stored=stored,
        nodes=view.nodes | await given_up.nodes_of(context, where),
    )


def _concerns(volume: Object, owner: Owner) -> bool:
    """Whether a PersistentVolume is the claim's, or was taken from it by this Restore."""
    ref = volume["spec"].get("claimRef") or {}
    return ref.get("uid") == owner.uid or (ref.get("namespace"), ref.get("name")) == (
        owner.namespace,
        owner.claim,
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
    volume, backup_id = volume_of(view.backup), str(view.backup.status.volumes[0].backup_id)
    try:
        found = await context.stores.describe(place.access, volume, backup_id)
    except (StoreError, EngineError) as error:
        return Missing(error.reason, f"{error} {error.remedy}")
    return (
        found
        if found is not None
        else Missing(
            "BackupNotStored",
            f"The store has no backup {backup_id} of {volume} any more, or in the trash only.",
        )
    )


async def _copies(context: Context, owner: Owner, backup: Backup | None) -> list[Copy]:
    """Kept snapshots that hold a backup of the same volume, the newest first (D7)."""
    volumes = backup.status.volumes if backup and backup.status else []
    if backup is None or not volumes:
        return []
    kept = await snapshots.kept_of(context, replace(owner, claim=backup.spec.claim))
    return [
        Copy(each.snapshot["metadata"]["name"], volume.backup_id, source.storage_class, _least(each.snapshot))
        for each in newest_first(kept)
        if (source := read_source(each.content)) is not None and snapshot_is_ready(each.snapshot)
        for volume in held_by(each)[:1]
        if volume.backup_id and volume.lineage_volume == volumes[0].lineage_volume
    ]


def _least(snapshot: Object) -> int:
    size = (snapshot.get("status") or {}).get("restoreSize")
    return parse_quantity(size) if size else 0


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


async def _attached(context: Context, volume: Object) -> str:
    """The node that a volume is attached to; empty where it is to none."""
    name = volume["metadata"]["name"]
    attachments = (a["spec"] for a in await context.gateway.list_objects(ATTACHMENTS))
    return next(
        (a["nodeName"] for a in attachments if (a.get("source") or {}).get("persistentVolumeName") == name),
        "",
    )
