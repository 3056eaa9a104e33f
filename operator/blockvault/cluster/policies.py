"""BackupPolicies and VaultClasses: checked when they change, their next slots kept true."""

from __future__ import annotations

from blockvault.api import BackupPolicy, VaultClass
from blockvault.core.policy import decide_policy_status, is_one_too_many, seconds_to_next_run
from blockvault.core.vault_status import class_status

from . import operations
from .context import Context
from .resources import POLICIES, VAULT_CLASSES

# A class is looked at when it changes; this is only for a look that was missed.
CLASS_SECONDS = 600.0


async def reconcile_policy(context: Context, namespace: str, name: str) -> float | None:
    """Validate a policy and show its next slots. Returns seconds until they change."""
    obj = await context.gateway.get(POLICIES, name, namespace)
    if obj is None or obj["metadata"].get("deletionTimestamp"):
        return None
    policy = BackupPolicy.model_validate(obj)
    now, most = context.clock(), context.settings.max_policies
    others = [BackupPolicy.model_validate(p) for p in await context.gateway.list_objects(POLICIES, namespace)]
    surplus = is_one_too_many(policy, others, most)
    status = decide_policy_status(policy, now, most=most if surplus else None)
    await operations.write_status(context, POLICIES, obj, status)
    if surplus:
        return CLASS_SECONDS  # one of the others may go
    return seconds_to_next_run(policy, now)


async def reconcile_class(context: Context, name: str) -> float | None:
    """Say whether this version serves all that a class asks for. Returns seconds until the next look."""
    obj = await context.gateway.get(VAULT_CLASSES, name)
    if obj is None or obj["metadata"].get("deletionTimestamp"):
        return None
    status = class_status(VaultClass.model_validate(obj), context.clock())
    await operations.write_status(context, VAULT_CLASSES, obj, status)
    return CLASS_SECONDS
