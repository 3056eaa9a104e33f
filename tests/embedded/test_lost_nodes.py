"""A mover's node is lost while the mover lives on (F2): another one does its work, and the first changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from blockvault.engine import Access
from tests.scenario import manifests
from tests.scenario.environment import OPERATOR_NAMESPACE, Object, Write, gone, phase_is
from tests.scenario.incremental import MIB, check_nothing_is_left

from .cluster import EmbeddedCluster
from .conftest import claim_of, with_data
from .environment import EmbeddedEnvironment

SIZE = 16 * MIB


@pytest.fixture
def env(running: EmbeddedCluster, request: pytest.FixtureRequest) -> Iterator[EmbeddedEnvironment]:
    """A claim with data; all nodes are back after the test."""
    yield with_data(running, request, SIZE)
    running.faults.on_mover = None
    running.node_is_back("node-1")


def lose_its_node(cluster: EmbeddedCluster) -> None:
    """Stop the mover that runs, and lose its node; the mover goes on when another one begins."""
    pid = stop_mover(cluster)

    def go_on(_: Object) -> None:
        cluster.faults.on_mover = None
        os.kill(pid, signal.SIGCONT)

    cluster.faults.on_mover = go_on
    cluster.lose_node("node-1")


def stop_mover(cluster: EmbeddedCluster) -> int:
    """Stop the mover that runs; its process id."""
    cluster.until(cluster.movers, "a mover runs")
    (pid,) = cluster.movers().values()
    os.kill(pid, signal.SIGSTOP)
    return pid


def stored(env: EmbeddedEnvironment, name: str) -> list[str]:
    """Operations that have made backups of a claim."""
    location = (env.get("vault", "v") or {})["status"]["location"]
    return [row["operationId"] for row in Access(env.storage.at(location)).open().list(f"shop/{name}")]


def test_f2_a_backup_is_made_once_whoever_of_two_movers_is_quicker(
    env: EmbeddedEnvironment, request: pytest.FixtureRequest
) -> None:
    name, cluster = claim_of(request), env.cluster
    env.apply(manifests.backup(f"{name}-1", "v", name))
    lose_its_node(cluster)
    found = env.wait_for("backup", f"{name}-1", phase_is("Available"), timeout=60)
    assert found["status"]["attempt"] == 2
    assert stored(env, name) == [found["metadata"]["uid"]]
    pods = [p for p in cluster.list("pods", OPERATOR_NAMESPACE) if "deletionTimestamp" in p["metadata"]]
    assert [p["spec"]["nodeName"] for p in pods] == ["node-1"]
    cluster.node_is_back("node-1")
    cluster.until(lambda: not _left(env), "what the node held is gone")
    check_nothing_is_left(env, newest=f"{name}-1")
    assert stored(env, name) == [found["metadata"]["uid"]]
    env.apply(manifests.restore(f"{name}-r", f"{name}-1", f"{name}-copy", env.storage_class, "16Mi"))
    env.wait_for("restore", f"{name}-r", phase_is("Completed"), timeout=60)
    assert env.digest(f"{name}-copy", SIZE) == env.digest(name, SIZE)


@pytest.mark.parametrize("in_place", [False, True], ids=["new", "in place"])
def test_f2_a_restore_fills_another_volume(
    env: EmbeddedEnvironment, request: pytest.FixtureRequest, in_place: bool
) -> None:
    name, cluster = claim_of(request), env.cluster
    env.apply(manifests.backup(f"{name}-1", "v", name))
    env.wait_for("backup", f"{name}-1", phase_is("Available"), timeout=60)
    saved, claim = env.digest(name, SIZE), f"{name}-copy"
    restore = manifests.restore(f"{name}-r", f"{name}-1", claim, "bv-wait", "16Mi")
    if in_place:
        env.delete("pod", f"{name}-user")
        env.write(name, [Write(2 * MIB, MIB, seed=2)])
        restore["spec"]["target"], claim = {"original": {}}, name
    env.apply(restore)
    lose_its_node(cluster)
    found = env.wait_for("restore", f"{name}-r", phase_is("Completed", "Restored"), timeout=60)
    assert found["status"]["attempt"] == 2
    assert env.digest(claim, SIZE) == saved
    cluster.node_is_back("node-1")
    cluster.until(lambda: not _left(env), "what the node held is gone")
    assert env.digest(claim, SIZE) == saved
    if in_place:
        env.apply({**restore, "spec": {**restore["spec"], "rollback": True}})
        env.wait_for("restore", f"{name}-r", phase_is("RolledBack"), timeout=60)
        assert env.digest(claim, SIZE) != saved


def test_f3_a_cancelled_backup_waits_for_no_dead_node_and_its_mover_commits_nothing(
    env: EmbeddedEnvironment, request: pytest.FixtureRequest
) -> None:
    name, cluster = claim_of(request), env.cluster
    env.apply(manifests.backup(f"{name}-1", "v", name))
    env.wait_for("backup", f"{name}-1", phase_is("Available"), timeout=60)
    env.write(name, [Write(2 * MIB, MIB, seed=2)])
    cancelled = manifests.backup(f"{name}-2", "v", name)
    env.apply(cancelled)
    pid = stop_mover(cluster)
    cluster.faults.hold_movers = True
    cluster.lose_node("node-1")
    env.apply({**cancelled, "spec": {**cancelled["spec"], "cancel": True}})
    status = env.wait_for("backup", f"{name}-2", phase_is("Error"), timeout=60)["status"]
    cluster.faults.hold_movers = False
    assert status["reason"] == "Cancelled"
    assert "node-1" in status["message"]
    os.kill(pid, signal.SIGCONT)
    cluster.until(lambda: not cluster.movers(), "the mover has ended")
    assert len(stored(env, name)) == 1, cluster.story()
    cluster.node_is_back("node-1")
    cluster.until(lambda: not _left(env), "what the node held is gone")
    env.delete("backup", f"{name}-2")
    env.wait_for("backup", f"{name}-2", gone, timeout=30)
    check_nothing_is_left(env, newest=f"{name}-1")


def _left(env: EmbeddedEnvironment) -> list[str]:
    """Pods and claims of movers."""
    found = [*env.cluster.list("pods", OPERATOR_NAMESPACE), *env.cluster.list("pvc", OPERATOR_NAMESPACE)]
    return [obj["metadata"]["name"] for obj in found]
