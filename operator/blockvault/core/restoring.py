"""The steps that all Restores have in common: what is checked first, how a raw volume is filled, and taken over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from .admission import check_place, check_vault
from .conditions import parse_timestamp
from .decision import SOON, Decision, Missing, Outcome, Refusal, failed, still_waiting
from .latest import Never
from .lost_nodes import NODE_LOST, beyond_reach, lost_node, what_helps
from .mover import judge_mover, mover_wait
from .naming import (
    HAVE_ANNOTATION,
    RECLAIM_POLICY_ANNOTATION,
    RETAINED_BY_ANNOTATION,
)
from .objects import Object, claim_is_bound, deleting, job_ended
from .restore_model import SKIPPED, Action, RawClaim, RestoreView, annotation
from .timings import patience

HANDING_OVER = "Handing the restored volume over."
# A copy of a snapshot that no driver has begun by then is not waited for: an empty volume is filled instead.
COPY_LIMIT = timedelta(minutes=10)
COPY_FAILED = "SnapshotUnusable"
ON_LOST_NODE = "VolumeOnLostNode"


def check_source(view: RestoreView) -> Refusal | Missing | None:
    """Whether there is a backup that can be restored, in a Vault that allows it (D8)."""
    problem: Refusal | Missing | None = None
    if view.backup is not None or view.restore.spec.latest_of is None:
        problem = _check_backup(view)
    if problem is None and view.backup is not None:
        problem = check_place(view.backup, view.vault)
    problem = problem or check_vault(view.vault_name, view.vault)
    if problem is not None and problem.reason != "VaultFull":  # a full vault restores all the same
        return problem
    return _check_latest(view) if view.backup is None else None


def _check_latest(view: RestoreView) -> Refusal | Missing | None:
    """What the answer to the question for the latest backup means (F19)."""
    latest_of, latest = view.restore.spec.latest_of, view.latest
    assert latest_of is not None
    if isinstance(latest, Refusal | Missing):
        return latest
    if view.empty:
        return None
    words = f"{latest_of.resource.kind} {latest_of.resource.name} in Vault {view.vault_name}"
    if isinstance(latest, Never):
        return Refusal("NoBackup", f"There never was a backup of {words}.")
    return Missing("BackupNotShown", f"Waiting until the latest backup of {words} is shown as a Backup.")


def _check_backup(view: RestoreView) -> Refusal | Missing | None:
    ref = view.restore.spec.backup_ref
    name = view.backup.metadata.name if view.backup else ref.name if ref else ""
    backup = view.backup
    if backup is None:
        return Missing("BackupNotFound", f"Backup {name} does not exist in this namespace.")
    phase = (backup.status.phase if backup.status else None) or "Pending"
    if phase in ("Pending", "Creating"):
        return Missing("BackupNotAvailable", f"Backup {name} is {phase} and cannot be restored yet.")
    if phase not in ("Available", "Restoring"):
        return Refusal(
            "BackupNotRestorable",
            f"Backup {name} is in phase {phase}: only an Available one can be restored.",
        )
    if not backup.status or not backup.status.volumes or not backup.status.volumes[0].backup_id:
        return Refusal("BackupNotRestorable", f"Backup {name} names no stored volume in its status.")
    return None


def check_mode(view: RestoreView, mode: str, remedy: str) -> Refusal | None:
    """Whether the backup can be mounted, where it is to be."""
    if view.backup is None or view.backup.status is None:
        return None  # an empty one gets its file system when it is mounted
    stored = view.backup.status.volumes[0]
    # A Filesystem claim that no pod ever mounted has no file system yet: the driver makes one at first use.
    if mode != "Filesystem" or stored.file_system or stored.volume_mode != "Block":
        return None
    return Refusal(
        "NoFileSystem",
        f"Backup {view.backup.metadata.name} holds no ext4 or xfs file system, so it cannot be mounted "
        f"as a Filesystem claim: {remedy}.",
    )


def not_admitted(view: RestoreView, problem: Refusal | Missing) -> Decision:
    """The wait for what is missing, or the end."""
    meta, limit = view.restore.metadata, view.restore.spec.start_deadline_seconds
    if isinstance(problem, Missing) and view.populates:  # a claim waits as long as it is there
        return Decision("Pending", problem.reason, problem.message)
    if isinstance(problem, Missing):
        waiting = still_waiting(problem, meta.creation_timestamp, limit, view.now)
        if isinstance(waiting, Decision):
            return waiting
        problem = waiting
    return ended(failed(problem.reason, problem.message))


def skipped(view: RestoreView) -> Decision:
    """The end of a Restore that was done before under the same name."""
    message = (
        f"{view.target_name} was filled by a Restore of this name from this backup before; nothing is written. "
        "Create a Restore of another name to do it again."
    )
    return Decision(SKIPPED, "AlreadyRestored", message, requeue=None)


def fill(view: RestoreView, wanted: RawClaim | None, lost: str) -> Decision:
    """The next step until the raw volume holds the data. `lost`: why there is no claim for it any more."""
    if lost:
        return ended(failed("TargetLost", lost))
    if view.empty and view.raw_claim is not None:
        if not claim_is_bound(view.raw_claim):
            return doing("Provisioning", "Waiting for the empty volume.")
        return ended(Outcome(True, "Completed", "There never was a backup: the volume is empty."))
    if view.job is not None and job_ended(view.job):
        report = judge_mover(view.job, view.pods)
        if report is None:
            return doing("MoverLost", "Starting the mover again: its outcome was lost.", Action.DELETE_JOB)
        return ended(report)
    if view.given_up.to_delete:  # its Job makes no more pods before another one is there
        text = "Removing what the mover on the lost node was given."
        return doing(NODE_LOST, text, Action.DELETE_GIVEN_UP)
    if copy_failed(view):
        return doing(
            COPY_FAILED, "Beginning with an empty volume: no copy of the snapshot came.", _undo_copy(view)
        )
    if view.raw_claim is None:
        return doing("Provisioning", "Making the volume to restore into.", Action.CREATE_RAW_CLAIM, wanted)
    if view.job is None:
        if view.backup is None or view.vault is None:
            return ended(
                failed("BackupLost", "The Backup or its Vault was deleted while it was being restored.")
            )
        action = Action.CREATE_JOB if view.has_secret else Action.CREATE_SECRET
        return doing("Starting", "Starting the mover.", action)
    if not view.has_secret and view.backup is not None and view.vault is not None:
        # Somebody deleted it: a pod that has not started waits for it.
        return doing("Starting", "Starting the mover.", Action.CREATE_SECRET)
    wait = mover_wait(view.job, view.pods, view.raw_claim, view.now, view.nodes)
    if isinstance(wait, Outcome):
        return ended(wait)
    return replace(doing(wait.reason, wait.message), attempt=view.attempt + 1 if wait.lost else None)


def raw_claim_for(view: RestoreView, size: int, storage_class: str) -> RawClaim:
    """The raw claim, a copy of a kept snapshot where one can be had: then only what differs is fetched (D7)."""
    given_up = view.restore.status and view.restore.status.source == "Store"
    fitting = [c for c in view.copies if c.storage_class == storage_class and c.size <= size]
    volumes = view.backup.status.volumes if view.backup and view.backup.status else []
    wanted = volumes[0].backup_id if volumes else None
    best = max(fitting, key=lambda c: c.backup_id == wanted, default=None)
    return RawClaim(size, storage_class, None if given_up else best)


def copy_failed(view: RestoreView) -> bool:
    """Whether the raw claim waits for a copy of a snapshot that will not come."""
    if view.raw_claim is None or annotation(view.raw_claim, HAVE_ANNOTATION) is None:
        return False
    if view.restore.status and view.restore.status.source == "Store":
        return True
    if claim_is_bound(view.raw_claim):
        return False
    source = (view.raw_claim["spec"].get("dataSource") or {}).get("name")
    age = view.now - parse_timestamp(view.raw_claim["metadata"]["creationTimestamp"])
    return age > COPY_LIMIT or source not in {c.snapshot for c in view.copies}


def _undo_copy(view: RestoreView) -> Action:
    if view.job is not None:
        return Action.DELETE_JOB
    if view.pods:
        return Action.DELETE_PODS
    return Action.DELETE_SECRET if view.has_secret else Action.DELETE_RAW_CLAIM


def take_over(view: RestoreView, create: Action) -> Decision | None:
    """The next step from the raw claim to a PersistentVolume of ours on its storage; None when that is done."""
    if view.pods:
        return going(view, "HandingOver", HANDING_OVER, Action.DELETE_PODS, view.pods)
    if view.new_volume is None:
        if view.raw_volume is None:
            return ended(failed("VolumeLost", "The restored volume's PersistentVolume was deleted."))
        if not retained(view, view.raw_volume):
            return doing("HandingOver", HANDING_OVER, Action.RETAIN_RAW_VOLUME)
        if view.attached:
            words = "Waiting for the restored volume to be detached from the mover's node."
            return detaching(view, view.attached, words, patience(view.restore.status, view.now))
        return doing("HandingOver", HANDING_OVER, create)
    if view.raw_claim is not None:
        return going(view, "HandingOver", HANDING_OVER, Action.DELETE_RAW_CLAIM, [view.raw_claim])
    if view.raw_volume is not None:
        return going(view, "HandingOver", HANDING_OVER, Action.DELETE_RAW_VOLUME, [view.raw_volume])
    return None


def detaching(view: RestoreView, node: str, words: str, requeue: float | None = None) -> Decision:
    """The wait until a volume has left its node: also a lost one, as nobody knows whether it is written to there."""
    lost = lost_node(node, view.nodes, view.now)
    if lost:
        return doing(ON_LOST_NODE, f"{words} {lost}. {what_helps([node])}.")
    return doing("Detaching", words, requeue=requeue)


def retained(view: RestoreView, volume: Object) -> bool:
    """Whether a volume has the policy Retain by this Restore, which has noted what it was before."""
    return policy_of(volume) == "Retain" and annotation(volume, RETAINED_BY_ANNOTATION) == view.uid


def policy_pending(view: RestoreView, volume: Object | None) -> bool:
    """Whether a volume still has the policy Retain of a change of hands by this Restore and not its own."""
    wanted = annotation(volume, RECLAIM_POLICY_ANNOTATION)
    return volume is not None and retained(view, volume) and bool(wanted) and wanted != "Retain"


def policy_of(volume: Object) -> str | None:
    """A volume's reclaim policy."""
    policy: str | None = volume["spec"].get("persistentVolumeReclaimPolicy")
    return policy


def doing(
    reason: str, message: str, action: Action | None = None, detail: Any = None, requeue: float | None = None
) -> Decision:
    """A step on the way."""
    gone = action is Action.DELETE_SECRET  # it goes at once, what else is deleted takes a moment
    pause = requeue or (SOON if gone else 1.0 if action else 2.0)
    return Decision("Restoring", reason, message, action, detail, requeue=pause)


def going(view: RestoreView, reason: str, message: str, action: Action, objects: list[Object]) -> Decision:
    """The deletion of objects by this action, or the wait until they are gone."""
    if all(deleting(obj) for obj in objects):
        return doing(reason, message, requeue=patience(view.restore.status, view.now))
    return doing(reason, message, action)


def ended(outcome: Outcome) -> Decision:
    """The work has ended, and how."""
    return Decision("Restoring", outcome.reason, outcome.message, outcome=outcome, requeue=0)


def handed_over(view: RestoreView) -> bool:
    """Whether the claim has its volume already: nothing of it is taken away any more."""
    if view.new_volume is None or view.target is None or view.in_place:
        return False
    ref = view.new_volume["spec"].get("claimRef") or {}
    mine = view.target["spec"].get("volumeName") == view.new_volume["metadata"]["name"]
    bound = (view.target.get("status") or {}).get("phase") == "Bound"
    return bool(ref.get("uid") == view.target["metadata"]["uid"] and mine and bound)


def next_cleaning(view: RestoreView) -> Action | None:
    """The next thing to remove after a failure, None when nothing of this Restore is left.

    The storage must have exactly one owner with the policy Delete in the end: the raw claim's volume
    while that claim is there, else the new one. A claim that has got its volume keeps it. What a lost node holds is
    deleted as far as that goes from here, and not waited for.
    """
    if view.job is not None and not job_ended(view.job):
        return Action.DELETE_JOB
    if view.given_up.to_delete:
        return Action.DELETE_GIVEN_UP
    held = any(beyond_reach(pod, view.nodes, view.now) for pod in view.pods)
    if not all(beyond_reach(pod, view.nodes, view.now) for pod in view.pods):
        return Action.DELETE_PODS
    if handed_over(view):
        if view.raw_claim is not None:
            return Action.DELETE_RAW_CLAIM
        if view.raw_volume is not None:
            return Action.DELETE_RAW_VOLUME
        if policy_pending(view, view.new_volume):
            return Action.HAND_OVER_POLICY
        return Action.DELETE_SECRET if view.has_secrets else None
    if view.target_is_ours:
        return Action.DELETE_TARGET
    if view.new_volume is not None:
        return Action.DISCARD_VOLUME if view.raw_claim is None else Action.DELETE_VOLUME_OBJECT
    if view.raw_volume is not None and policy_of(view.raw_volume) != "Delete":
        return Action.DISCARD_RAW_VOLUME
    if view.raw_claim is not None and not (held and deleting(view.raw_claim)):
        return Action.DELETE_RAW_CLAIM
    if view.has_secrets:
        return Action.DELETE_SECRET
    return None
