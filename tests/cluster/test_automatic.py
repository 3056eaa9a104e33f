"""A policy runs in the real cluster, on the real clock; what is deleted comes back; run-now, a key, upkeep's rights."""

from __future__ import annotations

import os
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write, gone, phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MIB = 1 << 20
SIZE = 64 * MIB


def labelled(kube: Kube, claim: str) -> None:
    kube.patch("pvc", claim, {"metadata": {"labels": {"backup": "true"}}})


def vault(name: str, **spec: Any) -> Object:
    body = manifests.vault(name, name)
    body["spec"] |= spec
    return body


def nightly(at: datetime) -> Object:
    spec = {"schedule": {"hours": [at.hour], "minute": at.minute}, "retention": {"days": 7}}
    return {
        "apiVersion": manifests.API,
        "kind": "BackupPolicy",
        "metadata": {"name": "nightly"},
        "spec": spec,
    }


def newest(environment: ClusterEnvironment, prefix: str) -> Object | None:
    found = [
        b
        for b in environment.list("backup")
        if b["metadata"]["namespace"] == environment.namespace and b["metadata"]["name"].startswith(prefix)
    ]
    return max(found, key=lambda b: str(b["metadata"]["creationTimestamp"]), default=None)


def test_a_policy_runs_at_its_slot_and_what_it_made_is_deleted_and_brought_back(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """A3 by label, B2 on the real clock, C1, F7 with the class's key, F18 trash and undelete."""
    kube, name = namespace, f"policy-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.make_claim("data", SIZE)
    labelled(kube, "data")
    environment.write("data", [Write(MIB, 4 * MIB, seed=1)])
    secret = manifests.secret(f"{name}-key", OPERATOR_NAMESPACE, {})
    secret["data"] = {"key": b64encode(os.urandom(32)).decode()}
    *secrets, vault_class = manifests.vault_class(name, environment.storage, name)
    vault_class["spec"] |= {"encryption": {"keySecretRef": {"name": f"{name}-key"}}, "trashDays": 2}
    selector = {"resourceSelector": {"matchLabels": {"backup": "true"}}, "policyRef": {"name": "nightly"}}
    slot = (datetime.now(UTC) + timedelta(seconds=100)).replace(second=0, microsecond=0)
    environment.apply(secret, *secrets, vault_class, vault(name, **selector), nightly(slot))
    kube.wait_phase("vault", name, "Available")

    def held(obj: Object | None) -> bool:
        lines = ((obj or {}).get("status") or {}).get("resources") or []
        return [(line["name"], line["state"]) for line in lines] == [("data", "Associated")]

    found = environment.wait_for("vault", name, held, timeout=60)
    assert found["status"]["nextRun"] == slot.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found["status"]["encrypted"] is True

    def made(_: Object | None) -> bool:
        return phase_is("Available")(newest(environment, "autobk-"))

    environment.wait_for("vault", name, made, timeout=240)
    backup = newest(environment, "autobk-")
    assert backup is not None
    status = backup["status"]
    assert (status["trigger"], status["slot"]) == ("Policy", slot.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert datetime.fromisoformat(status["expiresAt"]) - slot == timedelta(days=7)

    # One more by hand for all its resources; it is incremental, as its claim has one already.
    kube.patch("vault", name, {"metadata": {"annotations": {"blockvault.dev/run-now": "now"}}})
    environment.wait_for(
        "vault", name, lambda _: phase_is("Available")(newest(environment, "manualbk-")), timeout=180
    )
    by_hand = newest(environment, "manualbk-")
    assert by_hand is not None
    assert (by_hand["status"]["type"], by_hand["status"]["trigger"]) == ("Incremental", "Manual")

    first, backup_id = backup["metadata"]["name"], status["volumes"][0]["backupId"]
    environment.delete("backup", first)
    environment.wait_for("backup", first, gone, timeout=120)
    trashed = environment.wait_for(
        "vault", name, lambda v: ((v or {}).get("status") or {}).get("trash"), timeout=60
    )
    assert [row["backupId"] for row in trashed["status"]["trash"]] == [backup_id]
    kube.patch("vault", name, {"metadata": {"annotations": {"blockvault.dev/undelete": backup_id}}})
    back = environment.wait_for("backup", first, phase_is("Available"), timeout=60)
    # What somebody brought back is removed by no rule any more.
    assert (back["status"]["reason"], back["status"]["trigger"]) == ("Imported", "Manual")
    environment.apply(manifests.restore("again", first, "again", "bv-immediate", "64Mi"))
    environment.wait_for("restore", "again", phase_is("Completed"), timeout=240)
    assert environment.digest("again", SIZE) == environment.digest("data", SIZE)


def test_a_deletion_for_good_is_followed_by_upkeep(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """A12: used bytes and the bucket fall; the Job runs with the movers' rights, which are none."""
    kube, name = namespace, f"upkeep-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.make_claim("data", SIZE)
    *secrets, vault_class = manifests.vault_class(name, environment.storage, name)
    vault_class["spec"] |= {"trashDays": 0}
    environment.apply(*secrets, vault_class, vault(name))
    kube.wait_phase("vault", name, "Available")
    for number in (1, 2):
        environment.write("data", [Write(MIB, 4 * MIB, seed=number)])
        environment.apply(manifests.backup(f"b{number}", name, "data"))
        environment.wait_for("backup", f"b{number}", phase_is("Available"), timeout=240)
    # As if it had been wanted ten minutes ago, which is how long one waits for more to come.
    environment.delete("backup", "b1")
    environment.wait_for("backup", "b1", gone, timeout=120)
    ago = (datetime.now(UTC) - timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    upkeep = {
        "run": 1,
        "startedAt": ago,
        "endedAt": ago,
        "wanted": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    kube.patch("vault", name, {"status": {"upkeep": upkeep}}, subresource="status")
    kube.patch("vault", name, {"spec": {"tags": {"looked": "at"}}})
    ended = environment.wait_for(
        "vault",
        name,
        lambda v: (
            (u := ((v or {}).get("status") or {}).get("upkeep") or {}).get("run") == 2 and u.get("endedAt")
        ),
        timeout=180,
    )
    run = ended["status"]["upkeep"]
    assert run["reason"] == "Completed", run
    assert run["deletedBytes"] > 2 * MIB
