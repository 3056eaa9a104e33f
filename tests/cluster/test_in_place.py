"""Restores in place on the real cluster: a StatefulSet's claim gets its former files, and goes back (D1, F4)."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object, claim, pod
from tests.cluster.lab import Cluster
from tests.cluster.lab.namespace import wait_until
from tests.cluster.test_contract import ClusterEnvironment
from tests.cluster.test_filesystems import CHANGE, LIST, WRITE, back_up, python
from tests.scenario import manifests
from tests.scenario.environment import phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def stateful_set(name: str, claim_name: str) -> Object:
    """One pod on a claim, as a database has it."""
    body = pod("x", files={claim_name: "/data"})["spec"]
    body["restartPolicy"] = "Always"
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": body},
        },
    }


def in_place(name: str, **spec: object) -> Object:
    """A Restore of the backup `first` to its origin."""
    body = {"backupRef": {"name": "first"}, "target": {"original": {"stopWorkload": True}}, **spec}
    return {"apiVersion": manifests.API, "kind": "Restore", "metadata": {"name": name}, "spec": body}


def running(kube: Kube) -> None:
    """Wait until the StatefulSet's pod runs."""
    kube.wait("pod", "db-0", phase_is("Running"), 120)


@pytest.mark.parametrize(("file_system", "storage_class"), [("ext4", "bv-wait"), ("xfs", "bv-immediate-xfs")])
def test_d1_f4_a_database_goes_back_and_forth(
    cluster: Cluster, namespace: Kube, installed_operator: Operator, file_system: str, storage_class: str
) -> None:
    """D1, D7, F4, F30: restored, rolled back, restored again while the operator is killed, confirmed: nothing left."""
    kube, name = namespace, f"ip-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, storage_class)
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    kube.apply(
        claim("data", size="400Mi", storage_class=storage_class, mode="Filesystem"),
        stateful_set("db", "data"),
    )
    running(kube)
    python(kube, "db-0", WRITE)
    saved = python(kube, "db-0", LIST)
    back_up(kube, "first", name)
    python(kube, "db-0", CHANGE)
    later = python(kube, "db-0", LIST)
    before = kube.get("pvc", "data") or {}
    others = {v["metadata"]["name"] for v in cluster_volumes(kube)}

    kube.apply(in_place("one"))
    status = kube.wait("restore", "one", phase_is("Restored"), 180)["status"]
    assert status["source"] == "Snapshot"
    running(kube)
    assert python(kube, "db-0", LIST) == saved
    after = kube.get("pvc", "data") or {}
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["volumeName"] == before["spec"]["volumeName"]

    kube.apply(in_place("one", rollback=True))
    kube.wait("restore", "one", phase_is("RolledBack"), 120)
    running(kube)
    assert python(kube, "db-0", LIST) == later

    seen: set[str] = set()
    kube.apply(in_place("two"))
    while True:
        status = (kube.get("restore", "two") or {}).get("status") or {}
        assert status.get("phase") != "Error", status
        if status.get("phase") == "Restored":
            break
        if (
            status.get("reason") in ("StoppingWorkload", "Exchanging", "HandingOver")
            and status["reason"] not in seen
        ):
            seen.add(status["reason"])
            installed_operator.kill()
    running(kube)
    assert python(kube, "db-0", LIST) == saved
    kube.apply(in_place("two", confirm=True))
    kube.wait("restore", "two", phase_is("Completed"), 60)
    wait_until(
        "nothing is left", lambda: {v["metadata"]["name"] for v in cluster_volumes(kube)} == others, 120
    )

    kube.delete("restore", "two")
    kube.apply(in_place("two"))
    assert kube.wait("restore", "two", phase_is("Skipped"), 30)["status"]["reason"] == "AlreadyRestored"
    pods = kube.within(OPERATOR_NAMESPACE).all("pvc", "")
    assert [p["metadata"]["name"] for p in pods if name in str(p["metadata"].get("annotations"))] == []


def test_d1_an_original_that_is_gone(cluster: Cluster, namespace: Kube, installed_operator: Operator) -> None:
    """D1: deleted with its workload by mistake; made again under its name, with its files and labels."""
    kube, name = namespace, f"go-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-wait")
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    wanted = claim("data", size="64Mi", storage_class="bv-wait", mode="Filesystem")
    wanted["metadata"]["labels"] = {"tier": "gold"}
    kube.apply(wanted, stateful_set("db", "data"))
    running(kube)
    python(kube, "db-0", WRITE)
    saved = python(kube, "db-0", LIST)
    back_up(kube, "first", name)
    kube.delete("statefulset", "db")
    kube.delete("pvc", "data", seconds=90)
    kube.apply(in_place("back"))
    kube.wait("restore", "back", phase_is("Completed"), 180)
    assert (kube.get("pvc", "data") or {})["metadata"]["labels"] == {"tier": "gold"}
    kube.apply(stateful_set("db", "data"))
    running(kube)
    assert python(kube, "db-0", LIST) == saved


def cluster_volumes(kube: Kube) -> list[Object]:
    """PersistentVolumes of this namespace, and those that are kept for it."""
    return [
        v for v in kube.all("pv", "") if kube.namespace in str(v["spec"]["claimRef"]) + str(v["metadata"])
    ]
