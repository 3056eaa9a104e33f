"""Volumes that are encrypted at the source never get a plain backup (C9). Pure.

Whether a volume is encrypted stands in its StorageClass, in each driver's own words. A class that says it in other
words, or whose users accept a plain backup, is told so by a label of ours, which counts more than all parameters.
"""

from __future__ import annotations

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


def encrypted_at_source(storage_class: Object | None) -> bool:
    """Whether the volumes of a StorageClass are encrypted; False of one that is gone."""
    if storage_class is None:
        return False
    label = (storage_class["metadata"].get("labels") or {}).get(ENCRYPTED_LABEL)
    if label in ("true", "false"):
        return bool(label == "true")
    parameters = {
        k.lower(): str(v).strip().lower() for k, v in (storage_class.get("parameters") or {}).items()
    }
    return any(v not in OFF for k, v in parameters.items() if k in KEYS | SWITCHES)


def check_encryption(claim: str, storage_class: Object | None, vault: Vault) -> Refusal | None:
    """The refusal of a plain backup of an encrypted volume."""
    if vault.status is None or vault.status.encrypted or not encrypted_at_source(storage_class):
        return None
    assert storage_class is not None
    name = storage_class["metadata"]["name"]
    return Refusal(
        "EncryptionNeeded",
        f"PersistentVolumeClaim {claim} is encrypted by its StorageClass {name}, and Vault {vault.metadata.name} is "
        "not: use a Vault with encryption.keySecretRef. Where a plain backup is acceptable, an administrator labels "
        f'the StorageClass {ENCRYPTED_LABEL}: "false".',
    )
