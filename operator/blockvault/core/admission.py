"""What an operation needs before it starts: found wrong, it is refused; found absent, it is waited for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from blockvault.api import Backup, Vault, parse_quantity

from .decision import QUEUED, Missing, Refusal
from .naming import SNAPSHOT_CLASS_LABEL
from .objects import Object, claim_is_bound, csi_driver, deleting, is_volume_of

SNAPSHOT_DEFAULT_ANNOTATION = "snapshot.storage.kubernetes.io/is-default-class"

# Phases in which a Vault serves: while it grows it goes on (A2).
VAULT_WORKS = ("Available", "Locked")

# Reasons of a Vault in phase Error that time can mend; all others want a person.
PASSING_VAULT_REASONS = frozenset({"StoreUnreachable", "StoreThrottled", "StoreWorkFailed"})


@dataclass(frozen=True, order=True)
class Rival:
    """Another unfinished operation on the same claim. The older goes first, ties go by uid."""

    created: datetime
    uid: str
    kind: str
    name: str
    at_work: bool = field(default=False, compare=False)
    """Whether it has begun: then it is waited for by whatever comes, older or not."""


def check_vault(name: str, vault: Vault | None) -> Refusal | Missing | None:
    """Whether work may start on this vault (D8, A11)."""
    if vault is None:
        return Missing("VaultNotFound", f"Vault {name} does not exist in this namespace: create it.")
    status = vault.status
    phase = status.phase if status else None
    cause = (status.message if status else "") or "it has not been checked yet."
    if phase in VAULT_WORKS:
        return _check_capacity(vault)
    if phase == "Error" and status and status.reason not in PASSING_VAULT_REASONS:
        return Refusal("VaultError", f"Vault {name} is in phase Error: {cause}")
    if phase == "Deleting":
        return Refusal("VaultDeleting", f"Vault {name} is being deleted: name another one.")
    return Missing("VaultNotAvailable", f"Vault {name} is not Available: {cause}")


def check_place(backup: Backup, vault: Vault | None) -> Refusal | Missing | None:
    """Whether a Backup's data lies in the Vault of that name, or in a former one's that is gone (F18)."""
    name, place = backup.spec.vault_ref.name, backup.status.location if backup.status else None
    here = vault.status.location if vault and vault.status else None
    if not place or here == place or (vault is not None and here is None):
        return None
    words = f"Backup {backup.metadata.name} lies at {place}"
    adopt = "a Vault with that in spec.adopt shows it again, where its VaultClass allows adoption"
    if vault is None:
        return Missing(
            "VaultNotFound", f"{words}, and Vault {name} does not exist in this namespace: {adopt}."
        )
    return Refusal("StoredElsewhere", f"{words}, where a former Vault {name} was: {adopt}.")


def _check_capacity(vault: Vault) -> Refusal | None:
    status = vault.status
    shown = parse_quantity(status.capacity) if status and status.capacity else 0
    capacity, used = max(vault.spec.capacity_bytes, shown), (status.used_bytes if status else None) or 0
    if capacity and used > capacity:
        return Refusal(
            "VaultFull",
            f"Vault {vault.metadata.name} holds {used} bytes, more than its capacity of {capacity}: "
            "delete backups or raise spec.capacity.",
        )
    return None


def check_claim(name: str, claim: Object | None) -> Refusal | Missing | None:
    """Whether a claim is in a state that can be backed up (A3)."""
    if claim is None:
        return Missing(
            "ClaimNotFound", f"PersistentVolumeClaim {name} does not exist in this namespace: create it."
        )
    if deleting(claim):
        return Refusal("ClaimDeleting", f"PersistentVolumeClaim {name} is being deleted.")
    if not claim_is_bound(claim):
        phase = (claim.get("status") or {}).get("phase", "Pending")
        return Missing(
            "ClaimNotBound",
            f"PersistentVolumeClaim {name} is {phase} and not Bound: "
            "a claim that waits for its first consumer is bound when a pod uses it.",
        )
    return None


def check_volume(claim: str, obj: Object | None, volume: Object | None) -> Refusal | Missing | None:
    """Whether the claim `obj` has this volume, and it comes from a CSI driver."""
    if volume is None or obj is None:
        return Missing("VolumeNotFound", f"The PersistentVolume of claim {claim} cannot be read yet.")
    if not is_volume_of(volume, obj):
        return Refusal(
            "VolumeNotOfClaim",
            f"PersistentVolumeClaim {claim} names PersistentVolume {volume['metadata']['name']}, which is bound to "
            "another claim.",
        )
    if csi_driver(volume) is None:
        return Refusal(
            "NotCSI",
            f"PersistentVolumeClaim {claim} is on PersistentVolume {volume['metadata']['name']}, which no "
            "CSI driver serves, so it has no snapshots: move the data to a claim whose StorageClass names a "
            "CSI driver with snapshots.",
        )
    return None


def choose_snapshot_class(driver: str, classes: list[Object]) -> Object | Refusal | Missing:
    """The VolumeSnapshotClass for a driver.

    First the one labelled for us, then the driver's default, then the only one there is. Two that fit
    equally are refused: the snapshot controller does not choose among them either.
    """
    fitting = [c for c in classes if c.get("driver") == driver]
    if not fitting:
        return Missing(
            "NoSnapshotClass",
            f"No VolumeSnapshotClass for CSI driver {driver}: create one, or ask the driver's vendor "
            "whether it supports snapshots.",
        )

    def labelled(c: Object) -> bool:
        return (c["metadata"].get("labels") or {}).get(SNAPSHOT_CLASS_LABEL) == "true"

    def default(c: Object) -> bool:
        return (c["metadata"].get("annotations") or {}).get(SNAPSHOT_DEFAULT_ANNOTATION) == "true"

    for chosen in ([c for c in fitting if labelled(c)], [c for c in fitting if default(c)], fitting):
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            names = ", ".join(sorted(c["metadata"]["name"] for c in chosen))
            return Refusal(
                "AmbiguousSnapshotClass",
                f"Several VolumeSnapshotClasses fit CSI driver {driver} ({names}): "
                f'mark the one to use with the label {SNAPSHOT_CLASS_LABEL}: "true".',
            )
    raise AssertionError("unreachable: fitting is not empty")


def check_rivals(me: Rival, rivals: list[Rival], claim: str) -> Missing | None:
    """Whether another operation works on the same claim, or is older and waits for it (C13)."""
    older = min((r for r in rivals if r.at_work or r < me), default=None)
    if older is None:
        return None
    return Missing(
        QUEUED,
        f"Waiting for {older.kind} {older.name}, which works on PersistentVolumeClaim {claim}: "
        "one operation runs on a claim at a time.",
    )
