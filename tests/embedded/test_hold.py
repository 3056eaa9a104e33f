"""A prune deletes everything at once: it waits for a word, and what was a mistake is undone by one (F11)."""

from __future__ import annotations

from typing import Any

from blockvault.engine import Access
from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

NAMES = [f"b{number}" for number in range(6)]


def status(env: EmbeddedEnvironment) -> dict[str, Any]:
    return (env.get("vault", "v") or {}).get("status") or {}


def living(env: EmbeddedEnvironment) -> int:
    place = env.storage.at(status(env)["location"])
    return sum("trash" not in row["labels"] for row in Access(place).open().list("shop/db"))


def say(env: EmbeddedEnvironment, word: str) -> None:
    vault = manifests.vault("v", "v")
    vault["metadata"]["annotations"] = {"blockvault.dev/allow-deletion": word}
    env.apply(vault)


def held(env: EmbeddedEnvironment) -> str:
    env.cluster.until(lambda: status(env).get("deletionHold"), "it is held", 60)
    return str(status(env)["deletionHold"]["token"])


def test_f11_a_mass_deletion_waits_and_is_undone_or_done_by_a_word() -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        env.make_claim("db", 4 * MIB)
        cluster.start_operator()
        env.apply(*manifests.vault_class("v", env.storage, "v"), manifests.vault("v", "v"))
        for number, name in enumerate(NAMES):
            env.write("db", [Write(0, 65536, seed=number)])
            env.apply(manifests.backup(name, "v", "db"))
            env.wait_for("backup", name, phase_is("Available"), timeout=60)
        for name in NAMES:
            env.delete("backup", name)
        token = held(env)
        left = env.list("backup")
        assert left
        cluster.until(
            lambda: {(b.get("status") or {}).get("reason") for b in env.list("backup")} == {"DeletionHeld"},
            "each says what it waits for",
            30,
        )
        before = living(env)
        assert before >= len(left) >= 2
        # It was a mistake: the objects go, the data stays, and is shown again.
        say(env, f"keep-{token}")
        cluster.until(
            lambda: len(env.list("backup")) == before and not status(env).get("deletionHold"),
            "they are back",
            90,
        )
        assert living(env) == before
        assert {b["status"]["phase"] for b in env.list("backup")} == {"Available"}
        # It is meant: by a word of its own, as the one before counts for nothing any more.
        for backup in env.list("backup"):
            env.delete("backup", backup["metadata"]["name"])
        if before >= 5 or status(env).get("deletionHold"):
            again = held(env)
            assert again != token
            say(env, again)
        cluster.until(lambda: not env.list("backup"), "all are gone", 60)
        assert living(env) == 0
        cluster.until(lambda: not status(env).get("deletionHold"), "the hold is over", 60)
