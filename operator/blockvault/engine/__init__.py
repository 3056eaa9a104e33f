"""The block store.

Volumes as copy-on-write trees of blocks in any object store. docs/format.md has the bytes.
"""

from __future__ import annotations

from blockvault.engine.access import Access
from blockvault.engine.attempts import LATEST
from blockvault.engine.canary import check_store
from blockvault.engine.changes import SNAPSHOT_METADATA, ChangedList
from blockvault.engine.changes import parse as parse_changed_list
from blockvault.engine.errors import (
    AttemptFenced,
    BackupNotFound,
    BadChangedList,
    BadKey,
    BadRequest,
    CommitContention,
    CommitNotFound,
    DataLost,
    EngineError,
    FormatUnsupported,
    Interrupted,
    KeyMissing,
    KeyRotated,
    NotAVault,
    OldKeyNeeded,
    OperationEnded,
    OwnedElsewhere,
    ParentNotFound,
    SourceChanged,
    SourceGone,
    SourceNotFound,
    SourceUnreadable,
    StoredDataDamaged,
    TargetBusy,
    TargetNotEmpty,
    TargetNotFound,
    TargetTooSmall,
    TargetUnwritable,
    VolumeDeleted,
    VolumeNotFound,
    WrongKey,
)
from blockvault.engine.exitcodes import exit_code
from blockvault.engine.keys import KeyRing, VaultKey
from blockvault.engine.pages import BLOCK_SIZE, SECTOR_SIZE
from blockvault.engine.progress import BackupResult, Progress, RestoreResult
from blockvault.engine.repository import Repository
from blockvault.engine.work import BackupRequest

__all__ = [
    "BLOCK_SIZE",
    "LATEST",
    "SECTOR_SIZE",
    "SNAPSHOT_METADATA",
    "Access",
    "AttemptFenced",
    "BackupNotFound",
    "BackupRequest",
    "BackupResult",
    "BadChangedList",
    "BadKey",
    "BadRequest",
    "ChangedList",
    "CommitContention",
    "CommitNotFound",
    "DataLost",
    "EngineError",
    "FormatUnsupported",
    "Interrupted",
    "KeyMissing",
    "KeyRing",
    "KeyRotated",
    "NotAVault",
    "OldKeyNeeded",
    "OperationEnded",
    "OwnedElsewhere",
    "ParentNotFound",
    "Progress",
    "Repository",
    "RestoreResult",
    "SourceChanged",
    "SourceGone",
    "SourceNotFound",
    "SourceUnreadable",
    "StoredDataDamaged",
    "TargetBusy",
    "TargetNotEmpty",
    "TargetNotFound",
    "TargetTooSmall",
    "TargetUnwritable",
    "VaultKey",
    "VolumeDeleted",
    "VolumeNotFound",
    "WrongKey",
    "check_store",
    "exit_code",
    "parse_changed_list",
]
