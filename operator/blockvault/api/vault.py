"""Vault, made by a tenant."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from .common import (
    SET,
    BaseStatus,
    Encryption,
    Limits,
    LocalReference,
    Model,
    Name,
    ObjectMeta,
    Quantity,
    S3Storage,
    parse_quantity,
)
from .policy import Retention
from .vault_class import DeletionPolicy, Labels, ObjectLock

GIB = 2**30
MIN_CAPACITY, MAX_CAPACITY = 10 * GIB, 10_485_760 * GIB

BY_NAME: dict[str, JsonValue] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["kind", "name"],
}


class VaultStorage(Model):
    """Storage of the Vault's own: exactly this bucket and prefix."""

    s3: S3Storage
    """An S3 store, with credentials in the Vault's namespace."""


class VaultResource(Model):
    """A resource that the vault protects."""

    api_version: Annotated[str, Field(max_length=253)] | None = None
    """API version, for workloads."""
    kind: Literal["PersistentVolumeClaim", "StatefulSet", "Deployment", "Pod", "VirtualMachine"]
    """Kind."""
    name: Name
    """Name."""
    exclude_volumes: Annotated[list[Name], Field(max_length=64, json_schema_extra=SET)] | None = None
    """Volumes of a workload to leave out."""


class LabelSelector(Model):
    """Resources by labels."""

    match_labels: Labels
    """Labels that a resource must have, all of them."""


TagKey = Annotated[str, Field(max_length=36)]
TagValue = Annotated[str, Field(max_length=43, pattern=r"^[A-Za-z0-9_-]*$")]


class VaultSpec(Model):
    """What the vault holds, how much of it, and where."""

    type: Literal["Disk", "Server", "FileSystem"] = "Disk"
    """What kind of resource it takes; never changes (A1)."""
    capacity: Quantity | None = None
    """Room for backups, 10Gi to 10485760Gi; grows only; the class's default when left out (A2)."""
    class_name: Name | None = None
    """A VaultClass; without it and without storage, the default class."""
    storage: VaultStorage | None = None
    """Storage of its own, in place of a class."""
    adopt: Annotated[str, Field(max_length=1024)] | None = None
    """Location of a former vault to take over."""
    encryption: Encryption | None = None
    """Encryption with a key of the tenant's."""
    policy_ref: LocalReference | None = None
    """The BackupPolicy by which its resources are backed up; the class's default when left out."""
    resources: Annotated[list[VaultResource], Field(max_length=256, json_schema_extra=BY_NAME)] | None = None
    """Resources by name (A3)."""
    resource_selector: LabelSelector | None = None
    """Resources by labels (A3)."""
    dissociation: Literal["Delete", "Retain"] = "Delete"
    """What becomes of the backups of a resource that leaves the vault (A7)."""
    deletion_policy: DeletionPolicy | None = None
    """What becomes of the stored data when this object is deleted; the class's default, else Retain (F18)."""
    tags: Annotated[dict[TagKey, TagValue], Field(max_length=10)] | None = None
    """At most 10 tags (A9)."""
    limits: Limits | None = None
    """Bounds."""

    @property
    def capacity_bytes(self) -> int:
        """The capacity in bytes; 0 where none is set."""
        return parse_quantity(self.capacity) if self.capacity else 0


class SkippedRun(Model):
    """A slot of the schedule at which no backup was made."""

    slot: str
    """The slot."""
    reason: Literal["StillRunning", "Missed"]
    """Why, in one word."""
    message: str
    """Why, in a sentence."""


class Activity(Model):
    """How much of a resource changes from backup to backup, by which a new one is judged (F20). In bytes."""

    used: int = 0
    """About how much is in use: what the last full backup held, or an incremental one has changed since."""
    changes: Annotated[list[int], Field(max_length=10)] = Field(default_factory=list)
    """What the last incremental backups have changed."""
    until: str | None = None
    """When the last backup ended that counts in this."""
    last: str | None = None
    """Its name."""


class ResourceStatus(Model):
    """One resource that the vault names or selects."""

    kind: str
    """Kind."""
    name: str
    """Name."""
    state: Literal["Associated", "Waiting", "Refused", "Gone"] | None = None
    """Associated; Waiting for what is absent; Refused with a reason; or Gone, with its backups kept."""
    reason: str | None = None
    """Why it is not associated, in one word."""
    message: str | None = None
    """Why it is not associated and what to do, in a sentence."""
    uid: str | None = None
    """Of the claim that it held last."""
    since: str | None = None
    """Since when the vault holds it."""
    size: int | None = None
    """Its size in bytes."""
    last_slot: str | None = None
    """The newest slot of the schedule that has been dealt with."""
    last_backup: str | None = None
    """Name of its newest Backup that is Available."""
    last_backup_at: str | None = None
    """When that was safe."""
    last_full_at: str | None = None
    """The moment of its last full backup, which may be gone since (B7)."""
    next_run: str | None = None
    """When the policy backs it up next."""
    skipped: SkippedRun | None = None
    """The newest slot without a backup."""
    activity: Activity | None = None
    """How much of it changes."""


class LeavingResource(Model):
    """A resource that the vault holds no more, and whose backups are to go (A7)."""

    kind: str
    """Kind."""
    name: str
    """Name."""
    since: str
    """When it left. Its backups go so many minutes later as the class's massDeletion has."""
    allowed: bool = False
    """Whether they go now."""
    backups: int | None = None
    """How many are left."""


class Removal(Model):
    """One Backup that a rule removes at the next run, as things stand."""

    name: str
    """The Backup."""
    reason: str
    """Why, in one word."""


class Anomaly(Model):
    """A Backup that is suddenly nearly empty or nearly wholly rewritten (F20)."""

    backup: str
    """The Backup."""
    token: str
    """What blockvault.dev/acknowledge must say, on the Vault or on the Backup."""
    reason: Literal["NearlyEmpty", "NearlyRewritten"]
    """What is odd, in one word."""
    message: str
    """What is odd and what to do, in a sentence."""
    acknowledged: bool = False
    """Whether somebody has looked."""


class AppliedPolicy(Model):
    """The policy as the vault has applied it."""

    name: str
    """Name of the BackupPolicy."""
    state: Literal["Applied", "Disabled", "Waiting", "Refused"]
    """Applied; Disabled, so that nothing is made or removed; Waiting for the policy; Refused as invalid."""
    message: str
    """What that means."""
    schedule: str | None = None
    """Fingerprint of its schedule: slots count from when that was set."""
    schedule_since: str | None = None
    """When the schedule was set here."""
    retention: Retention | None = None
    """Its rule."""
    retention_since: str | None = None
    """When the rule was set here: numbers count from the first backup after that."""
    would_remove: int | None = None
    """How many Backups its rule would remove after the next run; also while it is Disabled, so that it can be tried."""
    removals: Annotated[list[Removal], Field(max_length=32)] | None = None
    """The first of those, the oldest first."""


class UpkeepStatus(Model):
    """One run that removed from the store what nothing needs any more (A12)."""

    run: int = 0
    """Its number, from 1 on."""
    started_at: str | None = None
    """When it began."""
    ended_at: str | None = None
    """When it ended; not set while it runs."""
    reason: str | None = None
    """How it ended, in one word."""
    message: str | None = None
    """How it ended, in a sentence."""
    deleted_bytes: int | None = None
    """Bytes that it removed from the store."""
    deleted_objects: int | None = None
    """Objects that it removed from the store."""
    rewritten_bytes: int | None = None
    """Bytes that it stored anew, so that what lay beside them could go."""
    wanted: str | None = None
    """When something was deleted that a run should see to soon."""


class DeletionHold(Model):
    """Deletions that wait for somebody to say that they are meant (F11)."""

    token: str
    """What blockvault.dev/allow-deletion must say."""
    since: str
    """Since when they wait."""
    message: str
    """How to go on, or back."""


class VaultDeletion(Model):
    """How the deletion of a Vault goes that takes its backups with it (A6)."""

    total: int
    """Backup objects that it had when this began."""
    left: int
    """Those of them that are left. The stored data goes after the last one."""
    run: int = 0
    """Number of the Job that erases the stored data."""
    started_at: str | None = None
    """When that began."""
    ended_at: str | None = None
    """When that ended; not set while it runs."""
    reason: str | None = None
    """How it ended, in one word: Erased when all is gone."""
    message: str | None = None
    """How it ended, in a sentence."""
    deleted_bytes: int | None = None
    """Bytes that it removed from the store."""
    deleted_objects: int | None = None
    """Objects that it removed from the store."""


class TrashedBackup(Model):
    """A deleted backup that can be brought back."""

    backup_id: str
    """Its id in the store."""
    volume: str
    """The volume that it is of."""
    created_at: str | None = None
    """When it was made."""
    until: str
    """When it goes for good."""


class VaultStatus(BaseStatus):
    """Pending, Available, Locked, Deleting or Error (A5)."""

    location: str | None = None
    """Where the data lies."""
    store_id: str | None = None
    """The store's own id, written when it was made."""
    capacity: str | None = None
    """The capacity in force."""
    used_bytes: int | None = None
    """What the backups occupy in the store (A12)."""
    utilization: str | None = None
    """Used share of the capacity in percent."""
    backups: int | None = None
    """Backups in the store."""
    trash_bytes: int | None = None
    """How many of the used bytes only the trash needs (F18)."""
    in_trash: int | None = None
    """Deleted backups that can still be brought back."""
    trash: Annotated[list[TrashedBackup], Field(max_length=64)] | None = None
    """The deleted backups that go last; blockvault.dev/undelete brings one back."""
    deletion_hold: DeletionHold | None = None
    """Set while a mass deletion waits."""
    deletion_policy: DeletionPolicy | None = None
    """What becomes of the stored data when this object is deleted, as it is in force."""
    deletion: VaultDeletion | None = None
    """Set while the Vault is deleted with its backups."""
    undeleted: str | None = None
    """The value of the annotation blockvault.dev/undelete that was obeyed last."""
    encrypted: bool | None = None
    """Whether all that is stored is encrypted."""
    object_lock: ObjectLock | None = None
    """For how long nobody can delete a backup; absent where nothing is locked."""
    upkeep: UpkeepStatus | None = None
    """How the store was last tidied up."""
    resources: Annotated[list[ResourceStatus], Field(max_length=1024)] | None = None
    """Each resource that it names or selects, with what holds it up."""
    leaving: Annotated[list[LeavingResource], Field(max_length=512)] | None = None
    """Resources that have left, and whose backups are to go."""
    dissociation_hold: DeletionHold | None = None
    """Set while that waits, as it is a mass deletion."""
    associated_bytes: int | None = None
    """Sizes of the associated resources together; they fit the capacity (A3)."""
    policy: AppliedPolicy | None = None
    """The policy as it is applied."""
    next_run: str | None = None
    """When the policy runs next."""
    anomalies: Annotated[list[Anomaly], Field(max_length=1024)] | None = None
    """Backups that hold expiry up until somebody has looked, and those that somebody has looked at."""
    last_run_now: str | None = None
    """The value of the annotation blockvault.dev/run-now that was obeyed last."""
    took_over: str | None = None
    """The value of the annotation blockvault.dev/take-over that was obeyed last."""
    last_checked_at: str | None = None
    """When the store was last checked."""


class Vault(Model):
    """A place for backups with a capacity."""

    metadata: ObjectMeta
    spec: VaultSpec
    status: VaultStatus | None = None
