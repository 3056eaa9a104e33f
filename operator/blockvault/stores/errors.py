"""Errors that a person or the operator can act on: each says what failed, why, and what to do.

`reason` is stable CamelCase and ends up in conditions; `retryable` tells whether the same call may work
later. The classes are named after that reason.
"""
# ruff: noqa: N818

from __future__ import annotations

from typing import Any


class BlockvaultError(Exception):
    """Root of the data plane's errors. `str()` names the object and the cause; `remedy` says what to do."""

    reason: str = "Internal"
    retryable: bool = False
    remedy: str = "Report this with the log of the run."

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if remedy is not None:
            self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword arguments do not survive Exception's own pickling; errors cross process borders here.
        return _rebuild, (type(self), self.message, self.remedy)


def _rebuild(kind: type[BlockvaultError], message: str, remedy: str) -> BlockvaultError:
    return kind(message, remedy=remedy)


class StoreError(BlockvaultError):
    """Something about the object store."""

    reason = "StoreError"


class BadLocation(StoreError):
    """What was given as a store's place cannot be one."""

    reason = "BadLocation"
    remedy = "Write s3://bucket/prefix or file:///absolute/directory."


class StoreUnreachable(StoreError):
    """No answer, or only server errors, for as long as we were ready to wait."""

    reason = "StoreUnreachable"
    retryable = True
    remedy = "Check the endpoint, the network and the store's own health; the operation can be repeated."


class StoreThrottled(StoreError):
    """The store asks us to slow down (503 SlowDown, 429)."""

    reason = "StoreThrottled"
    retryable = True
    remedy = "Lower the number of concurrent backups, or raise the store's request limit."


class ObjectNotFound(StoreError):
    """A clean answer that there is no such object; never made from an error or a time-out."""

    reason = "ObjectNotFound"
    remedy = "Check that nobody has deleted objects from the store by hand."


class ObjectUnreadable(StoreError):
    """The object is there, but the disk below a directory store has lost a part of it."""

    reason = "ObjectUnreadable"
    remedy = "Look at the disk (dmesg); run `blockvault verify` to see which backups are touched."


class AlreadyExists(StoreError):
    """A conditional creation lost: the name is taken by other bytes than ours."""

    reason = "AlreadyExists"
    remedy = "Nothing: the caller decides again from what is there."


class BucketNotFound(StoreError):
    """The bucket, or the directory, does not exist."""

    reason = "BucketNotFound"
    remedy = "Create the bucket (or directory), or correct its name and the endpoint."


class InvalidCredentials(StoreError):
    """The store does not know the access key, or the signature does not match."""

    reason = "InvalidCredentials"
    remedy = "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and the session token, if one is used)."


class ClockSkew(StoreError):
    """The store refuses signatures because its clock and ours differ too much."""

    reason = "ClockSkew"
    remedy = "Set the clocks right (NTP): this machine's and the store's differ by more than 15 minutes."


class AccessDenied(StoreError):
    """The credentials are known but not allowed to do this."""

    reason = "AccessDenied"
    remedy = "Allow GetObject, PutObject, DeleteObject and ListBucket on this bucket and prefix."


class ObjectLocked(AccessDenied):
    """Deletion is refused because an object lock has not ended yet; nothing that is locked was deleted."""

    reason = "ObjectLocked"
    remedy = "Wait until the lock ends: that is what it is for. Objects are then collected as usual."


class NoConditionalCreate(StoreError):
    """The store accepted a second creation of the same name: two writers could overwrite each other."""

    reason = "NoConditionalCreate"
    remedy = (
        "Use a store that honours `If-None-Match: *` on PUT (AWS S3, Ceph RGW, MinIO, a local directory)."
    )


class StoreFull(StoreError):
    """No space or quota left."""

    reason = "StoreFull"
    remedy = "Free space or raise the quota of the store, then repeat the operation."


class StoreRefused(StoreError):
    """The store refused a request for a reason that waiting does not change."""

    reason = "StoreRefused"
    remedy = "Read the store's answer; check region, addressing and the options of this store."


class EndpointForbidden(StoreError):
    """A tenant's endpoint leads to where tenants may not go through us."""

    reason = "EndpointForbidden"
    remedy = "Use an endpoint whose name leads to routable addresses, and which answers by itself."


class TooManyOpenFiles(StoreError):
    """This process may open no more files or connections."""

    reason = "TooManyOpenFiles"
    remedy = "Raise the limit (`ulimit -n 4096`), or lower the concurrency."
