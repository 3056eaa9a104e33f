"""What the status of a Vault and of a VaultClass says: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from blockvault.api import ObjectLock, Vault, VaultClass, not_served

from .anomaly import expiry_words
from .conditions import (
    State,
    condition_while,
    find_condition,
    ready_conditions,
    remove_condition,
    set_condition,
    timestamp,
)
from .decision import Missing, Refusal, refuse_unserved
from .plan_vault import Storage

KEY_ROTATED = "KeyRotated"
# Reasons of the condition Immutable.
LOCKED, LOCK_DIFFERS = "BackupsLocked", "LockDiffers"

# How soon a Vault is looked at again, in seconds: one that waits, one that is well.
RETRY_SECONDS = 5.0
CHECK_SECONDS = 60.0

# Volumes that a status names one by one.
NAMED = 3


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
        "deletionPolicy": vault.spec.deletion_policy,
        "observedGeneration": generation,
        "conditions": conditions,
    }


def locked_status(vault: Vault, former: str, now: datetime) -> dict[str, Any]:
    """The status of a Vault whose capacity grows from `former`: the new one is in force when its store has answered."""
    message = f"The capacity grows from {former} to {vault.spec.capacity}. Backups and restores go on."
    generation = vault.metadata.generation
    conditions = ready_conditions(
        _conditions(vault), "reconciling", "Enlarging", message, generation=generation, now=now
    )
    return {"phase": "Locked", "reason": "Enlarging", "message": message, "conditions": conditions}


class Lock(Protocol):
    """How the backups of a store are locked."""

    @property
    def mode(self) -> str:
        """Governance or Compliance."""

    @property
    def days(self) -> int:
        """For so long nobody can delete them."""


class Checked(Protocol):
    """What a check of the store found; see storework.StoreStatus."""

    @property
    def store_id(self) -> str:
        """The store's own id."""

    @property
    def used_bytes(self) -> int:
        """Of all volumes, the trash included."""

    @property
    def backups(self) -> int:
        """Those that are not in the trash."""

    @property
    def trash_bytes(self) -> int:
        """Those that only the trash needs."""

    @property
    def in_trash(self) -> int:
        """Backups in the trash."""

    @property
    def encrypted(self) -> bool:
        """Whether all that is stored is."""

    @property
    def lock(self) -> Lock | None:
        """For how long each backup is locked; None where none is."""

    @property
    def unreadable(self) -> list[tuple[str, str, str]]:
        """(volume, what and why, what to do) of volumes that are left out of the counts."""


def available_status(vault: Vault, storage: Storage, store: Checked, now: datetime) -> dict[str, Any]:
    """The status of a Vault whose store was checked.

    Volumes have nothing to do with each other, so where some cannot be read the Vault goes on serving the others.
    """
    used, unreadable = store.used_bytes, store.unreadable
    generation = vault.metadata.generation
    capacity = vault.spec.capacity_bytes
    message = f"The store at {storage.location} answers and keeps what it is given."
    conditions = set_condition(
        _conditions(vault), "StoreReachable", "True", "CanaryPassed", message, generation=generation, now=now
    )
    status = vault.status
    damage = _damage(unreadable) if unreadable else None
    if damage is not None:
        message = f"{message} {damage}"
    hold, cause = (status.deletion_hold if status else None), "MassDeletion"
    if hold is None:
        hold, cause = (status.dissociation_hold if status else None), "Dissociation"
    immutable = _immutable(storage.lock, store.lock)
    for type, value, reason, words in (
        ("Immutable", *immutable),
        ("VolumesReadable", "False", "VolumesDamaged", damage),
        ("DeletionHeld", "True", cause, hold.message if hold else None),
        ("ExpiryHeld", "True", "Anomaly", expiry_words((status.anomalies if status else None) or [])),
    ):
        conditions = condition_while(conditions, type, value, reason, words, generation=generation, now=now)
    conditions = ready_conditions(conditions, "ready", "Available", message, generation=generation, now=now)
    conditions = remove_condition(
        conditions, "AssociationServed"
    )  # of versions that backed nothing up by themselves
    return {
        "phase": "Available",
        "reason": "Available",
        "message": message,
        "location": storage.location,
        "storeId": store.store_id,
        "capacity": vault.spec.capacity,
        "deletionPolicy": vault.spec.deletion_policy,
        "usedBytes": used,
        "utilization": f"{100 * used / capacity:.1f}" if capacity else "0.0",
        "backups": store.backups,
        "trashBytes": store.trash_bytes,
        "inTrash": store.in_trash,
        "encrypted": store.encrypted,
        "objectLock": {"mode": store.lock.mode, "days": store.lock.days} if store.lock else None,
        "lastCheckedAt": timestamp(now),
        "observedGeneration": generation,
        "conditions": conditions,
    }


@dataclass(frozen=True)
class Rotation:
    """How the replacement of the vault's key goes: whether the former one is of no use any more, and why (not)."""

    done: bool
    reason: str
    message: str


def rotated_message(fingerprint: str) -> str:
    """What a rotation that has ended says."""
    return (
        f"The key {fingerprint} is in force, and the former one opens nothing any more: remove previousKey."
    )


def rotation_done(vault: Vault, fingerprint: str) -> Rotation | None:
    """The rotation to that key if the status says that it has ended."""
    found = find_condition(_conditions(vault), KEY_ROTATED)
    if found is None or found["status"] != "True" or found["message"] != rotated_message(fingerprint):
        return None
    return Rotation(True, found["reason"], found["message"])


def rotation_conditions(
    conditions: list[dict[str, Any]], rotation: Rotation | None, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """KeyRotated stands there as long as the Secret holds the former key."""
    if rotation is None:
        return remove_condition(conditions, KEY_ROTATED)
    status = "True" if rotation.done else "False"
    return set_condition(
        conditions, KEY_ROTATED, status, rotation.reason, rotation.message, generation=generation, now=now
    )


def _immutable(wanted: ObjectLock | None, there: Lock | None) -> tuple[str, str, str | None]:
    """Whether backups are locked as the class asks; without words where nobody asks and nothing is (F8)."""
    if there is None and wanted is None:
        return "True", LOCKED, None
    if there is not None and (wanted is None or (wanted.mode, wanted.days) == (there.mode, there.days)):
        return "True", LOCKED, f"Nobody can delete a backup within {_lock_words(there)}."
    made = f"with one of {_lock_words(there)}" if there else "without one"
    return (
        "False",
        LOCK_DIFFERS,
        f"The class asks for an object lock of {_lock_words(wanted)}, and this store was made {made}, which does not "
        "change: backups go on as before. For locked backups make another Vault of the class.",
    )


def _lock_words(lock: Lock | None) -> str:
    return f"{lock.days} days ({lock.mode})" if lock else ""


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
