"""Every kind says how it is in conditions that `kubectl wait`, Argo CD and Flux understand (E1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from blockvault.api import Backup, BackupPolicy, Vault, VaultClass
from blockvault.cluster.context import Context
from blockvault.cluster.operations import decided_status
from blockvault.core.catalogue import Stored, imported_status, lost_status
from blockvault.core.conditions import deleting_status
from blockvault.core.decision import Decision, Missing, Outcome, Refusal
from blockvault.core.plan_vault import Storage
from blockvault.core.policy import decide_policy_status
from blockvault.core.vault_status import available_status, class_status, waiting_status
from blockvault.storework import StoreStatus

from . import world
from .test_catalogue import facts

GENERATION = 7
NOW = world.NOW + timedelta(hours=1)
Object = dict[str, Any]

FORMER = [
    {"type": "Ready", "status": "True", "reason": "Old", "message": "", "observedGeneration": 6,
     "lastTransitionTime": world.STAMP},
    {"type": "Stalled", "status": "True", "reason": "Old", "message": "", "observedGeneration": 6,
     "lastTransitionTime": world.STAMP},
    {"type": "Reconciling", "status": "True", "reason": "Old", "message": "", "observedGeneration": 6,
     "lastTransitionTime": world.STAMP},
]  # fmt: skip


def kstatus(obj: Object) -> str:
    """The verdict of kstatus on an object of a kind that it does not know (pkg/kstatus/status: generic.go, core.go)."""
    status = obj.get("status") or {}
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != obj["metadata"]["generation"]:
        return "InProgress"
    found = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if found.get("Reconciling") == "True":
        return "InProgress"
    if found.get("Stalled") == "True":
        return "Failed"
    return "Current" if found.get("Ready", "True") == "True" else "InProgress"


def meta(**more: Any) -> Object:
    return {
        "name": "x",
        "namespace": "shop",
        "uid": "u",
        "generation": GENERATION,
        "creationTimestamp": world.STAMP,
        **more,
    }


def vault() -> Vault:
    return Vault.model_validate(
        {"metadata": meta(), "spec": world.VAULT["spec"], "status": {"conditions": FORMER}}
    )


def policy(**schedule: Any) -> BackupPolicy:
    spec = {"schedule": {"hours": [2], **schedule}, "retention": {"count": 3}}
    return BackupPolicy.model_validate({"metadata": meta(), "spec": spec, "status": {"conditions": FORMER}})


def off() -> BackupPolicy:
    found = policy()
    return found.model_copy(update={"spec": found.spec.model_copy(update={"enabled": False})})


def vault_class(**spec: Any) -> VaultClass:
    body = {"storage": {"s3": {"bucket": "backups"}}, **spec}
    return VaultClass.model_validate({"metadata": meta(), "spec": body, "status": {"conditions": FORMER}})


def decided(decision: Decision) -> Object:
    context = Context(None, None, None, None, clock=lambda: NOW)  # type: ignore[arg-type]
    return decided_status(decision, {"conditions": FORMER}, GENERATION, context)


def store(**more: Any) -> StoreStatus:
    known = {"store_id": "s", "used_bytes": 1, "backups": 1}
    return StoreStatus(**(known | more))


BACKUP = Backup.model_validate(world.backup_object() | {"metadata": meta()})
STORAGE = Storage(vault().spec.storage.s3, "s3://backups", "shop", None)  # type: ignore[union-attr]
FAILED = Outcome(False, "StoreUnreachable", "no answer")

TABLE: list[tuple[str, Object, str]] = [
    ("VaultClass: fit for use", class_status(vault_class(), NOW), "Current"),
    ("VaultClass: not served", class_status(vault_class(storage={"persistentVolumeClaim": {"claimName": "nas"}}), NOW), "Failed"),
    ("Vault: waits", waiting_status(vault(), Missing("ClassNotFound", "m"), NOW), "InProgress"),
    ("Vault: wrong", waiting_status(vault(), Refusal("AccessDenied", "m"), NOW), "Failed"),
    ("Vault: fit for use", available_status(vault(), STORAGE, store(), NOW), "Current"),
    ("Vault: some damage", available_status(vault(), STORAGE, store(unreadable=[("a", "b", "c")]), NOW), "Current"),
    ("BackupPolicy: valid", decide_policy_status(policy(), NOW), "Current"),
    ("BackupPolicy: disabled", decide_policy_status(off(), NOW), "Current"),
    ("BackupPolicy: invalid", decide_policy_status(policy(timeZone="Mars/Olympus"), NOW), "Failed"),
    ("BackupPolicy: one too many", decide_policy_status(policy(), NOW, most=3), "Failed"),
    ("Backup: waits", decided(Decision("Pending", "ClaimNotFound", "m")), "InProgress"),
    ("Backup: works", decided(Decision("Creating", "Moving", "m")), "InProgress"),
    ("Backup: has failed and is cleaned up", decided(Decision("Creating", "X", "m", outcome=FAILED, requeue=0)), "InProgress"),
    ("Backup: is there", decided(Decision("Available", "Completed", "m", requeue=None)), "Current"),
    ("Backup: failed", decided(Decision("Error", "StoreUnreachable", "m", requeue=None)), "Failed"),
    ("Backup: imported", imported_status(vault(), BACKUP, facts(), "here", NOW), "Current"),
    ("Backup: lost", lost_status(BACKUP, Stored("v", "i"), NOW), "Failed"),
    ("Backup: goes", deleting_status({"metadata": meta(), "status": {"conditions": FORMER}}, "InUse", "m", NOW), "InProgress"),
    ("Restore: works", decided(Decision("Restoring", "Moving", "m")), "InProgress"),
    ("Restore: is done", decided(Decision("Completed", "Completed", "m", requeue=None)), "Current"),
    ("Restore: in place, can go back", decided(Decision("Restored", "RollbackPossible", "m")), "Current"),
    ("Restore: goes back", decided(Decision("RollingBack", "Exchanging", "m")), "InProgress"),
    ("Restore: went back", decided(Decision("RolledBack", "RolledBack", "m", requeue=None)), "Current"),
    ("Restore: was done before", decided(Decision("Skipped", "AlreadyRestored", "m", requeue=None)), "Current"),
    ("Restore: failed", decided(Decision("Error", "TargetLost", "m", requeue=None)), "Failed"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "status", "verdict"), TABLE, ids=[row[0] for row in TABLE])
def test_e1_tools_judge_each_kind_as_it_is(what: str, status: Object, verdict: str) -> None:
    assert kstatus({"metadata": meta(), "status": status}) == verdict


@pytest.mark.parametrize(("what", "status", "verdict"), TABLE, ids=[row[0] for row in TABLE])
def test_e1_conditions_are_of_the_spec_as_it_is_now(what: str, status: Object, verdict: str) -> None:
    """A tool that reads them after a change waits until they are about that change."""
    assert status["observedGeneration"] == GENERATION
    assert kstatus({"metadata": meta(generation=GENERATION + 1), "status": status}) == "InProgress"
    found = {c["type"]: c for c in status["conditions"]}
    assert "Ready" in found
    assert {c["observedGeneration"] for c in status["conditions"]} == {GENERATION}
    assert all(c["reason"] and isinstance(c["message"], str) for c in status["conditions"])
    # Abnormal ones are there as True or not at all, and never both.
    abnormal = [found[t]["status"] for t in ("Reconciling", "Stalled") if t in found]
    assert abnormal in ([], ["True"])
    assert (found["Ready"]["status"] == "True") is (verdict == "Current")
    # A condition changes its time when it changes its status, and only then.
    kept = verdict == "Current" and what != "Backup: imported"
    assert (found["Ready"]["lastTransitionTime"] == world.STAMP) is kept
    assert (status["reason"], status["phase"]) != ("", "")


def test_a_deletion_is_terminating_whatever_the_conditions_say() -> None:
    body = {"metadata": meta(deletionTimestamp=datetime.now(UTC).isoformat()), "status": TABLE[0][1]}
    assert kstatus(body) == "Terminating"
