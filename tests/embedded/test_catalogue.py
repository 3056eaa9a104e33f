"""The bucket is the truth: a cluster that is lost, or another one, finds the backups there again (A13, F5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from blockvault.engine import Access
from tests.scenario import manifests
from tests.scenario.environment import Write, gone, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment
from .kinds import NAMESPACES
from .store import Store

SIZE = 8 * MIB


@pytest.fixture
def env() -> Iterator[EmbeddedEnvironment]:
    with EmbeddedCluster(namespace="shop") as cluster:
        environment = EmbeddedEnvironment(cluster)
        environment.make_claim("db", SIZE)
        cluster.start_operator()
        yield environment


def own_vault(env: EmbeddedEnvironment) -> list[dict[str, Any]]:
    """A Vault with storage of its own: exactly that place, whoever comes."""
    secret, vault_class = manifests.vault_class("v", env.storage, "shared/place")
    secret["metadata"]["namespace"] = "shop"
    body = manifests.vault("v", "v")
    del body["spec"]["className"]
    body["spec"]["storage"] = {"s3": vault_class["spec"]["storage"]["s3"]}
    return [secret, body]


def cluster_uid(env: EmbeddedEnvironment) -> str:
    return str((env.get("namespace", "kube-system") or {})["metadata"]["uid"])


def lose_the_cluster(env: EmbeddedEnvironment) -> None:
    """All of Blockvault's objects are gone without a word to anybody, and the cluster is another one."""
    env.cluster.kill_operator()

    def lose(store: Store) -> None:
        for name in ("backups", "restores", "vaults"):
            kind = store.kind_named(name)
            for obj in list(store.list(kind)):
                meta = obj["metadata"]

                def free(current: dict[str, Any]) -> None:
                    current["metadata"].pop("finalizers", None)

                store.update(kind, meta["namespace"], meta["name"], free)
                store.delete(kind, meta["namespace"], meta["name"])
        store.delete(NAMESPACES, None, "kube-system")

    env.cluster.within(lose)
    env.cluster.until(lambda: env.get("namespace", "kube-system") is None, "the namespace goes")
    env.cluster.within(lambda store: store.create(NAMESPACES, {"metadata": {"name": "kube-system"}}))


def in_store(env: EmbeddedEnvironment) -> list[dict[str, Any]]:
    place = env.storage.at(f"s3://{env.storage.bucket}/shared/place")
    return [b for b in Access(place).open().list("shop/db") if "trash" not in b["labels"]]


def test_f5_a_cluster_that_is_lost_is_found_again_in_the_bucket(env: EmbeddedEnvironment) -> None:
    env.apply(*own_vault(env))
    for number in (1, 2, 3):
        env.write("db", [Write(0, MIB, seed=number)])
        env.apply(manifests.backup(f"b{number}", "v", "db"))
        env.wait_for("backup", f"b{number}", phase_is("Available"), timeout=60)
    digest, before = env.digest("db", SIZE), (env.get("backup", "b3") or {})["status"]["volumes"][0]
    env.delete("backup", "b1")
    env.wait_for("backup", "b1", gone, timeout=30)
    former = cluster_uid(env)
    lose_the_cluster(env)
    env.write("db", [Write(0, MIB, seed=99)])

    env.cluster.start_operator()
    env.apply(*own_vault(env))
    found = env.wait_for("backup", "b3", phase_is("Available"), timeout=60)
    env.wait_for("backup", "b2", phase_is("Available"), timeout=60)
    assert (found["status"]["reason"], found["status"]["cluster"]) == ("Imported", former)
    after = found["status"]["volumes"][0]
    assert {k: after[k] for k in ("claim", "backupId", "size", "volumeMode")} == {
        k: before[k] for k in ("claim", "backupId", "size", "volumeMode")
    }
    assert env.get("backup", "b1") is None, "what is in the trash does not come back"
    env.apply(manifests.restore("r", "b3", "copy", env.storage_class, "8Mi"))
    env.wait_for("restore", "r", phase_is("Completed"), timeout=60)
    assert env.digest("copy", SIZE) == digest

    # It belongs to the former cluster: deleting takes the object only, and nothing is added to it.
    env.delete("backup", "b2")
    env.wait_for("backup", "b2", gone, timeout=30)
    assert len(in_store(env)) == 2
    env.apply(manifests.backup("b4", "v", "db"))
    refused = env.wait_for("backup", "b4", phase_is("Error"), timeout=60)
    assert refused["status"]["reason"] == "OwnedElsewhere"

    # Taken over, it is this one's own, and goes on.
    vault = own_vault(env)[1]
    vault["metadata"]["annotations"] = {"blockvault.dev/take-over": former}
    env.apply(vault)
    env.cluster.until(
        lambda: (env.get("vault", "v") or {})["status"].get("tookOver") == former, "taken over", 60
    )
    env.wait_for("backup", "b2", phase_is("Available"), timeout=60)
    assert "cluster" not in (env.get("backup", "b3") or {})["status"]
    env.apply(manifests.backup("b5", "v", "db"))
    assert env.wait_for("backup", "b5", phase_is("Available"), timeout=60)["status"]["type"] == "Incremental"
    env.delete("backup", "b2")
    env.wait_for("backup", "b2", gone, timeout=30)
    assert len(in_store(env)) == 2
