"""The steps of all operations, taken from the plans themselves: a new one is in the matrix by being written."""

from __future__ import annotations

from blockvault.core import plan_backup, plan_upkeep, plan_vault_deletion, restore_model
from blockvault.core.reasons import REASONS

# A plan's effects. What erases a Vault's data is a run of upkeep's kind, but a plan of its own.
PLANS = {
    "Backup": plan_backup.Action,
    "Restore": restore_model.Action,
    "Upkeep": plan_upkeep.Action,
    "Erase": plan_vault_deletion.Action,
}
# Kinds whose status says at which step they are.
KINDS = ("Backup", "Restore", "Vault")


def actions() -> list[str]:
    """All effects, as `Backup.CreateSnapshot`."""
    return [f"{plan}.{action.value}" for plan, found in PLANS.items() for action in found]


def states() -> list[str]:
    """All that a status says while its object is at work, as `Backup:Moving`."""
    return [
        f"{kind}:{word}"
        for word, reason in REASONS.items()
        if reason.sort == "works"
        for kind in reason.on.split(", ")
        if kind in KINDS
    ]
