"""What movers on lost nodes have left (core.lost_nodes): looked for, and deleted as far as that goes from here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from blockvault.core.lost_nodes import NOTHING_GIVEN_UP, GivenUp, Nodes
from blockvault.core.naming import OPERATION_LABEL, job_name
from blockvault.core.objects import Object, deleting

from . import operations
from .context import Context
from .resources import CLAIMS, JOBS, NODES, VOLUMES
from .templates import Owner


@dataclass(frozen=True)
class Mover:
    """What an operation's mover consists of, as it is now, and what those before it have left."""

    has_secret: bool
    job: Object | None
    pods: list[Object]
    given_up: GivenUp


async def mover_of(context: Context, owner: Owner) -> Mover:
    """The mover of the owner's present attempt."""
    uid, attempt = owner.uid, owner.attempt
    secret, job, (mine, others) = await asyncio.gather(
        operations.has_secret(context, uid, attempt),
        operations.own_job(context, uid, attempt),
        _split_pods(context, owner),
    )
    return Mover(secret, job, mine, await _look_for(context, owner, others))


async def nodes_of(context: Context, names: Iterable[str]) -> Nodes:
    """The Nodes of these names."""
    found = sorted(set(names) - {""})
    return dict(
        zip(found, await asyncio.gather(*(context.gateway.get(NODES, name) for name in found)), strict=True)
    )


async def _split_pods(context: Context, owner: Owner) -> tuple[list[Object], list[Object]]:
    """The pods of the owner's mover that counts, and those of movers before it."""
    pods = await operations.own_pods(context, owner.uid)
    name = job_name(owner.uid, owner.attempt)
    mine = [pod for pod in pods if _job_of(pod) == name]
    return mine, [pod for pod in pods if pod not in mine]


def _job_of(pod: Object) -> str:
    return next((str(ref["name"]) for ref in pod["metadata"].get("ownerReferences") or []), "")


async def _look_for(context: Context, owner: Owner, pods: list[Object]) -> GivenUp:
    """What is left of movers before the owner's present one; `pods`: those of them that are there."""
    if owner.attempt == 1 and not pods:
        return NOTHING_GIVEN_UP
    gateway, namespace, labels = context.gateway, context.settings.namespace, {OPERATION_LABEL: owner.uid}
    jobs, claims = (
        await gateway.list_objects(JOBS, namespace, labels=labels),
        await gateway.list_objects(CLAIMS, namespace, labels=labels),
    )
    return GivenUp(
        [job for job in jobs if job["metadata"]["name"] != job_name(owner.uid, owner.attempt)],
        pods,
        [claim for claim in claims if claim["metadata"]["name"] != owner.mover_name],
        any([await operations.has_secret(context, owner.uid, n) for n in range(1, owner.attempt)]),
    )


async def delete(context: Context, found: GivenUp) -> None:
    """Ask for the deletion of all of it, with the storage of its claims. Jobs first: they make no more pods then."""
    gateway, namespace = context.gateway, context.settings.namespace
    for job in found.jobs:
        await gateway.delete(JOBS, job["metadata"]["name"], namespace)
    await operations.delete_pods(context, found.pods)
    for claim in found.claims:
        if not deleting(claim):
            await delete_with_storage(context, claim)


async def delete_with_storage(context: Context, claim: Object) -> None:
    """Delete a mover's raw claim with its storage, also where its class would retain that."""
    meta, name = claim["metadata"], str(claim["spec"].get("volumeName") or "")
    volume = await context.gateway.get(VOLUMES, name) if name else None
    if volume is not None and volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete":
        await operations.set_reclaim_policy(context, volume, "Delete")
    await context.gateway.delete(CLAIMS, meta["name"], meta["namespace"])
