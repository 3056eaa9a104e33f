"""The exit code of each error of the block store."""

from __future__ import annotations

from blockvault.engine import errors
from blockvault.exitcodes import (
    CANT_CREATE,
    DATA,
    INTERNAL,
    IO,
    NOT_FOUND,
    REFUSED,
    TEMPORARY,
    USAGE,
)
from blockvault.stores import errors as store_errors

_CODES: dict[type[store_errors.BlockvaultError], int] = {
    errors.BadRequest: USAGE,
    errors.BadChangedList: USAGE,
    store_errors.BadLocation: USAGE,
    errors.BadKey: USAGE,
    errors.KeyMissing: REFUSED,
    errors.WrongKey: REFUSED,
    errors.KeyRotated: REFUSED,
    errors.RollbackSuspected: DATA,
    errors.ListingImplausible: DATA,
    errors.TwoWriters: DATA,
    errors.OwnedElsewhere: REFUSED,
    errors.FormatUnsupported: DATA,
    errors.StoredDataDamaged: DATA,
    errors.DataLost: DATA,
    store_errors.ObjectNotFound: DATA,
    store_errors.ObjectUnreadable: DATA,
    errors.NotAVault: NOT_FOUND,
    errors.VolumeNotFound: NOT_FOUND,
    errors.BackupNotFound: NOT_FOUND,
    errors.CommitNotFound: NOT_FOUND,
    errors.ParentNotFound: NOT_FOUND,
    errors.VolumeDeleted: NOT_FOUND,
    errors.OperationEnded: NOT_FOUND,
    errors.SourceNotFound: NOT_FOUND,
    errors.TargetNotFound: NOT_FOUND,
    errors.TargetTooSmall: NOT_FOUND,
    errors.TargetBusy: NOT_FOUND,
    errors.TargetNotEmpty: CANT_CREATE,
    store_errors.BucketNotFound: NOT_FOUND,
    errors.SourceUnreadable: IO,
    errors.SourceChanged: IO,
    errors.TargetUnwritable: IO,
    errors.SourceGone: TEMPORARY,
    errors.AttemptFenced: TEMPORARY,
    errors.CommitContention: TEMPORARY,
    errors.ReadOvertaken: TEMPORARY,
    errors.Interrupted: TEMPORARY,
    errors.OldKeyNeeded: TEMPORARY,
    store_errors.StoreUnreachable: TEMPORARY,
    store_errors.StoreThrottled: TEMPORARY,
    store_errors.AlreadyExists: TEMPORARY,
    store_errors.InvalidCredentials: REFUSED,
    store_errors.ClockSkew: REFUSED,
    store_errors.AccessDenied: REFUSED,
    store_errors.ObjectLocked: REFUSED,
    store_errors.TooManyOpenFiles: REFUSED,
    store_errors.StoreFull: REFUSED,
    store_errors.StoreRefused: REFUSED,
    store_errors.EndpointForbidden: REFUSED,
    store_errors.NoConditionalCreate: REFUSED,
}


def exit_code(error: BaseException) -> int:
    """The code for an error; INTERNAL for what has no place in the table."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return INTERNAL
