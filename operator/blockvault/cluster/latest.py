"""Asking the store for the latest backup of a resource (core.latest)."""

from __future__ import annotations

from blockvault.api import Backup, Restore, Vault
from blockvault.core.conditions import parse_timestamp
from blockvault.core.decision import Missing, Refusal
from blockvault.core.latest import Never, choose_latest, done_by, former_places
from blockvault.core.naming import volume_name
from blockvault.engine import EngineError
from blockvault.stores import StoreError

from . import operations
from .context import Context, catalogue_key
from .places import vault_place
from .resources import VAULTS

Latest = str | Never | Missing | Refusal


async def latest_backup(context: Context, restore: Restore) -> tuple[Backup | None, Latest | None, bool]:
    """The Backup that shows the latest one of what a Restore names, and what the store answered.

    None and None where the Vault is not there. One that no object shows yet is waited for. And whether the store knows
    that a Restore of this name has restored one of these backups in place.
    """
    wanted, namespace = restore.spec.latest_of, str(restore.metadata.namespace)
    assert wanted is not None
    obj = await context.gateway.get(VAULTS, wanted.vault_ref.name, namespace)
    if obj is None:
        return None, None, False
    vault = Vault.model_validate(obj)
    place = await vault_place(context, vault)
    if isinstance(place, Refusal | Missing):
        return None, Missing(place.reason, place.message), False  # whatever is wrong there may be mended
    volume = volume_name(namespace, wanted.resource.name)
    before = parse_timestamp(wanted.before) if wanted.before else None
    try:
        rows, others, beside = await context.stores.backups_and_neighbours(place.access, volume)
    except (StoreError, EngineError) as error:
        return None, Missing(error.reason, f"{error} {error.remedy}"), False
    living = [
        str((v.get("status") or {}).get("location"))
        for v in await context.gateway.list_objects(VAULTS, namespace)
    ]
    former = [p for p in former_places(place.access.location.url, beside) if p not in living]
    chosen = choose_latest(volume, rows, before, former, others)
    done = done_by(f"{namespace}/{restore.metadata.name}", rows)
    if not isinstance(chosen, str):
        return None, chosen, done
    for backup in await operations.backups_of(context, vault):
        volumes = backup.status.volumes if backup.status else []
        if any(v.backup_id == chosen for v in volumes):
            return backup, chosen, done
    context.wakeups.wake(catalogue_key(vault.metadata.uid))
    return None, chosen, done
