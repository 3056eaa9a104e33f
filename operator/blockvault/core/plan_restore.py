"""What a Restore to a new claim does next, as a pure function of what is there (D2).

The claim that the user asked for is made first, bound by name to a PersistentVolume that does not exist
yet, so its name is taken and nobody provisions it. A raw volume is filled in the operator's namespace.
Then the PersistentVolume of that name is made on the same storage, in the mode that the user wants, and
the raw claim and its volume object go, with the policy Retain meanwhile, so that the storage stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from blockvault.api import Backup, Restore, Vault, not_served, parse_quantity

from .admission import Rival, check_rivals, check_vault
from .decision import (
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
from .mover import judge_mover, mover_wait
from .naming import RECLAIM_POLICY_ANNOTATION, RESTORE_ANNOTATION
from .objects import Object, deleting, job_ended

TERMINAL = ("Completed", "Error")
DEFAULT_STORAGE_CLASS = "storageclass.kubernetes.io/is-default-class"


class Action(StrEnum):
    """One effect each; every one of them can be repeated without harm."""

    CREATE_TARGET = "CreateTarget"
    CREATE_RAW_CLAIM = "CreateRawClaim"
    CREATE_SECRET = "CreateSecret"  # noqa: S105
    CREATE_JOB = "CreateJob"
    DELETE_JOB = "DeleteJob"
    DELETE_PODS = "DeletePods"
    DELETE_SECRET = "DeleteSecret"  # noqa: S105
    RETAIN_RAW_VOLUME = "RetainRawVolume"
    CREATE_VOLUME = "CreateVolume"
    DELETE_RAW_CLAIM = "DeleteRawClaim"
    DELETE_RAW_VOLUME = "DeleteRawVolume"
    HAND_OVER_POLICY = "HandOverPolicy"
    DISCARD_RAW_VOLUME = "DiscardRawVolume"
    DELETE_VOLUME_OBJECT = "DeleteVolumeObject"
    DISCARD_VOLUME = "DiscardVolume"
    DELETE_TARGET = "DeleteTarget"


@dataclass(frozen=True)
class RestoreView:
    """All that a decision about a Restore looks at.

    `raw_claim` and `raw_volume` are what the mover fills; `new_volume` is the PersistentVolume made on
    the same storage for the claim `target`. `attached` says whether the raw volume is attached anywhere.
    """

    now: datetime
    restore: Restore
    backup: Backup | None = None
    vault: Vault | None = None
    storage_classes: list[Object] = field(default_factory=list)
    rivals: list[Rival] = field(default_factory=list)
    target: Object | None = None
    raw_claim: Object | None = None
    raw_volume: Object | None = None
    new_volume: Object | None = None
    attached: bool = False
    has_secret: bool = False
    job: Object | None = None
    pods: list[Object] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """The Restore's uid, by which everything it makes is named."""
        return self.restore.metadata.uid

    @property
    def target_is_ours(self) -> bool:
        """Whether the claim of the wanted name was made by this Restore."""
        if self.target is None:
            return False
        return bool((self.target["metadata"].get("annotations") or {}).get(RESTORE_ANNOTATION) == self.uid)

    @property
    def outcome(self) -> Outcome | None:
        """The outcome that was recorded, if the work has ended."""
        return recorded_outcome(self.restore.status)


@dataclass(frozen=True)
class Target:
    """What the new claim shall be; `size` in bytes."""

    name: str
    size: int
    storage_class: str
    volume_mode: str
    access_modes: tuple[str, ...]


def decide_restore(view: RestoreView) -> Decision:
    """The next step of a Restore. Never raises; never asks for more than one effect."""
    phase = view.restore.status.phase if view.restore.status else None
    if phase in TERMINAL:
        return Decision(str(phase), "", "", requeue=None)
    outcome = view.outcome
    if outcome is not None:
        return _hand_over(view) if outcome.succeeded else _clean_up(view, outcome)
    if view.restore.spec.cancel:
        return _ended(cancelled())
    if not view.target_is_ours:
        return _admit(view)
    return _fill(view)


def _admit(view: RestoreView) -> Decision:
    restore = view.restore
    if view.raw_claim is not None or view.job is not None:
        return _ended(failed("TargetLost", f"{_target_name(view)} was deleted while it was being restored."))
    target = _check(view)
    if isinstance(target, Missing):
        meta, limit = restore.metadata, restore.spec.start_deadline_seconds
        waiting = still_waiting(target, meta.creation_timestamp, limit, view.now)
        if isinstance(waiting, Decision):
            return waiting
        target = waiting
    if isinstance(target, Refusal):
        return _ended(failed(target.reason, target.message))
    return Decision(
        "Restoring", "Starting", f"Making {_target_name(view)}.", action=Action.CREATE_TARGET, detail=target
    )


def _target_name(view: RestoreView) -> str:
    new_claim = view.restore.spec.target.new_claim
    return f"PersistentVolumeClaim {new_claim.name if new_claim else '?'}"


def _check(view: RestoreView) -> Refusal | Missing | Target:
    problem = refuse_unserved(not_served(view.restore)) or _check_backup(view)
    if problem is not None:
        return problem
    assert view.backup is not None
    problem = check_vault(view.backup.spec.vault_ref.name, view.vault)
    if problem is not None and problem.reason != "VaultFull":  # a full vault restores all the same
        return problem
    if view.target is not None:
        return Refusal(
            "ClaimExists",
            f"{_target_name(view)} exists already and is left alone: name another one in "
            "spec.target.newClaim.name, or delete it first.",
        )
    target = wanted_target(view)
    if isinstance(target, Refusal | Missing):
        return target
    me = Rival(view.restore.metadata.creation_timestamp, view.uid, "Restore", view.restore.metadata.name)
    return check_rivals(me, view.rivals, target.name) or target


def _check_backup(view: RestoreView) -> Refusal | Missing | None:
    ref = view.restore.spec.backup_ref
    name = ref.name if ref else ""
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


def wanted_target(view: RestoreView) -> Refusal | Missing | Target:
    """The claim to make, with what the Restore leaves open taken from the backup."""
    assert view.backup is not None
    assert view.backup.status is not None
    stored = view.backup.status.volumes[0]
    new_claim = view.restore.spec.target.new_claim
    assert new_claim is not None
    size = parse_quantity(new_claim.size) if new_claim.size else int(stored.size or 0)
    if size < int(stored.size or 0):
        return Refusal(
            "TargetTooSmall",
            f"spec.target.newClaim.size is {size} bytes, but the backup holds a volume of {stored.size}: "
            f"ask for at least that much.",
        )
    storage_class = _storage_class(view, new_claim.storage_class_name or stored.storage_class_name)
    if isinstance(storage_class, Refusal | Missing):
        return storage_class
    mode = new_claim.volume_mode or stored.volume_mode or "Filesystem"
    # A Filesystem claim that no pod ever mounted has no file system yet: the driver makes one at first use.
    if mode == "Filesystem" and not stored.file_system and stored.volume_mode == "Block":
        return Refusal(
            "NoFileSystem",
            f"Backup {view.backup.metadata.name} holds no ext4 or xfs file system, so it cannot be mounted "
            "as a Filesystem claim: set spec.target.newClaim.volumeMode to Block.",
        )
    modes = tuple(new_claim.access_modes or ["ReadWriteOnce"])
    return Target(new_claim.name, size, storage_class, mode, modes)


def _storage_class(view: RestoreView, wanted: str | None) -> str | Refusal | Missing:
    names = {c["metadata"]["name"] for c in view.storage_classes}
    if wanted:
        if wanted in names:
            return wanted
        return Missing(
            "StorageClassNotFound", f"StorageClass {wanted} does not exist: create it or name another."
        )
    defaults = [
        c["metadata"]["name"]
        for c in view.storage_classes
        if (c["metadata"].get("annotations") or {}).get(DEFAULT_STORAGE_CLASS) == "true"
    ]
    if len(defaults) == 1:
        return str(defaults[0])
    return Refusal(
        "NoStorageClass",
        "No StorageClass is named and there is no single default: set newClaim.storageClassName.",
    )


def _fill(view: RestoreView) -> Decision:
    if view.job is not None and job_ended(view.job):
        report = judge_mover(view.job, view.pods)
        if report is None:
            return _doing("MoverLost", "Starting the mover again: its outcome was lost.", Action.DELETE_JOB)
        return _ended(report)
    if view.target is not None and deleting(view.target):
        return _ended(failed("TargetLost", f"{_target_name(view)} was deleted while it was being restored."))
    if view.raw_claim is None:
        return _doing("Provisioning", "Making the volume to restore into.", Action.CREATE_RAW_CLAIM)
    if view.job is None:
        if view.backup is None or view.vault is None:
            return _ended(
                failed("BackupLost", "The Backup or its Vault was deleted while it was being restored.")
            )
        action = Action.CREATE_JOB if view.has_secret else Action.CREATE_SECRET
        return _doing("Starting", "Starting the mover.", action)
    wait = mover_wait(view.job, view.pods, view.raw_claim, view.now)
    if isinstance(wait, Outcome):
        return _ended(wait)
    return _doing(wait.reason, wait.message)


def _hand_over(view: RestoreView) -> Decision:
    """From the raw claim to the user's. Every step can be taken again; the storage is never unowned."""
    if view.target is None or deleting(view.target):
        lost = failed("TargetLost", f"{_target_name(view)} was deleted before it was handed over.")
        return _ended(lost)
    text = "Handing the restored volume over."
    if view.pods:
        return _doing("HandingOver", text, Action.DELETE_PODS)
    if view.new_volume is None:
        if view.raw_volume is None:
            return _ended(failed("VolumeLost", "The restored volume's PersistentVolume was deleted."))
        if view.raw_volume["spec"].get("persistentVolumeReclaimPolicy") != "Retain":
            return _doing("HandingOver", text, Action.RETAIN_RAW_VOLUME)
        if view.attached:
            return _doing(
                "Detaching", "Waiting for the restored volume to be detached from the mover's node."
            )
        return _doing("HandingOver", text, Action.CREATE_VOLUME)
    if view.raw_claim is not None:
        return _doing("HandingOver", text, Action.DELETE_RAW_CLAIM)
    if view.raw_volume is not None:
        return _doing("HandingOver", text, Action.DELETE_RAW_VOLUME)
    if (view.target.get("status") or {}).get("phase") != "Bound":
        return _doing("Binding", f"Waiting for {_target_name(view)} to be bound to the restored volume.")
    if _policy_pending(view.new_volume):
        return _doing("HandingOver", text, Action.HAND_OVER_POLICY)
    if view.has_secret:
        return _doing("CleaningUp", text, Action.DELETE_SECRET)
    return Decision("Completed", "Completed", f"{_target_name(view)} holds the backup.", requeue=None)


def _policy_pending(volume: Object) -> bool:
    """Whether the volume still has the policy Retain of the hand-over and not that of its class."""
    wanted = (volume["metadata"].get("annotations") or {}).get(RECLAIM_POLICY_ANNOTATION)
    return bool(wanted) and volume["spec"].get("persistentVolumeReclaimPolicy") != wanted


def _doing(reason: str, message: str, action: Action | None = None) -> Decision:
    return Decision("Restoring", reason, message, action=action, requeue=1.0 if action else 2.0)


def _ended(outcome: Outcome) -> Decision:
    return Decision("Restoring", outcome.reason, outcome.message, outcome=outcome, requeue=0)


def _clean_up(view: RestoreView, outcome: Outcome) -> Decision:
    action = next_cleaning(view)
    if action is not None:
        return Decision("Restoring", "CleaningUp", outcome.message, action=action, requeue=1.0)
    return Decision("Error", outcome.reason, outcome.message, requeue=None)


def next_cleaning(view: RestoreView) -> Action | None:
    """The next thing to remove after a failure, None when nothing of this Restore is left.

    The storage must have exactly one owner with the policy Delete in the end: the raw claim's volume
    while that claim is there, else the new one.
    """
    if view.job is not None and not job_ended(view.job):
        return Action.DELETE_JOB
    if view.pods:
        return Action.DELETE_PODS
    if view.target_is_ours:
        return Action.DELETE_TARGET
    if view.new_volume is not None:
        return Action.DISCARD_VOLUME if view.raw_claim is None else Action.DELETE_VOLUME_OBJECT
    if (
        view.raw_volume is not None
        and view.raw_volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete"
    ):
        return Action.DISCARD_RAW_VOLUME
    if view.raw_claim is not None:
        return Action.DELETE_RAW_CLAIM
    if view.has_secret:
        return Action.DELETE_SECRET
    return None
