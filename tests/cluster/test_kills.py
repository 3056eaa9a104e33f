"""The operator and movers die at random moments, the store goes away: each run ends well, or in Error and clean.

Four runs on one claim: full backup, incremental backup, restore, incremental backup while S3 is away. The
moments come from a seed that a failure prints; what was killed is counted and the counts are asserted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object
from tests.cluster.lab import Cluster, LabError
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import check_nothing_is_left

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MIB = 1 << 20
SIZE = 1024 * MIB
OPERATOR_KILLS, MOVER_KILLS = 20, 5
SEED = 20261123


@dataclass
class Killer:
    """Kills what it is told to at moments of a seed, as long as an object has not ended."""

    operator: Operator
    kube: Kube
    random: random.Random
    operators: int = 0
    movers: int = 0
    errors: list[str] = field(default_factory=list)

    def until_ended(self, kind: str, name: str, operators: int, movers: int, seconds: float = 300) -> Object:
        """Watch an object to its end, and kill so many operators and movers meanwhile."""
        end = time.monotonic() + seconds
        while True:
            found = self.kube.get(kind, name)
            phase = ((found or {}).get("status") or {}).get("phase")
            if phase in ("Available", "Completed", "Error"):
                assert found is not None
                return found
            assert time.monotonic() < end, f"{kind} {name} has not ended: {found}\n{self.operator.report()}"
            if operators:
                operators -= self._kill_operator()
            if movers and phase in ("Creating", "Restoring"):
                movers -= self._kill_mover()
            time.sleep(self.random.uniform(0.0, 1.5))

    def _kill_operator(self) -> int:
        for pod in self.operator.pods():
            if _running(pod):
                name = pod["metadata"]["name"]
                with suppress(LabError):  # it ended by itself in this very moment
                    if self.random.random() < 0.5:
                        self.operator.kube.kill_container(name)
                    else:
                        self.operator.kube.kubectl("delete", "pod", name, "--grace-period=0", "--force")
                    self.operators += 1
                    return 1
        return 0  # it is still coming back

    def _kill_mover(self) -> int:
        system = self.kube.within(OPERATOR_NAMESPACE)
        for pod in system.all("pods", "blockvault.dev/operation"):
            if _running(pod):
                with suppress(LabError):  # it ended by itself in this very moment
                    system.kill_container(pod["metadata"]["name"], "mover")
                    self.movers += 1
                    return 1
        return 0


def _running(pod: Object) -> bool:
    states = pod["status"].get("containerStatuses", [])
    return "deletionTimestamp" not in pod["metadata"] and any("running" in s["state"] for s in states)


def test_runs_survive_kills_and_an_outage(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """An operator killed at any moment goes on where it was; a mover that dies is replaced."""
    kube, name = namespace, f"kill-{namespace.namespace[-4:]}"
    killer = Killer(installed_operator, kube, random.Random(SEED))
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    environment.make_claim("data", SIZE)
    environment.write("data", [Write(i * 8 * MIB, 4 * MIB, seed=i) for i in range(SIZE // (8 * MIB))])
    environment.wait_for("vault", name, phase_is("Available"), timeout=120)
    outcomes: dict[str, str] = {}

    def run(
        kind: str, manifest: Object, operators: int, movers: int, then: Callable[[], None] | None = None
    ) -> None:
        label = manifest["metadata"]["name"]
        kube.apply(manifest)
        if then is not None:
            then()
        ended = killer.until_ended(kind, label, operators, movers)
        outcomes[label] = ended["status"]["phase"]
        # Longer than the startup probe's limit: an operator that hangs must be replaced by itself.
        installed_operator.wait_available(180)
        if ended["status"]["phase"] == "Error":
            print(f"seed {SEED}: {label}: {ended['status']['reason']}: {ended['status']['message']}")

    run("backup", manifests.backup("one", name, "data"), 6, 2)
    environment.write("data", [Write(i * 80 * MIB, 256 << 10, seed=1000 + i) for i in range(10)])
    run("backup", manifests.backup("two", name, "data"), 6, 1)
    newest = "two" if outcomes["two"] == "Available" else "one"
    assert outcomes[newest] == "Available", f"no backup survived: {outcomes}"
    run("restore", manifests.restore("back", newest, "copy", "bv-immediate", "1Gi"), 6, 2)
    if outcomes["back"] == "Completed" and newest == "two":
        assert environment.digest("copy", SIZE) == environment.digest("data", SIZE)

    def outage() -> None:
        environment.wait_for("backup", "three", phase_is("Creating"), timeout=60)
        cluster.s3.stop(hang=False)
        time.sleep(20)
        cluster.s3.resume()

    environment.write("data", [Write(i * 40 * MIB, 256 << 10, seed=2000 + i) for i in range(20)])
    run(
        "backup",
        manifests.backup("three", name, "data"),
        OPERATOR_KILLS - killer.operators,
        MOVER_KILLS - killer.movers,
        outage,
    )
    if outcomes["three"] == "Available":
        kube.apply(manifests.restore("last", "three", "last", "bv-immediate", "1Gi"))
        environment.wait_for("restore", "last", phase_is("Completed"), timeout=240)
        assert environment.digest("last", SIZE) == environment.digest("data", SIZE)
        check_nothing_is_left(environment, newest="three")
    assert (killer.operators, killer.movers) >= (OPERATOR_KILLS, MOVER_KILLS), (
        f"too few were killed: {killer}"
    )
    print(f"seed {SEED}: {outcomes}, {killer.operators} operators and {killer.movers} movers killed")
