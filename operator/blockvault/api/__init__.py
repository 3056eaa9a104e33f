"""Blockvault's custom resources, `blockvault.dev/v1alpha1`, as models. `crds/` is generated from them."""

from __future__ import annotations

from .backup import CHANGED_BLOCK_REASONS, Backup, BackupSpec, BackupStatus, StoredVolume
from .common import (
    Condition,
    Limits,
    ObjectMeta,
    RunStatus,
    S3Storage,
    SecretReference,
    as_dict,
    format_quantity,
    parse_quantity,
)
from .policy import BackupPolicy, BackupPolicySpec, Keep, Retention, Schedule
from .restore import Exchange, NewClaim, Restore, RestoreSpec, RestoreStatus, StoppedWorkload
from .served import NotServed, not_served
from .task import Task, TaskPhase, TaskSpec, TaskType
from .vault import (
    Activity,
    Anomaly,
    AppliedPolicy,
    DeletionHold,
    LeavingResource,
    Removal,
    ResourceStatus,
    SkippedRun,
    UpkeepStatus,
    Vault,
    VaultDeletion,
    VaultSpec,
    VaultStatus,
)
from .vault_class import MassDeletion, MoverTemplate, ObjectLock, VaultClass, VaultDefaults

__all__ = [
    "CHANGED_BLOCK_REASONS",
    "Activity",
    "Anomaly",
    "AppliedPolicy",
    "Backup",
    "BackupPolicy",
    "BackupPolicySpec",
    "BackupSpec",
    "BackupStatus",
    "Condition",
    "DeletionHold",
    "Exchange",
    "Keep",
    "LeavingResource",
    "Limits",
    "MassDeletion",
    "MoverTemplate",
    "NewClaim",
    "NotServed",
    "ObjectLock",
    "ObjectMeta",
    "Removal",
    "ResourceStatus",
    "Restore",
    "RestoreSpec",
    "RestoreStatus",
    "Retention",
    "RunStatus",
    "S3Storage",
    "Schedule",
    "SecretReference",
    "SkippedRun",
    "StoppedWorkload",
    "StoredVolume",
    "Task",
    "TaskPhase",
    "TaskSpec",
    "TaskType",
    "UpkeepStatus",
    "Vault",
    "VaultClass",
    "VaultDefaults",
    "VaultDeletion",
    "VaultSpec",
    "VaultStatus",
    "as_dict",
    "format_quantity",
    "not_served",
    "parse_quantity",
]
