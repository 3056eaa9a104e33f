"""Backup: one point in time of one resource."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import (
    SET,
    LocalReference,
    Model,
    Name,
    ObjectMeta,
    RunStatus,
)
from .policy import Retention

# Why the storage's own list of changed blocks was not used: all that `changedBlockReason` says. The first five are the
# operator's, the last four the block store's, the others those of a mover that asked.
CHANGED_BLOCK_REASONS = (
    "NoService",
    "ServiceForbidden",
    "ServiceInvalid",
    "NoBase",
    "OtherVolume",
    "NotTracked",
    "NotSupported",
    "BaseGone",
    "RequestRefused",
    "PermissionDenied",
    "Unauthenticated",
    "NoToken",
    "ServiceUnavailable",
    "StreamFailed",
    "NoProgress",
    "InvalidList",
    "ListOfAnotherBackup",
    "ListWasWrong",
    "ListsDistrusted",
    "ParentDamaged",
)

StartDeadline = Annotated[int, Field(ge=0, le=86400)]


class ResourceReference(Model):
    """The resource that is backed up."""

    api_version: Annotated[str, Field(max_length=253)] | None = None
    """API version, for workloads."""
    kind: Literal["PersistentVolumeClaim", "StatefulSet", "Deployment", "Pod", "VirtualMachine"] = (
        "PersistentVolumeClaim"
    )
    """Kind."""
    name: Name
    """Name."""


class SharedFrom(Model):
    """A Backup that another namespace shares with this one."""

    namespace: Name
    """Its namespace."""
    name: Name
    """Its name."""


class BackupSpec(Model):
    """What is backed up, and where to."""

    vault_ref: LocalReference
    """The Vault that takes it."""
    resource: ResourceReference | None = None
    """What is backed up; not for a shared Backup that is accepted."""
    shared_from: SharedFrom | None = None
    """Accepts a share in place of backing something up (C10)."""
    full: bool = False
    """Read and store everything anew (C2)."""
    description: Annotated[str, Field(max_length=255)] | None = None
    """For people (C1)."""
    shared_with: Annotated[list[Name], Field(max_length=10, json_schema_extra=SET)] | None = None
    """Namespaces that may use it (C10)."""
    cancel: bool = False
    """Stop it (F3)."""
    start_deadline_seconds: StartDeadline = 600
    """How long what is absent or not ready yet is waited for."""

    @property
    def claim(self) -> str:
        """Name of the claim that is backed up; empty when the Backup names none."""
        return self.resource.name if self.resource else ""


class StoredVolume(Model):
    """One volume in the store."""

    claim: str
    """The claim it was made from."""
    size: int | None = None
    """Its size in bytes."""
    backup_id: str | None = None
    """Its id in the store."""
    root_hash: str | None = None
    """Hash over all its blocks."""
    changed_block_source: Literal["SnapshotMetadata", "Compare", "Full", "List"] | None = None
    """How it was found out what to send."""
    changed_block_reason: str | None = None
    """Why the storage's own list of changed blocks was not used, where all blocks were compared."""
    lineage_volume: str | None = None
    """The name under which the volume's backups lie in the store."""
    snapshot_time: str | None = None
    """The moment that it shows."""
    bytes_scanned: int | None = None
    """Bytes read from the volume."""
    bytes_changed: int | None = None
    """Bytes that differ from the backup before."""
    bytes_stored: int | None = None
    """Bytes added to the store."""
    locked_until: str | None = None
    """Until then nobody can delete it, at the least."""
    file_system: str | None = None
    """The file system found on it."""
    volume_mode: Literal["Block", "Filesystem"] | None = None
    """Mode of the claim."""
    storage_class_name: str | None = None
    """Storage class of the claim."""
    seconds: float | None = None
    """How long the mover worked."""
    requests: int | None = None
    """Requests to the store."""
    retries: int | None = None
    """Those of them that were repeated, as the store did not answer or had an error."""
    throttles: int | None = None
    """Those of the repeated ones that were as the store asked to slow down."""


class BackupStatus(RunStatus):
    """Pending, Creating, Available, Restoring, Deleting or Error (C5)."""

    type: Literal["Full", "Incremental"] | None = None
    """What was sent: everything, or what had changed. Each restores the whole volume."""
    trigger: Literal["Manual", "Policy"] | None = None
    """Who asked for it."""
    policy: str | None = None
    """The BackupPolicy that made it."""
    slot: str | None = None
    """The slot of the schedule that it was made for."""
    retention: Retention | None = None
    """The rule that it was made under (B8)."""
    time_zone: str | None = None
    """The time zone of that rule's days and months."""
    source: str | None = None
    """What the claim and its volume were like when the snapshot was asked for, as JSON; until the work has ended."""
    volumes: Annotated[list[StoredVolume], Field(max_length=64, default_factory=list)]
    """The volumes in the store."""
    expires_at: str | None = None
    """When retention removes it."""
    location: str | None = None
    """Where it lies."""
    removed_by: str | None = None
    """The rule that removes it, in one word; not set where somebody deletes it, which counts towards a hold (F11)."""
    cluster: str | None = None
    """The cluster that it belongs to, where that is another one; only there is its data deleted (F5)."""


class Backup(Model):
    """One point in time of one resource; restores the whole of it by itself."""

    metadata: ObjectMeta
    spec: BackupSpec
    status: BackupStatus | None = None
