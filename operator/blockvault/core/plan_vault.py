"""Where a Vault's data lies and by what credentials, and what its status says: pure functions."""

from __future__ import annotations

import ipaddress
from base64 import b64decode
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from blockvault.api import S3Storage, Vault, VaultClass, not_served

from .conditions import State, ready_conditions, remove_condition, set_condition, timestamp
from .decision import Missing, Refusal, refuse_unserved
from .naming import DEFAULT_CLASS_ANNOTATION
from .objects import Object

CREDENTIAL_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

# How soon a Vault is looked at again, in seconds: one that waits, one that is well.
RETRY_SECONDS = 5.0
CHECK_SECONDS = 60.0

# Volumes that a status names one by one.
NAMED = 3


@dataclass(frozen=True)
class Rules:
    """What the operator's settings allow to tenants."""

    tenant_storage: bool = True
    local_endpoints: bool = False


@dataclass(frozen=True)
class Storage:
    """A resolved place: the S3 section that counts, the full prefix in the bucket, where Secrets lie."""

    s3: S3Storage
    prefix: str
    secret_namespace: str
    of_class: bool

    @property
    def location(self) -> str:
        """As shown in `status.location`."""
        return "s3://" + "/".join(part for part in (self.s3.bucket, self.prefix) if part)


@dataclass(frozen=True)
class Secrets:
    """Credentials and CA bundle from the Secrets that the storage section names.

    Without keys, which a class alone may leave out, the operator's own identity is used.
    """

    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None


def choose_class(vault: Vault, classes: list[VaultClass]) -> VaultClass | Refusal | Missing:
    """The VaultClass that a Vault without storage of its own uses: the named one, or the one default."""
    name = vault.spec.class_name
    if name:
        for candidate in classes:
            if candidate.metadata.name == name:
                return candidate
        return Missing(
            "ClassNotFound", f"VaultClass {name} does not exist: ask an administrator to create it."
        )
    defaults = [c for c in classes if c.metadata.annotations.get(DEFAULT_CLASS_ANNOTATION) == "true"]
    if len(defaults) == 1:
        return defaults[0]
    if not defaults:
        return Missing(
            "NoDefaultClass",
            "The Vault names neither spec.className nor spec.storage, and no VaultClass is the default one: "
            f'set spec.className, or annotate a class with {DEFAULT_CLASS_ANNOTATION}: "true".',
        )
    names = ", ".join(sorted(c.metadata.name for c in defaults))
    return Refusal("AmbiguousClass", f"Several VaultClasses are marked as default ({names}): keep one.")


def resolve_storage(
    vault: Vault, classes: list[VaultClass], operator_namespace: str, rules: Rules
) -> Storage | Refusal | Missing:
    """Where this Vault's data lies.

    A class's vaults lie under `<prefix>/<namespace>/<name>-<first 8 of uid>`, so that a namespace made
    again under the same name inherits nothing; a Vault with storage of its own has exactly that prefix.
    """
    unserved = refuse_unserved(not_served(vault))
    if unserved is not None:
        return unserved
    meta = vault.metadata
    if vault.spec.storage is not None and vault.spec.storage.s3 is not None:
        s3 = vault.spec.storage.s3
        problem = _check_tenant_storage(s3, rules)
        if problem is not None:
            return problem
        return Storage(s3, (s3.prefix or "").strip("/"), str(meta.namespace), of_class=False)
    chosen = choose_class(vault, classes)
    if isinstance(chosen, Refusal | Missing):
        return chosen
    unserved = refuse_unserved(not_served(chosen), f"VaultClass {chosen.metadata.name}: ")
    if unserved is not None:
        return unserved
    if chosen.spec.storage.s3 is None:
        return Refusal("NoStorage", f"VaultClass {chosen.metadata.name} names no S3 storage.")
    s3 = chosen.spec.storage.s3
    own = f"{meta.namespace}/{meta.name}-{meta.uid[:8]}"
    prefix = "/".join(part for part in ((s3.prefix or "").strip("/"), own) if part)
    return Storage(s3, prefix, operator_namespace, of_class=True)


def _check_tenant_storage(s3: S3Storage, rules: Rules) -> Refusal | None:
    if not rules.tenant_storage:
        return Refusal(
            "TenantStorageForbidden",
            "This operator does not allow spec.storage in a Vault: name a VaultClass in spec.className.",
        )
    if s3.credentials_secret_ref is None:
        return Refusal(
            "NoCredentials",
            "spec.storage.s3.credentialsSecretRef is missing: a Vault with storage of its own never uses the "
            "operator's identity.",
        )
    host = urlsplit(s3.endpoint or "").hostname or ""
    if not rules.local_endpoints and _is_local(host):
        return Refusal(
            "EndpointForbidden",
            f"spec.storage.s3.endpoint {s3.endpoint} is on a loopback or link-local address, "
            "which tenants may not reach through the operator: use the store's routable address.",
        )
    return None


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # 127.1, 2130706433 and 0x7f000001 are loopback to a resolver; a real name's last label is no number.
        last = host.rstrip(".").rsplit(".", 1)[-1]
        return last.isdigit() or last.startswith("0x")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_link_local or address.is_unspecified


def read_credentials(
    storage: Storage, secret: Object | None, ca_secret: Object | None
) -> Secrets | Refusal | Missing:
    """What is in the named Secrets."""
    ca_bundle = None
    ca_ref = storage.s3.ca_bundle_secret_ref
    if ca_ref is not None:
        where = f"Secret {storage.secret_namespace}/{ca_ref.name}"
        key = ca_ref.key or "ca.crt"
        if ca_secret is None:
            return Missing("SecretNotFound", f"{where} with the CA bundle does not exist: create it.")
        ca_bundle = _decode(ca_secret, key)
        if ca_bundle is None:
            return Refusal("SecretInvalid", f"{where} has no key {key} with a CA bundle in PEM.")
    ref = storage.s3.credentials_secret_ref
    if ref is None:
        return Secrets(ca_bundle=ca_bundle)
    where = f"Secret {storage.secret_namespace}/{ref.name}"
    if secret is None:
        return Missing("SecretNotFound", f"{where} with the store's credentials does not exist: create it.")
    values = [_decode(secret, key) for key in CREDENTIAL_KEYS]
    absent = [key for key, value in zip(CREDENTIAL_KEYS, values, strict=True) if not value]
    if absent:
        return Refusal("SecretInvalid", f"{where} lacks {' and '.join(absent)}: add the store's credentials.")
    return Secrets(str(values[0]), str(values[1]), _decode(secret, "AWS_SESSION_TOKEN"), ca_bundle)


def _decode(secret: Object, key: str) -> str | None:
    encoded = (secret.get("data") or {}).get(key)
    if not encoded:
        return None
    try:
        return b64decode(encoded).decode().strip() or None
    except ValueError:
        return None


def waiting_status(vault: Vault, problem: Refusal | Missing, now: datetime) -> dict[str, Any]:
    """The status of a Vault that cannot be used: Pending for what is absent, Error for what is wrong."""
    phase = "Pending" if isinstance(problem, Missing) else "Error"
    state: State = "reconciling" if phase == "Pending" else "stalled"
    generation = vault.metadata.generation
    conditions = _conditions(vault)
    conditions = ready_conditions(
        conditions, state, problem.reason, problem.message, generation=generation, now=now
    )
    conditions = set_condition(
        conditions, "StoreReachable", "False", problem.reason, problem.message, generation=generation, now=now
    )
    return {
        "phase": phase,
        "reason": problem.reason,
        "message": problem.message,
        "observedGeneration": generation,
        "conditions": conditions,
    }


def available_status(
    vault: Vault,
    storage: Storage,
    store_id: str,
    used: int,
    backups: int,
    now: datetime,
    *,
    unreadable: list[tuple[str, str, str]],
) -> dict[str, Any]:
    """The status of a Vault whose store was checked. `used` in bytes, as the store's own summaries say.

    `unreadable`: (volume, what and why, what to do) of volumes that `used` and `backups` leave out. Volumes have
    nothing to do with each other, so the Vault goes on serving the others.
    """
    generation = vault.metadata.generation
    capacity = vault.spec.capacity_bytes
    message = f"The store at {storage.location} answers and keeps what it is given."
    conditions = set_condition(
        _conditions(vault), "StoreReachable", "True", "CanaryPassed", message, generation=generation, now=now
    )
    if unreadable:
        damage = _damage(unreadable)
        message = f"{message} {damage}"
        conditions = set_condition(
            conditions, "VolumesReadable", "False", "VolumesDamaged", damage, generation=generation, now=now
        )
    else:
        conditions = remove_condition(conditions, "VolumesReadable")
    conditions = ready_conditions(conditions, "ready", "Available", message, generation=generation, now=now)
    conditions = remove_condition(
        conditions, "AssociationServed"
    )  # of versions that backed nothing up by themselves
    return {
        "phase": "Available",
        "reason": "Available",
        "message": message,
        "location": storage.location,
        "storeId": store_id,
        "capacity": vault.spec.capacity,
        "usedBytes": used,
        "utilization": f"{100 * used / capacity:.1f}" if capacity else "0.0",
        "backups": backups,
        "lastCheckedAt": timestamp(now),
        "observedGeneration": generation,
        "conditions": conditions,
    }


def _damage(unreadable: list[tuple[str, str, str]]) -> str:
    names = ", ".join(volume for volume, _, _ in unreadable[:NAMED])
    more = f" and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
    _, cause, remedy = unreadable[0]
    return f"Not readable, and not counted: {names}{more}. {cause}. {remedy}"


def _conditions(vault: Vault) -> list[dict[str, Any]]:
    return [
        c.model_dump(by_alias=True, mode="json") for c in (vault.status.conditions if vault.status else [])
    ]


def class_status(vault_class: VaultClass, now: datetime) -> dict[str, Any]:
    """The status of a VaultClass: Ready, or Error naming what this version does not serve."""
    unserved = refuse_unserved(not_served(vault_class))
    generation = vault_class.metadata.generation
    former = vault_class.status.conditions if vault_class.status else []
    conditions = [c.model_dump(by_alias=True, mode="json") for c in former]
    state: State = "stalled" if unserved else "ready"
    phase = "Error" if unserved else "Ready"
    reason = unserved.reason if unserved else "Accepted"
    message = unserved.message if unserved else "Vaults may name this class."
    return {
        "phase": phase,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "conditions": ready_conditions(conditions, state, reason, message, generation=generation, now=now),
    }
