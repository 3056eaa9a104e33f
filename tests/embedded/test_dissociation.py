"""What leaves a vault loses its backups after a while, and by a word where they are many (A7, F11, F18)."""

from __future__ import annotations

from typing import Any

from blockvault.engine import Access
from tests.scenario import manifests
from tests.scenario.environment import phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment
from .kinds import CLAIMS
from .test_policies import Calendar

MINUTE = 1 / 1440


def status(env: EmbeddedEnvironment) -> dict[str, Any]:
    return (env.get("vault", "v") or {}).get("status") or {}


def label(env: EmbeddedEnvironment, claim: str, value: str | None) -> None:
    def change(obj: dict[str, Any]) -> None:
        obj["metadata"]["labels"] = {"backup": value} if value else {}

    env.cluster.within(lambda store: store.update(CLAIMS, "shop", claim, change))


def vault(**spec: Any) -> dict[str, Any]:
    body = manifests.vault("v", "v")
    body["spec"] |= {"resourceSelector": {"matchLabels": {"backup": "true"}}} | spec
    return body


def run(env: EmbeddedEnvironment, value: str) -> None:
    """Let the vault look at its resources now, and nothing else."""
    body = vault(tags={"looked": value})
    env.apply(body)


def names(env: EmbeddedEnvironment) -> list[str]:
    return sorted(b["metadata"]["name"] for b in env.list("backup"))


def test_a7_backups_follow_their_resource_out_of_the_vault() -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        for claim in ("db", "web"):
            env.make_claim(claim, 2 * MIB)
            label(env, claim, "true")
        calendar = Calendar(cluster)
        cluster.start_operator(BLOCKVAULT_TESTING_CLOCK=str(calendar.path))
        env.apply(*manifests.vault_class("v", env.storage, "v"), vault())
        env.wait_for("vault", "v", phase_is("Available"), timeout=30)
        cluster.until(lambda: len(status(env).get("resources") or []) == 2, "they are held", 30)
        for name, claim in [("d1", "db"), *((f"w{n}", "web") for n in range(5))]:
            env.apply(manifests.backup(name, "v", claim))
            env.wait_for("backup", name, phase_is("Available"), timeout=60)

        # One with few backups: they stay for as long as it may come back.
        label(env, "db", None)
        run(env, "1")
        cluster.until(lambda: [r["name"] for r in status(env).get("leaving") or []] == ["db"], "it left", 30)
        assert "d1" in names(env)
        label(env, "db", "true")
        run(env, "2")
        cluster.until(lambda: not status(env).get("leaving"), "it is back", 30)
        label(env, "db", None)
        run(env, "3")
        cluster.until(lambda: status(env).get("leaving"), "it left again", 30)
        cluster.kill_operator()
        cluster.start_operator(BLOCKVAULT_TESTING_CLOCK=str(calendar.path))
        calendar.go(11 * MINUTE)
        cluster.until(
            lambda: "d1" not in names(env) and not status(env).get("leaving"), "its backup goes", 60
        )
        # Into the trash, as any other that is deleted.
        (row,) = Access(env.storage.at(status(env)["location"])).open().list("shop/db")
        assert "trash" in row["labels"]

        # A claim that is gone has not left.
        env.delete("pod", "web-user")
        env.delete("pvc", "web")
        run(env, "4")
        cluster.until(
            lambda: [r["state"] for r in status(env).get("resources") or []] == ["Gone"],
            "the claim is gone",
            30,
        )
        # Five backups of five: a mistake in the selector waits for a word.
        env.apply(vault(resourceSelector={"matchLabels": {"bakcup": "true", "backup": None}}))
        calendar.go(22 * MINUTE)
        env.make_claim("web", 2 * MIB)
        env.apply(
            vault(resourceSelector=None, resources=[{"kind": "PersistentVolumeClaim", "name": "other"}])
        )
        cluster.until(lambda: status(env).get("dissociationHold"), "it is held", 30)
        cluster.until(
            lambda: (
                [
                    c["reason"]
                    for c in status(env)["conditions"]
                    if c["type"] == "DeletionHeld" and c["status"] == "True"
                ]
                == ["Dissociation"]
            ),
            "its condition says so",
            30,
        )
        calendar.go(60 * MINUTE)
        token = status(env)["dissociationHold"]["token"]
        body = vault(resourceSelector=None, resources=[{"kind": "PersistentVolumeClaim", "name": "other"}])
        body["metadata"]["annotations"] = {"blockvault.dev/allow-deletion": "another"}
        env.apply(body)
        assert names(env) == [f"w{n}" for n in range(5)]
        body["metadata"]["annotations"] = {"blockvault.dev/allow-deletion": token}
        env.apply(body)
        cluster.until(lambda: not names(env), "they go", 60)
        cluster.until(
            lambda: not status(env).get("leaving") and not status(env).get("dissociationHold"),
            "it is over",
            30,
        )
