"""What a Backup does next: each wait, each refusal, each step, and each interrupted step."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from blockvault.api import Backup
from blockvault.core.admission import Rival
from blockvault.core.plan_backup import Action, decide_backup, next_cleaning

from . import world
from .backups import CLONE, MOVED, STEPS, clean, ended_view, going, own_content, ready_view
from .world import NOW

LATE = NOW + timedelta(seconds=601)


UNBOUND = {**world.CLAIM, "status": {"phase": "Pending"}, "spec": {}}
HOSTPATH = {
    "metadata": {"name": "pv-db"},
    "spec": {
        "hostPath": {"path": "/data"},
        "capacity": {"storage": "1Gi"},
        "claimRef": {"uid": "c-1"},
    },
}


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"vault": None}, "VaultNotFound", ["Vault disks", "create it"]),
        (
            {"vault": world.vault(phase="Pending", message="Secret x is absent.")},
            "VaultNotAvailable",
            ["Secret x"],
        ),
        (
            {"vault": world.vault(phase="Error", reason="StoreUnreachable", message="no route")},
            "VaultNotAvailable",
            ["no route"],
        ),
        ({"claim": None}, "ClaimNotFound", ["PersistentVolumeClaim db", "create it"]),
        ({"claim": UNBOUND}, "ClaimNotBound", ["PersistentVolumeClaim db", "Pending"]),
        ({"snapshot_classes": []}, "NoSnapshotClass", ["csi.example.com", "create one"]),
    ],
)
def test_what_is_absent_is_waited_for_and_then_refused(
    changes: dict[str, Any], reason: str, words: list[str]
) -> None:
    waiting = decide_backup(ready_view(**changes))
    assert (waiting.phase, waiting.reason, waiting.action) == ("Pending", reason, None)
    assert all(word in waiting.message for word in words)
    refused = decide_backup(ready_view(**changes, now=LATE))
    assert refused.outcome is not None
    assert (refused.outcome.succeeded, refused.outcome.reason) == (False, reason)
    assert "600 s (spec.startDeadlineSeconds)" in refused.outcome.message


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        (
            {"vault": world.vault(phase="Error", reason="InvalidCredentials", message="wrong key")},
            "VaultError",
            ["disks", "wrong key"],
        ),
        ({"vault": world.vault(phase="Deleting")}, "VaultDeleting", ["disks"]),
        ({"vault": world.vault(usedBytes=101 * 2**30)}, "VaultFull", ["disks", "spec.capacity"]),
        ({"volume": HOSTPATH}, "NotCSI", ["db", "pv-db", "CSI"]),
        (
            {
                "snapshot_classes": [
                    world.SNAPSHOT_CLASS,
                    {"metadata": {"name": "other"}, "driver": "csi.example.com"},
                ]
            },
            "AmbiguousSnapshotClass",
            ["other, snaps", "blockvault.dev/snapshot-class"],
        ),
        (
            {"claim": {**world.CLAIM, "metadata": {**world.CLAIM["metadata"], "deletionTimestamp": "x"}}},
            "ClaimDeleting",
            ["db"],
        ),
        (
            {"backup": Backup.model_validate(world.backup_object(sharedWith=["team-b"]))},
            "NotServed",
            ["sharedWith"],
        ),
    ],
)
def test_what_is_present_and_wrong_fails_at_once(
    changes: dict[str, Any], reason: str, words: list[str]
) -> None:
    decision = decide_backup(ready_view(**changes))
    assert decision.outcome is not None
    assert (decision.outcome.succeeded, decision.outcome.reason) == (False, reason)
    assert all(word in decision.outcome.message for word in words)


def test_a_claim_beside_the_operator_is_refused() -> None:
    """Its snapshot could not change hands: both names are the same there."""
    decision = decide_backup(ready_view(operator_namespace="shop"))
    assert decision.outcome is not None
    assert decision.outcome.reason == "OperatorNamespace"


def test_a11_one_more_backup_runs_at_the_limit() -> None:
    """A11: at the capacity one more may run; beyond it none."""
    at_limit = decide_backup(ready_view(vault=world.vault(usedBytes=100 * 2**30)))
    assert at_limit.action is Action.CREATE_SNAPSHOT


def test_the_labelled_snapshot_class_wins_over_the_default() -> None:
    default = {
        **world.SNAPSHOT_CLASS,
        "metadata": {
            "name": "default",
            "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"},
        },
    }
    labelled = {
        **world.SNAPSHOT_CLASS,
        "metadata": {"name": "ours", "labels": {"blockvault.dev/snapshot-class": "true"}},
    }
    assert (
        decide_backup(ready_view(snapshot_classes=[default, labelled])).detail["metadata"]["name"] == "ours"
    )
    assert (
        decide_backup(ready_view(snapshot_classes=[world.SNAPSHOT_CLASS, default])).detail["metadata"]["name"]
        == "default"
    )


def test_two_default_snapshot_classes_are_refused() -> None:
    def default(name: str) -> world.Object:
        return {
            **world.SNAPSHOT_CLASS,
            "metadata": {
                "name": name,
                "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"},
            },
        }

    decision = decide_backup(ready_view(snapshot_classes=[default("a"), default("b"), world.SNAPSHOT_CLASS]))
    assert decision.outcome is not None
    assert decision.outcome.reason == "AmbiguousSnapshotClass"
    assert "(a, b)" in decision.outcome.message


def test_c13_the_younger_of_two_operations_waits_visibly_and_without_deadline() -> None:
    older = Rival(NOW - timedelta(minutes=1), "x", "Backup", "first")
    waiting = decide_backup(ready_view(rivals=[older], now=LATE))
    assert (waiting.phase, waiting.reason) == ("Pending", "OperationInProgress")
    assert "Backup first" in waiting.message
    younger = Rival(NOW + timedelta(minutes=1), "x", "Backup", "second")
    assert decide_backup(ready_view(rivals=[younger])).action is Action.CREATE_SNAPSHOT


def test_c13_of_two_made_in_one_second_exactly_one_goes() -> None:
    """Ties go by uid, so that two Backups of one manifest never wait for each other."""
    twin = Rival(NOW, "b-2", "Backup", "twin")
    assert decide_backup(ready_view(rivals=[twin])).action is Action.CREATE_SNAPSHOT
    twin = Rival(NOW, "a-9", "Backup", "twin")
    assert decide_backup(ready_view(rivals=[twin])).reason == "OperationInProgress"


@pytest.mark.parametrize(("there", "action"), STEPS)
def test_each_interrupted_step_is_taken_up_where_it_was(there: dict[str, Any], action: Action | None) -> None:
    decision = decide_backup(ready_view(**there))
    assert decision.action is action
    assert decision.outcome is None
    assert decision.requeue is not None


def test_the_content_is_kept_before_a_second_one_is_made() -> None:
    """Two contents with the policy Delete on one handle would let one deletion take the other's snapshot."""
    for there, action in STEPS:
        if action in (Action.BIND_CONTENT, Action.BIND_SNAPSHOT):
            assert there["content"]["spec"]["deletionPolicy"] == "Retain"


def test_a_snapshot_that_never_comes_fails_with_the_drivers_words() -> None:
    failing = world.snapshot(ready=False, error={"message": "quota exceeded"})
    waiting = decide_backup(ready_view(snapshot=failing))
    assert waiting.reason == "SnapshotRetrying"
    assert "quota exceeded" in waiting.message
    refused = decide_backup(ready_view(snapshot=failing, now=LATE))
    assert refused.outcome is not None
    assert refused.outcome.reason == "SnapshotFailed"
    assert "quota exceeded" in refused.outcome.message


def test_a_snapshot_that_is_cut_may_take_hours_to_be_ready() -> None:
    """Elapsed time alone fails nothing that is under way: clouds copy a snapshot for hours."""
    cut = world.snapshot(ready=False, creationTime=world.STAMP)
    assert decide_backup(ready_view(snapshot=cut, now=NOW + timedelta(hours=3))).outcome is None


def test_the_movers_words_decide() -> None:
    good = decide_backup(
        ready_view(**MOVED, job=world.job("Complete"), pods=[world.pod("Succeeded", world.GOOD)])
    )
    assert good.outcome is not None
    assert good.outcome.succeeded
    bad = decide_backup(
        ready_view(
            **MOVED, job=world.job("Failed", "PodFailurePolicy"), pods=[world.pod("Failed", world.BAD)]
        )
    )
    assert bad.outcome is not None
    assert (bad.outcome.succeeded, bad.outcome.reason, bad.outcome.message) == (
        False,
        "AccessDenied",
        "no fix it",
    )


def test_a_failed_job_whose_pod_reported_success_is_a_success() -> None:
    """The commit is the truth: a pod killed after its last word has committed all the same."""
    pods = [world.pod("Failed", world.GOOD), world.pod("Failed", world.BAD, created="2026-11-23T12:01:00Z")]
    decision = decide_backup(ready_view(**MOVED, job=world.job("Failed", "BackoffLimitExceeded"), pods=pods))
    assert decision.outcome is not None
    assert decision.outcome.succeeded


def test_a_complete_job_without_words_is_run_again_and_not_believed() -> None:
    decision = decide_backup(ready_view(**MOVED, job=world.job("Complete"), pods=[]))
    assert decision.outcome is None
    assert decision.action is Action.DELETE_JOB


def test_a_pod_that_cannot_start_says_why_and_ends() -> None:
    stuck = world.pod(
        "Pending",
        containerStatuses=[
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
        ],
    )
    waiting = decide_backup(ready_view(**MOVED, job=world.job(), pods=[stuck]))
    assert waiting.reason == "Starting"
    assert "ImagePullBackOff: no such image" in waiting.message
    ended = decide_backup(ready_view(**MOVED, job=world.job(), pods=[stuck], now=NOW + timedelta(minutes=16)))
    assert ended.outcome is not None
    assert ended.outcome.reason == "MoverNotStarted"


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(("there", "_action"), STEPS)
def test_a_failure_at_any_step_leaves_nothing(
    there: dict[str, Any], _action: Action | None, slow: bool
) -> None:
    view = ended_view("Failed", **there)
    done = clean(view, keep_snapshot=False, keep_job=True, slow=slow)
    if "own_content" in there and "content" in there:
        assert done.index(Action.DROP_SOURCE_SNAPSHOT) < done.index(Action.DELETE_SNAPSHOT), (
            "the kept content goes before the one that takes the storage's snapshot with it"
        )
    if (
        there.get("content")
        and "own_content" not in there
        and there["content"]["spec"]["deletionPolicy"] == "Retain"
    ):
        assert Action.RESTORE_CONTENT in done, "or the storage's snapshot would be left behind"
    assert Action.DELETE_FORMER_SNAPSHOTS not in done, "a failed backup keeps the base of the last good one"
    if "snapshot" in there or "own_content" in there:
        assert Action.DELETE_SNAPSHOT in done


@pytest.mark.parametrize("slow", [False, True])
def test_c4_a_success_keeps_its_own_snapshot_only_and_the_ended_job(slow: bool) -> None:
    """However long finalizers hold something, it is asked to go once, and nothing waits for anything else."""
    view = ended_view(
        "Succeeded",
        **MOVED,
        job=world.job("Complete"),
        pods=[world.pod("Succeeded", world.GOOD)],
        former_snapshots=[{"metadata": {"name": "bv-old"}}],
    )
    done = clean(view, keep_snapshot=True, keep_job=True, slow=slow)
    assert done == [
        Action.DELETE_PODS,
        Action.DELETE_CLONE,
        Action.DELETE_SECRET,
        Action.DELETE_FORMER_SNAPSHOTS,
    ]


def test_f3_nothing_is_taken_from_a_mover_that_has_not_ended() -> None:
    """What it may have committed is asked for after its end, not before: until then it may still commit."""
    pod = going(world.pod("Running"))
    view = ended_view("Failed", cancel=True, **MOVED, pods=[world.pod("Running")])
    assert next_cleaning(view, keep_snapshot=False, keep_job=True) is Action.DELETE_PODS
    view = dataclasses.replace(view, pods=[pod])
    assert next_cleaning(view, keep_snapshot=False, keep_job=True) is Action.AWAIT_GONE
    view = dataclasses.replace(view, pods=[])
    assert next_cleaning(view, keep_snapshot=False, keep_job=True) is Action.DELETE_CLONE


def test_the_mover_does_not_wait_until_the_claim_s_own_snapshot_is_gone() -> None:
    there = {"own_content": own_content(), "own_snapshot": world.snapshot()}
    kept = going(world.content("Retain"))
    assert decide_backup(ready_view(**there, content=kept)).action is Action.CREATE_CLONE
    changed = going(world.content("Delete"))  # somebody's hand: it would take the storage's snapshot with it
    assert decide_backup(ready_view(**there, content=changed)).action is Action.DROP_SOURCE_SNAPSHOT
    assert decide_backup(ended_view("Succeeded", **there, content=kept)).phase == "Creating"


def test_what_takes_long_to_go_is_looked_at_less_often() -> None:
    def pause(seconds: float) -> float | None:
        body = world.backup_object()
        cleaning = {"name": "CleaningUp", "startTime": world.STAMP}
        ended = {"outcome": "Succeeded", "reason": "R", "message": "m"}
        body["status"] = {"phase": "Creating", "operation": ended, "timings": [cleaning]}
        at = NOW + timedelta(seconds=seconds)
        return decide_backup(
            ready_view(backup=Backup.model_validate(body), clone=going(CLONE), now=at)
        ).next_look

    assert [pause(age) for age in (-5, 0, 2, 60)] == [0.1, 0.1, 0.5, 2.0]


def test_phases_are_reached_only_when_nothing_is_left() -> None:
    assert decide_backup(ended_view("Succeeded", clone=CLONE)).phase == "Creating"
    assert decide_backup(ended_view("Succeeded")).phase == "Available"
    assert decide_backup(ended_view("Failed", snapshot=world.snapshot(ready=False))).phase == "Creating"
    end = decide_backup(ended_view("Failed"))
    assert (end.phase, end.reason, end.message, end.finished) == ("Error", "R", "m", True)


@pytest.mark.parametrize("phase", ["Available", "Error"])
def test_terminal_is_terminal(phase: str) -> None:
    """Whatever has changed around it, a finished Backup is never touched again."""
    body = world.backup_object()
    body["status"] = {"phase": phase}
    decision = decide_backup(ready_view(backup=Backup.model_validate(body), vault=None, claim=None, now=LATE))
    assert decision.finished
    assert decision.action is None
    assert decision.outcome is None


def test_a_snapshot_of_our_name_that_nobody_asked_for_skips_no_check() -> None:
    """Whoever may make VolumeSnapshots knows our name as soon as the Backup is there."""
    pending = Backup.model_validate({**world.backup_object(), "status": {"phase": "Pending"}})
    early = ready_view(snapshot=world.snapshot(), content=world.content(), backup=pending)
    assert not early.started
    assert decide_backup(dataclasses.replace(early, vault=None)).reason == "VaultNotFound"
    assert decide_backup(early).action is Action.CREATE_SNAPSHOT, "and then it stands in the status"


def test_a_snapshot_of_another_claim_under_our_name_is_not_taken() -> None:
    forged = world.snapshot()
    forged["spec"]["source"] = {"persistentVolumeClaimName": "other"}
    assert decide_backup(ready_view(snapshot=forged, content=world.content())).reason == "SnapshotNotOurs"
    forged["spec"]["source"] = {"volumeSnapshotContentName": "content-of-somebody"}
    assert decide_backup(ready_view(snapshot=forged)).reason == "SnapshotNotOurs"


@pytest.mark.parametrize("source", [{"volumeHandle": "another"}, {"snapshotHandle": "forged"}])
def test_a_snapshot_of_another_volume_is_not_taken(source: dict[str, str]) -> None:
    content = world.content()
    content["spec"]["source"] = source
    assert decide_backup(ready_view(snapshot=world.snapshot(), content=content)).reason == "SnapshotNotOurs"


def test_a_claim_that_names_a_volume_of_somebody_else_is_refused() -> None:
    volume = {**world.VOLUME, "spec": {**world.VOLUME["spec"], "claimRef": {"uid": "other"}}}
    assert decide_backup(ready_view(volume=volume)).reason == "VolumeNotOfClaim"


def test_a_secret_that_somebody_deletes_is_made_again_for_a_mover_that_waits_for_it() -> None:
    view = ready_view(**MOVED | {"has_secret": False, "job": world.job()})
    assert decide_backup(view).action is Action.CREATE_SECRET
    gone = dataclasses.replace(view, vault=None)  # what is to stand in it is not known now
    assert decide_backup(gone).action is None
