"""A claim gets its former data again, in place, and can go back (D1, D6, D7, F4, F30)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenario import manifests
from tests.scenario.environment import Object, Write, gone, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .conftest import claim, word_of
from .environment import EmbeddedEnvironment
from .volumes import DRIVER

SIZE = 16 * MIB
FIRST, SECOND = Write(MIB, MIB, seed=1), Write(MIB, MIB, seed=2)


class Database:
    """A StatefulSet on a claim of its own, with one backup and later writes."""

    def __init__(self, env: EmbeddedEnvironment, name: str, kind: str = "StatefulSet", **spec: Any) -> None:
        self.env, self.name, self.kind = env, name, kind
        made = claim(name, str(SIZE), env.storage_class)
        made["metadata"] |= {"labels": {"app": name}, "annotations": {"team": "shop"}}
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]
        pods = {"spec": {"containers": [], "volumes": volumes}}
        env.apply(
            made,
            {
                "apiVersion": "apps/v1",
                "kind": kind,
                "metadata": {"name": name},
                "spec": {"replicas": 1, "template": pods, **spec},
            },
        )
        env.wait_for("pvc", name, phase_is("Bound"), timeout=10)
        env.write(name, [FIRST])
        env.apply(manifests.backup(f"{name}-1", "v", name))
        env.wait_for("backup", f"{name}-1", phase_is("Available"), timeout=60)
        self.backed_up = env.digest(name, SIZE)
        env.write(name, [SECOND])
        self.written = env.digest(name, SIZE)
        self.claim = env.get("pvc", name) or {}
        self.storage = self.volume["spec"]["csi"]["volumeHandle"]

    @property
    def volume(self) -> Object:
        """The PersistentVolume that the claim names."""
        return self.env.get("pv", self.claim["spec"]["volumeName"]) or {}

    @property
    def replicas(self) -> int:
        """As they are wanted now."""
        return int((self.env.get(self.kind, self.name) or {})["spec"]["replicas"])

    def restore(self, name: str, **spec: Any) -> Object:
        """The manifest of a Restore in place."""
        original = spec.pop("original", {"stopWorkload": True})
        meta = {"name": name}
        body = {"backupRef": {"name": f"{self.name}-1"}, "target": {"original": original}, **spec}
        return {"apiVersion": manifests.API, "kind": "Restore", "metadata": meta, "spec": body}

    def restored(self, name: str, **spec: Any) -> Object:
        """Restore in place, to the end."""
        self.env.apply(self.restore(name, **spec))
        found = self.env.wait_for("restore", name, phase_is("Restored", "Completed", "Skipped"), timeout=90)
        return dict(found["status"])

    def is_whole(self) -> None:
        """The claim is the same object, bound, with its labels, and its storage goes with it as before."""
        now = self.env.get("pvc", self.name) or {}
        assert now["metadata"]["uid"] == self.claim["metadata"]["uid"]
        assert now["metadata"]["labels"] == {"app": self.name}
        assert now["metadata"]["annotations"]["team"] == "shop"
        assert now["status"]["phase"] == "Bound"
        assert self.volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
        assert self.volume["spec"]["claimRef"]["uid"] == now["metadata"]["uid"]


@pytest.fixture
def database(running: EmbeddedCluster, request: pytest.FixtureRequest) -> Database:
    """One, named after the test."""
    return Database(EmbeddedEnvironment(running), f"db-{word_of(request)}")


def parked(env: EmbeddedEnvironment, restore: str) -> list[str]:
    """What of a Restore's PersistentVolumes is left."""
    uid = (env.get("restore", restore) or {})["metadata"]["uid"]
    labels = [(v["metadata"].get("labels") or {}, v["metadata"]["name"]) for v in env.list("pv")]
    return [name for found, name in labels if found.get("blockvault.dev/operation") == uid]


def counted(env: EmbeddedEnvironment) -> tuple[float, float]:
    """Restores that succeeded and that failed, as the operator counts them."""
    lines = [
        line
        for line in env.cluster.metrics().splitlines()
        if line.startswith("blockvault_restore_runs_total{")
    ]
    found = {
        result: float(line.rsplit(" ", 1)[1])
        for line in lines
        for result in ("succeeded", "failed")
        if f'result="{result}"' in line and f'namespace="{env.cluster.namespace}"' in line
    }
    return found.get("succeeded", 0), found.get("failed", 0)


def test_d1_f4_in_place_confirmed(database: Database) -> None:
    """Stopped, exchanged, started again; the former storage goes when somebody says so."""
    env, name = database.env, database.name
    before = counted(env)
    status = database.restored("back")
    assert status["phase"] == "Restored", status
    assert env.digest(name, SIZE) == database.backed_up
    database.is_whole()
    assert database.replicas == 1
    assert database.volume["spec"]["csi"]["volumeHandle"] != database.storage
    assert database.storage in env.cluster.files.handles("volumes")
    restore = database.restore("back", confirm=True)
    env.apply(restore)
    env.wait_for("restore", "back", phase_is("Completed"), timeout=20)
    assert counted(env) == (before[0] + 1, before[1]), "one that succeeded, and none that failed"
    env.cluster.until(lambda: not parked(env, "back"), "the former storage is gone", 20)
    assert database.storage not in env.cluster.files.handles("volumes")
    assert env.digest(name, SIZE) == database.backed_up


def test_f4_rolled_back(database: Database) -> None:
    """What was written since the backup, and taken away by the restore, is there again."""
    env, name = database.env, database.name
    database.restored("undo")
    env.apply(database.restore("undo", rollback=True))
    status = env.wait_for("restore", "undo", phase_is("RolledBack"), timeout=40)["status"]
    assert status["reason"] == "RolledBack"
    assert env.digest(name, SIZE) == database.written
    assert database.volume["spec"]["csi"]["volumeHandle"] == database.storage
    database.is_whole()
    assert database.replicas == 1
    env.cluster.until(lambda: not parked(env, "undo"), "the restored storage is gone", 20)

    # E1: going back is an operation of its own.
    def told() -> dict[str, tuple[str, str]]:
        found = [t for t in env.list("task") if t["spec"]["object"]["name"] == "undo"]
        return {t["spec"]["type"]: (t["status"]["phase"], t["status"]["reason"]) for t in found}

    wanted = {"Restore": ("Succeeded", "RollbackPossible"), "Rollback": ("Succeeded", "RolledBack")}
    env.cluster.until(lambda: told() == wanted, f"its Tasks say so: {told()}", 20)


def test_d7_what_the_local_snapshot_holds_is_not_fetched(database: Database) -> None:
    """D7: the newest backup comes from its snapshot; the one before costs what differs."""
    env, name = database.env, database.name
    status = database.restored("newest")
    assert (status["source"], status["result"]["bytesWritten"]) == ("Snapshot", 0), status
    env.write(name, [SECOND])
    env.apply(manifests.backup(f"{name}-2", "v", name))
    env.wait_for("backup", f"{name}-2", phase_is("Available"), timeout=60)
    status = database.restored("before")
    assert status["source"] == "Snapshot"
    assert 0 < status["result"]["bytesWritten"] <= SECOND.length
    assert env.digest(name, SIZE) == database.backed_up
    for restore in ("newest", "before"):
        env.delete("restore", restore)
        env.wait_for("restore", restore, gone, timeout=20)
    assert database.storage not in env.cluster.files.handles("volumes")
    assert env.digest(name, SIZE) == database.backed_up


def test_d1_a_claim_in_use_is_refused_with_the_pods(database: Database) -> None:
    """Without stopWorkload nothing is stopped; once its user is gone, the restore goes on."""
    env, name = database.env, database.name
    env.apply(database.restore("used", original={}))
    waiting = env.wait_for("restore", "used", phase_is("Pending"), timeout=20)["status"]
    assert waiting["reason"] == "ClaimInUse"
    assert f"{name}-0" in waiting["message"]
    assert env.digest(name, SIZE) == database.written
    env.apply(
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": {"replicas": 0}}
    )
    env.wait_for("restore", "used", phase_is("Restored"), timeout=40)
    assert env.digest(name, SIZE) == database.backed_up
    assert database.replicas == 0, "what others stopped is not started"
    status = database.restored("too-late", original={"stopWorkload": False}, startDeadlineSeconds=1)
    assert status["phase"] == "Restored"


def test_d1_a_deployment_stays_stopped_where_that_is_asked_for(running: EmbeddedCluster) -> None:
    """It is found through its ReplicaSet."""
    env = EmbeddedEnvironment(running)
    database = Database(env, "web", "Deployment")
    status = database.restored("idle", original={"stopWorkload": True, "startAfter": False})
    assert database.replicas == 0
    assert "zero replicas" in status["message"]
    assert [(w["kind"], w["name"], w["replicas"]) for w in status["workloads"]] == [("Deployment", "web", 1)]


@pytest.mark.parametrize("policy", [{"whenScaled": "Delete"}, None])
def test_d1_what_cannot_be_stopped_without_harm_is_refused(
    running: EmbeddedCluster, policy: Object | None
) -> None:
    """A StatefulSet that would delete its claims; a pod that nobody manages."""
    env = EmbeddedEnvironment(running)
    name = "harm" if policy else "bare"
    database = Database(
        env, name, **({"persistentVolumeClaimRetentionPolicy": policy} if policy else {"replicas": 0})
    )
    if policy is None:
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]
        meta = {"name": "lonely"}
        env.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": meta,
                "spec": {"containers": [], "volumes": volumes},
            }
        )
    env.apply(database.restore(f"{name}-r"))
    status = env.wait_for("restore", f"{name}-r", phase_is("Error"), timeout=20)["status"]
    assert status["reason"] == "CannotStopWorkload"
    assert ("whenScaled" if policy else "lonely") in status["message"]
    assert env.digest(name, SIZE) == database.written


def test_f30_the_same_manifest_does_nothing_the_second_time(database: Database) -> None:
    """Whether the claim remembers it or, as after a claim was made anew, the store alone."""
    env, name = database.env, database.name
    database.restored("again")
    env.cluster.until(
        lambda: (env.get("restore", "again") or {})["status"].get("recorded"), "the store knows", 20
    )
    env.write(name, [SECOND])
    for forget in (False, True):
        env.delete("restore", "again")
        env.wait_for("restore", "again", gone, timeout=20)
        if forget:
            annotations = {"blockvault.dev/restored-by": None}
            env.apply({**database.claim, "metadata": {"name": name, "annotations": annotations}})
        assert database.restored("again")["phase"] == "Skipped"
        assert env.digest(name, SIZE) == database.written
    assert database.restored("another-name")["phase"] == "Restored"


def test_d1_an_original_that_is_gone_is_made_again(database: Database) -> None:
    """D1, D3: with its labels, annotations and size, from what the store alone knows."""
    env, name = database.env, database.name
    env.delete("statefulset", name)
    env.cluster.until(lambda: env.get("pod", f"{name}-0") is None, "its pod is gone")
    env.delete("pvc", name)
    env.wait_for("pvc", name, gone, timeout=20)
    status = database.restored("gone")
    assert status["phase"] == "Completed"
    made = env.get("pvc", name) or {}
    assert made["metadata"]["labels"] == {"app": name}
    assert made["metadata"]["annotations"]["team"] == "shop"
    assert made["spec"]["volumeMode"] == "Block"
    assert env.digest(name, SIZE) == database.backed_up


def test_d6_a_claim_that_has_grown_keeps_its_size(database: Database) -> None:
    """The new end is zero."""
    env, name = database.env, database.name
    env.apply(
        {
            **database.claim,
            "metadata": {"name": name},
            "spec": {"resources": {"requests": {"storage": "32Mi"}}},
        }
    )
    env.wait_for("pvc", name, lambda c: c["status"]["capacity"]["storage"] == "32Mi", timeout=20)
    database.restored("grown")
    assert env.digest(name, SIZE) == database.backed_up
    assert (env.get("pvc", name) or {})["status"]["capacity"]["storage"] == "32Mi"


def test_f4_a_workload_that_somebody_scales_back_is_told_and_waited_for(database: Database) -> None:
    """Never a claim exchanged under a running workload; cancelled, it has its own data and runs."""
    env, name, cluster = database.env, database.name, database.env.cluster

    def scale_back() -> None:
        if database.replicas == 0:
            env.apply(
                {
                    "apiVersion": "apps/v1",
                    "kind": "StatefulSet",
                    "metadata": {"name": name},
                    "spec": {"replicas": 1},
                }
            )

    env.apply(database.restore("fight"))

    def told() -> bool:
        scale_back()
        return ((env.get("restore", "fight") or {}).get("status") or {}).get("reason") == "WorkloadScaledBack"

    cluster.until(told, "it is told", 40)
    assert database.volume["spec"]["csi"]["volumeHandle"] == database.storage
    env.apply(database.restore("fight", cancel=True))
    env.wait_for("restore", "fight", phase_is("Error"), timeout=30)
    assert env.digest(name, SIZE) == database.written
    database.is_whole()
    assert parked(env, "fight") == []


def test_a_class_that_retains_leaves_no_second_owner_and_no_clones(running: EmbeddedCluster) -> None:
    """What is made on the way goes also there; the claim's volume is kept, and is the only object on its storage."""
    env = EmbeddedEnvironment(running, "keeps")
    env.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "keeps"},
            "provisioner": DRIVER,
            "reclaimPolicy": "Retain",
            "volumeBindingMode": "Immediate",
        }
    )
    database = Database(env, "kept")
    database.restored("kept-back")
    env.apply(manifests.restore("kept-new", "kept-1", "kept-copy", "keeps", "16Mi"))
    env.wait_for("restore", "kept-new", phase_is("Completed"), timeout=60)
    volumes = [v for v in env.list("pv") if v["spec"].get("storageClassName") == "keeps"]
    handles = [v["spec"]["csi"]["volumeHandle"] for v in volumes]
    assert len(handles) == len(set(handles)), "two objects stand for one storage"
    assert len(handles) == 3, "the claim's, its former one, and the copy's"
    env.apply(database.restore("kept-back", confirm=True))
    status = env.wait_for("restore", "kept-back", phase_is("Completed"), timeout=20)["status"]
    assert f"{database.storage}" in handles
    assert "Retain" in status["message"]
    assert database.volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
