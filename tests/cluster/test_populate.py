"""Claims that name where their data comes from, on the real cluster: its provisioner, binder and scheduler (D3, F19)."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube, Object, claim, pod
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.cluster.test_filesystems import LIST, WRITE, back_up, python
from tests.scenario import manifests
from tests.scenario.environment import phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def from_restore(name: str, restore: str, storage_class: str) -> Object:
    """A Filesystem claim filled by a Restore."""
    made = claim(name, size="64Mi", storage_class=storage_class, mode="Filesystem")
    made["spec"]["dataSourceRef"] = {"apiGroup": "blockvault.dev", "kind": "Restore", "name": restore}
    return made


def latest(name: str, of: str, vault: str) -> Object:
    """The latest backup of a claim, or nothing where there never was one."""
    of_claim = {"vaultRef": {"name": vault}, "resource": {"kind": "PersistentVolumeClaim", "name": of}}
    spec = {"latestOf": of_claim, "ifNone": "Empty", "target": {"populate": {}}}
    return {"apiVersion": manifests.API, "kind": "Restore", "metadata": {"name": name}, "spec": spec}


def test_d3_f19_the_first_deployment_and_the_disaster(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """D3, F19: the same claim, Restore and pod: empty at first; deleted and applied again, with its files."""
    kube, name = namespace, f"po-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-wait")
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    kube.wait("vault", name, phase_is("Available"), 60)
    stack = (
        latest("db", "data", name),
        from_restore("data", "db", "bv-wait"),
        pod("app", files={"data": "/data"}),
    )
    kube.apply(*stack)
    kube.wait("pod", "app", phase_is("Running"), 180)
    assert python(kube, "app", "import os; print(os.listdir('/data'))").strip() == "['lost+found']"
    python(kube, "app", WRITE)
    saved = python(kube, "app", LIST)
    back_up(kube, "first", name)

    kube.delete("pod", "app", seconds=90)
    kube.delete("pvc", "data", seconds=90)
    kube.apply(*stack)
    kube.wait("pod", "app", phase_is("Running"), 180)
    assert python(kube, "app", LIST) == saved
    kube.apply(from_restore("second", "db", "bv-immediate"), pod("reader", files={"second": "/data"}))
    kube.wait("pod", "reader", phase_is("Running"), 180)
    assert python(kube, "reader", LIST) == saved
