"""`kubectl blockvault`, run by kubectl from the PATH, against a real API server and by people with roles (E1, E4)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blockvault.exitcodes import FAILED, NOT_FOUND, OK, REFUSED
from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

MIB = 1 << 20
SIZE = 64 * MIB


class Person:
    """Somebody with kubectl and the plugin on the PATH."""

    def __init__(self, cluster: Cluster, namespace: str, *flags: str) -> None:
        self._cluster, self._namespace, self._flags = cluster, namespace, flags

    def run(self, *arguments: str, check: int = OK) -> str:
        """What `kubectl blockvault …` prints; its exit code must be that one."""
        env = self._cluster.environment()
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
        done = subprocess.run(
            ["kubectl", "blockvault", *arguments, "-n", self._namespace, *self._flags],
            env=env, text=True, capture_output=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == check, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def data(self, *arguments: str) -> Any:
        """The same as JSON."""
        return json.loads(self.run(*arguments, "-o", "json"))


def test_e1_a_day_with_the_plugin(cluster: Cluster, namespace: Kube, installed_operator: Operator) -> None:
    kube, name = namespace, f"plugin-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.make_claim("data", SIZE)
    environment.write("data", [Write(MIB, MIB, seed=1)])
    vault = manifests.vault("v", name)
    vault["spec"]["resources"] = [{"kind": "PersistentVolumeClaim", "name": "data"}]
    environment.apply(*manifests.vault_class(name, environment.storage, name), vault)
    environment.wait_for("vault", "v", phase_is("Available"), timeout=60)
    admin = Person(cluster, kube.namespace)

    said = admin.run("backup", "data", "--name", "one", "--wait")
    assert "backup.blockvault.dev/one created" in said
    assert "Backup one: Available" in said
    assert "1 vault, 1 backup of 1 claim" in admin.run("status")
    assert [b["metadata"]["name"] for b in admin.data("list", "--claim", "da*")["items"]] == ["one"]
    said = admin.run("restore", "--latest", "data", "--to", "copy", "--yes", "--wait")
    assert environment.digest("copy", SIZE) == environment.digest("data", SIZE)
    assert {t["spec"]["type"] for t in admin.data("tasks")["items"]} == {"Backup", "Restore"}
    assert {c["claim"]: c["state"] for c in admin.data("coverage")["claims"]} == {
        "copy": "Unprotected", "data": "Unprotected",  # no policy will back it up again
    }  # fmt: skip
    found = {c["check"]: c["level"] for c in admin.data("doctor")["checks"]}
    assert found["permissions"] == found["operator"] == found["vault v"] == found["clock"] == "ok"
    assert found["storage bv-immediate"] == "ok"
    assert '"ok":true' in admin.run("logs", "one")
    admin.run("describe", "nix", check=NOT_FOUND)

    # Who may view looks, and is told what is forbidden and by whom it can be changed.
    kube.kubectl("create", "rolebinding", "viewers", "--clusterrole=view", "--group=viewers")
    viewer = Person(cluster, kube.namespace, "--as=somebody", "--as-group=viewers")
    assert "nothing at work" in viewer.run("status")
    assert "Ask whoever administers the cluster" in viewer.run("backup", "data", check=REFUSED)
    rights = next(c for c in viewer.data("doctor")["checks"] if c["check"] == "permissions")
    assert rights["detail"] == "you may look; not back up, restore, change vaults"
    viewer.run("status", "-A", check=REFUSED)
    stranger = Person(cluster, kube.namespace, "--as=stranger")
    assert "backups.blockvault.dev is forbidden" in stranger.run("list", check=REFUSED)

    # What the API server refuses comes with its words, and what fails with the operator's.
    said = admin.run("backup", "data", "--name", "Wrong_Name", check=64)
    assert "Wrong_Name" in said
    said = admin.run("restore", "one", "--to", "small", "--size", "1Mi", "--yes", "--wait", check=FAILED)
    assert "ended in Error" in said


def test_kubectl_completes_the_plugin(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """kubectl asks the completer, as the shells' scripts ask kubectl."""
    env = cluster.environment()
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    assert shutil.which("kubectl_complete-blockvault", path=env["PATH"])
    done = subprocess.run(
        ["kubectl", "__complete", "blockvault", "cov"], env=env, text=True, capture_output=True, timeout=60
    )
    assert done.stdout.splitlines()[0] == "coverage\tWhich claims are protected, excluded, or neither."
