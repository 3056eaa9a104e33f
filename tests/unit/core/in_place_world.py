"""A claim, its workload and a Restore in place, with what Kubernetes' controllers do to them.

The plan is the real one, and the objects are made by the real templates; the effects are written again here, as
moves on a small state: which storages there are, which PersistentVolume objects stand for them, what pods use.
"""

from __future__ import annotations

import copy
from typing import Any

from blockvault.api import Restore
from blockvault.cluster.in_place import _noted_workloads, _reference, noted
from blockvault.cluster.templates import (
    Owner,
    claims_volume,
    parked_volume,
    release_patch,
    restored_volume,
    retain_patch,
)
from blockvault.core.conditions import parse_timestamp
from blockvault.core.decision import Decision
from blockvault.core.naming import RECLAIM_POLICY_ANNOTATION, RESTORED_BY_ANNOTATION, former_name, owned_name
from blockvault.core.objects import Object
from blockvault.core.plan_in_place import cleaning_step
from blockvault.core.plan_restore import decide_restore
from blockvault.core.restore_model import RESTORED, ROLLING_BACK, TERMINAL, Action, RawClaim, RestoreView
from blockvault.core.restoring import policy_pending
from blockvault.core.workloads import User, Workload

from . import world

OLD, NEW = "old", "new"
RESTORE_UID = "r-1"
OPERATORS = "operators"


class Settings:
    """As much of the operator's as the templates ask for."""

    namespace = OPERATORS


class FakeContext:
    """As much of a Context as the notes ask for."""

    settings = Settings()

    def __init__(self, clock: world.Clock) -> None:
        self._clock = clock

    def clock(self) -> Any:
        """The calendar."""
        return self._clock.now


def merged(obj: Object, patch: Object) -> Object:
    """A JSON merge patch applied."""
    for key, value in patch.items():
        if value is None:
            obj.pop(key, None)
        elif isinstance(value, dict):
            obj[key] = merged(dict(obj.get(key) or {}), value)
        else:
            obj[key] = value
    return obj


class World:
    """All that is there. `storages`: handles that exist; `mounted`: the storage that the workload's pod has."""

    def __init__(self, *, stop: bool = True, policy: str = "Delete") -> None:
        self.clock = world.Clock()
        self.context: Any = FakeContext(self.clock)
        self.owner = Owner("Restore", "shop", "r", RESTORE_UID, "db")
        self.storages = {OLD}
        self.policy = policy
        self.claim: Object | None = copy.deepcopy(world.CLAIM)
        self.claim["spec"]["resources"] = {"requests": {"storage": "10Gi"}}  # type: ignore[index]
        self.volumes: dict[str, Object] = {"pv-db": self._volume("pv-db", OLD, policy, "c-1")}
        self.raw_claim: Object | None = None
        self.job = ""
        self.secret = False
        self.wanted, self.pod, self.mounted = 1, True, OLD
        self.pod_placed = True
        self.status: Object = {}
        self.spec: Object = {"target": {"original": {"stopWorkload": stop}}, "backupRef": {"name": "b"}}
        self.deleted = self.gone = False
        self.lost: list[str] = []

    def _volume(self, name: str, handle: str, policy: str, uid: str | None) -> Object:
        return {
            "metadata": {"name": name, "labels": {"zone": "a"}, "annotations": {"note": handle}, "uid": name},
            "spec": {
                "csi": {"driver": "csi.example.com", "volumeHandle": handle},
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": policy,
                "storageClassName": "fast",
                "volumeMode": "Filesystem",
                "claimRef": {"namespace": "shop", "name": "db", "uid": uid} if uid else None,
            },
            "status": {"phase": "Bound"},
        }

    # What the operator sees

    def restore(self) -> Restore:
        """The Restore as the API has it."""
        body = world.restore_object()
        return Restore.model_validate({**body, "spec": self.spec, "status": self.status or None})

    def view(self) -> RestoreView:
        """What a look at the world shows."""
        restore = self.restore()
        exchange = restore.status.exchange if restore.status else None
        name = exchange.volume if exchange else "pv-db"
        workload = Workload("StatefulSet", "db", self.wanted)
        ended = {"done": "Complete", "failed": "Failed"}.get(self.job)
        job = world.job(ended) if self.job else None
        pods = [world.pod("Succeeded", world.GOOD)] if self.job == "done" else []
        new = owned_name(RESTORE_UID)
        known = [w for w in (restore.status.workloads or []) if not w.ended] if restore.status else []
        return RestoreView(
            now=self.clock.now,
            calendar=self.clock.now,
            restore=restore,
            claim="db",
            backup=world.available_backup(),
            vault=world.vault(),
            target=copy.deepcopy(self.claim),
            raw_claim=self.raw_claim,
            raw_volume=copy.deepcopy(self.volumes.get("pvc-raw")),
            new_volume=copy.deepcopy(self.volumes.get(new)),
            former_volume=copy.deepcopy(self.volumes.get(former_name(RESTORE_UID))),
            has_secret=self.secret,
            job=job,
            pods=pods,
            claim_volume=copy.deepcopy(self.volumes.get(str(name))),
            users=[User("db-0", "node1" if self.pod_placed else "", workload)] if self.pod else [],
            workloads={"StatefulSet db": workload} if known else {},
        )

    # What the operator does

    def step(self, *, effect: bool = True) -> Decision | None:
        """One look, one status, and the effect unless the operator dies before it. None when nothing is left."""
        view = self.view()
        if self.deleted:
            return self._clean(view, effect)
        decision = decide_restore(view)
        self.status = merged(self.status, {"phase": decision.phase, "reason": decision.reason})
        if decision.outcome is not None:
            said = "Succeeded" if decision.outcome.succeeded else "Failed"
            self.status["operation"] = {"outcome": said, "reason": decision.outcome.reason, "message": ""}
        self.status = merged(self.status, noted(self.context, view, decision))
        if decision.action is not None and effect:
            self.act(view, Action(decision.action), decision.detail)
        return None if decision.finished else decision

    def _clean(self, view: RestoreView, effect: bool) -> Decision | None:
        """As cluster.restores.clean_restore does."""
        phase = self.status.get("phase")
        if phase in TERMINAL:
            step = None
        elif (
            phase in (RESTORED, ROLLING_BACK) and self.spec.get("rollback") and view.former_volume is not None
        ):
            step = decide_restore(view)
            waits = (
                "ClaimInUse",
                "OperationInProgress",
                "WorkloadScaledBack",
                "CannotRollBack",
                "RolledBack",
            )
            step = None if step.action is None and step.reason in waits else step
        elif phase == RESTORED:
            pending = policy_pending(view, view.former_volume)
            step = Decision("", "", "", Action.DISCARD_FORMER) if pending else None
        else:
            step = cleaning_step(view)
        if step is not None and step.action is not None and effect:
            self.act(view, Action(step.action), step.detail)
        self.gone = step is None
        return step

    def act(self, view: RestoreView, action: Action, detail: Any) -> None:
        """The effect of an action, which may be one that was seen to be due a moment ago."""
        new, former = owned_name(RESTORE_UID), former_name(RESTORE_UID)
        match action:
            case Action.CREATE_RAW_CLAIM:
                assert isinstance(detail, RawClaim)
                if self.raw_claim is None:
                    self.raw_claim = {
                        "metadata": {"name": new, "creationTimestamp": world.STAMP},
                        "spec": {"volumeName": "pvc-raw"},
                        "status": {"phase": "Bound"},
                    }
                    self.storages.add(NEW)
                    self.volumes["pvc-raw"] = self._volume("pvc-raw", NEW, self.policy, None)
            case Action.CREATE_SECRET:
                self.secret = True
            case Action.DELETE_SECRET:
                self.secret = False
            case Action.CREATE_JOB:
                self.job = self.job or "running"
            case Action.DELETE_JOB:
                self.job = ""
            case Action.DELETE_PODS:
                self.job = "ended"
            case Action.RETAIN_RAW_VOLUME:
                self._retain("pvc-raw")
            case Action.DISCARD_RAW_VOLUME:
                self._policy("pvc-raw", "Delete")
            case Action.DELETE_RAW_CLAIM:
                self.raw_claim = None
            case Action.DELETE_RAW_VOLUME:
                self._drop("pvc-raw")
            case Action.PARK_RESTORED:
                like = view.claim_volume
                if view.raw_volume is not None and view.target is not None:
                    like = restored_volume(self.owner, view.raw_volume, view.target, "ext4")
                assert like is not None
                self._ensure(parked_volume(self.owner, OPERATORS, like, new))
            case Action.PARK_FORMER:
                assert view.claim_volume is not None
                self._ensure(parked_volume(self.owner, OPERATORS, view.claim_volume, former))
            case Action.CREATE_CLAIM_VOLUME:
                assert view.target is not None
                self._ensure(claims_volume(view.target, detail, view.former_volume))
            case Action.RETAIN_CLAIM_VOLUME:
                self._retain("pv-db")
            case Action.SET_CLAIM_POLICY:
                assert view.claim_volume is not None
                policy = view.claim_volume["metadata"]["annotations"][RECLAIM_POLICY_ANNOTATION]
                merged(self.volumes["pv-db"], release_patch(policy))
            case Action.FENCE | Action.UNFENCE:
                assert view.target is not None
                if "pv-db" in self.volumes:
                    patch = _reference(self.context, self.owner, view.target, action)
                    merged(self.volumes["pv-db"], patch)
            case Action.DELETE_CLAIM_VOLUME:
                in_use = self.pod and self.pod_placed and self.mounted
                assert not in_use, "a volume was taken away from a pod that uses it"
                self._drop("pv-db")
            case Action.DELETE_VOLUME_OBJECT:
                self._drop(new)
            case Action.DELETE_FORMER_OBJECT:
                self._drop(former)
            case Action.DISCARD_FORMER:
                if former in self.volumes:
                    notes = self.volumes[former]["metadata"]["annotations"]
                    self._policy(former, notes[RECLAIM_POLICY_ANNOTATION])
            case Action.DISCARD_VOLUME:
                self._policy(new, "Delete")
            case Action.MARK_CLAIM:
                assert self.claim is not None
                merged(self.claim, {"metadata": {"annotations": {RESTORED_BY_ANNOTATION: view.mark}}})
            case Action.RECORD:
                self.status["recorded"] = True
            case Action.STOP_WORKLOAD:
                self.wanted = 0
                done = [w | {"stopped": True} for w in _noted_workloads(view, detail)]
                self.status["workloads"] = done
            case Action.START_WORKLOAD:
                self.wanted = detail.replicas
            case _:
                raise AssertionError(action)

    def _ensure(self, obj: Object) -> None:
        obj = copy.deepcopy(obj)
        obj["metadata"]["uid"] = obj["metadata"]["name"] + "+"
        obj["status"] = {"phase": "Pending"}
        self.volumes.setdefault(obj["metadata"]["name"], obj)

    def _retain(self, name: str) -> None:
        merged(self.volumes[name], retain_patch(RESTORE_UID, self.volumes[name]))

    def _policy(self, name: str, policy: str) -> None:
        if name in self.volumes:
            self.volumes[name]["spec"]["persistentVolumeReclaimPolicy"] = policy

    def _drop(self, name: str) -> None:
        """Delete an object; with the policy Delete its storage goes too, as the provisioner holds it."""
        found = self.volumes.pop(name, None)
        if found is not None and found["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            self._lose(found)

    def _lose(self, volume: Object) -> None:
        handle = volume["spec"]["csi"]["volumeHandle"]
        self.storages.discard(handle)
        self.lost.append(handle)

    # What Kubernetes does

    def controllers(self) -> None:
        """The volume controller, the provisioner, and what runs pods."""
        current = self.volumes.get("pv-db")
        if self.claim is not None:
            refers = (
                current is not None and current["spec"]["claimRef"]["uid"] == self.claim["metadata"]["uid"]
            )
            self.claim["status"] = {"phase": "Bound" if refers else "Lost"}
        for name, volume in list(self.volumes.items()):
            owned = name == "pvc-raw" and self.raw_claim is not None
            bound = name == "pv-db" and self.claim is not None and self.claim["status"]["phase"] == "Bound"
            volume["status"] = {"phase": "Bound" if owned or bound else "Released"}
            if not owned and not bound and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
                self._drop(name)
        self.pods()

    def pods(self) -> None:
        """The workload has the pods that it wants, and they mount the storage of a claim that is bound."""
        if self.wanted == 0 and self.pod:
            self.pod, self.mounted = False, ""
        if self.wanted and not self.pod:
            self.pod, self.pod_placed, self.mounted = True, False, ""
        bound = self.claim is not None and self.claim["status"]["phase"] == "Bound"
        current = self.volumes.get("pv-db")
        refers = current is not None and self.claim is not None
        refers = refers and current["spec"]["claimRef"]["uid"] == self.claim["metadata"]["uid"]  # type: ignore[index]
        if self.pod and bound and refers and not self.mounted:
            assert current is not None
            self.pod_placed, self.mounted = True, current["spec"]["csi"]["volumeHandle"]
            assert self.mounted in self.storages, "a pod was given storage that is gone"

    def mover(self, good: bool) -> None:
        """The mover ends."""
        if self.job == "running":
            self.job = "done" if good else "failed"

    # What people do

    def delete_claim(self) -> None:
        """Somebody deletes the claim, and what uses it."""
        self.claim, self.wanted, self.pod, self.mounted = None, 0, False, ""

    def resting(self) -> bool:
        """Whether it is restored, and nobody has said what is to become of the former data."""
        said = self.spec.get("confirm") or self.spec.get("rollback") or self.deleted
        until = self.status.get("rollbackUntil")
        over = until is not None and parse_timestamp(until) <= self.clock.now
        return bool(
            self.status.get("phase") == RESTORED and self.status.get("recorded") and not said and not over
        )

    def settle(self, moves: int = 200) -> None:
        """Everybody does what is due until nothing is."""
        for _ in range(moves):
            self.controllers()
            self.mover(good=True)
            ended = self.step() is None
            if self.gone or (ended and not self.deleted) or self.resting():
                self.controllers()
                return
        raise AssertionError(f"it does not end: {self.status}, {sorted(self.volumes)}")

    def later(self) -> None:
        """The rollback window ends."""
        self.clock.move(days=2)
