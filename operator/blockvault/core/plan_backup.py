"""What a Backup does next, as a pure function of what is there.

The way: a snapshot of the claim, which is then bound again in the operator's namespace, a raw clone of
it, a mover Job that reads the clone, the outcome, clean-up. Nothing is remembered but what the API
server holds: each object's existence is the proof that its step was done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from blockvault.api import Backup, Vault, not_served

from .admission import Rival, check_claim, check_rivals, check_vault, check_volume, choose_snapshot_class
from .conditions import parse_timestamp
from .decision import (
    SOON,
    Decision,
    Missing,
    Outcome,
    Refusal,
    cancelled,
    failed,
    recorded_outcome,
    refuse_unserved,
    still_waiting,
)
from .encryption import check_encryption
from .lost_nodes import NODE_LOST, NOTHING_GIVEN_UP, GivenUp, Nodes, beyond_reach, left_behind
from .mover import judge_mover, mover_wait
from .objects import Object, csi_driver, deleting, job_ended, pod_ended, snapshot_error, snapshot_is_ready
from .source import read_source
from .timings import patience

TERMINAL = ("Available", "Error")

# A snapshot that is cut but not yet ready can be on its way to the cloud for hours; one that the driver
# has not even cut, or whose creation keeps failing, is given up at the start deadline.
SNAPSHOT_READY_LIMIT = timedelta(hours=12)


class Action(StrEnum):
    """One effect each; every one of them can be repeated without harm."""

    CREATE_SNAPSHOT = "CreateSnapshot"
    RETAIN_CONTENT = "RetainContent"
    BIND_CONTENT = "BindContent"
    BIND_SNAPSHOT = "BindSnapshot"
    DROP_SOURCE_SNAPSHOT = "DropSourceSnapshot"
    CREATE_CLONE = "CreateClone"
    CREATE_SECRET = "CreateSecret"  # noqa: S105
    CREATE_JOB = "CreateJob"
    DELETE_GIVEN_UP = "DeleteGivenUp"
    DELETE_JOB = "DeleteJob"
    DELETE_PODS = "DeletePods"
    DELETE_CLONE = "DeleteClone"
    DELETE_SECRET = "DeleteSecret"  # noqa: S105
    FORGET_STORED = "ForgetStored"
    RESTORE_CONTENT = "RestoreContentPolicy"
    DELETE_SNAPSHOT = "DeleteSnapshot"
    DELETE_FORMER_SNAPSHOTS = "DeleteFormerSnapshots"
    AWAIT_GONE = "AwaitGone"  # no effect: what was asked to go is still there


@dataclass(frozen=True)
class BackupView:
    """All that a decision about a Backup looks at.

    `snapshot` and `content` are those that the claim's namespace sees; `own_snapshot` and `own_content`
    those bound again for the operator. `former_snapshots` are snapshots of earlier backups of
    the same claim in the operator's namespace. `clone`, `has_secret`, `job` and `pods` are those of mover `attempt`,
    `given_up` is what those before it have left, and `nodes` are those that any of the pods are on.
    """

    now: datetime
    backup: Backup
    operator_namespace: str = ""
    vault: Vault | None = None
    claim: Object | None = None
    volume: Object | None = None
    storage_class: Object | None = None
    snapshot_classes: list[Object] = field(default_factory=list)
    rivals: list[Rival] = field(default_factory=list)
    snapshot: Object | None = None
    content: Object | None = None
    own_snapshot: Object | None = None
    own_content: Object | None = None
    clone: Object | None = None
    has_secret: bool = False
    job: Object | None = None
    pods: list[Object] = field(default_factory=list)
    former_snapshots: list[Object] = field(default_factory=list)
    attempt: int = 1
    given_up: GivenUp = NOTHING_GIVEN_UP
    nodes: Nodes = field(default_factory=dict)

    @property
    def started(self) -> bool:
        """Whether anything has been made for this Backup.

        A snapshot of its name may be somebody else's until it stands in the status that one was asked for.
        """
        asked = self.backup.status is not None and self.backup.status.source
        return bool((self.snapshot and asked) or self.own_content or self.job or self.clone)

    @property
    def outcome(self) -> Outcome | None:
        """The outcome that was recorded, if the work has ended."""
        return recorded_outcome(self.backup.status)


def decide_backup(view: BackupView) -> Decision:
    """The next step of a Backup. Never raises; never asks for more than one effect."""
    phase = view.backup.status.phase if view.backup.status else None
    if phase in TERMINAL:
        return Decision(str(phase), "", "", requeue=None)
    outcome = view.outcome
    if outcome is not None:
        return _clean_up(view, outcome)
    if view.backup.spec.cancel and not _succeeded(view):
        return _ended(cancelled())
    if not view.started:
        return _admit(view)
    return _go_on(view)


def _succeeded(view: BackupView) -> bool:
    """Whether the mover has said that the backup is made: then it is too late to cancel it."""
    report = judge_mover(view.job, view.pods) if view.job is not None and job_ended(view.job) else None
    return report is not None and report.succeeded


def _admit(view: BackupView) -> Decision:
    backup = view.backup
    problem = _check(view)
    if isinstance(problem, Missing):
        meta, limit = backup.metadata, backup.spec.start_deadline_seconds
        waiting = still_waiting(problem, meta.creation_timestamp, limit, view.now)
        if isinstance(waiting, Decision):
            return waiting
        problem = waiting
    if isinstance(problem, Refusal):
        return _ended(failed(problem.reason, problem.message))
    return Decision(
        "Creating",
        "Snapshotting",
        f"Taking a snapshot of PersistentVolumeClaim {backup.spec.claim}.",
        action=Action.CREATE_SNAPSHOT,
        detail=problem,
    )


def _check(view: BackupView) -> Refusal | Missing | Object:
    """The first thing that is wrong or missing, else the VolumeSnapshotClass to use."""
    backup = view.backup
    unserved = refuse_unserved(not_served(backup))
    if unserved is not None:
        return unserved
    name = backup.spec.claim
    if backup.metadata.namespace == view.operator_namespace:
        # The snapshot changes hands between two namespaces under one name.
        return Refusal(
            "OperatorNamespace",
            f"PersistentVolumeClaim {name} is in {view.operator_namespace}, the operator's own namespace, "
            "whose claims are not backed up: keep your data in another namespace.",
        )
    problem = (
        check_vault(backup.spec.vault_ref.name, view.vault)
        or check_claim(name, view.claim)
        or check_volume(name, view.claim, view.volume)
    )
    if problem is not None:
        return problem
    assert view.volume is not None
    assert view.vault is not None
    plain = check_encryption(name, view.storage_class, view.vault, view.volume)
    if plain is not None:
        return plain
    snapshot_class = choose_snapshot_class(str(csi_driver(view.volume)), view.snapshot_classes)
    if isinstance(snapshot_class, Refusal | Missing):
        return snapshot_class
    return check_rivals(rival_of(backup), view.rivals, name) or snapshot_class


def rival_of(backup: Backup) -> Rival:
    """This Backup in the order of operations on its claim."""
    meta = backup.metadata
    return Rival(meta.creation_timestamp, meta.uid, "Backup", meta.name)


def _go_on(view: BackupView) -> Decision:
    name = view.backup.spec.claim
    if view.job is not None and job_ended(view.job):
        report = judge_mover(view.job, view.pods)
        if report is None:  # the Job is complete but its words are lost: the mover says them again
            return Decision(
                "Creating", "MoverLost", "Asking the store for the outcome.", action=Action.DELETE_JOB
            )
        return _ended(report)
    if view.own_content is None:
        return _snapshot(view, name)
    if view.own_snapshot is None:
        return Decision(
            "Creating", "Binding", "Binding the snapshot for the mover.", action=Action.BIND_SNAPSHOT
        )
    if not snapshot_is_ready(view.own_snapshot):
        return Decision("Creating", "Binding", "Waiting for the snapshot to be bound for the mover.")
    if _source_stays(view):  # what was asked to go need not be gone: the mover's clone is of our own snapshot
        return Decision(
            "Creating", "Binding", "Releasing the claim's own snapshot.", action=Action.DROP_SOURCE_SNAPSHOT
        )
    return _move(view)


def _source_stays(view: BackupView) -> bool:
    """Whether the claim's own snapshot is still to be released, or its content would take the storage's with it."""
    kept = view.content is None or view.content["spec"].get("deletionPolicy") == "Retain"
    return _stays(view.snapshot) or _stays(view.content) or not kept


def _stays(obj: Object | None) -> bool:
    """Whether an object is there and nobody has asked for its deletion."""
    return obj is not None and not deleting(obj)


def _snapshot(view: BackupView, name: str) -> Decision:
    snapshot, content = view.snapshot, view.content
    if snapshot is None:
        # Only possible when somebody deleted it under us: what was made from it cannot be trusted.
        return _ended(
            failed("SnapshotLost", f"The VolumeSnapshot of PersistentVolumeClaim {name} was deleted.")
        )
    if snapshot["spec"]["source"].get("persistentVolumeClaimName") != name:
        return _ended(
            failed(
                "SnapshotNotOurs",
                f"VolumeSnapshot {snapshot['metadata']['name']} was made by somebody else, and not of "
                f"PersistentVolumeClaim {name}: make another Backup, and leave names that begin with bv- to us.",
            )
        )
    if not snapshot_is_ready(snapshot) or content is None:
        problem = _snapshot_overdue(view, snapshot, name)
        if problem is not None:
            return _ended(failed(problem.reason, problem.message))
        error = snapshot_error(snapshot)
        wait = f"Waiting for the snapshot of PersistentVolumeClaim {name}."
        if error:
            return Decision("Creating", "SnapshotRetrying", f"{wait} The driver's last error: {error}")
        return Decision("Creating", "Snapshotting", wait)
    source = read_source(None, view.backup.status.source if view.backup.status else None)
    if source is None or content["spec"]["source"].get("volumeHandle") != source.volume_handle:
        return _ended(
            failed(
                "SnapshotNotOurs",
                f"The snapshot is not of the volume that PersistentVolumeClaim {name} had when it was asked for: "
                "somebody exchanged one of them. Make another Backup.",
            )
        )
    if content["spec"].get("deletionPolicy") != "Retain":
        return Decision("Creating", "Binding", "Keeping the snapshot.", action=Action.RETAIN_CONTENT)
    return Decision("Creating", "Binding", "Binding the snapshot for the mover.", action=Action.BIND_CONTENT)


def _snapshot_overdue(view: BackupView, snapshot: Object, name: str) -> Refusal | None:
    age = view.now - parse_timestamp(snapshot["metadata"]["creationTimestamp"])
    cut = bool((snapshot.get("status") or {}).get("creationTime"))
    limit = SNAPSHOT_READY_LIMIT if cut else timedelta(seconds=view.backup.spec.start_deadline_seconds)
    if age < limit:
        return None
    error = snapshot_error(snapshot) or "the CSI driver gave no error"
    return Refusal(
        "SnapshotFailed",
        f"The snapshot of PersistentVolumeClaim {name} was not ready after "
        f"{int(age.total_seconds())} s: {error}. "
        "Look at the CSI driver and its snapshotter.",
    )


def _move(view: BackupView) -> Decision:
    if view.given_up.to_delete:  # its Job makes no more pods before another one is there
        text = "Removing what the mover on the lost node was given."
        return Decision("Creating", NODE_LOST, text, action=Action.DELETE_GIVEN_UP)
    if view.clone is None:
        return Decision(
            "Creating", "Cloning", "Making a volume from the snapshot.", action=Action.CREATE_CLONE
        )
    problem = check_vault(view.backup.spec.vault_ref.name, view.vault)
    if view.job is None:
        if isinstance(problem, Refusal):
            return _ended(failed(problem.reason, problem.message))
        if isinstance(problem, Missing):
            return Decision("Creating", problem.reason, problem.message)
        action = Action.CREATE_JOB if view.has_secret else Action.CREATE_SECRET
        return Decision("Creating", "Starting", "Starting the mover.", action=action)
    if not view.has_secret and problem is None:
        # Somebody deleted it: a pod that has not started waits for it.
        return Decision("Creating", "Starting", "Starting the mover.", action=Action.CREATE_SECRET)
    wait = mover_wait(view.job, view.pods, view.clone, view.now, view.nodes)
    if isinstance(wait, Outcome):
        return _ended(wait)
    attempt = view.attempt + 1 if wait.lost else None
    return Decision("Creating", wait.reason, wait.message, attempt=attempt)


def _ended(outcome: Outcome) -> Decision:
    return Decision("Creating", outcome.reason, outcome.message, outcome=outcome, requeue=0)


def _clean_up(view: BackupView, outcome: Outcome) -> Decision:
    action = next_cleaning(view, keep_snapshot=outcome.succeeded, keep_job=True)
    if action is Action.AWAIT_GONE:
        return Decision(
            "Creating", "CleaningUp", outcome.message, requeue=patience(view.backup.status, view.now)
        )
    if action is not None:
        return Decision("Creating", "CleaningUp", outcome.message, action=action, requeue=SOON)
    words = outcome.message + left_behind([*view.pods, *view.given_up.pods], view.nodes, view.now)
    return Decision("Available" if outcome.succeeded else "Error", outcome.reason, words, requeue=None)


def next_cleaning(view: BackupView, *, keep_snapshot: bool, keep_job: bool) -> Action | None:
    """The next thing to remove, AWAIT_GONE while what was asked to go is still there, None when nothing is left.

    The Job itself stays when it has ended (`keep_job`), so that a person can look at it. What a mover that has not
    ended works with stays until its pod is gone. Else nothing waits for anything: a pod holds its claim even when it
    has ended, and Kubernetes lets that go when the pod has. The snapshot stays as the base of the next backup when
    this one succeeded, and those of earlier backups go then (C4). What a lost node holds is deleted as far as that goes
    from here, and not waited for.
    """
    if view.job is not None and not (keep_job and job_ended(view.job)):
        return Action.AWAIT_GONE if deleting(view.job) else Action.DELETE_JOB
    if view.given_up.to_delete:
        return Action.DELETE_GIVEN_UP
    if any(not deleting(pod) for pod in view.pods):
        return Action.DELETE_PODS
    within_reach = [pod for pod in view.pods if not beyond_reach(pod, view.nodes, view.now)]
    if not all(pod_ended(pod) for pod in within_reach):
        return Action.AWAIT_GONE
    held = len(within_reach) < len(view.pods)
    if _stays(view.clone):
        return Action.DELETE_CLONE
    if view.has_secret or view.given_up.has_secrets:
        # Its Secret says that a mover was there, which may have committed before it was stopped, or may do so yet.
        succeeded = view.outcome is not None and view.outcome.succeeded
        alive = view.backup.spec.cancel or held or view.attempt > 1
        return Action.FORGET_STORED if alive and not keep_snapshot and not succeeded else Action.DELETE_SECRET
    if view.own_content is None and view.content is not None:
        if view.content["spec"].get("deletionPolicy") != "Delete":
            return Action.RESTORE_CONTENT
    elif view.own_content is not None and _source_stays(view):
        return Action.DROP_SOURCE_SNAPSHOT
    former = view.former_snapshots if keep_snapshot else []
    if any(_stays(snapshot) for snapshot in former):
        return Action.DELETE_FORMER_SNAPSHOTS
    source = view.own_content is not None and bool(view.snapshot or view.content)
    if within_reach or (view.clone and not held) or former or source:
        return Action.AWAIT_GONE
    return None if keep_snapshot else _drop_snapshot(view)


def _drop_snapshot(view: BackupView) -> Action | None:
    """The next step until the storage's snapshot is gone, in whichever state the change of hands is."""
    first = view.own_snapshot or view.own_content or view.snapshot
    if first is None:
        return None
    kept = view.own_content is not None and view.own_content["spec"].get("deletionPolicy") != "Delete"
    return Action.DELETE_SNAPSHOT if _stays(first) or kept else Action.AWAIT_GONE
