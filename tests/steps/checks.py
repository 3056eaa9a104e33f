"""What must hold after a scenario, whatever went wrong in it: nothing lost, nothing leaked, a true status."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

from blockvault.core.conditions import find_condition
from blockvault.core.naming import GROUP, OPERATION_LABEL
from blockvault.core.reasons import REASONS
from blockvault.engine import Access, VolumeNotFound
from tests.scenario.environment import Object

from .scenarios import Scenario, backups_of

GOOD = ("Available", "Completed", "Restored", "RolledBack", "Skipped")
# How a Task says the end of what its object says.
TASKS = {
    "Available": "Succeeded",
    "Completed": "Succeeded",
    "Restored": "Succeeded",
    "RolledBack": "Succeeded",
}
MADE = ("pvc", "secrets", "volumesnapshots", "volumesnapshotcontents", "jobs", "pods")


def check(scenario: Scenario, *, orphans: bool = False) -> None:
    """All of it. Raises AssertionError with what is not so. `orphans`: somebody has taken storage out of our sight."""
    statuses_are_true(scenario)
    store_is_whole(scenario)
    _soon(scenario, _left, "left behind")
    if not orphans:
        _soon(scenario, _leaked, "in the storage and known to nobody")
    tasks_are_true(scenario)


def statuses_are_true(scenario: Scenario) -> None:
    """Each reason is in the table, and the three conditions say what the phase says."""
    world = scenario.world
    for kind in ("backup", "restore", "vault"):
        for obj in world.list(kind):
            if obj["metadata"]["namespace"] != world.namespace:
                continue
            name, status = f"{kind} {obj['metadata']['name']}", obj.get("status") or {}
            assert status.get("phase") in (*GOOD, "Error"), f"{name} has not ended: {status}"
            conditions = status.get("conditions") or []
            ready = find_condition(conditions, "Ready")
            assert ready is not None, name
            assert ready["status"] == ("True" if status["phase"] in GOOD else "False"), f"{name}: {status}"
            stalled = find_condition(conditions, "Stalled")
            assert bool(stalled) == (status["phase"] == "Error"), f"{name}: {status}"
            assert find_condition(conditions, "Reconciling") is None, f"{name}: {status}"
            assert status["observedGeneration"] == obj["metadata"]["generation"], f"{name}: {status}"
            reason = status.get("reason") or ready["reason"]
            assert reason in REASONS, f"{name} says {reason}, which is in no table"
            if status["phase"] == "Error":
                assert status.get("message"), f"{name} does not say why"


def store_is_whole(scenario: Scenario) -> None:
    """Every Available Backup gives its bytes back, and nothing else is stored that somebody did not delete."""
    world = scenario.world
    vault = world.get("vault", scenario.vault)
    if vault is None:
        return
    repository = Access(world.storage.at(vault["status"]["location"])).open()
    volume = f"{world.namespace}/{scenario.claim}"
    try:
        stored = [row["backupId"] for row in repository.list(volume) if "trash" not in row["labels"]]
    except VolumeNotFound:
        stored = []
    known = {}
    for obj in backups_of(scenario):
        if obj["status"]["phase"] == "Available":
            known[obj["status"]["volumes"][0]["backupId"]] = obj["metadata"]["name"]
    assert sorted(stored) == sorted(known), f"stored are {stored}, shown are {known}"
    for backup_id, name in known.items():
        with tempfile.NamedTemporaryFile() as target:
            target.truncate(world.size)
            repository.restore(volume, target.name, backup_id=backup_id)
            found = hashlib.sha256(target.read()).hexdigest()
        assert found == scenario.digests[name], f"Backup {name} gives other bytes back"
    verified = repository.verify(volume) if known else {"ok": True}
    assert verified["ok"], f"the store is damaged: {verified}"


def _left(scenario: Scenario) -> list[str]:
    """What was made on the way and is neither the newest Backup's snapshot nor a Job that has ended."""
    world = scenario.world
    good = [b for b in backups_of(scenario) if (b.get("status") or {}).get("phase") == "Available"]
    newest = max(good, key=lambda b: b["metadata"]["creationTimestamp"], default=None)
    kept = newest["metadata"]["uid"] if newest else None
    found = []
    for kind in MADE:
        for obj in world.list(kind):
            meta = obj["metadata"]
            uid = (meta.get("labels") or {}).get(OPERATION_LABEL)
            if uid is None or (meta.get("annotations") or {}).get(f"{GROUP}/namespace") != world.namespace:
                continue
            if kind == "jobs" and _job_ended(obj):
                continue
            if kind.startswith("volumesnapshot") and uid == kept:
                continue
            found.append(f"{kind}/{meta['name']}")
    for volume in world.list("pv"):
        found += _odd(scenario, volume)
    return found


def _odd(scenario: Scenario, volume: Object) -> list[str]:
    """What is wrong with a PersistentVolume that a claim of the scenario has, or had."""
    world, meta, spec = scenario.world, volume["metadata"], volume["spec"]
    ref, notes = spec.get("claimRef") or {}, meta.get("annotations") or {}
    if world.namespace not in (ref.get("namespace"), notes.get(f"{GROUP}/namespace")):
        return []
    claim = world.get("pvc", ref.get("name") or "none")
    if claim is None or claim["spec"].get("volumeName") != meta["name"]:
        return [f"pv/{meta['name']} of {ref.get('name')}"]
    if spec["persistentVolumeReclaimPolicy"] != "Delete":
        return [f"pv/{meta['name']} has the policy {spec['persistentVolumeReclaimPolicy']}"]
    return []


def _leaked(scenario: Scenario) -> list[str]:
    """Storage that no object of the API stands for."""
    world = scenario.world
    volumes, snapshots = world.held()
    named = {(v["spec"].get("csi") or {}).get("volumeHandle") for v in world.list("pv")}
    cut = {(c.get("status") or {}).get("snapshotHandle") for c in world.list("volumesnapshotcontents")}
    return sorted([*(volumes - named), *(snapshots - cut)])


def _job_ended(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def tasks_are_true(scenario: Scenario) -> None:
    """Each operation has one Task, which says how its object ended."""
    _soon(scenario, _untrue, "Tasks that are not true")


def _untrue(scenario: Scenario) -> list[str]:
    world = scenario.world
    tasks = [t for t in world.list("tasks") if t["metadata"]["namespace"] == world.namespace]
    wrong = [f"{t['metadata']['name']} is Running" for t in tasks if _phase(t) in (None, "Running")]
    for kind, type in (("backup", "Backup"), ("restore", "Restore")):
        for obj in world.list(kind):
            if obj["metadata"]["namespace"] != world.namespace or "populate" in obj["spec"].get("target", {}):
                continue
            status = obj.get("status") or {}
            wanted = TASKS.get(status.get("phase", ""), "Failed")
            wanted = "Cancelled" if status.get("reason") == "Cancelled" else wanted
            uid = obj["metadata"]["uid"]
            own = [t for t in tasks if t["spec"]["object"].get("uid") == uid and t["spec"]["type"] == type]
            if [_phase(t) for t in own] != [wanted]:
                said = [(t["metadata"]["name"], t.get("status")) for t in own]
                wrong.append(
                    f"{kind} {obj['metadata']['name']} is {status.get('phase')}, its Task says {said}"
                )
    return wrong


def _phase(task: Object) -> Any:
    return (task.get("status") or {}).get("phase")


def _soon(scenario: Scenario, look: Callable[[Scenario], list[str]], what: str) -> None:
    """Assert that a look finds nothing, within the world's patience."""
    end = time.monotonic() + scenario.world.patience
    while found := look(scenario):
        assert time.monotonic() < end, f"{what}: {found}"
        scenario.world.tend()
        time.sleep(0.3)
