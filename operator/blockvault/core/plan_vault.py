"""Where a Vault's data lies, and by what credentials and keys: pure functions."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from urllib.parse import urlsplit

from blockvault.api import Limits, ObjectLock, S3Storage, SecretReference, Vault, VaultClass, not_served
from blockvault.api.common import parse_quantity

from .decision import Missing, Refusal, refuse_unserved
from .naming import DEFAULT_CLASS_ANNOTATION
from .objects import Object

# Days that a deleted backup can be brought back, where no class says otherwise.
TRASH_DAYS = 7
PREVIOUS_KEY = "previousKey"
_PLACE = re.compile(r"/([a-z0-9-]{1,63})/[a-z0-9.-]{1,253}-[0-9a-f]{8}")
CREDENTIAL_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Rules:
    """What the operator's settings allow to tenants."""

    tenant_storage: bool = True
    local_endpoints: bool = False


@dataclass(frozen=True)
class Storage:
    """A resolved place: the S3 section that counts, the full prefix in the bucket, where Secrets lie.

    `vault_class`: None of a Vault with storage of its own. `key_ref`: of the vault's key and the namespace it lies in.
    """

    s3: S3Storage
    prefix: str
    secret_namespace: str
    vault_class: VaultClass | None = None
    key_ref: tuple[SecretReference, str] | None = None

    @property
    def trash_days(self) -> int:
        """For how long a deleted backup can be brought back (F18)."""
        days = self.vault_class.spec.trash_days if self.vault_class else None
        return TRASH_DAYS if days is None else days

    @property
    def lock(self) -> ObjectLock | None:
        """For how long nobody shall be able to delete a backup (F8)."""
        return self.vault_class.spec.object_lock if self.vault_class else None

    @property
    def location(self) -> str:
        """As shown in `status.location`."""
        return "s3://" + "/".join(part for part in (self.s3.bucket, self.prefix) if part)


@dataclass(frozen=True)
class Secrets:
    """Credentials, CA bundle and vault keys from the Secrets that Vault and class name.

    Without credentials, which a class alone may leave out, the operator's own identity is used; without a key, nothing
    is encrypted.
    """

    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    key: bytes | None = field(default=None, repr=False)
    previous_key: bytes | None = field(default=None, repr=False)


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
    if vault.spec.encryption is not None and not rules.tenant_storage:
        return Refusal(
            "TenantKeysForbidden",
            "This operator may not read Secrets of tenants, so spec.encryption cannot be used: name a VaultClass that "
            "encrypts in spec.className.",
        )
    meta = vault.metadata
    if vault.spec.storage is not None and vault.spec.storage.s3 is not None:
        s3 = vault.spec.storage.s3
        if vault.spec.adopt is not None:
            return Refusal(
                "AdoptionInvalid",
                "spec.adopt goes with a VaultClass: a Vault with storage of its own finds what lies at its prefix.",
            )
        problem = _check_tenant_storage(s3, rules)
        if problem is not None:
            return problem
        return Storage(
            s3, (s3.prefix or "").strip("/"), str(meta.namespace), key_ref=_key_ref(vault, None, "")
        )
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
    if vault.spec.adopt is not None:
        adopted = _adopted(vault, chosen, s3)
        if isinstance(adopted, Refusal):
            return adopted
        own = adopted
    prefix = "/".join(part for part in ((s3.prefix or "").strip("/"), own) if part)
    return Storage(s3, prefix, operator_namespace, chosen, _key_ref(vault, chosen, operator_namespace))


def _adopted(vault: Vault, chosen: VaultClass, s3: S3Storage) -> str | Refusal:
    """The former place that a Vault takes over, below the class's own: `<namespace>/<name>-<first 8 of uid>` (F18)."""
    place, allowed = (vault.spec.adopt or "").rstrip("/"), chosen.spec.adoption
    base = "s3://" + "/".join(part for part in (s3.bucket, (s3.prefix or "").strip("/")) if part)
    found = _PLACE.fullmatch(place.removeprefix(base)) if place.startswith(f"{base}/") else None
    if found is None:
        return Refusal(
            "AdoptionInvalid",
            f"spec.adopt is {vault.spec.adopt}, which is no place of VaultClass {chosen.metadata.name}: write one such "
            f"as {base}/namespace/name-01234567, as status.location of the former Vault had it.",
        )
    if allowed == "Never" or (allowed == "SameNamespace" and found[1] != vault.metadata.namespace):
        return Refusal(
            "AdoptionForbidden",
            f"VaultClass {chosen.metadata.name} has spec.adoption {allowed}, so {place} may not be taken over here: "
            "ask an administrator.",
        )
    return found[0].strip("/")


def refuse_shared(vault: Vault, storage: Storage, others: Iterable[tuple[Vault, Storage]]) -> Refusal | None:
    """The refusal of a Vault whose place another Vault of the cluster has; None where none has it.

    Two would run each other's rules and delete each other's backups. A place belongs to the Vault whose store has been
    seen to answer first; where two were as quick, to the older one. A class's place is not taken by storage of its own.
    """

    def proven(each: Vault) -> bool:
        return bool(each.status and each.status.store_id)

    def age(each: Vault) -> tuple[datetime, str]:
        return each.metadata.creation_timestamp, each.metadata.uid

    for other, place in others:
        same = (place.s3.endpoint, place.location) == (storage.s3.endpoint, storage.location)
        squats = storage.vault_class is not None and place.vault_class is None
        if not same or squats or not proven(other) or other.metadata.uid == vault.metadata.uid:
            continue
        if not proven(vault) or age(other) < age(vault):
            meta = other.metadata
            return Refusal(
                "LocationInUse",
                f"{storage.location} is the place of Vault {meta.namespace}/{meta.name}: use another prefix, or delete "
                "that one first (its data stays unless its deletionPolicy is Delete).",
            )
    return None


def narrower(own: Limits, of_class: Limits) -> Limits:
    """Of two bounds the smaller one: what an administrator sets, no tenant lifts."""

    def least(one: int | None, other: int | None) -> int | None:
        return min((each for each in (one, other) if each is not None), default=None)

    rates = [each.bandwidth for each in (own, of_class) if each.bandwidth is not None]
    return Limits(
        bandwidth=min(rates, key=parse_quantity, default=None),
        concurrent_backups=least(own.concurrent_backups, of_class.concurrent_backups),
        resources=least(own.resources, of_class.resources),
    )


def _key_ref(
    vault: Vault, vault_class: VaultClass | None, operator_namespace: str
) -> tuple[SecretReference, str] | None:
    """A tenant's own key counts before the class's."""
    if vault.spec.encryption is not None:
        return vault.spec.encryption.key_secret_ref, str(vault.metadata.namespace)
    if vault_class is not None and vault_class.spec.encryption is not None:
        return vault_class.spec.encryption.key_secret_ref, operator_namespace
    return None


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


def read_keys(storage: Storage, secret: Object | None, secrets: Secrets) -> Secrets | Refusal | Missing:
    """The vault's key from its Secret, added to the rest. What is no key is refused by whoever opens the store."""
    if storage.key_ref is None:
        return secrets
    ref, namespace = storage.key_ref
    where, name = f"Secret {namespace}/{ref.name}", ref.key or "key"
    if secret is None:
        return Missing(
            "KeyNotFound", f"{where} with the vault's key does not exist: create it, or bring it back."
        )
    key = _raw(secret, name)
    if key is None:
        message = f"{where} has no {name}: put the vault's key there, 32 random bytes, raw or in base64."
        return Refusal("KeyInvalid", message)
    return replace(secrets, key=key, previous_key=_raw(secret, PREVIOUS_KEY))


def _raw(secret: Object, key: str) -> bytes | None:
    try:
        return b64decode((secret.get("data") or {}).get(key) or "") or None
    except ValueError:
        return None


def _decode(secret: Object, key: str) -> str | None:
    encoded = (secret.get("data") or {}).get(key)
    if not encoded:
        return None
    try:
        return b64decode(encoded).decode().strip() or None
    except ValueError:
        return None
