"""What obstore cannot do, by boto3: versions of an object, and locks on them. One request per call.

What boto3 raises is for `s3_answers.translate`, as what obstore raises is.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from blockvault.stores.base import Data
from blockvault.stores.location import StoreLocation
from blockvault.stores.s3_clients import boto_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MODES: dict[str, Any] = {"Governance": "GOVERNANCE", "Compliance": "COMPLIANCE"}


class Lock(NamedTuple):
    """The lock of one version: its mode as S3 writes it, and its end."""

    mode: str
    until: datetime


class Found(NamedTuple):
    """What is kept of one key: ids of its versions, newest first, and of its delete markers."""

    versions: list[str]
    markers: list[str]


class Version(NamedTuple):
    """A version of what is stored under a path: its id, its size in bytes and its tag."""

    path: str
    version: str
    size: int
    etag: str


class Versions:
    """Versions of the objects in one bucket, by their whole path."""

    def __init__(self, location: StoreLocation, proxy: str | None = None) -> None:
        self._location = location
        self._proxy = proxy
        self._bucket = location.bucket

    def renew(self, location: StoreLocation) -> None:
        """Use another client from now on: credentials or CA have changed."""
        self._location = location
        self.__dict__.pop("_client", None)

    @cached_property
    def _client(self) -> S3Client:
        return boto_client(self._location, self._proxy)

    def kept(self) -> bool:
        """Whether the bucket keeps former versions of objects, or kept them once."""
        return "Status" in self._client.get_bucket_versioning(Bucket=self._bucket)

    def locks(self) -> bool:
        """Whether the bucket was made with object lock, and so keeps versions as well."""
        answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
        return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"

    def put(self, path: str, data: Data, *, exclusive: bool, lock: Lock, metadata: dict[str, str]) -> str:
        """Store a locked object; returns its version."""
        extra: dict[str, Any] = {}
        if exclusive:
            extra["IfNoneMatch"] = "*"
        if self._location.storage_class:
            extra["StorageClass"] = self._location.storage_class
        if self._location.server_side_encryption not in (None, "none"):
            extra["ServerSideEncryption"] = self._location.server_side_encryption
        # S3 refuses a lock without a checksum; this one every server knows.
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        answer = self._client.put_object(
            Bucket=self._bucket,
            Key=path,
            Body=data if isinstance(data, bytes) else bytes(data),
            ContentMD5=base64.b64encode(digest).decode(),
            Metadata=metadata,
            ObjectLockMode=MODES.get(lock.mode, lock.mode),
            ObjectLockRetainUntilDate=lock.until,
            **extra,
        )
        return answer["VersionId"]

    def of(self, path: str) -> Found:
        """All versions of one key. Servers list them from the newest to the oldest."""
        found = Found([], [])
        more: dict[str, Any] = {}
        while True:
            page = self._client.list_object_versions(Bucket=self._bucket, Prefix=path, **more)
            # Other keys that begin with this one come after it.
            found.versions.extend(v["VersionId"] for v in page.get("Versions", ()) if v["Key"] == path)
            found.markers.extend(m["VersionId"] for m in page.get("DeleteMarkers", ()) if m["Key"] == path)
            if not page["IsTruncated"] or page["NextKeyMarker"] != path:
                return found
            more = {"KeyMarker": path, "VersionIdMarker": page["NextVersionIdMarker"]}

    def page(self, prefix: str, more: dict[str, str]) -> tuple[list[Version], dict[str, str] | None]:
        """Up to 1,000 versions of paths that begin so, in order, each path's newest first; and where to go on, if so.

        `more`: where to begin, {"KeyMarker": path} for all paths past that one.
        """
        given: dict[str, Any] = more
        page = self._client.list_object_versions(Bucket=self._bucket, Prefix=prefix, **given)
        found = [
            Version(each["Key"], each["VersionId"], each["Size"], each["ETag"].strip('"'))
            for each in page.get("Versions", ())
        ]
        if not page["IsTruncated"]:
            return found, None
        return found, {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def delete(self, path: str, version: str) -> None:
        """Delete one version, or one delete marker, for good."""
        self._client.delete_object(Bucket=self._bucket, Key=path, VersionId=version)

    def lock(self, path: str, version: str | None = None) -> Lock | None:
        """The lock of a version, or of the newest."""
        extra: dict[str, Any] = {} if version is None else {"VersionId": version}
        # HEAD, because it has the lock on every server, also on those without GetObjectRetention.
        answer = self._client.head_object(Bucket=self._bucket, Key=path, **extra)
        if "ObjectLockMode" not in answer or "ObjectLockRetainUntilDate" not in answer:
            return None
        return Lock(answer["ObjectLockMode"], answer["ObjectLockRetainUntilDate"])

    def set_lock(self, path: str, version: str, lock: Lock) -> None:
        """Lock a version, or move its lock."""
        self._client.put_object_retention(
            Bucket=self._bucket,
            Key=path,
            VersionId=version,
            Retention={"Mode": MODES.get(lock.mode, lock.mode), "RetainUntilDate": lock.until},
        )
