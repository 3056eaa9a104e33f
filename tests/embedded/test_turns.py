"""No more Backups work at once than may (F10): the others wait for their turn, and say so."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment


def reasons(env: EmbeddedEnvironment) -> dict[str, str]:
    return {b["metadata"]["name"]: (b.get("status") or {}).get("reason", "") for b in env.list("backup")}


def vault(name: str, limit: int | None = None, **limits: Any) -> dict[str, Any]:
    body = manifests.vault(name, "v")
    body["spec"] |= {"limits": {"concurrentBackups": limit} if limit else limits}
    return body


def rates(cluster: EmbeddedCluster) -> dict[str, int | None]:
    """What each mover's request says of its rate, by the object that it works for."""
    found = {}
    for secret in cluster.list("secrets", "blockvault-system"):
        text = b64decode((secret.get("data") or {}).get("request.json", "")).decode()
        if text:
            found[secret["metadata"]["annotations"]["blockvault.dev/name"]] = json.loads(text)["limitRate"]
    return found


def test_f10_a_bandwidth_is_shared_by_those_that_work_at_once() -> None:
    """One by one where nobody says how many; and a restore has all of it."""
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        for number in range(3):
            env.make_claim(f"c{number}", 4 * MIB)
            env.write(f"c{number}", [Write(0, MIB, seed=number)])
        cluster.start_operator()
        *keys, body = manifests.vault_class("v", env.storage, "v")
        body["spec"]["limits"] = {"bandwidth": "64Mi"}
        env.apply(*keys, body, vault("one", bandwidth="80Mi"), vault("two", 2))
        for name in ("one", "two"):
            env.wait_for("vault", name, phase_is("Available"), timeout=30)
        env.apply(manifests.backup("first", "one", "c0"))
        env.wait_for("backup", "first", phase_is("Available"), timeout=60)
        cluster.faults.hold_movers = True
        env.apply(manifests.backup("a", "one", "c0"), manifests.backup("b", "one", "c1"))
        env.apply(
            manifests.backup("c", "two", "c2"), manifests.restore("r", "first", "copy", "bv-immediate", "4Mi")
        )
        cluster.until(lambda: len(rates(cluster)) == 3, "three movers", 60)
        cluster.until(lambda: "Queued" in reasons(env).values(), "one waits", 30)
        # The class bounds the Vault that asks for more.
        assert rates(cluster) == {"a": 64 * MIB, "c": 32 * MIB, "r": 64 * MIB}
        cluster.faults.hold_movers = False
        for name in "abc":
            env.wait_for("backup", name, phase_is("Available"), timeout=90)


def test_f10_the_others_wait_overall_and_in_each_vault_and_all_get_their_turn() -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        for number in range(5):
            env.make_claim(f"c{number}", 4 * MIB)
            env.write(f"c{number}", [Write(0, MIB, seed=number)])
        cluster.start_operator(BLOCKVAULT_MAX_BACKUPS="2")
        env.apply(*manifests.vault_class("v", env.storage, "v"), vault("one", 1), vault("any"))
        for name in ("one", "any"):
            env.wait_for("vault", name, phase_is("Available"), timeout=30)
        cluster.faults.hold_movers = True
        for number in range(5):
            env.apply(manifests.backup(f"b{number}", "one" if number < 3 else "any", f"c{number}"))
        cluster.until(lambda: len(cluster.list("pods", "blockvault-system")) == 2, "two movers", 60)
        cluster.until(lambda: sorted(reasons(env).values()).count("Queued") == 3, "three wait", 30)
        # Both places are taken: one by the vault that may have one only.
        working = {name for name, reason in reasons(env).items() if reason != "Queued"}
        assert len(working & {"b0", "b1", "b2"}) == 1, reasons(env)
        # A restart forgets neither who works nor who waits.
        cluster.kill_operator()
        cluster.start_operator(BLOCKVAULT_MAX_BACKUPS="2")
        cluster.until(lambda: sorted(reasons(env).values()).count("Queued") == 3, "three wait still", 30)
        assert len(cluster.list("pods", "blockvault-system")) == 2
        cluster.faults.hold_movers = False
        for number in range(5):
            env.wait_for("backup", f"b{number}", phase_is("Available"), timeout=90)
