"""A class fills in what its Vaults leave out, and a Vault that grows is Locked meanwhile (F14, A2)."""

from __future__ import annotations

from typing import Any

from tests.scenario import manifests
from tests.scenario.environment import phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment


def status(env: EmbeddedEnvironment) -> dict[str, Any]:
    return (env.get("vault", "v") or {}).get("status") or {}


def test_f14_a2_defaults_count_and_growing_locks() -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        env.make_claim("db", 4 * MIB)
        cluster.start_operator()
        *secrets, body = manifests.vault_class("v", env.storage, "v")
        body["spec"]["defaults"] = {
            "capacity": "10Gi",
            "policyRef": {"name": "nightly"},
            "deletionPolicy": "Delete",
        }
        vault = manifests.vault("v", "v")
        del vault["spec"]["capacity"]
        vault["spec"]["resources"] = [{"kind": "PersistentVolumeClaim", "name": "db"}]
        env.apply(*secrets, body, vault)
        env.wait_for("vault", "v", phase_is("Available"), timeout=30)
        cluster.until(lambda: status(env).get("resources"), "it looked at its resources", 30)
        found = status(env)
        assert (found["capacity"], found["deletionPolicy"]) == ("10Gi", "Delete")
        assert (found["policy"]["name"], found["policy"]["state"]) == ("nightly", "Waiting")
        assert found["resources"][0]["state"] == "Associated"

        # It grows by its own word, twice, and a class that offers less takes nothing away.
        for capacity in ("11Gi", "20Gi"):
            vault["spec"]["capacity"] = capacity
            env.apply(vault)
        cluster.until(lambda: status(env)["capacity"] == "20Gi", "it has grown", 60)
        env.wait_for("vault", "v", phase_is("Available"), timeout=30)
        seen = [(v or {}).get("status") or {} for v in cluster.history("vault", "v")]
        steps = [(s["phase"], s["capacity"]) for s in seen if s.get("capacity")]
        locked = [n for n, (phase, _) in enumerate(steps) if phase == "Locked"]
        assert locked, "whoever watches sees it"
        assert steps[locked[0]][1] == "10Gi", "what grows is in force when the store has answered"
        assert steps[-1] == ("Available", "20Gi")
        body["spec"]["defaults"]["deletionPolicy"] = "Retain"
        env.apply(body)
        cluster.until(lambda: status(env)["deletionPolicy"] == "Retain", "what is in force follows", 90)
        assert status(env)["capacity"] == "20Gi"
