"""Movers on nodes that died (F2): when they are given up, what is left of them, and what a person can do. Pure.

Nobody can stop a process on a node that does not answer, so nothing that is given up is used again: the next mover has
another Job and another volume, and the store lets only one of them commit. What the dead node holds, its pods and the
claims that these use, goes when the node is back or its object is gone, as deletion was asked for: nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from blockvault.api import Backup, Restore

from .conditions import parse_timestamp
from .objects import Object, deleting, newest, pod_ended

# A node that has not been ready for so long, or a pod that was to be gone so long ago, is given up.
PATIENCE = timedelta(seconds=60)

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
NODE_LOST, NODE_NOT_READY = "NodeLost", "NodeNotReady"

# Nodes by name; None where there is no such Node any more.
Nodes = dict[str, Object | None]


@dataclass(frozen=True)
class GivenUp:
    """What is left of an operation's movers that were given up: their Jobs, pods, raw claims and Secrets.

    The Secrets stay until the operation is cleaned up: as long as there is one, a mover may have committed, or may yet.
    """

    jobs: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    claims: list[Object] = field(default_factory=list)
    has_secrets: bool = False

    @property
    def to_delete(self) -> bool:
        """Whether deletion of a Job, a pod or a claim was not asked for yet."""
        return not all(map(deleting, (*self.jobs, *self.pods, *self.claims)))


NOTHING_GIVEN_UP = GivenUp()


def attempt_of(operation: Backup | Restore) -> int:
    """Which of an operation's movers counts: those before it were given up."""
    return (operation.status.attempt if operation.status else None) or 1


def node_of(pod: Object) -> str:
    """The node that a pod was placed on; empty while there is none."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def nodes_named(pods: Iterable[Object]) -> set[str]:
    """The nodes of the pods that have not ended."""
    return {node_of(pod) for pod in pods if not pod_ended(pod)} - {""}


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a node, in words, and `since` when, if known. `surely`: somebody says that it is off."""

    words: str
    since: datetime | None = None
    surely: bool = False


def node_trouble(name: str, nodes: Nodes) -> Trouble | None:
    """What is wrong with a node; None where nothing is, or nothing is known of it."""
    if name not in nodes:
        return None
    node = nodes[name]
    if node is None:
        return Trouble(f"Node {name} does not exist any more", surely=True)
    conditions = (node.get("status") or {}).get("conditions") or []
    ready = next((c for c in conditions if c.get("type") == "Ready"), None)
    if ready is None or ready.get("status") == "True":
        return None
    since = parse_timestamp(ready["lastTransitionTime"])
    if any(taint.get("key") == OUT_OF_SERVICE for taint in (node.get("spec") or {}).get("taints") or []):
        return Trouble(f"Node {name} is out of service", since, surely=True)
    return Trouble(f"Node {name} has not been ready since {ready['lastTransitionTime']}", since)


def lost_node(name: str, nodes: Nodes, now: datetime) -> str:
    """Why a node is taken for lost; empty while it is not."""
    trouble = node_trouble(name, nodes)
    if trouble is None:
        return ""
    over = trouble.surely or (trouble.since is not None and now - trouble.since >= PATIENCE)
    return trouble.words if over else ""


def lost_names(nodes: Nodes, now: datetime) -> list[str]:
    """Those of the nodes that are lost."""
    return sorted(name for name in nodes if lost_node(name, nodes, now))


def lost_pod(pod: Object, nodes: Nodes, now: datetime) -> str:
    """Why a pod that has not ended will not be heard of again; empty where it may be.

    One that was placed on a node that was not ready even then, by a toleration, is judged as any that does not start:
    else a new one would be made for it each minute.
    """
    name, meta = node_of(pod), pod["metadata"]
    if pod_ended(pod) or not name:
        return ""
    trouble = node_trouble(name, nodes)
    made = parse_timestamp(meta["creationTimestamp"])
    if trouble is not None and (trouble.since is None or made <= trouble.since):
        return lost_node(name, nodes, now)
    overdue = deleting(pod) and now - parse_timestamp(meta["deletionTimestamp"]) >= PATIENCE
    return f"Pod {meta['name']} on node {name} does not end, though it is to be deleted" if overdue else ""


def beyond_reach(pod: Object, nodes: Nodes, now: datetime) -> bool:
    """Whether a pod's deletion was asked for and cannot be waited for."""
    return deleting(pod) and bool(lost_pod(pod, nodes, now))


def lost_mover(pods: list[Object], nodes: Nodes, now: datetime) -> str:
    """Why the mover whose pods these are is given up; empty where it is not.

    The newest pod is the one that works: its Job makes no other before that has ended.
    """
    pod = newest(pods)
    return lost_pod(pod, nodes, now) if pod is not None else ""


def unready_mover(pods: list[Object], nodes: Nodes) -> str:
    """That a mover's node is not ready, so that nobody knows how it fares; empty where nothing is wrong."""
    pod = newest(pods)
    trouble = node_trouble(node_of(pod), nodes) if pod is not None and not pod_ended(pod) else None
    return trouble.words if trouble else ""


def what_helps(nodes: Iterable[str]) -> str:
    """What a person can do where a lost node holds something."""
    names = " ".join(sorted(nodes)) or "NODE"
    return (
        "It is let go when the node is back or its Node object is deleted; or, if the machine is surely off: "
        f"kubectl taint nodes {names} {OUT_OF_SERVICE}=nodeshutdown:NoExecute"
    )


def left_behind(pods: Iterable[Object], nodes: Nodes, now: datetime) -> str:
    """For the end of a message: what of an operation stays on lost nodes for now; empty where nothing does."""
    held = [pod for pod in pods if beyond_reach(pod, nodes, now)]
    if not held:
        return ""
    names = ", ".join(sorted(pod["metadata"]["name"] for pod in held))
    where = {node_of(pod) for pod in held}
    return f" Pod {names} and the volume that it has stay on {', '.join(sorted(where))} for now. {what_helps(where)}."
