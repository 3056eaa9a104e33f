"""Object stores behind one small protocol: S3 (and what speaks it) and directories."""

from __future__ import annotations

from blockvault.stores.base import ObjectInfo, ObjectStore, Traffic
from blockvault.stores.directory import DirectoryStore
from blockvault.stores.errors import (
    AccessDenied,
    AlreadyExists,
    BadLocation,
    BlockvaultError,
    BucketNotFound,
    ClockSkew,
    EndpointForbidden,
    InvalidCredentials,
    NoConditionalCreate,
    ObjectLocked,
    ObjectNotFound,
    ObjectUnreadable,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreThrottled,
    StoreUnreachable,
    TooManyOpenFiles,
)
from blockvault.stores.examine import examine
from blockvault.stores.location import Credentials, ObjectLock, StoreLocation
from blockvault.stores.ratelimit import RateLimit

DEFAULT_RETRY_SECONDS = 300.0


def open_store(
    location: StoreLocation,
    *,
    retry_seconds: float = DEFAULT_RETRY_SECONDS,
    limit_rate: float | None = None,
    make: bool = False,
) -> ObjectStore:
    """The store at `location`; no request is made yet.

    `retry_seconds`: how long to go on without one success before a passing error is raised.
    `limit_rate`: bytes of payload per second, both ways together, for all threads of this store.
    `make`: create the directory of a file store. A bucket is never made.
    """
    limit = None if limit_rate is None else RateLimit(limit_rate)
    if location.scheme == "file":
        return DirectoryStore(location.directory, retry_seconds=retry_seconds, make=make, limit=limit)
    # Imported here: a directory store needs no S3 client's memory.
    from blockvault.stores.s3 import S3Store

    return S3Store(location, retry_seconds=retry_seconds, limit=limit)


__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "BadLocation",
    "BlockvaultError",
    "BucketNotFound",
    "ClockSkew",
    "Credentials",
    "DirectoryStore",
    "EndpointForbidden",
    "InvalidCredentials",
    "NoConditionalCreate",
    "ObjectInfo",
    "ObjectLock",
    "ObjectLocked",
    "ObjectNotFound",
    "ObjectStore",
    "ObjectUnreadable",
    "RateLimit",
    "StoreError",
    "StoreFull",
    "StoreLocation",
    "StoreRefused",
    "StoreThrottled",
    "StoreUnreachable",
    "TooManyOpenFiles",
    "Traffic",
    "examine",
    "open_store",
]
