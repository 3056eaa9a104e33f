"""The operator is killed at each of its writes, between effect and answer, and goes on where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.scenario import manifests
from tests.scenario.environment import Write, gone, phase_is
from tests.scenario.incremental import MIB, check_nothing_is_left

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

SIZE = 16 * MIB
WRITES = ("create", "update", "patch", "delete")
# A crash at every write, many times over, would be the same crash; these many restarts show that it ends.
LIMIT = 60


class Executioner:
    """Kills the operator when a write has taken effect, each kind of write as often as it is told."""

    def __init__(self, cluster: EmbeddedCluster, times: int) -> None:
        self._cluster, self._times = cluster, times
        self.struck: dict[tuple[str, str], int] = {}
        cluster.faults.on_request = self.see

    def see(self, verb: str, resource: str) -> None:
        """Called by the API between effect and answer."""
        seen = self.struck.get((verb, resource), 0)
        if verb in WRITES and resource != "events" and seen < self._times and self._cluster.operator_runs:
            self.struck[verb, resource] = seen + 1
            self._cluster.strike_operator()

    def run_until(self, kind: str, name: str, *phases: str) -> None:
        """Start the operator again after each blow, until the object has one of these phases."""
        self._run(kind, name, phase_is(*phases))

    def run_until_gone(self, kind: str, name: str) -> None:
        """Start the operator again after each blow, until there is no such object."""
        self._run(kind, name, gone)

    def _run(self, kind: str, name: str, reached: Callable[[dict[str, Any] | None], bool]) -> None:
        end = time.monotonic() + 120
        for _ in range(LIMIT):
            if not self._cluster.operator_runs:
                self._cluster.kill_operator()
                self._start()
            while self._cluster.operator_runs:
                if reached(self._cluster.get(kind, name)):
                    return
                assert time.monotonic() < end, self._cluster.story()
                time.sleep(0.02)
        raise AssertionError(f"{LIMIT} restarts were not enough: {self.struck}")

    def _start(self) -> None:
        try:
            self._cluster.start_operator()
        except RuntimeError as error:
            if "has ended with -9" not in str(error):  # struck before it was ready
                raise


# An operator is started anew after each of many writes.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def environment() -> Iterator[EmbeddedEnvironment]:
    """A claim with data, and a vault; the operator is not running."""
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        env.apply(*manifests.vault_class("v", env.storage, "v"), manifests.vault("v", "v"))
        env.make_claim("data", SIZE)
        env.write("data", [Write(MIB, 2 * MIB, seed=1)])
        yield env


def test_killed_at_every_write(environment: EmbeddedEnvironment) -> None:
    """Backup, Restore and deletion of a Backup, with a crash after each kind of write."""
    env, cluster = environment, environment.cluster
    executioner = Executioner(cluster, times=2)
    env.apply(manifests.backup("one", "v", "data"))
    executioner.run_until("backup", "one", "Available")
    env.write("data", [Write(4 * MIB, MIB, seed=2)])
    env.apply(manifests.backup("two", "v", "data"))
    executioner.run_until("backup", "two", "Available")
    env.apply(manifests.restore("back", "two", "copy", env.storage_class, "16Mi"))
    executioner.run_until("restore", "back", "Completed")
    assert {("create", "jobs"), ("patch", "backups/status"), ("delete", "secrets")} <= set(executioner.struck)

    cluster.faults.on_request = None
    image = bytearray(SIZE)
    for write in (Write(MIB, 2 * MIB, seed=1), Write(4 * MIB, MIB, seed=2)):
        image[write.offset : write.offset + write.length] = write.data
    assert env.digest("copy", SIZE) == hashlib.sha256(image).hexdigest()
    check_nothing_is_left(env, newest="two")
    assert len(cluster.files.handles("snapshots")) == 1
    assert len(cluster.files.handles("volumes")) == 2
    assert len(cluster.list("jobs")) == 3  # one mover for each, however often the operator died


@pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.soak)])
def test_f4_killed_at_every_write_in_place(environment: EmbeddedEnvironment, times: int) -> None:
    """D1, F4: restored in place, rolled back, restored and confirmed, with a crash after each kind of write."""
    env, cluster = environment, environment.cluster
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = {"replicas": 1, "template": {"spec": {"containers": [], "volumes": volumes}}}
    env.delete("pod", "data-user")
    env.apply({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec})
    executioner = Executioner(cluster, times)
    env.apply(manifests.backup("one", "v", "data"))
    executioner.run_until("backup", "one", "Available")
    saved = env.digest("data", SIZE)
    env.write("data", [Write(4 * MIB, MIB, seed=2)])
    later, claim = env.digest("data", SIZE), env.get("pvc", "data") or {}

    def in_place(name: str, **more: object) -> dict[str, object]:
        body = {"backupRef": {"name": "one"}, "target": {"original": {"stopWorkload": True}}, **more}
        return {"apiVersion": manifests.API, "kind": "Restore", "metadata": {"name": name}, "spec": body}

    executioner.struck.clear()
    env.apply(in_place("back"))
    executioner.run_until("restore", "back", "Restored")
    assert env.digest("data", SIZE) == saved
    env.apply(in_place("back", rollback=True))
    executioner.run_until("restore", "back", "RolledBack")
    assert env.digest("data", SIZE) == later
    executioner.struck.clear()
    env.apply(in_place("again"))
    executioner.run_until("restore", "again", "Restored")
    env.apply(in_place("again", confirm=True))
    executioner.run_until("restore", "again", "Completed")
    assert {("patch", "statefulsets/scale"), ("delete", "persistentvolumes")} <= set(executioner.struck)

    cluster.faults.on_request = None
    assert env.digest("data", SIZE) == saved
    assert (env.get("pvc", "data") or {})["metadata"]["uid"] == claim["metadata"]["uid"]
    cluster.until(lambda: len(cluster.files.handles("volumes")) == 1, "one volume is left", 30)
    assert len(env.list("pv")) == 1
    assert (env.get("statefulset", "db") or {})["spec"]["replicas"] == 1
