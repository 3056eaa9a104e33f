"""Many operations at once while the operator and movers are killed and the store answers nothing for a time.

Beside test_kills.py, where one long run at a time is killed: here backups, restores and deletions of several
claims go on together. The moments come from a seed that a failure prints.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.cluster.test_kills import Killer
from tests.scenario import manifests
from tests.scenario.environment import Write, gone
from tests.scenario.incremental import check_nothing_is_left

# In soak until whole runs beside the other files have shown it to be steady.
pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(600)]

MIB = 1 << 20
SIZE = 64 * MIB
CLAIMS = 4
SEED = 4711


class Chaos(Killer):
    """Kills by itself until told to stop: the operator mostly, a mover now and then."""

    def run(self, stop: threading.Event) -> None:
        """Kill at random moments until `stop` is set; what fails is kept for the test to see."""
        try:
            while not stop.wait(self.random.uniform(1.0, 5.0)):
                if self.random.random() < 0.7:
                    self._kill_operator()
                else:
                    self._kill_mover()
        except Exception as error:  # noqa: BLE001 - a thread's failure must fail the test, whatever it is
            self.errors.append(repr(error))


@contextmanager
def kills(chaos: Chaos) -> Iterator[None]:
    """Kills go on inside; the operator is there again at the end."""
    stop = threading.Event()
    thread = threading.Thread(target=chaos.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        # Longer than the startup probe's limit: an operator that hangs must be replaced by itself.
        chaos.operator.wait_available(180)
    assert not chaos.errors, chaos.errors


def test_many_operations_survive_kills_and_a_store_that_hangs(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """Each ends well or in Error with a reason; what was restored is right, and nothing temporary is left."""
    kube, name = namespace, f"many-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    claims = [f"data-{n}" for n in range(CLAIMS)]
    for number, claim in enumerate(claims):
        environment.make_claim(claim, SIZE)
        environment.write(claim, [Write(0, 16 * MIB, seed=number)])
    kube.wait_phase("vault", name, "Available", seconds=60)
    chaos = Chaos(installed_operator, kube, random.Random(SEED))
    said = f"seed {SEED}"

    with kills(chaos):
        kube.apply(*(manifests.backup(f"{claim}-1", name, claim) for claim in claims))
        ended(kube, "backup", [f"{claim}-1" for claim in claims], said)
        for number, claim in enumerate(claims):
            environment.write(claim, [Write(8 * MIB, MIB, seed=100 + number)])
        kube.apply(*(manifests.backup(f"{claim}-2", name, claim) for claim in claims))
        time.sleep(4)
        cluster.s3.stop(hang=True)
        time.sleep(20)
        cluster.s3.resume()
        second = ended(kube, "backup", [f"{claim}-2" for claim in claims], said)
        good = [claim for claim in claims if second[f"{claim}-2"] == "Available"]
        for claim in claims:
            environment.delete("backup", f"{claim}-1")
        kube.apply(
            *(manifests.restore(f"{c}-r", f"{c}-2", f"{c}-copy", "bv-immediate", "64Mi") for c in good)
        )
        restored = ended(kube, "restore", [f"{claim}-r" for claim in good], said)
        for claim in claims:
            environment.wait_for("backup", f"{claim}-1", gone, timeout=240)

    figures = f"{said}: {second}, {restored}, {chaos.operators} operators and {chaos.movers} movers killed"
    print(figures)
    assert good, figures
    for claim in good:
        if restored[f"{claim}-r"] == "Completed":
            assert environment.digest(f"{claim}-copy", SIZE) == environment.digest(claim, SIZE), figures
        else:
            assert kube.get("pvc", f"{claim}-copy") is None, figures
        check_nothing_is_left(environment, newest=f"{claim}-2")
    assert chaos.operators >= 5, figures


def ended(kube: Kube, kind: str, names: list[str], said: str) -> dict[str, str]:
    """Wait until all of them have ended; returns their phases. An Error has its reason and message."""
    phases = {}
    for name in names:
        status = kube.wait_phase(kind, name, "Available", "Completed", "Error", seconds=240)["status"]
        phases[name] = status["phase"]
        if status["phase"] == "Error":
            print(f"{said}: {name}: {status['reason']}: {status['message']}")
            assert status["reason"], status
            assert status["message"], status
    return phases
