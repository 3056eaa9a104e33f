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
    InvalidCredentials,
    NoConditionalCreate,
    ObjectNotFound,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreThrottled,
    StoreUnreachable,
)
from blockvault.stores.location import Credentials, StoreLocation

DEFAULT_RETRY_SECONDS = 300.0


def open_store(
    location: StoreLocation, *, retry_seconds: float = DEFAULT_RETRY_SECONDS, make: bool = False
) -> ObjectStore:
    """The store at `location`; no request is made yet.

    `retry_seconds`: how long to go on without one success before a passing error is raised.
    `make`: create the directory of a file store. A bucket is never made.
    """
    if location.scheme == "file":
        return DirectoryStore(location.directory, retry_seconds=retry_seconds, make=make)
    # Imported here: a directory store needs no S3 client's memory.
    from blockvault.stores.s3 import S3Store

    return S3Store(location, retry_seconds=retry_seconds)


__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "BadLocation",
    "BlockvaultError",
    "BucketNotFound",
    "Credentials",
    "DirectoryStore",
    "InvalidCredentials",
    "NoConditionalCreate",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "StoreError",
    "StoreFull",
    "StoreLocation",
    "StoreRefused",
    "StoreThrottled",
    "StoreUnreachable",
    "Traffic",
    "open_store",
]
