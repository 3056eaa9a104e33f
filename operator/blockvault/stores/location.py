"""Where a store is and how to get in. Plain data: goes through JSON to movers and worker processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from blockvault.stores.errors import BadLocation

Addressing = Literal["auto", "path", "virtual"]
LockMode = Literal["Governance", "Compliance"]

_LOCK_REMEDY = "Use mode Governance or Compliance, and at least one day."


@dataclass(frozen=True)
class Credentials:
    """Keys for S3. Never shown by repr."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ObjectLock:
    """Every object is stored so that nobody can delete it for `days`, in mode Governance or Compliance."""

    mode: LockMode
    days: int

    def __post_init__(self) -> None:
        if self.mode not in ("Governance", "Compliance"):
            raise BadLocation(f"object lock mode {self.mode!r} is not known", remedy=_LOCK_REMEDY)
        if self.days < 1:
            raise BadLocation(f"an object lock of {self.days} days", remedy=_LOCK_REMEDY)


@dataclass(frozen=True)
class StoreLocation:
    """`url` is `s3://bucket[/prefix]` or `file:///directory`; the rest is meant for S3 only.

    `credentials` None means what AWS tools use: environment, web identity, instance role.
    `ca_bundle` is PEM text, trusted in addition to the system's roots. `secrets_folder`: where both lie as files of a
    mounted Secret; when those change, they count from the next request on. `tenant`: the namespace that chose
    this place by itself; `gated`: it reaches nothing but the endpoint's own routable addresses (see gate).
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    addressing: Addressing = "auto"
    storage_class: str | None = None
    server_side_encryption: str | None = None
    object_lock: ObjectLock | None = None
    ca_bundle: str | None = field(default=None, repr=False)
    credentials: Credentials | None = field(default=None, repr=False)
    secrets_folder: str | None = None
    tenant: str | None = None
    gated: bool = False

    def __post_init__(self) -> None:
        if self.addressing not in ("auto", "path", "virtual"):
            raise BadLocation(
                f"{self.url}: addressing {self.addressing!r} is not known",
                remedy="Use auto, path or virtual.",
            )
        parts = urlsplit(self.url)
        if parts.scheme == "s3" and parts.netloc:
            return
        if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
            if self.object_lock is None:
                return
            raise BadLocation(
                f"{self.url}: a directory has no object lock", remedy="Use an S3 bucket for it."
            )
        raise BadLocation(f"{self.url!r} is not a store")

    @property
    def scheme(self) -> str:
        """`s3` or `file`."""
        return urlsplit(self.url).scheme

    @property
    def bucket(self) -> str:
        """The bucket of an S3 location."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """The prefix inside the bucket, without slashes at its ends; may be empty."""
        return urlsplit(self.url).path.strip("/")

    @property
    def directory(self) -> str:
        """The directory of a file location."""
        return unquote(urlsplit(self.url).path)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the secrets: strip `credentials` and `ca_bundle` where they must not go."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> StoreLocation:
        """The reverse of `to_dict`; keys that we do not know are left out."""
        known = {key: data[key] for key in cls.__dataclass_fields__ if data.get(key) is not None}
        if isinstance(known.get("credentials"), dict):
            known["credentials"] = Credentials(**known["credentials"])
        if isinstance(known.get("object_lock"), dict):
            known["object_lock"] = ObjectLock(**known["object_lock"])
        return cls(**known)
