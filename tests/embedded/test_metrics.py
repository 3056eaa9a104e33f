"""What the real operator serves on /metrics after a backup, a restore, and restarts (E2, F23)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment

SIZE = 4 * MIB
Samples = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture
def env() -> Iterator[EmbeddedEnvironment]:
    """Three claims; the vault holds the first."""
    with EmbeddedCluster(namespace="shop") as cluster:
        environment = EmbeddedEnvironment(cluster)
        for claim in ("db", "cache", "forgotten"):
            environment.make_claim(claim, SIZE)
        environment.write("db", [Write(MIB, MIB, seed=1)])
        yield environment


def samples(env: EmbeddedEnvironment) -> Samples:
    """All that is served, by name."""
    found: Samples = {}
    for family in parse_text(env.cluster.metrics()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(env: EmbeddedEnvironment, name: str, **labels: str) -> float | None:
    """Of the only sample with these labels; None of none."""
    found = [v for of, v in samples(env).get(name, []) if labels.items() <= of.items()]
    assert len(found) <= 1, found
    return found[0] if found else None


def test_e2_f23_what_is_done_and_what_is_not_is_told(env: EmbeddedEnvironment) -> None:
    cluster = env.cluster
    cluster.start_operator()
    body: dict[str, Any] = manifests.vault("v", "v")
    claim = {"kind": "PersistentVolumeClaim", "name": "db"}
    body["spec"] |= {"policyRef": {"name": "nightly"}, "resources": [claim]}
    policy = {
        "apiVersion": manifests.API,
        "kind": "BackupPolicy",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": {"hours": [3]}, "retention": {"count": 2}},
    }
    env.apply(*manifests.vault_class("v", env.storage, "v"), policy, body)
    env.wait_for("vault", "v", phase_is("Available"), timeout=30)

    def claims(state: str, reason: str) -> float | None:
        return value(env, "blockvault_claims", namespace="shop", state=state, reason=reason)

    cluster.until(lambda: claims("Unprotected", "NoBackupYet") == 1, "held, and without a backup", 30)
    assert claims("Unprotected", "NoVault") == 2
    why = {"blockvault.dev/exclude": "made anew at each start"}
    claim_of_cache = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "cache", "annotations": why},
    }
    env.apply(claim_of_cache)
    cluster.until(lambda: claims("Excluded", "Annotation") == 1, "it is excluded", 30)
    due = value(env, "blockvault_claim_backup_due_timestamp_seconds", claim="db", vault="v")
    assert due is not None
    assert 0 < due - time.time() < 86400 + 60

    env.apply(manifests.backup("b", "v", "db"))
    env.wait_for("backup", "b", phase_is("Available"), timeout=60)
    cluster.until(lambda: claims("Protected", "Scheduled") == 1, "it has a backup", 30)
    assert claims("Unprotected", "NoVault") == 1
    last = value(env, "blockvault_claim_last_backup_timestamp_seconds", claim="db", vault="v")
    assert last is not None
    assert abs(time.time() - last) < 120
    ran = {"namespace": "shop", "vault": "v", "result": "succeeded", "type": "full"}
    cluster.until(lambda: value(env, "blockvault_backup_runs_total", **ran) == 1, "its run is counted", 30)
    for amount in ("scanned_bytes", "changed_bytes", "stored_bytes", "requests"):
        assert (value(env, f"blockvault_backup_{amount}_total", namespace="shop", vault="v") or 0) > 0, amount
    cluster.until(lambda: value(env, "blockvault_vault_used_bytes", vault="v"), "its usage is told", 30)
    assert value(env, "blockvault_vault_status", vault="v", phase="Available", reason="Available") == 1
    assert value(env, "blockvault_backups_working") == 0

    env.apply(manifests.restore("r", "b", "copy", env.storage_class, str(SIZE)))
    env.wait_for("restore", "r", phase_is("Completed"), timeout=60)
    done = {"namespace": "shop", "result": "succeeded"}
    cluster.until(lambda: value(env, "blockvault_restore_runs_total", **done) == 1, "its run is counted", 30)
    cluster.until(lambda: value(env, "blockvault_restores", phase="Completed") == 1, "it is counted", 30)

    # What stands in objects is known to the next operator too; what has flowed begins anew.
    cluster.kill_operator()
    cluster.start_operator()
    cluster.until(lambda: claims("Protected", "Scheduled") == 1, "the next operator knows", 30)
    cluster.until(
        lambda: value(env, "blockvault_claim_last_backup_timestamp_seconds", claim="db"), "and when", 30
    )
    assert value(env, "blockvault_backup_runs_total", **ran) == 0
    assert value(env, "blockvault_backups", namespace="shop", phase="Available") == 1

    env.delete("vault", "v")
    cluster.until(
        lambda: value(env, "blockvault_vault_up", vault="v") is None, "it is not told of any more", 30
    )
    cluster.until(lambda: not claims("Protected", "Scheduled"), "it protects nothing any more", 30)
    served = samples(env)
    left = [name for name, found in served.items() if any(of.get("vault") == "v" for of, _ in found)]
    assert left == []
