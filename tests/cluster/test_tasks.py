"""Tasks in the real API: written, found by fields and labels, closed to people, told on the claim (E1, E4)."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write, gone, phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

MIB = 1 << 20
SIZE = 64 * MIB


def names(kube: Kube, *selectors: str) -> list[str]:
    return kube.kubectl("get", "tasks.blockvault.dev", *selectors, "-o", "name").split()


def test_e1_what_was_done_is_found_in_the_real_api(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    kube, name = namespace, f"tasks-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.make_claim("data", SIZE)
    environment.write("data", [Write(MIB, MIB, seed=1)])
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault("v", name))
    environment.apply(manifests.backup("one", "v", "data"))
    environment.wait_for("backup", "one", phase_is("Available"), timeout=180)
    environment.apply(manifests.restore("wrong", "one", "data", "bv-immediate", "64Mi"))
    environment.wait_for("restore", "wrong", phase_is("Error"), timeout=60)
    # The next operator finds all as it was, and writes nothing twice.
    installed_operator.kill()
    environment.delete("backup", "one")
    environment.wait_for("backup", "one", gone, timeout=120)
    (deleted,) = _until(kube, "--field-selector=spec.type=DeleteBackup,status.phase=Succeeded")
    (backup,) = _until(kube, "--field-selector=spec.type=Backup,status.phase=Succeeded")
    (failed,) = _until(kube, "-l", "blockvault.dev/task-phase in (Failed, Cancelled)")
    assert len({deleted, backup, failed}) == len(names(kube)) == 3
    assert names(kube, "-l", "blockvault.dev/resource=data,blockvault.dev/task-type=Restore") == [failed]
    found = json.loads(kube.kubectl("get", failed, "-o", "json"))
    assert found["spec"]["vaultRef"] == {"name": "v"}
    assert (found["status"]["reason"], found["status"]["remedy"]) == ("ClaimExists", "Name another claim.")
    table = kube.kubectl("get", "tasks.blockvault.dev").splitlines()
    assert table[0].split() == ["NAME", "TYPE", "RESOURCE", "VAULT", "PHASE", "PROGRESS%", "REASON", "AGE"]
    assert max(len(line) for line in table) < 132, "it fits a line"
    described = kube.kubectl("describe", "pvc", "data")
    assert all(word in described for word in ("BackupStarted", "BackupSucceeded", "RestoreFailed")), described

    # Who may edit a namespace throws Tasks away, and writes none.
    kube.kubectl("create", "rolebinding", "editors", "--clusterrole=edit", "--group=editors")
    asked = ("auth", "can-i", "--as=somebody", "--as-group=editors")
    may = {
        verb: kube.kubectl(*asked, verb, "tasks.blockvault.dev", check=False)
        for verb in ("get", "delete", "create", "patch", "update")
    }
    assert {verb for verb, answer in may.items() if answer.strip() == "yes"} == {"get", "delete"}
    kube.kubectl("delete", "tasks.blockvault.dev", "--all")
    assert names(kube) == []


def _until(kube: Kube, *selectors: str) -> list[str]:
    """What is found once something is."""
    kube.wait("namespace", kube.namespace, lambda _: names(kube, *selectors), 60)
    return names(kube, *selectors)
