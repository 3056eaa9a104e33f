"""Backups of a Vault's store that no object shows get one; volumes are taken over where somebody says so."""

from __future__ import annotations

import logging
from typing import Any

from blockvault.api import Backup, Vault
from blockvault.core.admission import VAULT_WORKS
from blockvault.core.catalogue import (
    Stored,
    gone,
    imported_object,
    imported_status,
    lost_status,
    trash_status,
    unseen,
)
from blockvault.core.decision import Missing, Refusal
from blockvault.core.naming import TAKE_OVER_ANNOTATION, UNDELETE_ANNOTATION, asked_id
from blockvault.core.objects import Object
from blockvault.core.tasks import instant_task
from blockvault.engine import EngineError
from blockvault.stores import StoreError

from . import operations
from .context import Context
from .gateway import ConflictError
from .places import Place, cluster_id, vault_of, vault_place
from .resources import BACKUPS, VAULTS

log = logging.getLogger(__name__)

# How often a store is looked through for what others have made; and when it could not be.
EVERY_SECONDS, RETRY_SECONDS = 3600.0, 60.0


async def reconcile_catalogue(context: Context, namespace: str, name: str) -> float | None:
    """Look a Vault's store through once. Returns seconds until the next time, None when the Vault is gone."""
    there = await vault_of(context, namespace, name)
    if there is None:
        return None
    obj, vault = there
    if vault.status is None or vault.status.phase not in VAULT_WORKS:
        return RETRY_SECONDS
    place = await vault_place(context, vault)
    if isinstance(place, Refusal | Missing):
        return RETRY_SECONDS
    try:
        await _take_over(context, vault, place)
        await _undelete(context, vault, place)
        await operations.write_status(context, VAULTS, obj, await _show_all(context, vault, place))
    except (StoreError, EngineError) as error:
        words = f"The store's backups cannot be listed: {error}"
        await operations.tell_vault(context, obj["metadata"], error.reason, words, phase="Error")
        return RETRY_SECONDS
    return EVERY_SECONDS


async def _show_all(context: Context, vault: Vault, place: Place) -> dict[str, Any]:
    """Show what no object shows. What the status says of the trash."""
    before = await operations.backups_of(context, vault)
    # Objects first, then the store: a deletion goes the other way, so nothing comes back that was deleted meanwhile.
    stored = await context.stores.list_backups(place.access)
    status = {"trash": trash_status(stored, await cluster_id(context))}
    for backup, lost in gone(vault, stored, before):
        meta = backup.metadata
        words = lost_status(backup, lost, context.clock())
        await context.gateway.patch_status(BACKUPS, meta.name, meta.namespace, words)
    rows = unseen(stored, before)
    if not rows:
        return status
    # What was made meanwhile has an object by now.
    rows = unseen(rows, await operations.backups_of(context, vault))
    taken = {
        b["metadata"]["name"] for b in await context.gateway.list_objects(BACKUPS, vault.metadata.namespace)
    }
    shown: list[str] = []
    for row in rows:
        try:
            facts = await context.stores.describe(place.access, row["volume"], row["backupId"])
        except (StoreError, EngineError) as error:
            # One that cannot be read stands in nobody's way; the check of the store tells of damage.
            log.warning("Vault %s: backup %s: %s", vault.metadata.name, row["backupId"], error)
            continue
        if facts is not None:
            shown += [row["backupId"]] if await _show(context, vault, facts, taken) else []
    if shown:
        message = f"{len(shown)} backups of the store are shown as Backups, and can be restored."
        key = "/".join(sorted(shown))
        context.note_tasks([instant_task("Import", vault, key, "Imported", message, context.clock())])
    return status


async def _show(context: Context, vault: Vault, facts: dict[str, Any], taken: set[str]) -> bool:
    body = imported_object(vault, facts, taken)
    try:
        made = await context.gateway.create(BACKUPS, body)
    except ConflictError:
        return False  # looked at again next time
    meta = made["metadata"]
    taken.add(meta["name"])
    backup = Backup.model_validate(made)
    status = imported_status(vault, backup, facts, await cluster_id(context), context.clock())
    await context.gateway.patch_status(BACKUPS, meta["name"], meta["namespace"], status)
    return True


async def show_stored(context: Context, obj: Object, backup: Backup, stored: Stored) -> float | None:
    """Fill the status of an object that shows a stored backup. Returns seconds until the next try, None when done."""
    found = await context.gateway.get(VAULTS, backup.spec.vault_ref.name, backup.metadata.namespace)
    vault = Vault.model_validate(found) if found else None
    if vault is None or vault.status is None or vault.status.phase not in VAULT_WORKS:
        return RETRY_SECONDS
    place = await vault_place(context, vault)
    if isinstance(place, Refusal | Missing):
        return RETRY_SECONDS
    try:
        facts = await context.stores.describe(place.access, stored.volume, stored.backup_id)
    except (StoreError, EngineError) as error:
        log.warning("Backup %s/%s: %s", backup.metadata.namespace, backup.metadata.name, error)
        return RETRY_SECONDS
    if facts is None:
        status = lost_status(backup, stored, context.clock())
    else:
        status = imported_status(vault, backup, facts, await cluster_id(context), context.clock())
    await operations.write_status(context, BACKUPS, obj, status)
    return None


async def _undelete(context: Context, vault: Vault, place: Place) -> None:
    """Bring the backup back from the trash that the annotation names; once for each value (F18)."""
    value = vault.metadata.annotations.get(UNDELETE_ANNOTATION)
    if not value or (vault.status and vault.status.undeleted == value):
        return
    backup_id = asked_id(value)
    rows = await context.stores.list_backups(place.access)
    row = next((row for row in rows if row["backupId"] == backup_id), None)
    words, back = (
        f"There is no backup {backup_id} in the trash, nor out of it: status.trash names those that are.",
        False,
    )
    if row is not None:
        try:
            back = await context.stores.undelete(place.access, row["volume"], backup_id)
            words = f"Backup {backup_id} of volume {row['volume']} {'is back' if back else 'was not in the trash'}."
        except EngineError as error:
            words = f"Backup {backup_id} cannot be brought back: {error} {error.remedy}"
    await _told(context, vault, {"undeleted": value}, "Undeleted", words)
    task = instant_task("Undelete", vault, value, "Undeleted", words, context.clock(), failed=not back)
    context.note_tasks([task])


async def _told(context: Context, vault: Vault, status: dict[str, Any], reason: str, message: str) -> None:
    """Record that an annotation was obeyed, and tell what came of it."""
    meta = vault.metadata
    await context.gateway.patch_status(VAULTS, meta.name, meta.namespace, status)
    await operations.tell_vault(context, meta.model_dump(by_alias=True, mode="json"), reason, message)


async def _take_over(context: Context, vault: Vault, place: Place) -> None:
    """Volumes of the cluster that the annotation names belong to this one from now on; once for each value."""
    cluster = vault.metadata.annotations.get(TAKE_OVER_ANNOTATION)
    if not cluster or (vault.status and vault.status.took_over == cluster):
        return
    taken = await context.stores.take_over(place.access, cluster)
    for backup in await operations.backups_of(context, vault):
        if backup.status and backup.status.cluster == cluster:
            meta = backup.metadata
            await context.gateway.patch_status(BACKUPS, meta.name, meta.namespace, {"cluster": None})
    words = ", ".join(taken) or "none of its volumes is here"
    words = f"Taken over from cluster {cluster}: {words}."
    await _told(context, vault, {"tookOver": cluster}, "TakenOver", words)
    context.note_tasks([instant_task("TakeOver", vault, cluster, "TakenOver", words, context.clock())])
