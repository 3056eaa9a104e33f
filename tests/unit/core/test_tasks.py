"""What operations leave in their Tasks (E1)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from blockvault.api import SkippedRun, Task, Vault
from blockvault.core.naming import MOST_LABEL, label_value, task_name
from blockvault.core.reasons import REASONS, UNKNOWN
from blockvault.core.task_record import LONGEST_MESSAGE, Record, body_of, claim_event, record_of
from blockvault.core.tasks import (
    closed,
    deleted_tasks,
    instant_task,
    operation_of,
    skipped_task,
    tasks_of,
    upkeep_tasks,
)

from . import world

NOW = world.NOW
VAULT = Vault.model_validate(world.VAULT)
Object = dict[str, Any]


def backup(status: Object | None = None, **meta: Any) -> Object:
    body = world.backup_object()
    body["metadata"] |= meta
    return body | ({"status": status} if status else {})


def restore(status: Object | None = None) -> Object:
    return world.restore_object() | ({"status": status} if status else {})


STALLED = [{"type": "Stalled", "status": "True"}]
READY = [{"type": "Ready", "status": "True"}]

# (kind, status before, what is new in it) -> (type, phase), or nothing
WRITES: list[tuple[str, Object, Object, tuple[str, str] | None]] = [
    ("Backup", {}, {"phase": "Pending", "reason": "Queued"}, ("Backup", "Running")),
    ("Backup", {"phase": "Pending"}, {"phase": "Creating", "reason": "Moving"}, ("Backup", "Running")),
    ("Backup", {"phase": "Creating"}, {"progress": {"percent": 40}}, ("Backup", "Running")),
    ("Backup", {"phase": "Creating"}, {"phase": "Available", "reason": "Completed"}, ("Backup", "Succeeded")),
    ("Backup", {"phase": "Creating"}, {"phase": "Error", "reason": "VaultFull"}, ("Backup", "Failed")),
    ("Backup", {"phase": "Creating"}, {"phase": "Error", "reason": "Cancelled"}, ("Backup", "Cancelled")),
    # The work has failed and what it made is removed: it has not ended before that.
    ("Backup", {"phase": "Creating"}, {"reason": "Cancelled"}, ("Backup", "Running")),
    # What has ended is not told again, whatever becomes of it.
    ("Backup", {"phase": "Available"}, {"phase": "Restoring"}, None),
    ("Backup", {"phase": "Restoring"}, {"phase": "Available"}, None),
    ("Backup", {"phase": "Available"}, {"expiresAt": "2027-01-01T00:00:00Z"}, None),
    ("Backup", {"phase": "Error"}, {"phase": "Available"}, None),
    ("Restore", {}, {"phase": "Restoring", "reason": "Starting"}, ("Restore", "Running")),
    ("Restore", {"phase": "Restoring"}, {"phase": "Completed"}, ("Restore", "Succeeded")),
    ("Restore", {"phase": "Restoring"}, {"phase": "Error"}, ("Restore", "Failed")),
    ("Restore", {}, {"phase": "Skipped"}, ("Restore", "Skipped")),
    ("Restore", {"phase": "Completed"}, {"claim": "x"}, None),
    # In place: done when the claim has its data; going back is another operation.
    ("Restore", {"phase": "Restoring"}, {"phase": "Restored", "reason": "RollbackPossible"}, ("Restore", "Succeeded")),
    ("Restore", {"phase": "Restored"}, {"recorded": True}, None),
    ("Restore", {"phase": "Restored"}, {"phase": "Completed"}, None),
    ("Restore", {"phase": "Restored"}, {"phase": "RollingBack", "reason": "Detaching"}, ("Rollback", "Running")),
    ("Restore", {"phase": "Restored"}, {"reason": "CannotRollBack"}, ("Rollback", "Running")),
    ("Restore", {"phase": "Restored", "reason": "CannotRollBack"}, {"phase": "RollingBack", "reason": "Exchanging"}, ("Rollback", "Running")),
    ("Restore", {"phase": "RollingBack"}, {"phase": "RolledBack", "reason": "RolledBack"}, ("Rollback", "Succeeded")),
    ("Restore", {"phase": "Restored", "reason": "CannotRollBack"}, {"phase": "Completed"}, ("Rollback", "Failed")),
    ("Restore", {"phase": "RolledBack"}, {"claim": "x"}, None),
    # Phases that came later than this table: the conditions tell.
    ("Restore", {"phase": "Restoring"}, {"phase": "Mended", "conditions": READY}, ("Restore", "Succeeded")),
    ("Restore", {"phase": "Restoring"}, {"phase": "Broken", "conditions": STALLED}, ("Restore", "Failed")),
    ("Restore", {"phase": "Restoring"}, {"phase": "Waiting"}, ("Restore", "Running")),
    ("Vault", {}, {"phase": "Available", "capacity": "10Gi"}, None),
    ("Vault", {"capacity": "10Gi"}, {"capacity": "10Gi"}, None),
    ("Vault", {"capacity": "10Gi"}, {"capacity": "20Gi"}, ("Expand", "Succeeded")),
    ("BackupPolicy", {}, {"phase": "Ready"}, None),
    ("VaultClass", {}, {"phase": "Ready"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "before", "new", "expected"), WRITES, ids=str)
def test_a_status_write_says_what_its_task_says(
    kind: str, before: Object, new: Object, expected: tuple[str, str] | None
) -> None:
    bodies = {"Backup": backup, "Restore": restore}
    obj = bodies[kind](before) if kind in bodies else world.VAULT | {"status": before}
    found = tasks_of(kind, obj, new, NOW)
    assert [(r.type, r.phase) for r in found] == ([expected] if expected else [])


def test_what_is_being_deleted_has_a_task_of_its_own() -> None:
    going = {"deletionTimestamp": world.STAMP}
    said = {"phase": "Deleting", "reason": "InUse", "message": "m"}
    (of_backup,) = tasks_of("Backup", backup({"phase": "Available"}, **going), said, NOW)
    vault = world.VAULT | {"metadata": world.VAULT["metadata"] | going}
    (of_vault,) = tasks_of("Vault", vault, said, NOW)
    assert (of_backup.type, of_backup.trigger, of_backup.reason) == ("DeleteBackup", "Manual", "InUse")
    assert (of_vault.type, of_vault.vault, of_vault.resource) == ("DeleteVault", "disks", None)
    by_rule = backup({"phase": "Available", "removedBy": "Expired"}, **going)
    assert tasks_of("Backup", by_rule, said, NOW)[0].trigger == "Policy"


def test_a6_a_vault_that_goes_shows_how_far_it_is_and_what_stays() -> None:
    going = world.VAULT["metadata"] | {"deletionTimestamp": world.STAMP}
    vault = world.VAULT | {"metadata": going, "status": {"location": "s3://b/p"}}
    said = {
        "phase": "Deleting",
        "reason": "RemovingBackups",
        "message": "m",
        "deletion": {"total": 8, "left": 6},
    }
    (begun,) = tasks_of("Vault", vault, said, NOW)
    assert begun.percent == 25
    (end,) = deleted_tasks("Vault", vault, [begun], NOW)
    assert (end.phase, end.percent, end.message) == (
        "Succeeded",
        100,
        "Vault disks is deleted. Last it said: m",
    )
    (unsaid,) = deleted_tasks("Vault", vault, [], NOW)
    assert unsaid.message == "Vault disks is deleted. Its stored data stays at s3://b/p."


def test_backups_that_only_show_the_store_have_none() -> None:
    shown = backup(annotations={"blockvault.dev/imported": "{}"})
    assert tasks_of("Backup", shown, {"phase": "Available"}, NOW) == []


def test_a_tasks_name_follows_from_its_operation() -> None:
    """Writing twice is the same as once, and no two operations share one."""
    first = [r.name for r in tasks_of("Backup", backup(), {"phase": "Pending"}, NOW)]
    assert first == [
        r.name for r in tasks_of("Backup", backup({"phase": "Pending"}), {"phase": "Error"}, NOW)
    ]
    names = {
        *first,
        task_name("Backup", "b-2"),
        task_name("DeleteBackup", "b-1"),
        *(skipped(slot, claim).name for slot, claim in itertools.product(("1", "2"), ("db", "web"))),
        instant_task("Undelete", VAULT, "id-1", "Undeleted", "m", NOW).name,
        instant_task("TakeOver", VAULT, "id-1", "TakenOver", "m", NOW).name,
    }
    assert len(names) == 9
    assert all(len(name) <= 63 for name in names)


def skipped(slot: str = "2026-11-23T02:00:00Z", claim: str = "db") -> Record:
    run = SkippedRun(slot=slot, reason="Missed", message="The operator was away.")
    return skipped_task(VAULT, claim, run, NOW)


def test_b3_a_skipped_slot_says_which_and_why() -> None:
    body = body_of(skipped())
    assert body["spec"]["slot"] == "2026-11-23T02:00:00Z"
    assert body["spec"]["resource"] == {"kind": "PersistentVolumeClaim", "name": "db"}
    assert (body["status"]["phase"], body["status"]["reason"]) == ("Skipped", "Missed")
    assert body["status"]["remedy"] == REASONS["Missed"].remedy
    assert body["status"]["startedAt"] == body["status"]["completedAt"] == world.STAMP


def record(**changes: Any) -> Record:
    found = operation_of(
        "Backup", backup({"phase": "Creating", "reason": "Moving", "startedAt": world.STAMP})
    )
    assert found is not None
    return replace(found, **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"phase": "Failed", "ended": world.STAMP}, {"percent": 7}, {"vault": None}], ids=str
)
def test_a_record_comes_back_from_the_api_as_it_went(changes: Object) -> None:
    wanted = record(**changes)
    body = body_of(wanted)
    body["metadata"]["creationTimestamp"] = world.STAMP
    assert record_of(Task.model_validate(body)) == wanted


def test_the_remedy_goes_with_the_reason() -> None:
    assert body_of(record())["status"]["remedy"] == ""
    assert (
        body_of(record(phase="Failed", reason="VaultFull"))["status"]["remedy"] == REASONS["VaultFull"].remedy
    )
    assert body_of(record(phase="Failed", reason="OfANewMover"))["status"]["remedy"] == UNKNOWN
    # A patch that leaves something out leaves the former in place.
    bodies = [body_of(record(phase=phase)) for phase in ("Running", "Succeeded", "Failed")]
    assert len({frozenset(body["status"]) for body in bodies}) == 1


def test_a_task_is_small_whatever_a_driver_says() -> None:
    assert len(body_of(record(message="x" * 10**6))["status"]["message"]) == LONGEST_MESSAGE
    name = "n" * 200 + ".a"
    labels = body_of(record(object=name, vault=name, resource=name))["metadata"]["labels"]
    assert max(len(value) for value in labels.values()) <= MOST_LABEL


@pytest.mark.parametrize(
    "name", ["db", "a" * 63, "a" * 64, "a" * 45 + "." * 1 + "b" * 100, "a" * 45 + "-.-" + "b" * 100]
)
def test_label_values_fit_and_differ(name: str) -> None:
    value = label_value(name)
    assert len(value) <= 63
    assert value[0].isalnum()
    assert value[-1].isalnum()
    assert (value == name) is (len(name) <= 63)
    assert value != label_value(name + "c")


OK = {"outcome": "Succeeded", "reason": "Completed", "message": "m"}
DELETING = {"deletionTimestamp": world.STAMP}


def restored(phase: str) -> Object:
    """A Restore in place; of the same uid as the Task."""
    body = restore({"phase": phase, "reason": "Said", "operation": OK, "restoredAt": world.STAMP})
    return body | {"metadata": body["metadata"] | {"uid": "b-1"}}


# A Task that says Running, and its Backup as it is -> (phase, reason), None while it goes on.
CLOSED: list[tuple[str, Object | None, tuple[str, str] | None]] = [
    ("Backup", backup({"phase": "Creating"}), None),
    ("Backup", backup(), None),
    ("Backup", backup({"phase": "Available", "reason": "Completed"}), ("Succeeded", "Completed")),
    ("Backup", backup({"phase": "Error", "reason": "VaultFull"}), ("Failed", "VaultFull")),
    ("Backup", backup({"phase": "Restoring", "reason": "Completed", "volumes": [{}]}), ("Succeeded", "Completed")),
    ("Backup", None, ("Cancelled", "EndNotSeen")),
    ("Backup", backup({"phase": "Available"}, uid="another"), ("Cancelled", "EndNotSeen")),
    ("Backup", backup({"phase": "Deleting"}, **DELETING), ("Cancelled", "DeletedMeanwhile")),
    # It had ended before it was deleted, and only its Task did not say so.
    ("Backup", backup({"phase": "Deleting", "operation": OK, "completedAt": world.STAMP}, **DELETING), ("Succeeded", "Completed")),
    ("Rollback", restored("RollingBack"), None),
    ("Rollback", restored("Restored"), None),
    ("Rollback", restored("RolledBack"), ("Succeeded", "RolledBack")),
    ("Rollback", restored("Completed"), ("Failed", "CannotRollBack")),
    ("Restore", restored("Restoring"), None),
    ("Restore", restored("Restored"), ("Succeeded", "Said")),
    # What it says by now is of going back; its own last word stands beside it.
    ("Restore", restored("RolledBack"), ("Succeeded", "Completed")),
    ("DeleteBackup", backup({"phase": "Deleting"}, **DELETING), None),
    ("DeleteBackup", None, ("Succeeded", "EndNotSeen")),
    ("DeleteBackup", backup(uid="another"), ("Succeeded", "EndNotSeen")),
]  # fmt: skip


@pytest.mark.parametrize(("type", "obj", "expected"), CLOSED, ids=str)
def test_a_task_that_was_left_behind_is_closed_truthfully(
    type: str, obj: Object | None, expected: tuple[str, str] | None
) -> None:
    kind = "Restore" if type in ("Restore", "Rollback") else "Backup"
    end = closed(record(type=type, kind=kind, name=task_name(type, "b-1")), obj, NOW)
    assert (None if end is None else (end.phase, end.reason)) == expected
    assert end is None or (end.type, end.name) == (type, task_name(type, "b-1"))


def test_what_keeps_its_data_when_deleted_says_so() -> None:
    going = record(type="DeleteBackup", reason="OwnedElsewhere", message="of cluster c")
    (end,) = deleted_tasks("Backup", backup(**DELETING), [going], NOW)
    assert (end.phase, end.reason, end.message) == ("Succeeded", "OwnedElsewhere", "of cluster c")
    after_a_crash = closed(going, None, NOW)
    assert after_a_crash is not None
    assert after_a_crash.reason == "OwnedElsewhere"
    (unsaid,) = deleted_tasks("Backup", backup(**DELETING), [], NOW)
    assert (unsaid.type, unsaid.reason, unsaid.started) == ("DeleteBackup", "Deleted", world.STAMP)
    assert [r.phase for r in deleted_tasks("Restore", restore(), [record(type="Restore")], NOW)] == [
        "Cancelled"
    ]
    assert deleted_tasks("Restore", restore(), [], NOW) == []


@pytest.mark.parametrize(
    ("status", "phases"),
    [
        ({"run": 3}, []),
        ({"endedAt": world.STAMP, "reason": "Completed", "deletedBytes": 0}, []),
        (
            {"endedAt": world.STAMP, "reason": "Completed", "deletedBytes": 5, "deletedObjects": 1},
            ["Succeeded"],
        ),
        ({"endedAt": world.STAMP, "reason": "StoreUnreachable", "message": "m"}, ["Failed"]),
    ],
    ids=str,
)
def test_upkeep_is_told_where_it_removed_something_or_failed(status: Object, phases: list[str]) -> None:
    assert [r.phase for r in upkeep_tasks(VAULT, 3, status, NOW)] == phases


WAITING = record(started=None, reason="Queued")
# (told last, now) -> the event's reason
EVENTS: list[tuple[Record | None, Record, str | None]] = [
    (None, WAITING, None),
    (None, record(), "BackupStarted"),
    (WAITING, record(), "BackupStarted"),
    (record(), record(percent=50), None),
    (record(), record(phase="Succeeded"), "BackupSucceeded"),
    (WAITING, record(phase="Failed"), "BackupFailed"),
    (record(), record(phase="Cancelled"), "BackupCancelled"),
    (None, record(reason="VaultFull"), None),  # refused at once
    (None, record(phase="Succeeded", type="DeleteBackup"), None),
    (None, record(phase="Succeeded", type="Expand", resource=None), None),
    (None, skipped(), "BackupSkipped"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "now", "reason"), EVENTS)
def test_the_claim_is_told_of_beginnings_and_ends_only(
    before: Record | None, now: Record, reason: str | None
) -> None:
    event = claim_event(before, now)
    assert (event or {}).get("reason") == reason
    if event is not None:
        assert now.object in event["message"]
        assert (event["phase"] == "Error") is (now.phase == "Failed"), "failures are warnings"


def test_an_instant_task_begins_and_ends_at_once() -> None:
    found = instant_task("Import", VAULT, "a/b", "Imported", "m", NOW + timedelta(hours=1))
    assert found.started == found.ended == "2026-11-23T13:00:00Z"
    assert body_of(found)["metadata"]["labels"]["blockvault.dev/day"] == "2026-11-23"
