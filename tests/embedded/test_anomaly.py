"""A disk that is wiped, or whose files are encrypted, takes none of its older backups along (F20)."""

from __future__ import annotations

import random
from typing import Any

from tests.scenario import manifests
from tests.scenario.environment import Write
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment
from .test_policies import Calendar, backups, policy, vault

SIZE = 16 * MIB


def status(env: EmbeddedEnvironment) -> dict[str, Any]:
    return (env.get("vault", "v") or {}).get("status") or {}


def reasons(env: EmbeddedEnvironment) -> list[str]:
    return [each["reason"] for each in status(env).get("anomalies") or [] if not each["acknowledged"]]


def held(env: EmbeddedEnvironment) -> bool:
    return any(
        c["type"] == "ExpiryHeld" and c["status"] == "True" for c in status(env).get("conditions") or []
    )


def overwrite(env: EmbeddedEnvironment, data: bytes) -> None:
    with env.cluster.volume_path("shop", "db").open("r+b") as file:
        file.write(data)


def test_f20_expiry_is_held_until_somebody_has_looked() -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        env.make_claim("db", SIZE)
        env.write("db", [Write(0, 12 * MIB, seed=1)])
        calendar = Calendar(cluster)
        cluster.start_operator(BLOCKVAULT_TESTING_CLOCK=str(calendar.path))
        env.apply(*vault(cluster, "db"), policy(retention={"count": 2}))
        day = 0

        def next_day() -> None:
            nonlocal day
            day += 1
            ended = {b["metadata"]["name"] for b in backups(env, "db")}
            calendar.go(day)
            cluster.until(
                lambda: {b["metadata"]["name"] for b in backups(env, "db")} - ended,
                f"the backup of day {day}",
                60,
            )

        cluster.until(lambda: status(env).get("resources"), "it is held", 30)
        for seed in range(2, 6):
            next_day()
            env.write("db", [Write(seed * MIB, 300_000, seed=seed)])
        cluster.until(lambda: len(backups(env, "db")) == 2, "the rule works", 30)
        assert reasons(env) == []

        # Wiped.
        overwrite(env, bytes(SIZE))
        next_day()
        cluster.until(lambda: reasons(env) == ["NearlyEmpty"], "it is seen", 30)
        cluster.until(lambda: held(env), "the condition says so", 30)
        cluster.until(
            lambda: (
                "blockvault_vault_anomalies" in cluster.metrics()
                and "} 1.0"
                in [
                    line[-5:]
                    for line in cluster.metrics().splitlines()
                    if line.startswith("blockvault_vault_anomalies")
                ]
            ),
            "the metric says so",
            30,
        )
        cluster.kill_operator()
        cluster.start_operator(BLOCKVAULT_TESTING_CLOCK=str(calendar.path))
        next_day()
        next_day()
        assert len(backups(env, "db")) == 5, "the two good ones are there still"
        token = status(env)["anomalies"][0]["token"]
        body = manifests.vault("v", "v")
        body["metadata"]["annotations"] = {"blockvault.dev/acknowledge": token}
        env.apply(body)
        cluster.until(lambda: len(backups(env, "db")) == 2 and not held(env), "the rule works again", 60)

        # Filled again, in use for a while, then encrypted in place.
        overwrite(env, random.Random(7).randbytes(12 * MIB))
        for seed in range(3):
            next_day()
            env.write("db", [Write(seed * MIB, 300_000, seed=seed)])
        next_day()
        assert reasons(env) == []
        overwrite(env, random.Random(8).randbytes(12 * MIB))
        next_day()
        cluster.until(lambda: reasons(env) == ["NearlyRewritten"], "it is seen", 30)
