"""Vaults: resolve where the data lies, check the store with a canary, say how full it is."""

from __future__ import annotations

from typing import Any

from blockvault.api import Vault, VaultClass
from blockvault.core.decision import Missing, Refusal
from blockvault.core.plan_vault import (
    CHECK_SECONDS,
    RETRY_SECONDS,
    Rules,
    Secrets,
    Storage,
    available_status,
    read_credentials,
    resolve_storage,
    waiting_status,
)
from blockvault.engine import EngineError
from blockvault.stores import Credentials, StoreError, StoreLocation

from . import operations
from .context import Context
from .resources import SECRETS, VAULT_CLASSES, VAULTS

# What is absent may yet come: everything else that a store refuses is wrong until a person mends it.
ABSENT_REASONS = frozenset({"BucketNotFound"})


async def reconcile_vault(context: Context, namespace: str, name: str) -> float | None:
    """One check of one Vault. Returns seconds until the next, None when the Vault is gone."""
    obj = await context.gateway.get(VAULTS, name, namespace)
    if obj is None or obj["metadata"].get("deletionTimestamp"):
        context.figures.remove_vault(namespace, name)
        return None
    vault = Vault.model_validate(obj)
    before = vault.status.phase if vault.status else None
    status = await _check(context, vault)
    await operations.write_status(context, VAULTS, obj, status)
    context.figures.set_vault(
        namespace,
        name,
        vault.metadata.uid,
        status["phase"],
        status.get("usedBytes", vault.status.used_bytes if vault.status else None),
        vault.spec.capacity_bytes,
        status.get("backups", vault.status.backups if vault.status else None),
    )
    if status["phase"] != before:
        context.wakeups.wake_all()  # Backups and Restores may wait for exactly this
    return CHECK_SECONDS if status["phase"] == "Available" else RETRY_SECONDS


async def _check(context: Context, vault: Vault) -> dict[str, Any]:
    resolved = await _resolve(context, vault)
    if isinstance(resolved, Refusal | Missing):
        return waiting_status(vault, resolved, context.clock())
    storage, location = resolved
    try:
        store = await context.stores.check(location)
    except (StoreError, EngineError) as error:
        kind = Missing if error.reason in ABSENT_REASONS else Refusal
        problem = kind(error.reason, f"{storage.location}: {error} {error.remedy}")
        return waiting_status(vault, problem, context.clock())
    return available_status(
        vault,
        storage,
        store.store_id,
        store.used_bytes,
        store.backups,
        context.clock(),
        unreadable=store.unreadable,
    )


async def _resolve(context: Context, vault: Vault) -> tuple[Storage, StoreLocation] | Refusal | Missing:
    """Where the data lies, with credentials read now: a change counts from the next request on."""
    settings = context.settings
    classes = [VaultClass.model_validate(c) for c in await context.gateway.list_objects(VAULT_CLASSES)]
    rules = Rules(settings.allow_tenant_storage, settings.allow_local_endpoints)
    storage = resolve_storage(vault, classes, settings.namespace, rules)
    if isinstance(storage, Refusal | Missing):
        return storage
    refs = (storage.s3.credentials_secret_ref, storage.s3.ca_bundle_secret_ref)
    found = [
        await context.gateway.get(SECRETS, ref.name, storage.secret_namespace) if ref else None
        for ref in refs
    ]
    secrets = read_credentials(storage, *found)
    if isinstance(secrets, Refusal | Missing):
        return secrets
    return storage, store_location(storage, secrets)


async def vault_location(context: Context, vault: Vault) -> StoreLocation | Refusal | Missing:
    """The Vault's store with its credentials, for one piece of work."""
    resolved = await _resolve(context, vault)
    return resolved if isinstance(resolved, Refusal | Missing) else resolved[1]


def store_location(storage: Storage, secrets: Secrets) -> StoreLocation:
    """The store as the engine takes it."""
    s3 = storage.s3
    credentials = None
    if secrets.access_key and secrets.secret_key:
        credentials = Credentials(secrets.access_key, secrets.secret_key, secrets.session_token)
    return StoreLocation(
        url=storage.location,
        endpoint=s3.endpoint,
        region=s3.region,
        addressing=s3.addressing or "auto",
        storage_class=s3.storage_class,
        server_side_encryption=s3.server_side_encryption,
        ca_bundle=secrets.ca_bundle,
        credentials=credentials,
    )
