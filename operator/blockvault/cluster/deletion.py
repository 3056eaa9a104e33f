"""Deleting a Backup: everything made for it goes, then its root into the store's trash, then the object.

A namespace or a definition that is being deleted takes its Backup objects and not the stored data (F18): data goes by
explicit intent only, and a namespace that hangs on our finalizer would be worse than an orphan.
"""

from __future__ import annotations

from blockvault.api import Backup, Vault
from blockvault.core.conditions import deleting_status
from blockvault.core.decision import SOON, Missing, Refusal
from blockvault.core.hold import Answer, counts
from blockvault.core.objects import Object
from blockvault.core.plan_backup import Action, next_cleaning
from blockvault.core.plan_vault_deletion import deletes_data, keeps_data, own_backups, waits_for_vault
from blockvault.core.runs import volume_of
from blockvault.engine import EngineError, OwnedElsewhere
from blockvault.stores import StoreError

from . import operations
from .backups import observe, owner_of, perform
from .context import Context, catalogue_key
from .hold import answer_for, note_deletion
from .leaving import is_leaving
from .places import vault_place
from .resources import BACKUPS, VAULTS
from .templates import Owner
from .upkeep import want_upkeep

RETRY_SECONDS = 5.0
# How soon a Backup looks whether its Vault, which is held, goes on; it is woken then.
VAULT_SECONDS = 60.0
DAY_SECONDS = 86400.0


async def delete_backup(context: Context, obj: Object) -> float | None:
    """One step of a Backup's deletion. Returns seconds until the next step, None when it is done."""
    backup = Backup.model_validate(obj)
    owner = owner_of(backup)
    leaving = await is_leaving(context, BACKUPS, owner.namespace)
    if not leaving:
        ref = backup.spec.vault_ref.name
        found_vault = await context.gateway.get(VAULTS, ref, owner.namespace)
        if waits_for_vault(Vault.model_validate(found_vault) if found_vault else None, backup):
            message = f"Vault {ref} is being deleted: this Backup goes with it, not before."
            await _say(context, obj, "VaultDeleting", message)
            return VAULT_SECONDS
        reading = await operations.restores_of(context, owner.namespace, {backup.metadata.name})
        if reading:
            user = reading[0].metadata.name
            message = f"Restore {user} reads this Backup: it is deleted when the Restore has ended."
            await _say(context, obj, "InUse", message)
            return RETRY_SECONDS
    view, found = await observe(context, backup, owner)
    vault = view.vault
    # With its Vault it goes when that says so, and its data with all the rest.
    together = vault is not None and deletes_data(vault) and bool(own_backups(vault, [backup]))
    answer = Answer.GO_ON
    if not leaving and waits_for_vault(vault, backup):
        return 0.0  # its Vault is being deleted since just now
    if not leaving and not together and view.vault is not None and not keeps_data(view.vault):
        answer, message = await _answer(context, backup, view.vault)
        if answer is Answer.WAIT:
            await _say(context, obj, "DeletionHeld", message)
            return RETRY_SECONDS
    action = next_cleaning(view, keep_snapshot=False, keep_job=False)
    if action is not None:
        if not leaving:
            await _say(context, obj, "CleaningUp", "Removing what was made for this Backup in the cluster.")
        if action is Action.AWAIT_GONE:
            return 1.0
        await perform(context, owner, view, found, action)
        return SOON
    if leaving or together:
        return None
    if view.vault is None or keeps_data(view.vault):  # what its Vault leaves, it leaves too (F18)
        words = "Only this object goes, the stored data stays: its Vault is gone, or goes and leaves it."
        await _say(context, obj, "DataKept", words)
        return None
    if answer is Answer.KEEP_DATA:
        await _say(
            context, obj, "DataKept", "Only this object goes, the stored data stays, as it was answered."
        )
        context.wakeups.wake(catalogue_key(view.vault.metadata.uid))  # which shows it again
        return None
    return await _delete_stored(context, obj, backup, owner, view.vault)


async def _answer(context: Context, backup: Backup, vault: Vault) -> tuple[Answer, str]:
    """Whether this deletion goes on, and what a hold says."""
    if not counts(backup):
        return Answer.GO_ON, ""
    place = await vault_place(context, vault)
    if isinstance(place, Refusal | Missing):
        return Answer.GO_ON, ""  # nothing of the store can be deleted then
    return await answer_for(context, vault, place)


async def _delete_stored(
    context: Context, obj: Object, backup: Backup, owner: Owner, vault: Vault
) -> float | None:
    place = await vault_place(context, vault)
    if isinstance(place, Refusal | Missing):
        if not _was_stored(backup):
            return None
        await _say(context, obj, place.reason, f"The stored data cannot be removed yet: {place.message}")
        return RETRY_SECONDS
    if not own_backups(vault, [backup]):
        # A Vault made again under the same name has a place of its own.
        words = f"Only this object goes: its data at {backup.status and backup.status.location} is not this Vault's."
        await _say(context, obj, "StoredElsewhere", words)
        return None
    volumes = backup.status.volumes if backup.status else []
    volume = volume_of(backup)
    keep = place.storage.trash_days * DAY_SECONDS
    try:
        backup_id = volumes[0].backup_id if volumes else None
        if backup_id is None:  # it may have been committed without our having seen it
            found = await context.stores.find_operation(place.access, volume, owner.uid)
            backup_id = str(found["backupId"]) if found else None
        if backup_id is not None:
            current = await context.gateway.get(VAULTS, vault.metadata.name, vault.metadata.namespace)
            if current is None or current["metadata"].get("deletionTimestamp"):
                return 1.0  # it is being deleted since then, and says anew what becomes of the data
            await context.stores.delete_backup(place.access, volume, backup_id, keep_seconds=keep)
    except OwnedElsewhere as error:
        # Two clusters on one store never delete each other's backups (F5).
        await _say(context, obj, error.reason, f"Only this object goes, the stored data stays: {error}")
        return None
    except (StoreError, EngineError) as error:
        if not _was_stored(backup) and not _may_be_stored(backup):
            return None
        await _say(
            context, obj, error.reason, f"The stored data cannot be removed yet: {error} {error.remedy}"
        )
        return RETRY_SECONDS
    note_deletion(context, vault, backup)
    if backup_id is not None and keep == 0:
        await want_upkeep(context, vault)
    context.wakeups.wake(vault.metadata.uid)  # its usage has changed
    context.wakeups.wake(catalogue_key(vault.metadata.uid))  # and its trash
    return None


def _was_stored(backup: Backup) -> bool:
    return bool(backup.status and backup.status.volumes)


def _may_be_stored(backup: Backup) -> bool:
    """Whether a mover may have committed: it was under way, or its end is known only as a failure."""
    return bool(backup.status and (backup.status.mover or backup.status.phase == "Creating"))


async def _say(context: Context, obj: Object, reason: str, message: str) -> None:
    meta = obj["metadata"]
    current = await context.gateway.get(BACKUPS, meta["name"], meta["namespace"])
    if current is None:
        return
    status = deleting_status(current, reason, message, context.clock())
    await operations.write_status(context, BACKUPS, current, status)
