"""A mover at work gets new credentials without being started anew (F14)."""

from __future__ import annotations

import os
import signal
import time

from tests.scenario import manifests
from tests.scenario.environment import OPERATOR_NAMESPACE, Write, gone, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment


def test_f14_a_changed_secret_reaches_a_mover_at_work() -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        env.make_claim("db", 8 * MIB)
        env.write("db", [Write(0, 4 * MIB, seed=1)])
        cluster.start_operator()
        vault = manifests.vault("v", "v")
        env.apply(*manifests.vault_class("v", env.storage, "v"), vault)
        env.wait_for("vault", "v", phase_is("Available"), timeout=30)
        env.apply(manifests.backup("b", "v", "db"))
        cluster.until(cluster.movers, "a mover runs", 60)
        (pid,) = cluster.movers().values()
        os.kill(pid, signal.SIGSTOP)
        data = {"AWS_ACCESS_KEY_ID": "rotated", "AWS_SECRET_ACCESS_KEY": "rotated too"}
        env.apply(manifests.secret("v-s3", OPERATOR_NAMESPACE, data))
        vault["spec"]["tags"] = {"looked": "at"}  # or within a minute
        env.apply(vault)
        cluster.until(lambda: keys(cluster) == {"rotated"}, "its files are the new ones", 60)
        os.kill(pid, signal.SIGCONT)
        status = env.wait_for("backup", "b", phase_is("Available"), timeout=60)["status"]
        assert status["mover"]["attempts"] == 1


def test_f14_it_reaches_restores_of_the_latest_and_the_mover_that_erases() -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        env.make_claim("db", 8 * MIB)
        env.write("db", [Write(0, 4 * MIB, seed=1)])
        cluster.start_operator()
        vault = manifests.vault("v", "v")
        vault["spec"]["deletionPolicy"] = "Delete"
        env.apply(*manifests.vault_class("v", env.storage, "v"), vault)
        env.wait_for("vault", "v", phase_is("Available"), timeout=30)
        env.apply(manifests.backup("b", "v", "db"))
        env.wait_for("backup", "b", phase_is("Available"), timeout=60)
        restore = manifests.restore("r", "b", "copy", env.storage_class, "8Mi")
        resource = {"kind": "PersistentVolumeClaim", "name": "db"}
        restore["spec"]["latestOf"] = {"vaultRef": {"name": "v"}, "resource": resource}
        del restore["spec"]["backupRef"]
        env.apply(restore)
        rotate_at_work(env, "first")
        env.wait_for("restore", "r", phase_is("Completed"), timeout=60)
        env.delete("restore", "r")
        env.wait_for("restore", "r", gone, timeout=60)
        env.delete("vault", "v")
        rotate_at_work(env, "second")
        env.wait_for("vault", "v", gone, timeout=60)


def rotate_at_work(env: EmbeddedEnvironment, key: str) -> None:
    """Exchange the credentials of the vault's class while the only mover is stopped, and see it get them."""
    cluster = env.cluster
    cluster.until(cluster.movers, "a mover runs", 60)
    (pid,) = cluster.movers().values()
    os.kill(pid, signal.SIGSTOP)
    data = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "rotated too"}
    env.apply(manifests.secret("v-s3", OPERATOR_NAMESPACE, data))
    vault = manifests.vault("v", "v")
    vault["spec"] = {"tags": {"looked": key}}  # or within a minute
    env.apply(vault)
    cluster.until(lambda: key in keys(cluster), f"the {key} ones reach it", 90)
    os.kill(pid, signal.SIGCONT)


def keys(cluster: EmbeddedCluster) -> set[str]:
    """What the running movers have as access key."""
    time.sleep(0.1)
    return {path.read_text() for path in (cluster.directory / "pods").glob("*/request/AWS_ACCESS_KEY_ID")}
