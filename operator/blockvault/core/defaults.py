"""What counts of a Vault: what it leaves out is its class's (F14), and its capacity only grows (A2). Pure.

Under a vault that has a store, a class can take the deletion of its data back and never bring it in: who left it out
saw Retain (F18).
"""

from __future__ import annotations

from blockvault.api import Vault, VaultClass, VaultDefaults, parse_quantity
from blockvault.api.common import LocalReference
from blockvault.api.vault_class import DeletionPolicy

from .decision import Refusal


def in_force(vault: Vault, vault_class: VaultClass | None) -> Vault:
    """The Vault with capacity, policy and deletion policy as they count.

    `vault_class`: None where the Vault has storage of its own, and while no class can be told: that changes nothing of
    what the status shows.
    """
    spec, status = vault.spec, vault.status
    if vault_class is not None:
        defaults = vault_class.spec.defaults or VaultDefaults()
    elif spec.storage is None and status is not None:
        policy = LocalReference(name=status.policy.name) if status.policy else None
        defaults = VaultDefaults(policy_ref=policy, deletion_policy=status.deletion_policy)
    else:
        defaults = VaultDefaults()
    changes = {
        "capacity": _larger(spec.capacity or defaults.capacity, status.capacity if status else None),
        "policy_ref": spec.policy_ref or defaults.policy_ref,
        "deletion_policy": spec.deletion_policy or _kinder(vault, defaults.deletion_policy or "Retain"),
    }
    return vault.model_copy(update={"spec": spec.model_copy(update=changes)})


def refuse_endless(vault: Vault) -> Refusal | None:
    """The refusal of a Vault without a capacity; None of all others."""
    if vault.spec.capacity is not None:
        return None
    return Refusal(
        "NoCapacity",
        "Neither the Vault nor its class says how large it is: set spec.capacity, such as 500Gi.",
    )


def grows_from(vault: Vault) -> str | None:
    """The capacity that was in force so far, where a Vault that is Available has a larger one now."""
    status = vault.status
    if status is None or status.phase != "Available" or not status.capacity:
        return None
    return status.capacity if vault.spec.capacity_bytes > parse_quantity(status.capacity) else None


def _kinder(vault: Vault, offered: DeletionPolicy) -> DeletionPolicy:
    status = vault.status
    kept = status is not None and status.store_id is not None and status.deletion_policy == "Retain"
    return "Retain" if kept else offered


def _larger(wanted: str | None, former: str | None) -> str | None:
    if wanted is None or former is None:
        return wanted or former
    return former if parse_quantity(former) > parse_quantity(wanted) else wanted
