"""What a Restore to a new claim does next (D2, D8, D10)."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from blockvault.api import Backup, Restore
from blockvault.core.naming import RECLAIM_POLICY_ANNOTATION, RESTORE_ANNOTATION, RETAINED_BY_ANNOTATION
from blockvault.core.plan_restore import Target, decide_restore
from blockvault.core.restore_model import Action, RestoreView
from blockvault.core.restoring import next_cleaning

from . import world
from .world import NOW

LATE = NOW + timedelta(seconds=601)
CLASS = {"metadata": {"name": "fast"}}
DEFAULT_CLASS = {
    "metadata": {"name": "std", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
}


def view(**changes: Any) -> RestoreView:
    """A view in which nothing stands in the way and nothing has been made."""
    base = RestoreView(
        now=NOW,
        calendar=NOW,
        restore=Restore.model_validate(world.restore_object()),
        claim="db-copy",
        backup=world.available_backup(),
        vault=world.vault(),
        storage_classes=[CLASS],
    )
    return dataclasses.replace(base, **changes)


def wanting(ofBlock: bool = False, **new_claim: Any) -> RestoreView:
    stored = {"volumeMode": "Block", "fileSystem": None} if ofBlock else {}
    return view(
        backup=world.available_backup(**stored),
        restore=Restore.model_validate(world.restore_object(**new_claim)),
        storage_classes=[CLASS, DEFAULT_CLASS],
    )


def backup_in(phase: str) -> Backup:
    body = world.backup_object()
    body["status"] = {"phase": phase}
    return Backup.model_validate(body)


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"backup": None}, "BackupNotFound", ["Backup b"]),
        ({"backup": backup_in("Creating")}, "BackupNotAvailable", ["Backup b", "Creating"]),
        ({"vault": None}, "VaultNotFound", ["Vault disks"]),
        (
            {"vault": world.vault(phase="Pending", message="absent bucket")},
            "VaultNotAvailable",
            ["absent bucket"],
        ),
        ({"storage_classes": []}, "StorageClassNotFound", ["StorageClass fast"]),
    ],
)
def test_what_is_absent_is_waited_for_and_then_refused(
    changes: dict[str, Any], reason: str, words: list[str]
) -> None:
    waiting = decide_restore(view(**changes))
    assert (waiting.phase, waiting.reason, waiting.action) == ("Pending", reason, None)
    assert all(word in waiting.message for word in words)
    refused = decide_restore(view(**changes, now=LATE))
    assert refused.outcome is not None
    assert refused.outcome.reason == reason
    assert "spec.startDeadlineSeconds" in refused.outcome.message


STRANGER = {"metadata": {"name": "db-copy", "uid": "x"}, "spec": {}}


@pytest.mark.parametrize(
    ("changed", "reason", "words"),
    [
        (view(backup=backup_in("Error")), "BackupNotRestorable", ["Backup b", "Error"]),
        (view(target=STRANGER), "ClaimExists", ["db-copy", "left alone", "spec.target.newClaim.name"]),
        (wanting(size="9Gi"), "TargetTooSmall", [str(9 * 2**30), str(10 * 2**30)]),
        (wanting(volumeMode="Filesystem", ofBlock=True), "NoFileSystem", ["Backup b", "Block"]),
        (
            view(vault=world.vault(phase="Error", reason="AccessDenied", message="denied")),
            "VaultError",
            ["denied"],
        ),
    ],
)
def test_what_is_present_and_wrong_fails_at_once(changed: RestoreView, reason: str, words: list[str]) -> None:
    decision = decide_restore(changed)
    assert decision.outcome is not None
    assert (decision.outcome.succeeded, decision.outcome.reason) == (False, reason)
    assert all(word in decision.outcome.message for word in words)


def test_a_full_vault_restores_all_the_same() -> None:
    assert decide_restore(view(vault=world.vault(usedBytes=2**50))).action is Action.CREATE_TARGET


@pytest.mark.parametrize(
    ("new_claim", "stored", "target"),
    [
        ({}, {}, Target("db-copy", 10 * 2**30, "fast", "Filesystem", ("ReadWriteOnce",))),
        ({"size": "20Gi"}, {}, Target("db-copy", 20 * 2**30, "fast", "Filesystem", ("ReadWriteOnce",))),
        (
            {"storageClassName": "std", "volumeMode": "Block"},
            {},
            Target("db-copy", 10 * 2**30, "std", "Block", ("ReadWriteOnce",)),
        ),
        (
            {},
            {"storageClassName": None},
            Target("db-copy", 10 * 2**30, "std", "Filesystem", ("ReadWriteOnce",)),
        ),
        (
            {},
            {"volumeMode": "Block", "fileSystem": None},
            Target("db-copy", 10 * 2**30, "fast", "Block", ("ReadWriteOnce",)),
        ),
    ],
)
def test_d2_what_the_restore_leaves_open_comes_from_the_backup(
    new_claim: dict[str, Any], stored: dict[str, Any], target: Target
) -> None:
    changed = dataclasses.replace(wanting(**new_claim), backup=world.available_backup(**stored))
    decision = decide_restore(changed)
    assert decision.action is Action.CREATE_TARGET
    assert decision.detail == target


WANTED = {"storageClassName": "fast", "resources": {"requests": {"storage": "10Gi"}}}
OURS = {
    "metadata": {"name": "db-copy", "uid": "t", "annotations": {RESTORE_ANNOTATION: "r-1"}},
    "spec": WANTED,
}
BOUND = {**OURS, "status": {"phase": "Bound"}}
RAW = {"metadata": {"name": "bv-r-1"}, "spec": {"volumeName": "pvc-raw"}, "status": {"phase": "Bound"}}


KEPT = {RECLAIM_POLICY_ANNOTATION: "Delete", RETAINED_BY_ANNOTATION: "r-1"}


def raw_volume(policy: str = "Delete") -> world.Object:
    notes = KEPT if policy == "Retain" else {}
    return {
        "metadata": {"name": "pvc-raw", "annotations": notes},
        "spec": {"persistentVolumeReclaimPolicy": policy},
    }


def new_volume(policy: str = "Retain") -> world.Object:
    return {
        "metadata": {"name": "bv-r-1", "annotations": KEPT if policy == "Retain" else {}},
        "spec": {"persistentVolumeReclaimPolicy": policy},
    }


FILLING: list[tuple[dict[str, Any], Action | None]] = [
    ({}, Action.CREATE_TARGET),
    ({"target": OURS}, Action.CREATE_RAW_CLAIM),
    ({"target": OURS, "raw_claim": RAW}, Action.CREATE_SECRET),
    ({"target": OURS, "raw_claim": RAW, "has_secret": True}, Action.CREATE_JOB),
    ({"target": OURS, "raw_claim": RAW, "has_secret": True, "job": world.job()}, None),
    # Somebody has deleted it, and a pod that has not started waits for it.
    ({"target": OURS, "raw_claim": RAW, "job": world.job()}, Action.CREATE_SECRET),
]
ENDED = {"job": world.job("Complete"), "has_secret": True}
HANDING_OVER: list[tuple[dict[str, Any], Action | None]] = [
    (
        {"target": OURS, "raw_claim": RAW, "raw_volume": raw_volume(), "pods": [world.pod()]},
        Action.DELETE_PODS,
    ),
    ({"target": OURS, "raw_claim": RAW, "raw_volume": raw_volume()}, Action.RETAIN_RAW_VOLUME),
    ({"target": OURS, "raw_claim": RAW, "raw_volume": raw_volume("Retain"), "attached": "node1"}, None),
    ({"target": OURS, "raw_claim": RAW, "raw_volume": raw_volume("Retain")}, Action.CREATE_VOLUME),
    (
        {"target": OURS, "raw_claim": RAW, "raw_volume": raw_volume("Retain"), "new_volume": new_volume()},
        Action.DELETE_RAW_CLAIM,
    ),
    (
        {"target": OURS, "raw_volume": raw_volume("Retain"), "new_volume": new_volume()},
        Action.DELETE_RAW_VOLUME,
    ),
    ({"target": OURS, "new_volume": new_volume()}, None),
    ({"target": BOUND, "new_volume": new_volume()}, Action.HAND_OVER_POLICY),
    ({"target": BOUND, "new_volume": new_volume("Delete")}, Action.DELETE_SECRET),
]


def filled(**there: Any) -> RestoreView:
    body = world.restore_object()
    body["status"] = {
        "phase": "Restoring",
        "operation": {"outcome": "Succeeded", "reason": "Completed", "message": ""},
    }
    return view(restore=Restore.model_validate(body), **{**ENDED, **there})


@pytest.mark.parametrize(("there", "action"), FILLING)
def test_each_interrupted_step_of_filling_is_taken_up(there: dict[str, Any], action: Action | None) -> None:
    decision = decide_restore(view(**there))
    assert decision.action is action
    assert decision.outcome is None


@pytest.mark.parametrize(("there", "action"), HANDING_OVER)
def test_each_interrupted_step_of_handing_over_is_taken_up(
    there: dict[str, Any], action: Action | None
) -> None:
    decision = decide_restore(filled(**there))
    assert decision.action is action
    assert decision.outcome is None
    assert not decision.finished


def test_completed_only_when_bound_and_nothing_is_left() -> None:
    decision = decide_restore(filled(target=BOUND, new_volume=new_volume("Delete"), has_secret=False))
    assert (decision.phase, decision.finished) == ("Completed", True)


def test_the_storage_is_never_owned_by_two_that_would_delete_it() -> None:
    """A PersistentVolume of policy Delete takes the storage with it: never two of them at once."""
    for there, action in HANDING_OVER:
        volumes = [there[key] for key in ("raw_volume", "new_volume") if key in there]
        deleting = [v for v in volumes if v["spec"]["persistentVolumeReclaimPolicy"] == "Delete"]
        assert len(deleting) <= 1
        if action in (Action.CREATE_VOLUME, Action.DELETE_RAW_CLAIM, Action.DELETE_RAW_VOLUME):
            assert not deleting


def failed(**there: Any) -> RestoreView:
    body = world.restore_object()
    body["status"] = {"phase": "Restoring", "operation": {"outcome": "Failed", "reason": "R", "message": "m"}}
    return view(restore=Restore.model_validate(body), **there)


def clean(start: RestoreView) -> tuple[list[Action], int]:
    """Apply cleaning actions as the effects would. Also counts owners that delete the storage."""
    done: list[Action] = []
    storage_deleted = 0
    current = start
    while (action := next_cleaning(current)) is not None:
        done.append(action)
        assert len(done) < 20, f"cleaning does not end: {done}"
        raw_policy = (current.raw_volume or {}).get("spec", {}).get("persistentVolumeReclaimPolicy")
        if action is Action.DELETE_RAW_CLAIM:
            storage_deleted += raw_policy == "Delete"
            current = dataclasses.replace(current, raw_claim=None, raw_volume=None)
        elif action is Action.DISCARD_VOLUME:
            storage_deleted += 1
            current = dataclasses.replace(current, new_volume=None)
        else:
            changes: dict[Action, dict[str, Any]] = {
                Action.DELETE_JOB: {"job": None},
                Action.DELETE_PODS: {"pods": []},
                Action.DELETE_TARGET: {"target": None},
                Action.DELETE_VOLUME_OBJECT: {"new_volume": None},
                Action.DISCARD_RAW_VOLUME: {"raw_volume": raw_volume("Delete")},
                Action.DELETE_SECRET: {"has_secret": False},
            }
            current = dataclasses.replace(current, **changes[action])
    left = (current.pods, current.target_is_ours, current.raw_claim, current.new_volume, current.has_secret)
    assert not any(left)
    return done, storage_deleted


@pytest.mark.parametrize(("there", "_action"), [*FILLING, *HANDING_OVER])
def test_a_failure_at_any_step_leaves_nothing_and_deletes_the_storage_once(
    there: dict[str, Any], _action: Action | None
) -> None:
    _, storage_deleted = clean(failed(**there))
    assert storage_deleted == (1 if "raw_volume" in there or "new_volume" in there else 0)


def test_a_claim_of_somebody_else_is_never_deleted() -> None:
    done, _ = clean(failed(target=STRANGER, raw_claim=RAW))
    assert Action.DELETE_TARGET not in done


def test_a_target_deleted_under_us_is_a_failure_that_cleans_up() -> None:
    decision = decide_restore(filled(raw_claim=RAW, raw_volume=raw_volume("Retain")))
    assert decision.outcome is not None
    assert decision.outcome.reason == "TargetLost"
