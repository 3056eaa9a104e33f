"""etcd is restored from before: backups were made, deleted and restored since, and the bucket is the truth (F5, F30)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from blockvault.core.conditions import find_condition
from blockvault.core.reasons import REASONS
from blockvault.engine import Access
from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube, Object
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write, gone, phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(1800)]

MIB = 1 << 20
SIZE = 32 * MIB
KEPT = "an-hour-ago"


@pytest.fixture
def apart() -> Iterator[Cluster]:
    """A cluster of its own: what is set back is set back for all that run in it."""
    with Cluster() as cluster:
        yield cluster


def in_place(name: str, backup: str) -> Object:
    spec = {"backupRef": {"name": backup}, "target": {"original": {}}}
    return {"apiVersion": manifests.API, "kind": "Restore", "metadata": {"name": name}, "spec": spec}


def policy(at: datetime) -> Object:
    spec = {"schedule": {"hours": [at.hour], "minute": at.minute}, "retention": {"days": 7}}
    return {"apiVersion": manifests.API, "kind": "BackupPolicy", "metadata": {"name": "daily"}, "spec": spec}


def of_run(environment: ClusterEnvironment) -> list[Object]:
    return [b for b in environment.list("backup") if b["metadata"]["name"].startswith("autobk-")]


def applied(vault: Object | None) -> bool:
    return ((vault or {}).get("status") or {}).get("policy", {}).get("state") == "Applied"


def test_f5_f30_the_bucket_is_the_truth(
    apart: Cluster, install_operator: Callable[[Cluster], Operator]
) -> None:
    """Newer backups are shown, deleted ones are not Available, nothing runs twice, and what is restored is right."""
    operator = install_operator(apart)
    kube = Kube(apart, "shop")
    apart.kubectl("create", "namespace", "shop")
    kube.wait("serviceaccount", "default", bool, 30)
    environment = ClusterEnvironment(apart, kube, "bv-immediate")
    resources = {"resources": [{"kind": "PersistentVolumeClaim", "name": "slot"}]}
    vault = manifests.vault("v", "v")
    vault["spec"] |= {**resources, "policyRef": {"name": "daily"}}
    environment.apply(*manifests.vault_class("v", environment.storage, "v"))
    for number, name in enumerate(("data", "other", "slot")):
        environment.make_claim(name, SIZE)
        environment.write(name, [Write(MIB, 4 * MIB, seed=number)])
    digests: dict[str, str] = {}

    def back_up(name: str, claim: str) -> None:
        digests[name] = environment.digest(claim, SIZE)
        environment.apply(manifests.backup(name, "v", claim))
        environment.wait_for("backup", name, phase_is("Available"), timeout=240)

    environment.apply(vault)
    environment.wait_for("vault", "v", phase_is("Available"), timeout=120)
    back_up("one", "data")
    environment.write("data", [Write(8 * MIB, MIB, seed=10)])
    back_up("two", "data")
    back_up("of-other", "other")
    slot = (datetime.now(UTC) + timedelta(seconds=150)).replace(second=0, microsecond=0)
    environment.apply(policy(slot))
    environment.wait_for("vault", "v", applied, timeout=60)
    assert of_run(environment) == [], "the slot came too early for this machine"

    apart.keep_etcd(KEPT)

    environment.write("data", [Write(12 * MIB, MIB, seed=11)])
    back_up("three", "data")
    environment.delete("backup", "one")
    environment.wait_for("backup", "one", gone, timeout=120)
    environment.write("other", [Write(16 * MIB, MIB, seed=12)])
    later = environment.digest("other", SIZE)
    kube.delete("pod", "other-user")
    environment.apply(in_place("back", "of-other"))
    environment.wait_for("restore", "back", phase_is("Restored"), timeout=240)
    assert environment.digest("other", SIZE) == digests["of-other"]
    kube.delete("pod", "other-user")
    vault["spec"]["capacity"] = "20Gi"
    environment.apply(vault)
    environment.wait_for("vault", "v", lambda v: (v or {})["status"]["capacity"] == "20Gi", timeout=60)
    environment.wait_for("vault", "v", lambda _: len(of_run(environment)) == 1, timeout=420)
    name_of_run = of_run(environment)[0]["metadata"]["name"]
    environment.wait_for("backup", name_of_run, phase_is("Available"), timeout=240)

    apart.set_back_etcd(KEPT)
    operator.kube.kubectl("rollout", "restart", f"deployment/{operator.deployment()}")
    operator.kube.kubectl(
        "rollout", "status", f"deployment/{operator.deployment()}", "--timeout=180s", seconds=200
    )

    # What the store has more is shown, and what it has less is not Available.
    shown = environment.wait_for("backup", "three", phase_is("Available"), timeout=240)
    assert shown["status"]["reason"] == "Imported"
    lost = environment.wait_for(
        "backup", "one", lambda b: (b or {}).get("status", {}).get("phase") == "Error", timeout=240
    )
    assert lost["status"]["reason"] == "NotInStore", lost["status"]
    assert find_condition(lost["status"]["conditions"], "Ready")["status"] == "False"  # type: ignore[index]

    # The vault grows again as it did, and the slot has not run twice with harm.
    environment.apply(vault)
    environment.wait_for("vault", "v", lambda v: (v or {})["status"]["capacity"] == "20Gi", timeout=60)
    stored = Access(environment.storage.at(shown["status"]["location"])).open().list("shop/slot")
    runs = of_run(environment)
    assert 1 <= len(stored) <= 2, stored
    assert len(runs) == len(stored), [b["metadata"]["name"] for b in runs]
    for each in runs:
        environment.wait_for("backup", each["metadata"]["name"], phase_is("Available"), timeout=240)

    # The same Restore created again writes nothing; the claim has what it had, and is whole.
    environment.apply(in_place("back", "of-other"))
    again = environment.wait_for("restore", "back", phase_is("Skipped"), timeout=120)
    assert again["status"]["reason"] == "AlreadyRestored", again["status"]
    assert environment.digest("other", SIZE) in (later, digests["of-other"])

    # New backups build on what the store has, and each of them restores exactly.
    environment.write("data", [Write(20 * MIB, MIB, seed=13)])
    back_up("four", "data")
    for name in ("two", "three", "four"):
        environment.apply(manifests.restore(f"r-{name}", name, f"copy-{name}", "bv-immediate-xfs", str(SIZE)))
    for name in ("two", "three", "four"):
        environment.wait_for("restore", f"r-{name}", phase_is("Completed"), timeout=300)
        assert environment.digest(f"copy-{name}", SIZE) == digests[name], name
    rows = Access(environment.storage.at(shown["status"]["location"])).open()
    verified = rows.verify()
    assert verified["ok"], verified
    states = {
        b["metadata"]["name"]: (b["status"]["phase"], b["status"]["reason"])
        for b in environment.list("backup")
    }
    print(json.dumps(states))
    assert all(reason in REASONS for _, reason in states.values()), states
