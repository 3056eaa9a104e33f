"""S3 by obstore, with retries of our own.

obstore's are off: it repeats a conditional PUT after a lost answer and then reports our own object as
somebody else's, and it calls a 409 (a race that is still going on) AlreadyExists as well. Here every doubt
about a creation is resolved by reading back and comparing bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import obstore
from obstore import exceptions as obx
from obstore.store import S3Store as ObstoreS3

from blockvault.stores.base import Data, ObjectInfo, Patience, Traffic
from blockvault.stores.errors import (
    AccessDenied,
    ObjectNotFound,
    StoreRefused,
    StoreUnreachable,
)
from blockvault.stores.location import StoreLocation
from blockvault.stores.ratelimit import RateLimit
from blockvault.stores.s3_answers import past_the_end, translate

if TYPE_CHECKING:
    from obstore import ObjectMeta

T = TypeVar("T")

CONNECT_SECONDS = 10
# One request moves at most a segment; a link that needs longer than this for 32 MiB is as good as dead.
REQUEST_SECONDS = 120


class S3Store:
    """Objects below `location.prefix` of one bucket."""

    def __init__(
        self, location: StoreLocation, *, retry_seconds: float = 300.0, limit: RateLimit | None = None
    ) -> None:
        self.url = location.url.rstrip("/")
        self.traffic = Traffic()
        self._location = location
        self._prefix = location.prefix + "/" if location.prefix else ""
        self._patience = Patience(retry_seconds)
        self._limit = limit
        self._attributes: Any = {"Storage-Class": location.storage_class} if location.storage_class else None
        try:
            self._store = ObstoreS3(location.bucket, **_options(location))
        except (obx.BaseError, ValueError) as error:
            raise StoreRefused(f"{self.url}: {error}", remedy="Correct the store's options.") from error

    @property
    def requests(self) -> dict[str, int]:
        """Requests so far, by kind; each repetition counts."""
        return dict(self.traffic.requests)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ObjectStore."""
        if length == 0:
            return b""
        data = self._call("get", key, lambda: self._read(key, start, length))
        self.traffic.count("", down=len(data))
        if self._limit is not None:
            self._limit.take(len(data))
        return data

    def put(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._call("put", key, lambda: self._put(key, data, "overwrite"), up=len(data))

    def create(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._patience.create(
            lambda: self._attempt("create", key, lambda: self._put(key, data, "create"), up=len(data)),
            lambda: self._attempt("get", key, lambda: self._read(key)),
            data,
            f"{self.url}/{key}",
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore. Pages of up to 1,000 keys are requests of their own."""
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

    def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore. Up to 1,000 keys go in one request."""
        paths = [self._prefix + key for key in keys]
        for first in range(0, len(paths), 1000):
            batch = paths[first : first + 1000]
            self._call("delete", batch[0], lambda batch=batch: self._delete(batch))  # type: ignore[misc]

    def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""

        def work() -> ObjectInfo:
            try:
                meta = self._attempt("head", key, lambda: obstore.head(self._store, self._prefix + key))
            except (ObjectNotFound, AccessDenied):
                # The answer to HEAD has no body that says what is absent or who is refused; that to GET has.
                self._attempt("get", key, lambda: self._read(key, 0, 1))
                raise StoreUnreachable(f"{self.url}/{key}: HEAD and GET differ in what they say") from None
            return ObjectInfo(key, meta["size"], _tag(meta))

        return self._patience.call(work)

    def _read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        options: Any = None
        if length is not None:
            options = {"range": (start, start + length)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            answer = obstore.get(self._store, self._prefix + key, options=options)
        except obx.BaseError as error:
            if past_the_end(error):
                return b""
            raise
        data = bytes(answer.bytes())
        size = answer.meta["size"]
        wanted = max(0, size - start if length is None else min(length, size - start))
        if len(data) != wanted:
            raise StoreUnreachable(f"{self.url}/{key}: {len(data)} bytes came instead of {wanted}")
        return data

    def _put(self, key: str, data: Data, mode: str) -> None:
        obstore.put(
            self._store,
            self._prefix + key,
            data,
            mode=cast(Any, mode),
            use_multipart=False,
            attributes=self._attributes,
        )

    def _delete(self, paths: Sequence[str]) -> None:
        try:
            obstore.delete(self._store, paths)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise

    def _call(self, kind: str, key: str, work: Callable[[], T], *, up: int = 0) -> T:
        return self._patience.call(lambda: self._attempt(kind, key, work, up=up))

    def _attempt(self, kind: str, key: str, work: Callable[[], T], *, up: int = 0) -> T:
        self.traffic.count(kind, up=up)
        if self._limit is not None:
            self._limit.take(up)
        try:
            return work()
        except (obx.BaseError, FileNotFoundError, OSError, ValueError) as error:
            raise translate(error, f"{self.url}/{key}") from error


def _tag(meta: ObjectMeta) -> str | None:
    """The ETag without quotes: servers hand it out both ways."""
    tag = meta["e_tag"]
    return tag.removeprefix("W/").strip('"') if tag else None


def _options(location: StoreLocation) -> dict[str, Any]:
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }
    endpoint = (
        location.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    )
    if endpoint and endpoint.startswith("http://"):
        client["allow_http"] = True
    bundle = location.ca_bundle or _environment_bundle()
    if bundle:
        client["root_certificate"] = bundle
    # AWS wants the bucket in the host name; other servers rarely have the DNS for it.
    # A dot in the bucket's name breaks TLS wildcards.
    virtual = location.addressing == "virtual" or (
        location.addressing == "auto" and not endpoint and "." not in location.bucket
    )
    options: dict[str, Any] = {
        "region": location.region
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or "us-east-1",
        "virtual_hosted_style_request": virtual,
        "client_options": client,
        "retry_config": {"max_retries": 0},
    }
    if endpoint:
        options["endpoint"] = _with_bucket(endpoint, location.bucket) if virtual else endpoint
    encryption = location.server_side_encryption
    if encryption and encryption != "none":
        options["server_side_encryption"] = encryption
    if location.credentials is not None:
        options["access_key_id"] = location.credentials.access_key
        options["secret_access_key"] = location.credentials.secret_key
        if location.credentials.session_token:
            options["session_token"] = location.credentials.session_token
    return options


def _with_bucket(endpoint: str, bucket: str) -> str:
    """obstore takes the host with the bucket in it when addressing is by virtual hosts."""
    scheme, _, host = endpoint.partition("://")
    return endpoint if host.startswith(bucket + ".") else f"{scheme}://{bucket}.{host}"


def _environment_bundle() -> str | None:
    path = os.environ.get("AWS_CA_BUNDLE")
    if not path:
        return None
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreRefused(f"AWS_CA_BUNDLE {path}: {error}", remedy="Name a readable PEM file.") from error
