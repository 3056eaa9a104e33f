"""Vaults: resolve where the data lies, check the store with a canary, say how full it is."""

from __future__ import annotations

from typing import Any

from blockvault.api import Vault
from blockvault.core.decision import Missing, Refusal
from blockvault.core.defaults import grows_from, refuse_endless
from blockvault.core.vault_status import (
    CHECK_SECONDS,
    RETRY_SECONDS,
    Rotation,
    available_status,
    locked_status,
    rotated_message,
    rotation_conditions,
    rotation_done,
    waiting_status,
)
from blockvault.engine import EngineError
from blockvault.stores import StoreError

from . import operations
from .context import Context, catalogue_key, runs_key, upkeep_key
from .credentials import renew_movers
from .places import Place, vault_of, vault_place
from .resources import BACKUPS, RESTORES, VAULTS
from .upkeep import want_upkeep

# What is absent may yet come: everything else that a store refuses is wrong until a person mends it.
ABSENT_REASONS = frozenset({"BucketNotFound"})
# Where there are many Vaults, seconds between the checks of any two; and how long one goes unchecked at most.
CHECK_APART, CHECK_MOST, RETRY_APART = 6.0, 900.0, 1.0


async def reconcile_vault(context: Context, namespace: str, name: str) -> float | None:
    """One check of one Vault. Returns seconds until the next, None when the Vault is gone."""
    there = await vault_of(context, namespace, name)
    if there is None:
        return None
    obj, vault = there
    before = vault.status.phase if vault.status else None
    former = grows_from(vault)
    if former is not None:
        status = locked_status(vault, former, context.clock())
        await operations.write_status(context, VAULTS, obj, status)
        obj = {**obj, "status": {**(obj.get("status") or {}), **status}}
    place = await vault_place(context, vault)
    status = await _check(context, vault, place)
    await operations.write_status(context, VAULTS, obj, status)
    if status["phase"] != before:
        # They may wait for exactly this. Other Vaults do not: fifty that come back would wake each other.
        context.wakeups.wake_all(BACKUPS.kind, RESTORES.kind)
        for key in (runs_key, upkeep_key, catalogue_key):
            context.wakeups.wake(key(vault.metadata.uid))
    if status["phase"] == "Available":
        if context.tasks.at_work(namespace):
            return CHECK_SECONDS  # movers are to have changed credentials soon
        return context.pace(CHECK_SECONDS, CHECK_APART, CHECK_MOST)
    return context.pace(RETRY_SECONDS, RETRY_APART, CHECK_SECONDS)


async def _check(context: Context, vault: Vault, place: Place | Refusal | Missing) -> dict[str, Any]:
    if isinstance(place, Place):
        place = refuse_endless(vault) or place
    if isinstance(place, Refusal | Missing):
        return waiting_status(vault, place, context.clock())
    await renew_movers(context, vault, place)
    try:
        store = await context.stores.check(place.access)
        over = store.trash_bytes and store.used_bytes > vault.spec.capacity_bytes
        # Before it holds up the next backup, what was deleted goes (F18).
        if over and await context.stores.empty_trash(place.access, vault.spec.capacity_bytes):
            await want_upkeep(context, vault)
            store = await context.stores.check(place.access)
    except (StoreError, EngineError) as error:
        kind = Missing if error.reason in ABSENT_REASONS else Refusal
        problem = kind(error.reason, f"{place.storage.location}: {error} {error.remedy}")
        return waiting_status(vault, problem, context.clock())
    status = available_status(vault, place.storage, store, context.clock())
    status["conditions"] = rotation_conditions(
        status["conditions"],
        await _rotation(context, vault, place),
        vault.metadata.generation,
        context.clock(),
    )
    return status


async def _rotation(context: Context, vault: Vault, place: Place) -> Rotation | None:
    """Replace the vault's key while its Secret holds the former one too (F7); None where it does not."""
    if place.access.previous_key is None:
        return None
    try:
        ring = place.access.ring()
        fingerprint = ring.current.fingerprint if ring.current else ""
        done = rotation_done(vault, fingerprint)
        if done is not None:
            return done
        found = await context.stores.rotate(place.access)
    except (StoreError, EngineError) as error:
        return Rotation(False, error.reason, f"{error} {error.remedy}")
    if found["oldKeyRemoved"]:
        return Rotation(True, "OldKeyRemoved", rotated_message(fingerprint))
    waiting = ", ".join(run["volume"] for run in found["waitingFor"]) or found["locked"]
    message = (
        f"The key {fingerprint} is in force; the former one is needed still, by: {waiting}. Keep previousKey."
    )
    return Rotation(False, "OldKeyNeeded", message)
