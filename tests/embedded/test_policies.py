"""A policy runs with the real operator and real movers: slots, rules, and an operator that dies (B2 to B8)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

DAY = 86400
SIZE = 4 * MIB


class Calendar:
    """The operator's calendar, in days from now."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.path = cluster.directory / "ahead"
        self.go(0)

    def go(self, days: float) -> None:
        """Be so many days ahead of now."""
        new = self.path.with_suffix(".new")
        new.write_text(str(days * DAY))
        new.replace(self.path)


@pytest.fixture
def env() -> Iterator[EmbeddedEnvironment]:
    """A vault of two claims with a policy."""
    with EmbeddedCluster(namespace="shop") as cluster:
        environment = EmbeddedEnvironment(cluster)
        for claim in ("db", "web"):
            environment.make_claim(claim, SIZE)
            environment.write(claim, [Write(MIB, MIB, seed=1)])
        yield environment


def policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": manifests.API,
        "kind": "BackupPolicy",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": {"hours": list(range(24))}, "retention": {"count": 2}} | spec,
    }


def vault(cluster: EmbeddedCluster, *claims: str) -> list[dict[str, Any]]:
    environment = EmbeddedEnvironment(cluster)
    body = manifests.vault("v", "v")
    body["spec"] |= {
        "policyRef": {"name": "nightly"},
        "resources": [{"kind": "PersistentVolumeClaim", "name": claim} for claim in claims],
    }
    return [*manifests.vault_class("v", environment.storage, "v"), body]


def backups(env: EmbeddedEnvironment, claim: str) -> list[dict[str, Any]]:
    """A claim's automatic Backups that have ended well, the oldest first."""
    found = [b for b in env.list("backup") if b["spec"]["resource"]["name"] == claim]
    found = [b for b in found if (b.get("status") or {}).get("phase") == "Available"]
    return sorted(found, key=lambda b: str(b["status"].get("slot")))


def test_b4_a_policy_makes_backups_and_its_rule_removes_them(env: EmbeddedEnvironment) -> None:
    cluster = env.cluster
    calendar = Calendar(cluster)
    clock = {"BLOCKVAULT_TESTING_CLOCK": str(calendar.path)}
    cluster.start_operator(**clock)
    env.apply(*vault(cluster, "db", "web", "missing"), policy())
    env.wait_for("vault", "v", lambda v: _lines(v).get("db") == "Associated", timeout=30)
    assert _lines(env.get("vault", "v")) == {"db": "Associated", "web": "Associated", "missing": "Waiting"}
    days = 4
    for day in range(1, days + 1):
        env.write("db", [Write(day * 65536, 4096, seed=day)])
        calendar.go(day)
        cluster.until(
            lambda day=day: len({b["metadata"]["name"] for b in _seen(cluster, "db")}) >= day,
            f"day {day}",
            60,
        )  # type: ignore[misc]
        if day == 2:
            # Between any two lines: the next operator goes on from what is there.
            cluster.kill_operator()
            cluster.start_operator(**clock)
    cluster.until(lambda: len(backups(env, "db")) == len(backups(env, "web")) == 2, "two of each left", 60)
    newest = backups(env, "db")[-1]
    assert newest["metadata"]["name"].startswith("autobk-")
    assert (newest["status"]["trigger"], newest["status"]["policy"]) == ("Policy", "nightly")
    assert newest["status"]["type"] == "Incremental", "B7"
    status = (env.get("vault", "v") or {})["status"]
    line = next(r for r in status["resources"] if r["name"] == "db")
    assert line["lastBackup"] == newest["metadata"]["name"]
    assert line["lastSlot"] == newest["status"]["slot"]
    # The store holds what the cluster shows, and the newest restores what was there last.
    cluster.until(
        lambda: (env.get("vault", "v") or {})["status"].get("backups") == 4, "the store follows", 90
    )
    env.apply(manifests.restore("r", newest["metadata"]["name"], "copy", env.storage_class, "4Mi"))
    env.wait_for("restore", "r", phase_is("Completed"), timeout=60)
    assert env.digest("copy", SIZE) == env.digest("db", SIZE)


def _lines(obj: dict[str, Any] | None) -> dict[str, str]:
    status = (obj or {}).get("status") or {}
    return {line["name"]: line.get("state", "") for line in status.get("resources") or []}


def _seen(cluster: EmbeddedCluster, claim: str) -> list[dict[str, Any]]:
    """All of a claim's Backups that ever ended well, also those that a rule has removed since."""
    names = {a.body["metadata"]["name"] for a in cluster.requests("create", "backups") if a.body}
    seen = []
    for name in names:
        for state in cluster.history("backup", name):
            status = (state or {}).get("status") or {}
            if state and status.get("phase") == "Available" and state["spec"]["resource"]["name"] == claim:
                seen.append(state)
                break
    return seen


def test_a10_a_policy_that_is_replaced_or_removed_lets_the_running_backup_finish(
    env: EmbeddedEnvironment,
) -> None:
    """One policy at most; the backup that it began ends well, and nothing runs by it any more."""
    cluster = env.cluster
    calendar = Calendar(cluster)
    cluster.start_operator(BLOCKVAULT_TESTING_CLOCK=str(calendar.path))
    other = policy(schedule={"hours": [3], "weekDays": ["Sunday"]})
    other["metadata"]["name"] = "weekly"
    *storage, body = vault(cluster, "db")
    env.apply(*storage, body, policy(), other)
    cluster.until(lambda: applied(env) == "nightly", "the policy is applied", 30)
    cluster.faults.hold_movers = True
    calendar.go(1)
    cluster.until(lambda: cluster.list("pods", "blockvault-system"), "a mover runs", 60)
    body["spec"]["policyRef"] = {"name": "weekly"}
    env.apply(body)
    cluster.until(lambda: applied(env) == "weekly", "the other one takes its place", 30)
    env.delete("backuppolicy", "nightly")
    body["spec"]["policyRef"] = None
    env.apply(body)
    cluster.until(lambda: applied(env) is None, "there is none", 30)
    assert not ((env.get("vault", "v") or {})["status"]).get("nextRun")
    cluster.faults.hold_movers = False
    cluster.until(lambda: len(backups(env, "db")) == 1, "what had begun ends well", 60)
    (made,) = backups(env, "db")
    assert (made["status"]["policy"], made["spec"]["vaultRef"]["name"]) == ("nightly", "v")
    calendar.go(3)
    env.write("db", [Write(0, 4096, seed=9)])
    cluster.until(lambda: status_checked_after(env), "the Vault was looked at since", 90)
    assert len([b for b in env.list("backup") if b["spec"]["resource"]["name"] == "db"]) == 1


def applied(env: EmbeddedEnvironment) -> str | None:
    """The policy that the Vault says to follow."""
    status = (env.get("vault", "v") or {}).get("status") or {}
    return (status.get("policy") or {}).get("name")


def status_checked_after(env: EmbeddedEnvironment) -> bool:
    """Whether the Vault was checked by a calendar that is three days ahead."""
    status = (env.get("vault", "v") or {}).get("status") or {}
    return datetime.fromisoformat(status["lastCheckedAt"]) > datetime.now(UTC) + timedelta(days=2)
