"""What can go wrong in the engine. Each error names the object and the cause, and says what to do."""
# Classes are named after the reason that ends up in conditions.
# ruff: noqa: N818

from __future__ import annotations

from blockvault.stores.errors import BlockvaultError


class EngineError(BlockvaultError):
    """Root of the engine's own errors; errors of the store pass through as they are."""

    reason = "EngineError"


class NotAVault(EngineError):
    """There is no Blockvault store at this place."""

    reason = "NotAVault"
    remedy = "Check bucket and prefix, or create a store there with `blockvault init`."


class FormatUnsupported(EngineError):
    """Stored by a newer version, or with a feature that this version does not know."""

    reason = "FormatUnsupported"
    remedy = "Use the version of Blockvault that wrote it, or a newer one."


class StoredDataDamaged(EngineError):
    """Stored bytes are missing or are not those that were written."""

    reason = "StoredDataDamaged"
    remedy = (
        "Run `blockvault verify`, so that the next backup stores anew what is damaged; restore another backup, or "
        "what is left of this one with --salvage."
    )

    @property
    def parts(self) -> tuple[str, str]:
        """(key of the object, cause)."""
        key, _, cause = self.message.partition(": ")
        return key, cause


class CommitsLost(StoredDataDamaged):
    """A volume has data, and none of the commits that say what it is. Nothing is written or deleted then."""

    reason = "CommitsLost"
    remedy = (
        "Bring the commits back from former versions of the objects or a copy of the store, and run neither backup "
        "nor collect before; docs/disaster-recovery.md says how. `blockvault accept-rollback` gives up what was there."
    )


class DataLost(EngineError):
    """A restore that was told to go on past damage did so: what was lost reads as zeros."""

    reason = "DataLost"
    remedy = "The lost ranges are listed in the result; another backup may still have them."


class VolumeNotFound(EngineError):
    """The store holds no backups of this volume."""

    reason = "VolumeNotFound"
    remedy = "`blockvault list STORE` shows the volumes that are there."


class BackupNotFound(EngineError):
    """The volume has no such backup."""

    reason = "BackupNotFound"
    remedy = "`blockvault list STORE --volume NAME` shows the backups that are there."


class CommitNotFound(EngineError):
    """The volume has no such commit, or it was trimmed: the latest 64 are kept, and every 64th before them."""

    reason = "CommitNotFound"
    remedy = "`blockvault commits STORE --volume NAME` shows those that are there."


class ParentNotFound(EngineError):
    """The backup that this one should build on is not there."""

    reason = "ParentNotFound"
    remedy = "Name a parent that `blockvault list` shows, or make a full backup."


class BadChangedList(EngineError):
    """The list of changed blocks cannot be right."""

    reason = "BadChangedList"
    remedy = "Correct the list, or leave it out: the backup then finds the changes by comparing."


class BadRequest(EngineError):
    """What was asked for is not well formed."""

    reason = "BadRequest"
    remedy = "Correct the request."


class BadKey(EngineError):
    """What was given as a key cannot be one."""

    reason = "BadKey"
    remedy = "Give a file of 32 random bytes, raw or in base64 (`head -c 32 /dev/urandom`)."


class KeyMissing(EngineError):
    """The store is encrypted and no key was given."""

    reason = "KeyMissing"
    remedy = "Give the vault's key with --key-file (BLOCKVAULT_KEY_FILE)."


class WrongKey(EngineError):
    """The store is encrypted under another key."""

    reason = "WrongKey"
    remedy = "Give the key whose fingerprint is named; `blockvault key show` tells that of a key file."


class KeyRotated(EngineError):
    """The vault has a newer key than the one given, and something new would be wrapped under the old one."""

    reason = "KeyRotated"
    remedy = "Give the new key; while rotation is going on, the former one as well."


class OldKeyNeeded(EngineError):
    """A rotation that has done what it could: something still needs the old key."""

    reason = "OldKeyNeeded"
    retryable = True
    remedy = (
        "Keep the old key, and repeat this when the runs have ended; `blockvault collect` drops what died."
    )


class SourceNotFound(EngineError):
    """The volume to read is not there."""

    reason = "SourceNotFound"
    remedy = "Check the path of the device or file."


class SourceUnreadable(EngineError):
    """Reading the volume failed. Nothing was put in place of what could not be read."""

    reason = "SourceUnreadable"
    remedy = (
        "Check the device and the kernel's log; the backup was not made. `--skip-unreadable` makes one without what "
        "cannot be read."
    )


class SourceChanged(EngineError):
    """The volume got smaller while it was read."""

    reason = "SourceChanged"
    remedy = "Back up a snapshot, or a volume that nobody resizes meanwhile; the backup was not made."


class SourceGone(EngineError):
    """The volume went away while it was read: a device that was detached, a path to it that broke."""

    reason = "SourceGone"
    retryable = True
    remedy = "See in the kernel's log why it went and attach it again, then repeat: what was sent is not sent again."


class TargetNotFound(EngineError):
    """The device or file to restore to cannot be opened."""

    reason = "TargetNotFound"
    remedy = "Check the path of the device or file."


class TargetTooSmall(EngineError):
    """The target cannot hold the backup. Nothing was written."""

    reason = "TargetTooSmall"
    remedy = "Use a target at least as large as the backup."


class TargetBusy(EngineError):
    """The target is in use. Nothing was written."""

    reason = "TargetBusy"
    remedy = "Unmount the device and stop what uses it."


class TargetNotEmpty(EngineError):
    """The target holds something that would be lost. Nothing was written."""

    reason = "TargetNotEmpty"
    remedy = "Check that it is the right target; --force overwrites what it holds."


class TargetUnwritable(EngineError):
    """Writing the target failed; what it holds now is incomplete, unless it says that nothing was written."""

    reason = "TargetUnwritable"
    remedy = "Check the device and the kernel's log, then restore again."


class AttemptFenced(EngineError):
    """Another run has taken over this operation. Nothing of this run became a backup."""

    reason = "AttemptFenced"
    retryable = True
    remedy = "Nothing, if the other run succeeds; else repeat the operation."


class OperationEnded(AttemptFenced):
    """The operation made its backup before, and that was deleted since. It is not made again."""

    reason = "OperationEnded"
    retryable = False
    remedy = "Nothing, if the deletion was meant; else bring it back with `undelete`, or make another backup."


class CommitContention(EngineError):
    """Others committed each time before us."""

    reason = "CommitContention"
    retryable = True
    remedy = "Repeat the operation; look for writers that commit in a loop."


class ReadOvertaken(EngineError):
    """What was read has been stored elsewhere meanwhile, and nothing kept it where it was. Nothing is damaged."""

    reason = "ReadOvertaken"
    retryable = True
    remedy = "Repeat it: a restore goes on with what it has written."


class RollbackSuspected(EngineError):
    """The store shows an older state than there has been. Nothing is deleted then."""

    reason = "RollbackSuspected"
    remedy = (
        "Find out whether the store was restored from a copy, or commits deleted, and bring those back; "
        "docs/disaster-recovery.md says how. `blockvault accept-rollback` gives up what was lost."
    )


class ListingImplausible(EngineError):
    """What the store lists does not fit what the backups need. Nothing is deleted then."""

    reason = "ListingImplausible"
    remedy = "Repeat later, as listings may lag; if it stays, run `blockvault verify` to see what is missing."


class TwoWriters(EngineError):
    """Two programs wrote at once to a store that cannot create exclusively. Nothing is written or deleted then."""

    reason = "TwoWriters"
    remedy = (
        "Stop all programs that write to this store, look at the branches with `blockvault branches`, and choose the "
        "one to keep (--keep); backups that only the others hold are lost."
    )


class OwnedElsewhere(EngineError):
    """The backups belong to another cluster that uses the same store."""

    reason = "OwnedElsewhere"
    remedy = (
        "Work from the cluster that owns them; if that one no longer exists, act for it with `--as CLUSTER`."
    )


class VolumeDeleted(EngineError):
    """The volume's data was deleted from the store while we worked."""

    reason = "VolumeDeleted"
    remedy = "Start again: a new backup of this volume begins from nothing."


class Interrupted(EngineError):
    """Asked to stop (SIGTERM or SIGINT)."""

    reason = "Interrupted"
    retryable = True
    remedy = "Repeat the operation; what was committed stays."
