"""Volumes that are encrypted at the source never get a plain backup (C9). Pure.

Whether a volume is encrypted stands in its StorageClass, in each driver's own words, and with many drivers in its
PersistentVolume too. A class that says it in other words, or whose users accept a plain backup, is told so by a label
of ours, which counts more than all parameters. Where the class is gone and the volume says nothing, nobody can tell:
then a plain backup is refused as well.
"""

from __future__ import annotations

from typing import Any

from blockvault.api import Vault

from .decision import Refusal
from .naming import ENCRYPTED_LABEL
from .objects import Object

# Parameters that name a key, and those that switch encryption on; from the drivers' own documentation: AWS EBS
# (encrypted, kmsKeyId), GCE PD (disk-encryption-kms-key), Azure Disk (diskEncryptionSetID), Ceph RBD and Longhorn
# (encrypted), Portworx (secure), Everest (everest.io/crypt-key-id).
KEYS = frozenset(
    {
        "kmskeyid",
        "disk-encryption-kms-key",
        "diskencryptionsetid",
        "encryptionkmsid",
        "everest.io/crypt-key-id",
    }
)
SWITCHES = frozenset({"encrypted", "encryption", "secure", "luksencrypted"})
OFF = frozenset({"", "false", "none", "no", "off", "0"})


PROVISIONED_ANNOTATION = "pv.kubernetes.io/provisioned-by"


def encrypted_at_source(storage_class: Object | None, volume: Object | None = None) -> bool:
    """Whether the volumes of a StorageClass are encrypted, or this one says so of itself.

    A class may be gone, or have been made anew without what it said when the volume was made.
    """
    label = _label(storage_class)
    if label is not None:
        return label
    said = [*_attributes(volume).items(), *_lower((storage_class or {}).get("parameters")).items()]
    return any(value not in OFF for key, value in said if key in KEYS | SWITCHES)


def check_encryption(
    claim: str, storage_class: Object | None, vault: Vault, volume: Object | None = None
) -> Refusal | None:
    """The refusal of a plain backup of an encrypted volume, or of one of which nobody can tell whether it is."""
    if vault.status is None or vault.status.encrypted:
        return None
    name = (storage_class["metadata"]["name"] if storage_class else _class_of(volume)) or ""
    remedy = (
        "use a Vault with encryption.keySecretRef. Where a plain backup is acceptable, an administrator labels "
        f'the StorageClass {ENCRYPTED_LABEL}: "false".'
    )
    if encrypted_at_source(storage_class, volume):
        by = f"by its StorageClass {name}" if name else "at its source, as its PersistentVolume says"
        words = f"PersistentVolumeClaim {claim} is encrypted {by}, and Vault {vault.metadata.name} is not: {remedy}"
        return Refusal("EncryptionNeeded", words)
    if (
        storage_class is None
        and name
        and _made_by_class(volume)
        and not _attributes(volume).keys() & SWITCHES
    ):
        return Refusal(
            "EncryptionUnknown",
            f"StorageClass {name}, by which the volume of PersistentVolumeClaim {claim} was made, is gone, so nobody "
            f"can tell whether it is encrypted, and Vault {vault.metadata.name} is not: make a StorageClass of that "
            f'name again, with the label {ENCRYPTED_LABEL}: "false" where its volumes are plain, or use a Vault with '
            "encryption.keySecretRef.",
        )
    return None


def _label(storage_class: Object | None) -> bool | None:
    text = ((storage_class or {}).get("metadata", {}).get("labels") or {}).get(ENCRYPTED_LABEL)
    return text == "true" if text in ("true", "false") else None


def _attributes(volume: Object | None) -> dict[str, str]:
    """What a driver remembers with a volume, which are its class's parameters with many."""
    return _lower((((volume or {}).get("spec") or {}).get("csi") or {}).get("volumeAttributes"))


def _lower(found: Any) -> dict[str, str]:
    return {key.lower(): str(value).strip().lower() for key, value in (found or {}).items()}


def _class_of(volume: Object | None) -> str | None:
    return ((volume or {}).get("spec") or {}).get("storageClassName")


def _made_by_class(volume: Object | None) -> bool:
    """A volume that an administrator made by hand has the name of a class that need not be there."""
    return PROVISIONED_ANNOTATION in (((volume or {}).get("metadata") or {}).get("annotations") or {})
