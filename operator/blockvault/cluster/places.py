"""Where a Vault's data lies, by what credentials and keys, and on whose behalf: read anew for each piece of work."""

from __future__ import annotations

from dataclasses import dataclass

from blockvault.api import Limits, MassDeletion, MoverTemplate, Vault, VaultClass
from blockvault.core.decision import Missing, Refusal
from blockvault.core.defaults import in_force
from blockvault.core.objects import Object, deleting
from blockvault.core.plan_vault import (
    Rules,
    Secrets,
    Storage,
    choose_class,
    narrower,
    read_credentials,
    read_keys,
    refuse_shared,
    resolve_storage,
)
from blockvault.core.rates import backup_rate
from blockvault.engine import Access
from blockvault.stores import Credentials, ObjectLock, StoreLocation

from .context import Context
from .gateway import GatewayError
from .resources import NAMESPACES, SECRETS, VAULT_CLASSES, VAULTS


@dataclass(frozen=True)
class Place:
    """Where a Vault's data lies, and all that opens it."""

    storage: Storage
    access: Access


async def vault_of(context: Context, namespace: str, name: str) -> tuple[Object, Vault] | None:
    """A Vault as it counts now, with its class's defaults, and its object; None when it is gone or on its way out."""
    obj = await context.gateway.get(VAULTS, name, namespace)
    if obj is None or deleting(obj):
        return None
    vault = Vault.model_validate(obj)
    return obj, in_force(vault, await class_of(context, vault))


async def vault_place(context: Context, vault: Vault) -> Place | Refusal | Missing:
    """Where the data lies, with credentials read now: a change counts from the next request on."""
    settings, gateway = context.settings, context.gateway
    classes = await _classes(context)
    rules = Rules(settings.allow_tenant_storage, settings.allow_local_endpoints)
    storage = resolve_storage(vault, classes, settings.namespace, rules)
    if isinstance(storage, Refusal | Missing):
        return storage
    everyone = [Vault.model_validate(v) for v in await gateway.list_objects(VAULTS)]
    resolved = ((each, resolve_storage(each, classes, settings.namespace, rules)) for each in everyone)
    shared = refuse_shared(
        vault, storage, ((each, place) for each, place in resolved if isinstance(place, Storage))
    )
    if shared is not None:
        return shared
    refs = (storage.s3.credentials_secret_ref, storage.s3.ca_bundle_secret_ref)
    found = [await gateway.get(SECRETS, ref.name, storage.secret_namespace) if ref else None for ref in refs]
    secrets = read_credentials(storage, *found)
    if storage.key_ref is not None and not isinstance(secrets, Refusal | Missing):
        ref, namespace = storage.key_ref
        secrets = read_keys(storage, await gateway.get(SECRETS, ref.name, namespace), secrets)
    if isinstance(secrets, Refusal | Missing):
        return secrets
    actor = await cluster_id(context)
    access = Access(
        store_location(storage, secrets),
        secrets.key,
        secrets.previous_key,
        actor,
        lock=ObjectLock(storage.lock.mode, storage.lock.days) if storage.lock else None,
    )
    return Place(storage, access)


async def class_of(context: Context, vault: Vault) -> VaultClass | None:
    """The Vault's class; None of one with storage of its own, or while no class can be told."""
    if vault.spec.storage is not None:
        return None
    chosen = choose_class(vault, await _classes(context))
    return chosen if isinstance(chosen, VaultClass) else None


async def _classes(context: Context) -> list[VaultClass]:
    return [VaultClass.model_validate(c) for c in await context.gateway.list_objects(VAULT_CLASSES)]


async def mover_template(context: Context, vault: Vault) -> MoverTemplate | None:
    """How the Vault's class wants mover pods scheduled (F26)."""
    vault_class = await class_of(context, vault)
    return vault_class.spec.mover if vault_class else None


async def limits_of(context: Context, vault: Vault) -> Limits:
    """What bounds a Vault: of its own limits and those of its class the narrower ones (F10, A3)."""
    own, vault_class = vault.spec.limits or Limits(), await class_of(context, vault)
    return narrower(own, (vault_class.spec.limits if vault_class else None) or Limits())


async def rate_of_backups(context: Context, vault: Vault) -> int | None:
    """Bytes a second for each mover of a Vault's backups and upkeep (F10)."""
    settings = context.settings
    return backup_rate(await limits_of(context, vault), settings.max_bandwidth, settings.max_backups)


async def mass_deletion_of(context: Context, vault: Vault) -> MassDeletion:
    """When the deletion of a Vault's backups is held (F11)."""
    vault_class = await class_of(context, vault)
    return (vault_class.spec.mass_deletion if vault_class else None) or MassDeletion()


async def cluster_id(context: Context) -> str:
    """What tells this cluster from others that use the same store: the uid of its namespace kube-system."""
    if context.cluster is None:
        found = await context.gateway.get(NAMESPACES, "kube-system")
        if found is None:
            raise GatewayError(
                404, "Namespace kube-system", "is not there, and its uid tells this cluster from others"
            )
        context.cluster = str(found["metadata"]["uid"])
    return context.cluster


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
