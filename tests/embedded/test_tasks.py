"""Each operation leaves a Task, whatever happens to the operator and to the API meanwhile (E1, B3)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.scenario import manifests
from tests.scenario.environment import Write, gone, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment
from .selectors import field_test, label_test

SIZE = 4 * MIB
DAY = 86400
Object = dict[str, Any]


@pytest.fixture
def env() -> Iterator[EmbeddedEnvironment]:
    """A claim with data, and a vault; the operator is not running."""
    with EmbeddedCluster(namespace="shop") as cluster:
        environment = EmbeddedEnvironment(cluster)
        environment.apply(*manifests.vault_class("v", environment.storage, "v"), manifests.vault("v", "v"))
        environment.make_claim("db", SIZE)
        environment.write("db", [Write(MIB, MIB, seed=1)])
        yield environment


def tasks(env: EmbeddedEnvironment, fields: str = "", labels: str = "") -> list[Object]:
    """As `kubectl get tasks` with selectors finds them."""

    def find(store: Any) -> list[Object]:
        kind = store.kind_named("tasks")
        chosen, labelled = field_test(fields, kind), label_test(labels)
        return list(store.list(kind, "shop", lambda obj: chosen(obj) and labelled(obj)))

    return env.cluster.within(find)


def until_task(env: EmbeddedEnvironment, fields: str, timeout: float = 30) -> Object:
    env.cluster.until(lambda: tasks(env, fields), f"a Task with {fields}; there are {tasks(env)}", timeout)
    (found,) = tasks(env, fields)
    return found


def claim_events(env: EmbeddedEnvironment, claim: str) -> list[str]:
    uid = (env.get("pvc", claim) or {})["metadata"]["uid"]
    events = env.cluster.within(lambda s: s.list(s.kind_named("events.events.k8s.io")))
    mine = [e for e in events if e.get("regarding", {}).get("uid") == uid]
    return [e["reason"] for e in sorted(mine, key=lambda e: str(e["eventTime"]))]


def test_e1_each_operation_leaves_a_task_and_a_word_on_the_claim(env: EmbeddedEnvironment) -> None:
    env.cluster.start_operator()
    env.apply(manifests.backup("one", "v", "db"))
    env.wait_for("backup", "one", phase_is("Available"), timeout=60)
    done = until_task(env, "spec.type=Backup,status.phase=Succeeded")
    written = [asked for asked in env.cluster.requests(resource="tasks") if asked.writes]
    assert len(written) <= 3, "its beginning, its end, and that a wait became work"
    backup = env.get("backup", "one") or {}
    assert done["spec"] == {
        "type": "Backup",
        "trigger": "Manual",
        "vaultRef": {"name": "v"},
        "resource": {"kind": "PersistentVolumeClaim", "name": "db"},
        "object": {"kind": "Backup", "name": "one", "uid": backup["metadata"]["uid"]},
    }
    status = done["status"]
    assert (status["startedAt"], status["completedAt"]) == (
        backup["status"]["startedAt"],
        backup["status"]["completedAt"],
    )
    assert (status["progress"], status["reason"], status["remedy"]) == ({"percent": 100}, "Completed", "")
    assert not done["metadata"].get("ownerReferences")
    assert not done["metadata"].get("finalizers")

    env.apply(manifests.restore("back", "one", "copy", env.storage_class, "4Mi"))
    env.wait_for("restore", "back", phase_is("Completed"), timeout=60)
    restored = until_task(env, "spec.type=Restore,spec.vaultRef.name=v,status.phase=Succeeded")
    assert restored["spec"]["resource"]["name"] == "copy"

    # What is refused has its cause and what to do.
    env.apply(manifests.restore("again", "one", "db", env.storage_class, "4Mi"))
    env.wait_for("restore", "again", phase_is("Error"), timeout=60)
    failed = until_task(env, "spec.type=Restore,status.phase=Failed,status.reason=ClaimExists")
    assert "db" in failed["status"]["message"]
    assert failed["status"]["remedy"] == "Name another claim."

    # Another capacity, and a deletion: a Task outlives what it is about.
    larger = manifests.vault("v", "v")
    larger["spec"]["capacity"] = "20Gi"
    env.apply(larger)
    grown = until_task(env, "spec.type=Expand", 90)
    assert "from 10Gi to 20Gi" in grown["status"]["message"]
    env.delete("backup", "one")
    env.wait_for("backup", "one", gone, timeout=60)
    until_task(env, "spec.type=DeleteBackup,status.phase=Succeeded,spec.object.name=one")
    assert tasks(env, "spec.type=Backup"), "it outlives the Backup"

    assert len(tasks(env, labels="blockvault.dev/resource=db")) == 3
    assert len(tasks(env, labels="blockvault.dev/vault=v,blockvault.dev/task-phase=Failed")) == 1
    assert len(tasks(env, labels="blockvault.dev/task-type in (Restore)")) == 2
    assert claim_events(env, "db") == ["BackupStarted", "BackupSucceeded", "RestoreFailed"]
    assert claim_events(env, "copy")[-1] == "RestoreSucceeded"


class Calendar:
    """The operator's calendar, in days from now."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.path = cluster.directory / "ahead"
        self.environment = {"BLOCKVAULT_TESTING_CLOCK": str(self.path)}
        self.go(0)

    def go(self, days: float) -> None:
        """Be so many days ahead of now."""
        new = self.path.with_suffix(".new")
        new.write_text(str(days * DAY))
        new.replace(self.path)


def test_e1_a_task_is_kept_for_30_days_by_the_operators_clock(env: EmbeddedEnvironment) -> None:
    calendar = Calendar(env.cluster)
    env.cluster.start_operator(**calendar.environment)
    env.apply(manifests.backup("one", "v", "db"))
    until_task(env, "spec.type=Backup,status.phase=Succeeded", 60)
    # One that waits is not old, however long it has done so.
    waiting = manifests.backup("waits", "v", "absent")
    waiting["spec"]["startDeadlineSeconds"] = 86400
    env.apply(waiting)
    until_task(env, "spec.object.name=waits")
    calendar.go(29)
    env.cluster.until(lambda: len(env.cluster.requests("list", "tasks")) >= 2, "they are looked through", 30)
    assert len(tasks(env, "spec.object.name=one")) == 1
    calendar.go(31)
    env.cluster.until(lambda: not tasks(env, "spec.object.name=one"), "it is gone", 30)
    assert len(tasks(env, "spec.object.name=waits,status.phase=Running")) == 1
    assert len(env.cluster.requests("list", "tasks")) <= 6, "nobody asks again and again"
    assert (env.get("backup", "one") or {})["status"]["phase"] == "Available"


def test_e1_a_namespace_keeps_so_many_and_the_oldest_go(env: EmbeddedEnvironment) -> None:
    for number in range(12):
        spec = {"type": "Backup", "object": {"kind": "Backup", "name": f"b{number}", "uid": str(number)}}
        # One was stamped by a clock that was wrong: it counts by its creation.
        status = {
            "phase": "Succeeded",
            "completedAt": f"2099-01-01T00:00:{number:02}Z" if number == 0 else now_ago(number),
        }
        env.apply(
            {
                "apiVersion": manifests.API,
                "kind": "Task",
                "metadata": {"name": f"t{number}"},
                "spec": spec,
                "status": status,
            }
        )
    env.cluster.start_operator(BLOCKVAULT_MAX_TASKS="5")
    env.cluster.until(lambda: len(tasks(env)) == 5, "the oldest are gone", 30)
    assert {t["metadata"]["name"] for t in tasks(env)} == {"t0", "t1", "t2", "t3", "t4"}


def now_ago(minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(("status", "after_effect"), [(500, False), (0, True), (409, False), (429, False)])
def test_e1_an_api_that_takes_no_tasks_holds_no_operation_up(
    env: EmbeddedEnvironment, status: int, after_effect: bool
) -> None:
    """The Backup ends as if nothing were, and its Task is written when it can be."""
    faults = env.cluster.faults
    met = [
        faults.fail(v, "tasks", status=status, times=10**6, after_effect=after_effect)
        for v in ("create", "patch")
    ]
    env.cluster.start_operator()
    env.apply(manifests.backup("one", "v", "db"))
    env.wait_for("backup", "one", phase_is("Available"), timeout=60)
    assert any(fault.times < 10**6 for fault in met)
    assert not tasks(env, "status.phase=Succeeded") or after_effect
    for fault in met:
        fault.times = 0
    task = until_task(env, "spec.type=Backup,status.phase=Succeeded")
    assert task["status"]["completedAt"] == (env.get("backup", "one") or {})["status"]["completedAt"]
    env.cluster.until(lambda: "BackupSucceeded" in claim_events(env, "db"), "the claim is told", 10)


@pytest.mark.parametrize("begun", [False, True])
def test_e1_a_crash_before_the_last_word_of_a_task_loses_nothing(
    env: EmbeddedEnvironment, begun: bool
) -> None:
    """Whether the Task says Running or was never made: the next operator writes what its Backup says."""
    cluster = env.cluster
    broken = cluster.faults.fail("patch" if begun else "create", "tasks", times=10**6)
    cluster.start_operator()
    env.apply(manifests.backup("one", "v", "db"))
    env.wait_for("backup", "one", phase_is("Available"), timeout=60)
    cluster.kill_operator()
    assert len(tasks(env, "status.phase=Running")) == begun
    broken.times = 0
    cluster.start_operator()
    task = until_task(env, "spec.type=Backup,status.phase=Succeeded")
    assert task["status"]["completedAt"] == (env.get("backup", "one") or {})["status"]["completedAt"]
    assert len(tasks(env)) == 1


def test_e1_a_task_whose_backup_is_gone_is_closed(env: EmbeddedEnvironment) -> None:
    """Deleted while it worked, by somebody who took the finalizer off while no operator was there."""
    cluster = env.cluster
    cluster.faults.hold_movers = True
    cluster.start_operator()
    env.apply(manifests.backup("one", "v", "db"))
    until_task(env, "status.phase=Running,status.reason=Starting", 40)
    cluster.kill_operator()
    env.delete("backup", "one")
    env.apply({"apiVersion": manifests.API, "kind": "Backup", "metadata": {"name": "one", "finalizers": []}})
    assert env.get("backup", "one") is None
    cluster.start_operator()
    task = until_task(env, "spec.type=Backup,status.phase=Cancelled")
    assert task["status"]["reason"] == "EndNotSeen"


def test_e1_a_backup_deleted_under_way_leaves_two_tasks(env: EmbeddedEnvironment) -> None:
    env.cluster.faults.hold_movers = True
    env.cluster.start_operator()
    env.apply(manifests.backup("one", "v", "db"))
    until_task(env, "spec.type=Backup,status.phase=Running")
    env.delete("backup", "one")
    env.wait_for("backup", "one", gone, timeout=60)
    assert (
        until_task(env, "spec.type=Backup,status.phase=Cancelled")["status"]["reason"] == "DeletedMeanwhile"
    )
    assert until_task(env, "spec.type=DeleteBackup,status.phase=Succeeded")["status"]["reason"] == "Deleted"


def test_b3_a_slot_that_was_missed_leaves_a_task(env: EmbeddedEnvironment) -> None:
    calendar = Calendar(env.cluster)
    env.cluster.start_operator(**calendar.environment)
    body = manifests.vault("v", "v")
    body["spec"] |= {
        "policyRef": {"name": "nightly"},
        "resources": [{"kind": "PersistentVolumeClaim", "name": "db"}],
    }
    schedule = {"hours": [(datetime.now(UTC) + timedelta(hours=3)).hour]}
    policy = {
        "apiVersion": manifests.API,
        "kind": "BackupPolicy",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": schedule, "retention": {"count": 2}},
    }
    env.apply(body, policy)
    env.wait_for("vault", "v", lambda v: ((v or {}).get("status") or {}).get("nextRun"), timeout=60)
    calendar.go(0.5)
    task = until_task(env, "spec.type=Skip,status.phase=Skipped,status.reason=Missed", 60)
    assert task["spec"]["resource"]["name"] == "db"
    assert task["spec"]["trigger"] == "Policy"
    assert task["spec"]["slot"].endswith(":00:00Z")
    assert "run-now" in task["status"]["remedy"]
    env.cluster.until(lambda: "BackupSkipped" in claim_events(env, "db"), "the claim is told", 10)
    env.cluster.kill_operator()
    env.cluster.start_operator(**calendar.environment)
    env.cluster.until(
        lambda: len(env.cluster.requests("list", "tasks")) >= 2, "the next operator has looked", 30
    )
    assert len(tasks(env, "spec.type=Skip")) == 1, "twice is the same as once"
