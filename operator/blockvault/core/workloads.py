"""Who uses a claim, and the workloads that can be stopped for it (D1). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from blockvault.api import StoppedWorkload

from .objects import Object, pod_ended

DEPLOYMENT, STATEFUL_SET, REPLICA_SET = "Deployment", "StatefulSet", "ReplicaSet"


@dataclass(frozen=True)
class Workload:
    """What scales pods. `deletes_claims`: without replicas it would delete its claims."""

    kind: str
    name: str
    replicas: int
    deletes_claims: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class User:
    """A pod that has a claim among its volumes. `node`: where it was placed, so that it may have it in use there.

    `workload` scales it, None when nothing does that can be stopped; `owner` says in words who made it.
    """

    pod: str
    node: str = ""
    workload: Workload | None = None
    owner: str = "nobody"

    @property
    def placed(self) -> bool:
        """Whether a node was chosen for it."""
        return bool(self.node)


def uses(pod: Object, claim: str) -> bool:
    """Whether a pod that has not ended has that claim among its volumes."""
    volumes = pod["spec"].get("volumes") or []
    names = {(v.get("persistentVolumeClaim") or {}).get("claimName") for v in volumes}
    # Of a generic ephemeral volume the claim has the pod's name and its own.
    names |= {f"{pod['metadata']['name']}-{v['name']}" for v in volumes if v.get("ephemeral")}
    return claim in names and not pod_ended(pod)


def controller_of(obj: Object) -> tuple[str, str, str] | None:
    """API version, kind and name of what manages an object."""
    for ref in obj["metadata"].get("ownerReferences") or []:
        if ref.get("controller"):
            return str(ref["apiVersion"]), str(ref["kind"]), str(ref["name"])
    return None


def workload_of(obj: Object) -> Workload:
    """What the state of a Deployment, StatefulSet or ReplicaSet says."""
    spec = obj["spec"]
    replicas = spec.get("replicas")
    policy = (spec.get("persistentVolumeClaimRetentionPolicy") or {}).get("whenScaled")
    return Workload(
        obj["kind"], obj["metadata"]["name"], 1 if replicas is None else replicas, policy == "Delete"
    )


def names(users: Iterable[User]) -> str:
    """The pods, for a sentence."""
    found = sorted(u.pod for u in users)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def stoppable(users: Iterable[User]) -> str:
    """Why these users cannot be stopped by scaling; empty when they can."""
    for user in users:
        if user.workload is None:
            return (
                f"Pod {user.pod} is managed by {user.owner}, which cannot be scaled to zero from here: "
                "stop it yourself."
            )
        if user.workload.deletes_claims:
            return (
                f"{user.workload} would delete its claims when it is scaled to zero: set "
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled to Retain first."
            )
    return ""


def noted(stopped: list[StoppedWorkload], now: dict[str, Workload | None]) -> list[StoppedWorkload]:
    """What was stopped, as it is to be noted after a look: those that were seen without replicas are `stopped`."""
    return [
        w.model_copy(update={"stopped": w.stopped or (found is not None and found.replicas == 0)})
        for w in stopped
        for found in [now.get(key_of(w))]
        if not w.ended
    ]


def key_of(stopped: StoppedWorkload) -> str:
    """As `str` of a Workload."""
    return f"{stopped.kind} {stopped.name}"
