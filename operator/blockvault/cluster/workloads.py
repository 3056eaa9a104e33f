"""Who uses a claim, and scaling it (core.workloads)."""

from __future__ import annotations

from blockvault.api import StoppedWorkload
from blockvault.core.objects import Object
from blockvault.core.workloads import (
    DEPLOYMENT,
    REPLICA_SET,
    STATEFUL_SET,
    User,
    Workload,
    controller_of,
    key_of,
    uses,
    workload_of,
)

from .context import Context
from .gateway import GatewayError
from .resources import DEPLOYMENTS, PODS, REPLICA_SETS, STATEFUL_SETS, Resource

KINDS: dict[str, Resource] = {
    DEPLOYMENT: DEPLOYMENTS,
    STATEFUL_SET: STATEFUL_SETS,
    REPLICA_SET: REPLICA_SETS,
}


async def users_of(context: Context, namespace: str, claim: str) -> list[User]:
    """The pods that have a claim among their volumes, and what scales them."""
    found: list[User] = []
    seen: dict[str, tuple[Workload | None, str]] = {}
    for pod in await context.gateway.list_objects(PODS, namespace):
        if not uses(pod, claim):
            continue
        owner = controller_of(pod)
        key = " ".join(owner) if owner else ""
        if key not in seen:
            seen[key] = await _scaled_by(context, namespace, pod)
        workload, words = seen[key]
        found.append(User(pod["metadata"]["name"], str(pod["spec"].get("nodeName") or ""), workload, words))
    return found


async def _scaled_by(context: Context, namespace: str, obj: Object) -> tuple[Workload | None, str]:
    """What scales an object that something manages, and who that is in words."""
    owner = controller_of(obj)
    if owner is None:
        return None, "nobody"
    api_version, kind, name = owner
    words = f"{kind} {name}"
    resource = KINDS.get(kind)
    if resource is None or resource.api_version != api_version:
        return None, words
    try:
        found = await context.gateway.get(resource, name, namespace)
    except GatewayError as error:
        if error.status != 403:
            raise
        return None, f"{words} (this operator may scale nothing: the chart's allowStopWorkload)"
    if found is None:
        return None, words
    if kind == REPLICA_SET and (above := controller_of(found)) is not None:
        return (
            await _scaled_by(context, namespace, found)
            if above[1] == DEPLOYMENT
            else (None, " ".join(above[1:]))
        )
    return workload_of(found), words


async def now(context: Context, namespace: str, stopped: list[StoppedWorkload]) -> dict[str, Workload | None]:
    """Stopped workloads as they are now, by kind and name; None of those that are gone."""
    result: dict[str, Workload | None] = {}
    for one in stopped:
        if not one.ended:
            found = await context.gateway.get(KINDS[one.kind], one.name, namespace)
            result[key_of(one)] = workload_of(found) if found is not None else None
    return result


async def scale(context: Context, namespace: str, kind: str, name: str, replicas: int) -> None:
    """Set how many replicas a workload has."""
    await context.gateway.patch(KINDS[kind], name, namespace, {"spec": {"replicas": replicas}}, sub="scale")
