"""What a decision about a Restore looks at, and what it may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from blockvault.api import Backup, Restore, Vault

from .admission import Rival
from .decision import Missing, Outcome, Refusal, recorded_outcome
from .latest import Never
from .lost_nodes import NOTHING_GIVEN_UP, GivenUp, Nodes
from .naming import (
    POPULATES_ANNOTATION,
    RESTORE_ANNOTATION,
    RESTORED_BY_ANNOTATION,
)
from .objects import Object
from .workloads import User, Workload

RESTORED, ROLLING_BACK, SKIPPED = "Restored", "RollingBack", "Skipped"
# Available: one that does nothing itself, but says what claims that name it are to get.
TERMINAL = ("Completed", "Error", "RolledBack", SKIPPED, "Available")


class Action(StrEnum):
    """One effect each; every one of them can be repeated without harm."""

    CREATE_TARGET = "CreateTarget"
    CREATE_RAW_CLAIM = "CreateRawClaim"
    CREATE_SECRET = "CreateSecret"  # noqa: S105
    CREATE_JOB = "CreateJob"
    DELETE_GIVEN_UP = "DeleteGivenUp"
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
    # In place
    STOP_WORKLOAD = "StopWorkload"
    START_WORKLOAD = "StartWorkload"
    PARK_RESTORED = "ParkRestored"
    PARK_FORMER = "ParkFormer"
    RETAIN_CLAIM_VOLUME = "RetainClaimVolume"
    FENCE = "Fence"
    UNFENCE = "Unfence"
    DELETE_CLAIM_VOLUME = "DeleteClaimVolume"
    CREATE_CLAIM_VOLUME = "CreateClaimVolume"
    SET_CLAIM_POLICY = "SetClaimPolicy"
    MARK_CLAIM = "MarkClaim"
    DELETE_FORMER_OBJECT = "DeleteFormerObject"
    DISCARD_FORMER = "DiscardFormer"
    RECORD = "Record"


@dataclass(frozen=True)
class Copy:
    """A snapshot that the operator keeps of the claim: ready to be copied, and known to hold a backup (D7).

    `size`: what a volume made of it has at least, in bytes.
    """

    snapshot: str
    backup_id: str
    storage_class: str | None
    size: int = 0


@dataclass(frozen=True)
class RawClaim:
    """The raw claim that a mover is to fill. `size` in bytes; `node`: where its volume must be reached."""

    size: int
    storage_class: str
    copy: Copy | None = None
    node: str | None = None


@dataclass(frozen=True)
class RestoreView:
    """All that a decision about a Restore looks at.

    `raw_claim` and `raw_volume` are what the mover fills; `new_volume` is the PersistentVolume made on
    the same storage for the claim `target`. `attached` is the node that the raw volume is attached to, if any.
    `calendar` is the time by which the rollback window goes; `now` that of deadlines.
    In place: `claim_volume` is the PersistentVolume that the claim names, `former_volume` the one under which
    its former storage is kept, `workloads` are those that were stopped, by kind and name, as they are now.
    `latest`: what the store answers where the latest backup is asked for; `done_before`: it knows that a Restore of
    this name has restored one in place.
    `stored`: what the store knows of the backup, None where it was not asked. `copies`: snapshots to begin with.
    `raw_claim`, `has_secret`, `job` and `pods` are those of the mover `attempt`, `given_up` is what those before it
    have left, and `nodes` are those that any pods or volumes of these are on.
    """

    now: datetime
    calendar: datetime
    restore: Restore
    claim: str = ""
    backup: Backup | None = None
    vault: Vault | None = None
    storage_classes: list[Object] = field(default_factory=list)
    rivals: list[Rival] = field(default_factory=list)
    target: Object | None = None
    raw_claim: Object | None = None
    raw_volume: Object | None = None
    new_volume: Object | None = None
    attached: str = ""
    has_secret: bool = False
    job: Object | None = None
    pods: list[Object] = field(default_factory=list)
    latest: str | Never | Missing | Refusal | None = None
    done_before: bool = False
    stored: dict[str, Any] | Missing | None = None
    copies: list[Copy] = field(default_factory=list)
    claim_volume: Object | None = None
    former_volume: Object | None = None
    claim_attached: str = ""
    users: list[User] = field(default_factory=list)
    workloads: dict[str, Workload | None] = field(default_factory=dict)
    attempt: int = 1
    given_up: GivenUp = NOTHING_GIVEN_UP
    nodes: Nodes = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether anything was made to be filled."""
        return self.raw_claim is not None or self.job is not None or self.attempt > 1

    @property
    def has_secrets(self) -> bool:
        """Whether a Secret of any of its movers is there."""
        return self.has_secret or self.given_up.has_secrets

    @property
    def uid(self) -> str:
        """The Restore's uid, by which everything it makes is named."""
        return self.restore.metadata.uid

    @property
    def me(self) -> Rival:
        """This Restore in the order of operations on its claim."""
        meta = self.restore.metadata
        return Rival(meta.creation_timestamp, meta.uid, "Restore", meta.name)

    @property
    def target_name(self) -> str:
        """The claim to fill, for a sentence."""
        return f"PersistentVolumeClaim {self.claim or '?'}"

    @property
    def target_is_ours(self) -> bool:
        """Whether the claim of the wanted name was made by this Restore."""
        return annotation(self.target, RESTORE_ANNOTATION) == self.uid

    @property
    def populates(self) -> str | None:
        """The uid of the claim that this Restore fills by its dataSourceRef (D3)."""
        return self.restore.metadata.annotations.get(POPULATES_ANNOTATION)

    @property
    def empty(self) -> bool:
        """Whether there never was a backup and an empty volume is what was asked for then (F19)."""
        if self.restore.status and self.restore.status.empty:
            return True
        return isinstance(self.latest, Never) and self.restore.spec.if_none == "Empty"

    @property
    def vault_name(self) -> str:
        """The Vault that has the backup."""
        return vault_name_of(self.restore, self.backup)

    @property
    def outcome(self) -> Outcome | None:
        """The outcome that was recorded, if the work has ended."""
        return recorded_outcome(self.restore.status)

    @property
    def in_place(self) -> bool:
        """Whether a claim that is there gets its former data, and not one that is made."""
        if self.restore.spec.target.original is None:
            return False
        if self.restore.status and self.restore.status.exchange:
            return True
        begun = self.begun or self.new_volume is not None
        return self.target is not None and not self.target_is_ours and not begun

    @property
    def full_name(self) -> str:
        """Namespace and name: what a manifest that is created again has in common with this one (F30)."""
        return f"{self.restore.metadata.namespace}/{self.restore.metadata.name}"

    @property
    def mark(self) -> str:
        """What a claim remembers of this Restore (F30)."""
        volumes = self.backup.status.volumes if self.backup and self.backup.status else []
        return f"{self.full_name}/{volumes[0].backup_id if volumes else ''}"

    @property
    def marks(self) -> list[str]:
        """What the claim that is there remembers, the newest last."""
        return [m for m in (annotation(self.target, RESTORED_BY_ANNOTATION) or "").split(",") if m]

    @property
    def already_done(self) -> bool:
        """Whether the same manifest, created before, has filled the claim that is there (F30).

        Which backup is the latest changes: of such a Restore the name alone counts.
        """
        begun = self.restore.status is not None and self.restore.status.exchange is not None
        if self.restore.spec.latest_of is not None and not begun:
            return any(mark.startswith(f"{self.full_name}/") for mark in self.marks)
        return self.mark in self.marks


def vault_name_of(restore: Restore, backup: Backup | None) -> str:
    """The Vault that has the backup of a Restore; empty where that is not known yet."""
    if backup is not None:
        return backup.spec.vault_ref.name
    return restore.spec.latest_of.vault_ref.name if restore.spec.latest_of else ""


def annotation(obj: Object | None, name: str) -> str | None:
    """An annotation of an object that may not be there."""
    value = ((obj or {}).get("metadata") or {}).get("annotations") or {}
    return str(value[name]) if name in value else None
