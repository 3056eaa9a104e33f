"""Restore: a backup's data in a claim again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .backup import ResourceReference, StartDeadline
from .common import (
    SET,
    LocalReference,
    Model,
    Name,
    ObjectMeta,
    Quantity,
    RunStatus,
)

AccessMode = Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]


class LatestOf(Model):
    """The latest backup of a resource (F19)."""

    vault_ref: LocalReference
    """The Vault that holds it."""
    resource: ResourceReference
    """The resource."""
    before: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})] | None = None
    """The latest before this time."""


class NewClaim(Model):
    """A claim that the Restore makes (D2)."""

    name: Name
    """Its name, which must be free."""
    storage_class_name: Name | None = None
    """Its storage class; that of the source when left out."""
    size: Quantity | None = None
    """Its size, at least that of the backup; that of the backup when left out."""
    access_modes: (
        Annotated[list[AccessMode], Field(min_length=1, max_length=4, json_schema_extra=SET)] | None
    ) = None
    """Its access modes; ReadWriteOnce when left out."""
    volume_mode: Literal["Block", "Filesystem"] | None = None
    """Its mode; that of the source when left out."""


class OriginalTarget(Model):
    """The claim that was backed up."""

    stop_workload: bool = False
    """Stop what uses it."""
    start_after: bool = True
    """Start it again."""


class Populate(Model):
    """Claims whose dataSourceRef names this Restore, each filled by a Restore of its own (D3)."""


class WorkloadVolume(Model):
    """Where one volume of a workload goes."""

    source: Name
    """The volume in the backup."""
    claim: Name
    """The claim that it goes to."""


class WorkloadTarget(Model):
    """The workload that was backed up (D4)."""

    stop_workload: bool = False
    """Stop it."""
    start_after: bool = True
    """Start it again."""
    volumes: Annotated[list[WorkloadVolume], Field(max_length=64)] | None = None
    """Volumes that go elsewhere than to their origin."""


class RestoreTarget(Model):
    """Exactly one."""

    new_claim: NewClaim | None = None
    """A new claim."""
    original: OriginalTarget | None = None
    """The claim that was backed up (D1)."""
    populate: Populate | None = None
    """Claims that name this Restore as their data source (D3)."""
    workload: WorkloadTarget | None = None
    """A whole workload (D4)."""


class RestoreSpec(Model):
    """From which backup, into what."""

    backup_ref: LocalReference | None = None
    """The Backup, in this namespace."""
    latest_of: LatestOf | None = None
    """Or the latest of a resource."""
    if_none: Literal["Fail", "Empty"] | None = None
    """What happens when there never was a backup, for latestOf."""
    target: RestoreTarget
    """Where to."""
    cancel: bool = False
    """Stop it."""
    rollback: bool = False
    """Bring the former data back (F4)."""
    confirm: bool = False
    """Let the former data go (F4)."""
    rollback_window: Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]{0,4}(m|h)$")] | None = None
    """How long the former data is kept (F4)."""
    start_deadline_seconds: StartDeadline = 600
    """How long what is absent or not ready yet is waited for."""


class RestoreResult(Model):
    """What the mover did."""

    backup_id: str | None = None
    """The backup's id in the store."""
    bytes_written: int | None = None
    """Bytes written to the volume."""
    bytes_read: int | None = None
    """Bytes read from the store."""
    seconds: float | None = None
    """How long the mover worked."""
    size: int | None = None
    """Size of the backup's volume."""
    file_system: str | None = None
    """The file system found on it."""


class Exchange(Model):
    """Whose storage an in-place restore exchanges, noted before it begins (F4)."""

    claim_uid: str | None = None
    """The uid of the claim."""
    volume: str | None = None
    """The claim's PersistentVolume, whose name stays."""
    former_handle: str | None = None
    """The CSI handle of the storage that it had before."""
    restored_handle: str | None = None
    """The CSI handle of the storage that it has got."""


class StoppedWorkload(Model):
    """A workload that the Restore has stopped (D1)."""

    kind: str
    """Deployment, StatefulSet or ReplicaSet."""
    name: str
    """Its name."""
    replicas: int
    """How many it had, and gets again."""
    stopped: bool = False
    """Whether it was seen without replicas."""
    ended: bool = False
    """Whether the Restore is done with it: it runs again, or stays at zero as was asked for."""


class RestoreStatus(RunStatus):
    """Pending, Restoring, Restored, RollingBack; Completed, RolledBack, Skipped or Error in the end."""

    claim: str | None = None
    """The claim that is filled."""
    backup: str | None = None
    """The Backup that is restored."""
    empty: bool | None = None
    """Whether there never was a backup, so that the claim begins empty (F19)."""
    source: Literal["Snapshot", "Store"] | None = None
    """Whether the volume began as a copy of the claim's local snapshot, or empty (D7)."""
    result: RestoreResult | None = None
    """What the mover did."""
    exchange: Exchange | None = None
    """Of a restore in place: whose storage it exchanges."""
    workloads: list[StoppedWorkload] | None = None
    """Of a restore in place: what it has stopped."""
    restored_at: str | None = None
    """Of a restore in place: when the claim had its restored data."""
    rollback_until: str | None = None
    """Until when its former data is kept."""
    recorded: bool | None = None
    """Whether the store knows that this backup was restored in place (F30)."""


class Restore(Model):
    """A backup's data in a claim again."""

    metadata: ObjectMeta
    spec: RestoreSpec
    status: RestoreStatus | None = None

    @property
    def reads(self) -> str | None:
        """Name of the Backup that it reads; None while none is chosen."""
        chosen = self.status.backup if self.status else None
        return chosen or (self.spec.backup_ref.name if self.spec.backup_ref else None)
