"""Deployments, StatefulSets and ReplicaSets: they have as many pods as they are told."""

from __future__ import annotations

from .controller import Controller, deleting, pod_claims, pod_ended
from .kinds import CLAIMS, DEPLOYMENTS, PODS, REPLICA_SETS, STATEFUL_SETS, WORKLOADS, Kind, Object
from .volumes import NODE


class WorkloadController(Controller):
    """Makes and removes pods by `spec.replicas`, and runs them where their claims are bound."""

    def look(self) -> None:
        """One pass over all workloads and their pods."""
        for deployment in self.store.list(DEPLOYMENTS):
            self._look_at_deployment(deployment)
        for kind in (STATEFUL_SETS, REPLICA_SETS):
            for workload in self.store.list(kind):
                self._look_at_pods(kind, workload)
        for pod in self.store.list(PODS):
            if _owner_kind(pod) in {k.kind for k in WORKLOADS} and not pod_ended(pod):
                self._run(pod)

    def _look_at_deployment(self, deployment: Object) -> None:
        name, namespace = deployment["metadata"]["name"] + "-rs", deployment["metadata"]["namespace"]
        spec = {"replicas": deployment["spec"].get("replicas", 1), "template": deployment["spec"]["template"]}
        found = self.store.find(REPLICA_SETS, namespace, name)
        if found is None:
            self.store.create(
                REPLICA_SETS, {"metadata": _owned(name, DEPLOYMENTS, deployment), "spec": spec}, namespace
            )
        elif found["spec"]["replicas"] != spec["replicas"]:
            self.update(REPLICA_SETS, found, lambda r: r["spec"].update(replicas=spec["replicas"]))

    def _look_at_pods(self, kind: Kind, workload: Object) -> None:
        meta, namespace = workload["metadata"], workload["metadata"]["namespace"]
        wanted = {f"{meta['name']}-{n}" for n in range(workload["spec"].get("replicas", 1))}
        there = {
            p["metadata"]["name"]
            for p in self.store.list(PODS, namespace)
            if any(o["uid"] == meta["uid"] for o in p["metadata"].get("ownerReferences", []))
        }
        for name in there - wanted:
            self.store.delete(PODS, namespace, name)
        for name in wanted - there:
            spec = workload["spec"]["template"]["spec"]
            self.store.create(PODS, {"metadata": _owned(name, kind, workload), "spec": spec}, namespace)

    def _run(self, pod: Object) -> None:
        claims = [self.store.find(CLAIMS, *key) for key in pod_claims(pod)]
        bound = all(c and (c.get("status") or {}).get("phase") == "Bound" for c in claims)
        if bound and not deleting(pod) and not pod["spec"].get("nodeName"):
            self.update(PODS, pod, lambda p: p["spec"].update(nodeName=NODE))
            self.set_status(PODS, pod, phase="Running", conditions=[{"type": "Ready", "status": "True"}])


def _owner_kind(pod: Object) -> str | None:
    owners = pod["metadata"].get("ownerReferences") or [{}]
    kind: str | None = owners[0].get("kind")
    return kind


def _owned(name: str, kind: Kind, owner: Object) -> Object:
    reference = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    return {"name": name, "ownerReferences": [reference]}
