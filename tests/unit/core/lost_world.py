"""A cluster of two nodes in which a mover's node dies, for plans: effects and the cluster's moves, one at a time."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from blockvault.api import Backup, Restore
from blockvault.core.conditions import timestamp
from blockvault.core.decision import Decision
from blockvault.core.lost_nodes import GivenUp
from blockvault.core.naming import RESTORE_ANNOTATION, job_name, mover_name
from blockvault.core.plan_backup import BackupView
from blockvault.core.restore_model import RestoreView

from . import world
from .backups import own_content, ready_view

Object = world.Object


def node(name: str, ready: str = "True", since: Any = world.NOW, *taints: str) -> Object:
    """A Node whose condition Ready has that status since then."""
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": timestamp(since)}
    return {
        "metadata": {"name": name},
        "spec": {"taints": [{"key": key} for key in taints]},
        "status": {"conditions": [condition]},
    }


def placed(name: str, where: str, job: str = "", phase: str = "Running", **meta: Any) -> Object:
    """A mover's pod on a node."""
    owners = [{"name": job, "uid": job}] if job else []
    metadata = {"name": name, "creationTimestamp": world.STAMP, "ownerReferences": owners, **meta}
    return {"metadata": metadata, "spec": {"nodeName": where}, "status": {"phase": phase}}


class LostWorld:
    """What there is of one operation. `dead`: nodes that nobody hears of; what is there stays as it is until they are
    back. `wrote`: (attempt, raw claim) of each mover that began.
    """

    def __init__(self, uid: str) -> None:
        self.uid, self.clock = uid, world.Clock()
        self.status: Object = {}
        self.dead: dict[str, Any] = {}
        self.jobs: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.claims: dict[str, Object] = {}
        self.secrets: set[str] = set()
        self.wrote: list[tuple[str, str]] = []

    @property
    def attempt(self) -> int:
        """Of the mover that counts."""
        return int(self.status.get("attempt") or 1)

    @property
    def job(self) -> str:
        """Name of the Job that counts."""
        return job_name(self.uid, self.attempt)

    # What the operator sees

    def there(self) -> dict[str, Any]:
        """What is looked at, as the views of Backups and Restores have it, but for the claim."""
        mine = [p for p in self.pods.values() if p["metadata"]["ownerReferences"][0]["name"] == self.job]
        others = [p for p in self.pods.values() if p not in mine]
        claim = mover_name(self.uid, self.attempt)
        former = [mover_name(self.uid, k) for k in range(1, self.attempt)]
        left = GivenUp(
            [job for name, job in self.jobs.items() if name != self.job],
            others,
            [c for name, c in self.claims.items() if name != claim],
            any(name in self.secrets for name in former),
        )
        nodes = {
            name: node(name, "Unknown", self.dead[name]) if name in self.dead else node(name) for name in "ab"
        }
        return {
            "now": self.clock.now,
            "job": self.jobs.get(self.job),
            "pods": mine,
            "has_secret": claim in self.secrets,
            "attempt": self.attempt,
            "given_up": left,
            "nodes": dict(nodes),
        }

    def backup(self) -> BackupView:
        """As a Backup's mover."""
        body = world.backup_object()
        body["status"] = {"phase": "Creating", **self.status}
        there = self.there()
        there["clone"] = self.claims.get(mover_name(self.uid, self.attempt))
        snapshot = {"own_content": own_content(), "own_snapshot": world.snapshot()}
        return ready_view(backup=Backup.model_validate(body), **snapshot, **there)

    def restore(self) -> RestoreView:
        """As the mover of a Restore to a new claim."""
        body = world.restore_object()
        body["status"] = {"phase": "Restoring", **self.status}
        target = {
            "metadata": {"name": "db-copy", "uid": "t", "annotations": {RESTORE_ANNOTATION: self.uid}},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "10Gi"}}},
        }
        return RestoreView(
            calendar=self.clock.now,
            restore=Restore.model_validate(body),
            claim="db-copy",
            backup=world.available_backup(),
            vault=world.vault(),
            target=target,
            raw_claim=self.claims.get(mover_name(self.uid, self.attempt)),
            **self.there(),
        )

    # What the operator does

    def note(self, decision: Decision) -> None:
        """Write the status."""
        if decision.attempt is not None:
            self.status["attempt"] = decision.attempt
        if decision.outcome is not None:
            good = "Succeeded" if decision.outcome.succeeded else "Failed"
            self.status["operation"] = {"outcome": good, "reason": decision.outcome.reason, "message": "m"}

    def act(self, view: BackupView | RestoreView, decision: Decision) -> None:
        """Carry the action out, as it was decided by that look."""
        name = mover_name(self.uid, view.attempt)
        match str(decision.action or ""):
            case "CreateClone" | "CreateRawClaim":
                meta = {"name": name, "creationTimestamp": timestamp(self.clock.now)}
                body = {"metadata": meta, "spec": {"volumeName": f"pv-{name}"}, "status": {"phase": "Bound"}}
                self.claims.setdefault(name, body)
            case "CreateSecret":
                self.secrets.add(name)
            case "CreateJob":
                job = job_name(self.uid, view.attempt)
                older = [
                    j
                    for j, obj in self.jobs.items()
                    if j < job and "deletionTimestamp" not in obj["metadata"]
                ]
                assert not older, f"{job} is made while {older} may make pods"
                meta = {"name": job, "uid": job, "creationTimestamp": timestamp(self.clock.now)}
                self.jobs.setdefault(job, {"metadata": meta, "spec": {}, "status": {}})
            case "DeleteGivenUp":
                for job in [j["metadata"]["name"] for j in view.given_up.jobs]:
                    self._delete_job(job)
                for pod in view.given_up.pods:
                    self._delete_pod(pod["metadata"]["name"])
                for claim in view.given_up.claims:
                    self._delete_claim(claim["metadata"]["name"])
            case "DeleteJob":
                self._delete_job(job_name(self.uid, view.attempt))
            case "DeletePods":
                for pod in view.pods:
                    self._delete_pod(pod["metadata"]["name"])
            case "DeleteClone" | "DeleteRawClaim":
                self._delete_claim(name)
            case "DeleteSecret" | "ForgetStored":
                self.secrets.clear()

    def _delete_job(self, name: str) -> None:
        self.jobs.pop(name, None)
        for pod in [
            p for p, obj in self.pods.items() if obj["metadata"]["ownerReferences"][0]["name"] == name
        ]:
            self._delete_pod(pod)

    def _delete_pod(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is None:
            return
        if pod["spec"]["nodeName"] in self.dead and pod["status"]["phase"] == "Running":
            pod["metadata"].setdefault("deletionTimestamp", timestamp(self.clock.now))
        else:
            del self.pods[name]

    def _delete_claim(self, name: str) -> None:
        if name in self.claims:
            self.claims[name]["metadata"].setdefault("deletionTimestamp", timestamp(self.clock.now))
        self._release()

    def _release(self) -> None:
        """A claim that is to be deleted goes when no pod has it."""
        held = {self.claim_of(pod) for pod in self.pods.values()}
        for name in [
            n for n, c in self.claims.items() if "deletionTimestamp" in c["metadata"] and n not in held
        ]:
            del self.claims[name]

    def claim_of(self, pod: Object) -> str:
        """The raw claim that a pod has."""
        number = int(pod["metadata"]["ownerReferences"][0]["name"].rpartition("-")[2])
        return mover_name(self.uid, number)

    # What the cluster does

    def schedule(self, chance: random.Random) -> None:
        """The Job controller makes pods, where none is there and all that they need is."""
        for name in self.jobs:
            there = [p for p in self.pods.values() if p["metadata"]["ownerReferences"][0]["name"] == name]
            number = int(name.rpartition("-")[2])
            needs = mover_name(self.uid, number)
            alive = [n for n in "ab" if n not in self.dead]
            claim = self.claims.get(needs)
            if there or not alive or claim is None or "deletionTimestamp" in claim["metadata"]:
                continue
            pod = placed(f"{name}-{len(self.wrote)}", chance.choice(alive), name)
            pod["metadata"]["creationTimestamp"] = timestamp(self.clock.now)
            self.pods[pod["metadata"]["name"]] = pod
            self.wrote.append((name, needs))

    def die(self, name: str) -> None:
        """Nobody hears of a node any more."""
        self.dead.setdefault(name, self.clock.now)

    def back(self) -> None:
        """Dead nodes are back: what was to be deleted there goes."""
        self.dead = {}
        for name in [n for n, p in self.pods.items() if "deletionTimestamp" in p["metadata"]]:
            del self.pods[name]
        self._release()

    def end(self) -> None:
        """The mover that counts says that it is done, if its node lives."""
        job = self.jobs.get(self.job)
        for pod in self.pods.values():
            mine = pod["metadata"]["ownerReferences"][0]["name"] == self.job
            if mine and job is not None and pod["spec"]["nodeName"] not in self.dead:
                pod["status"] = world.pod("Succeeded", world.GOOD)["status"]
                job["status"] = world.job("Complete")["status"]

    def wait(self, seconds: float = 61) -> None:
        """Time goes by."""
        self.clock.move(seconds=seconds)


MINUTE = timedelta(minutes=1)
