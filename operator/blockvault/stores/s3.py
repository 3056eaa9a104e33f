"""S3 by obstore, with retries of our own.

obstore's are off: it repeats a conditional PUT after a lost answer and then reports our own object as
somebody else's, and it calls a 409 (a race that is still going on) AlreadyExists as well. Here every doubt
about a creation is resolved by reading back and comparing bytes.

A bucket that keeps versions (as every one with object lock does) is different in two ways. Servers may apply
`If-None-Match: *` to the new version only, and so let everybody in (Ceph 16 does): there the oldest version
decides who created an object, and is what a reader gets. And a plain DELETE deletes nothing, so that
versions are deleted one by one. With object lock, the oldest version is what counts of every object.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

import obstore
from obstore import exceptions as obx
from obstore.store import S3Store as ObstoreS3

from blockvault.stores.base import RECORD, UNLOCKED, Data, ObjectInfo, Patience, Traffic
from blockvault.stores.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidCredentials,
    NoConditionalCreate,
    ObjectLocked,
    ObjectNotFound,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from blockvault.stores.location import ObjectLock, StoreLocation
from blockvault.stores.ratelimit import RateLimit
from blockvault.stores.s3_answers import RAISED, past_the_end, translate
from blockvault.stores.s3_clients import gate_for, obstore_options
from blockvault.stores.s3_firsts import Firsts, for_each
from blockvault.stores.s3_versions import Lock, Versions
from blockvault.stores.secret_files import Mark, SecretFiles

if TYPE_CHECKING:
    from obstore import ObjectMeta

T = TypeVar("T")

# Metadata of objects made by `create`: of these the oldest version counts.
CREATED = "blockvault-created"
# What is read at once, in bytes: nothing that we store comes near it.
MOST_BYTES = 256 << 20
# Locks that are moved before the next ones are looked at.
TOGETHER = 1000


class S3Store:
    """Objects below `location.prefix` of one bucket."""

    def __init__(
        self,
        location: StoreLocation,
        *,
        retry_seconds: float = 300.0,
        limit: RateLimit | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.url = location.url.rstrip("/")
        self.traffic = Traffic()
        self._location = location
        self._prefix = location.prefix + "/" if location.prefix else ""
        self._patience = Patience(retry_seconds, retried=self.traffic.retried)
        self._limit = limit
        self._wall = wall
        self._gate = gate_for(location)
        if self._gate is not None:
            weakref.finalize(self, self._gate.close)
        proxy = self._gate.url if self._gate is not None else None
        self._versions = Versions(location, proxy)
        self._firsts = Firsts(self._versions, self._prefix, self._ask)
        # Whether the bucket keeps versions; None while nothing has told. An id in an answer makes one ask: Garage
        # hands out ids and keeps no versions.
        self._versioned: bool | None = True if location.object_lock else None
        self._saw_ids = False
        self._files = SecretFiles(location.secrets_folder) if location.secrets_folder else None
        # Of the files in use; None before the first request, as the location may have been read from older ones.
        self._mark: Mark | None = None
        self._renewing = threading.Lock()
        self._worked = False
        self._store = self._client(location)

    def _client(self, location: StoreLocation) -> ObstoreS3:
        try:
            proxy = self._gate.url if self._gate is not None else None
            return ObstoreS3(location.bucket, **obstore_options(location, proxy))
        except (obx.BaseError, ValueError) as error:
            raise StoreRefused(f"{self.url}: {error}", remedy="Correct the store's options.") from error

    def _renew(self) -> None:
        """Use new credentials and CA from this request on, if their files have changed."""
        if self._files is None:
            return
        with self._renewing:
            mark = self._files.mark()
            if mark != self._mark:
                try:
                    location = self._files.applied(self._location)
                except OSError as error:
                    raise StoreUnreachable(f"{self.url}: the credentials' files: {error}") from error
                self._store = self._client(location)
                self._versions.renew(location)
                self._location, self._mark = location, mark

    @property
    def requests(self) -> dict[str, int]:
        """Requests so far, by kind; each repetition counts."""
        return dict(self.traffic.requests)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ObjectStore."""
        if length == 0:
            return b""
        # With a lock, neither a delete marker nor another version is anybody's right: what they cover is read.
        if self._location.object_lock is not None:
            data = self._patience.call(lambda: self._read_first(key, start, length))
        elif key == RECORD:
            data = self._patience.call(lambda: self._read_uncovered(key, start, length))
        else:
            data = self._call("get", key, lambda: self._read(key, start, length))
        self.traffic.count("", down=len(data))
        if self._limit is not None:
            self._limit.take(len(data))
        return data

    def put(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._call("put", key, lambda: self._put(key, data, exclusive=False), up=len(data))

    def create(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._patience.create(
            lambda: self._create(key, data),
            lambda: self._read_first(key) if self._location.object_lock else self._read_uncovered(key),
            data,
            f"{self.url}/{key}",
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore. Pages of up to 1,000 keys (with a lock: versions) are requests of their own."""
        if self._location.object_lock is not None:
            return iter(self._patience.call(lambda: self._firsts.listed(prefix)))
        # obstore lists by whole path segments only; the last, partial one is matched here.
        folder = (self._prefix + prefix).rpartition("/")[0]

        def work() -> list[ObjectInfo]:
            found: list[ObjectInfo] = []
            for page in obstore.list(self._store, folder or None, chunk_size=1000):
                if found:
                    self.traffic.count("list")
                for meta in page:
                    path = meta["path"]
                    if path.startswith(self._prefix + prefix):
                        found.append(ObjectInfo(path[len(self._prefix) :], meta["size"], _tag(meta)))
            return found

        return iter(self._call("list", prefix, work))

    def folders(self, prefix: str) -> set[str]:
        """See ObjectStore. Pages of up to 1,000 names are requests of their own, which are counted as one."""
        whole = self._prefix + prefix

        def work() -> set[str]:
            found = obstore.list_with_delimiter(self._store, whole.rstrip("/") or None)["common_prefixes"]
            return {path[len(whole) :].rstrip("/") for path in found if path.startswith(whole)}

        return self._call("list", prefix, work)

    def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore. Up to 1,000 keys go in one request, but for versions, which go one by one."""
        wanted = list(keys)
        if not wanted:
            return
        if self._patience.call(self._keeps_versions):
            self._delete_all_versions(wanted)
            return
        for first in range(0, len(wanted), 1000):
            batch = [self._prefix + key for key in wanted[first : first + 1000]]
            self._call("delete", wanted[first], partial(self._delete, batch))

    def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        if self._location.object_lock is not None:
            return self._patience.call(lambda: self._firsts.stat(key))

        def work() -> ObjectInfo:
            try:
                meta = self._attempt("head", key, lambda: obstore.head(self._store, self._prefix + key))
            except StoreError as error:
                if error.retryable:
                    raise
                # The answer to HEAD has no body that says what is absent or who is refused; that to GET has.
                self._attempt("get", key, lambda: self._read(key, 0, 1))
                raise StoreUnreachable(f"{self.url}/{key}: HEAD and GET differ in what they say") from None
            return ObjectInfo(key, meta["size"], _tag(meta), meta["last_modified"].timestamp())

        return self._patience.call(work)

    def lock_new(self, lock: ObjectLock) -> None:
        """See ObjectStore."""
        self._location = replace(self._location, object_lock=lock)
        self._versioned = True

    def check_locks(self) -> None:
        """See ObjectStore. One request."""
        try:
            fit = self._call("head", "", self._versions.locks)
        except AccessDenied as error:
            raise AccessDenied(
                error.message, remedy="Allow GetBucketObjectLockConfiguration on this bucket."
            ) from error
        except (ObjectNotFound, StoreRefused):  # no such configuration, or no such thing on this server
            fit = False
        if not fit:
            raise StoreRefused(
                f"{self.url}: the bucket was made without object lock",
                remedy="Make a bucket with object lock enabled (it then keeps versions), or leave the lock out.",
            )

    def lock_until(self, key: str) -> datetime | None:
        """See ObjectStore."""

        def work() -> Lock | None:
            version = None if self._location.object_lock is None else self._firsts.version(key)
            return self._attempt("head", key, lambda: self._versions.lock(self._prefix + key, version))

        lock = self._patience.call(work)
        return lock.until.astimezone(UTC) if lock else None

    def extend_lock(self, keys: Iterable[str], until: datetime) -> None:
        """See ObjectStore. Two requests for each lock that is moved, one for others, and listings of 1,000 each."""
        wanted = self._location.object_lock
        if wanted is None:
            raise StoreRefused(f"{self.url}: used without object lock", remedy="Configure the object lock.")
        # Servers keep whole seconds: else every lock would seem to end a bit too early.
        end = datetime.fromtimestamp(math.ceil(until.timestamp()), UTC)

        def extend(key: str) -> None:
            path = self._prefix + key
            version = self._patience.call(lambda: self._firsts.version(key))
            lock = self._call("head", key, lambda: self._versions.lock(path, version))
            if lock is not None and lock.until >= end:
                return
            moved = Lock(lock.mode if lock else wanted.mode, end)
            try:
                self._call("put", key, lambda: self._versions.set_lock(path, version, moved))
            except AccessDenied as error:
                raise AccessDenied(
                    error.message, remedy="Allow PutObjectRetention and GetObjectRetention on this bucket."
                ) from error

        missing: ObjectNotFound | None = None
        left = iter(keys)
        while batch := list(islice(left, TOGETHER)):
            self._patience.call(partial(self._firsts.learn, batch))
            try:
                for_each(extend, batch)
            except ObjectNotFound as error:
                missing = error
        if missing is not None:
            raise missing

    def _read(self, key: str, start: int = 0, length: int | None = None, version: str | None = None) -> bytes:
        options: Any = {}
        if length is not None:
            options["range"] = (start, start + length)
        elif start:
            options["range"] = {"offset": start}
        if version is not None:
            options["version"] = version
        try:
            answer = obstore.get(self._store, self._prefix + key, options=options)
        except obx.BaseError as error:
            if past_the_end(error):
                return b""
            raise
        size = answer.meta["size"]
        wanted = max(0, size - start if length is None else min(length, size - start))
        if wanted > MOST_BYTES:
            raise StoreRefused(
                f"{self.url}/{key} has {size} bytes, and nothing that Blockvault stores has more than {MOST_BYTES}",
                remedy="Somebody else has put this object there: remove it.",
            )
        data = bytes(answer.bytes())
        if len(data) != wanted:
            raise StoreUnreachable(f"{self.url}/{key}: {len(data)} bytes came instead of {wanted}")
        got = _version(answer.meta["version"])
        self._note(answer.meta["version"])
        created = CREATED in answer.attributes or key == RECORD
        if version is None and got is not None and created and self._keeps_versions():
            versions = self._attempt("list", key, lambda: self._versions.of(self._prefix + key)).versions
            if versions and versions[-1] != got:
                return self._attempt("get", key, lambda: self._read(key, start, length, versions[-1]))
        return data

    def _read_first(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The version that was stored first: one listing more, for each object once."""
        version = self._firsts.version(key)
        try:
            return self._attempt("get", key, lambda: self._read(key, start, length, version))
        except ObjectNotFound:
            self._firsts.forget(key)
            raise

    def _read_uncovered(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """As `_read`, but what lies below a delete marker is found as well."""
        try:
            return self._attempt("get", key, lambda: self._read(key, start, length))
        except ObjectNotFound:
            if not (self._versioned or (key == RECORD and self._keeps_versions())):
                raise
            versions = self._attempt("list", key, lambda: self._versions.of(self._prefix + key)).versions
            if not versions:
                raise
            return self._attempt("get", key, lambda: self._read(key, start, length, versions[-1]))

    def _put(self, key: str, data: Data, *, exclusive: bool) -> str | None:
        """Store, and return the version that it has, in a bucket that keeps versions."""
        path, lock = self._prefix + key, self._location.object_lock
        metadata = {CREATED: "1"} if exclusive else {}
        if lock is not None and not key.startswith(UNLOCKED):
            until = datetime.fromtimestamp(math.ceil(self._wall()), UTC) + timedelta(days=lock.days)
            return self._versions.put(
                path, data, exclusive=exclusive, lock=Lock(lock.mode, until), metadata=metadata
            )
        attributes = dict(metadata)
        if self._location.storage_class:
            attributes["Storage-Class"] = self._location.storage_class
        mode = "create" if exclusive else "overwrite"
        answer = obstore.put(
            self._store, path, data, mode=cast(Any, mode), use_multipart=False, attributes=attributes or None
        )
        self._note(answer["version"])
        return _version(answer["version"])

    def _create(self, key: str, data: Data) -> None:
        """One try to create; raises AlreadyExists when another's version is there before ours."""
        try:
            version = self._attempt("create", key, lambda: self._put(key, data, exclusive=True), up=len(data))
        except StoreRefused as error:
            if "NotImplemented" in error.message:
                raise NoConditionalCreate(f"{error.message}: conditional creation is refused") from error
            raise
        if version is None or not self._keeps_versions():
            return
        path = self._prefix + key
        versions = self._attempt("list", key, lambda: self._versions.of(path)).versions
        if version not in versions:
            raise StoreUnreachable(f"{self.url}/{key}: the listing of versions lacks the one just stored")
        if versions[-1] != version:
            # Nobody reads ours; where a lock or a fault keeps it, it goes with the other one later.
            with suppress(StoreError):
                self._attempt("delete", key, lambda: self._versions.delete(path, version))
            raise AlreadyExists(f"{self.url}/{key} exists already")

    def _note(self, version: str | None) -> None:
        """Learn from an answer. Without an id nobody need be asked, nor the other client be loaded for it."""
        if version is None:
            if self._versioned is None and not self._saw_ids:
                self._versioned = False
        elif not self._saw_ids:
            self._saw_ids = True
            self._versioned = True if self._location.object_lock else None

    def _keeps_versions(self) -> bool:
        if self._versioned is None:
            try:
                self._versioned = self._attempt("head", "", self._versions.kept)
            except AccessDenied:
                return self._saw_ids  # whoever may not ask must take an id for what it is nearly everywhere
            except StoreRefused:
                self._versioned = False  # servers without versions need not know the question
        return self._versioned

    def _delete_all_versions(self, keys: Sequence[str]) -> None:
        locked: list[tuple[str, datetime | None]] = []

        def delete(key: str) -> None:
            path = self._prefix + key
            self._firsts.forget(key)
            found = self._call("list", key, lambda: self._versions.of(path))
            # The newest first: the oldest is the one that counts. Markers last, or a locked one would show again.
            for version in [*found.versions, *found.markers]:
                try:
                    self._call("delete", key, partial(self._versions.delete, path, version))
                except AccessDenied as error:
                    locked.append((key, self._lock_behind(error, key, version)))
                    return

        for_each(delete, keys)
        if locked:
            ends = [end for _, end in locked if end is not None]
            until = f" until {max(ends):%Y-%m-%dT%H:%M:%SZ}" if ends else ""
            raise ObjectLocked(
                f"{self.url}/{min(locked)[0]}: locked{until}; {len(locked)} of {len(keys)} objects were not deleted"
            )

    def _lock_behind(self, error: AccessDenied, key: str, version: str) -> datetime | None:
        """When the lock ends that made the store refuse a deletion; the refusal itself if it was no lock."""
        lock = self._call("head", key, lambda: self._versions.lock(self._prefix + key, version))
        if lock is not None and lock.until.timestamp() > self._wall():
            return lock.until.astimezone(UTC)
        if "object lock" in error.message.lower():
            return None  # a legal hold, or clocks that differ
        raise AccessDenied(
            error.message,
            remedy="Allow DeleteObjectVersion and ListBucketVersions on this bucket: it keeps versions.",
        ) from error

    def _delete(self, paths: Sequence[str]) -> None:
        try:
            obstore.delete(self._store, paths)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise

    def _ask(self, key: str, work: Callable[[], T]) -> T:
        return self._attempt("list", key, work)

    def _call(self, kind: str, key: str, work: Callable[[], T], *, up: int = 0) -> T:
        return self._patience.call(lambda: self._attempt(kind, key, work, up=up))

    def _attempt(self, kind: str, key: str, work: Callable[[], T], *, up: int = 0) -> T:
        self.traffic.count(kind, up=up)
        if self._limit is not None:
            self._limit.take(up)
        self._renew()
        try:
            done = work()
        except RAISED as error:
            found = translate(error, f"{self.url}/{key}")
            if self._gate is not None and (trouble := self._gate.trouble()) is not None:
                raise type(trouble)(f"{self.url}/{key}: {trouble}", remedy=trouble.remedy) from error
            if isinstance(found, InvalidCredentials) and self._files is not None and self._worked:
                found.retryable = True  # they were right a moment ago: the new ones are on their way
            raise found from error
        self._worked = True
        return done


def _tag(meta: ObjectMeta) -> str | None:
    """The ETag without quotes: servers hand it out both ways."""
    tag = meta["e_tag"]
    return tag.removeprefix("W/").strip('"') if tag else None


def _version(found: str | None) -> str | None:
    """The id of a version; None in a bucket that keeps none, or does so no more."""
    return None if found == "null" else found
