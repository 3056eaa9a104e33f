"""What the custom resources share: the model base, references, metadata, S3 storage, quantities."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

SUFFIXES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE]([0-9]+)|(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?")


def parse_quantity(quantity: str | int) -> int:
    """Bytes of a Kubernetes quantity (`10Gi`, `1.5M`, `2e9`, 4096), rounded up.

    Raises ValueError on anything else. Source: apimachinery's resource.Quantity.
    """
    match = _QUANTITY.fullmatch(str(quantity).strip())
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity of bytes such as 10Gi")
    number, exponent, suffix = match.groups()
    value = Decimal(number) * 10 ** int(exponent or 0) * SUFFIXES[suffix or ""]
    return int(value.to_integral_value(rounding="ROUND_CEILING"))


def format_quantity(size: int) -> str:
    """The shortest exact quantity of so many bytes, in powers of 1024: 10737418240 is `10Gi`."""
    for suffix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        if size and size % SUFFIXES[suffix] == 0:
            return f"{size // SUFFIXES[suffix]}{suffix}"
    return str(size)


class Model(BaseModel):
    """Base of all: camelCase outside, snake_case inside, unknown fields passed over.

    They are passed over because a newer CRD may serve fields that this operator does not know yet.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", use_attribute_docstrings=True
    )

    @classmethod
    def readable(cls, objects: Iterable[Any]) -> list[Self]:
        """Those of these objects that can be read. Where objects of all namespaces are looked at, none may stop it.

        One may have been stored under an earlier schema; its own loop says what is wrong with it.
        """
        found: list[Self] = []
        for obj in objects:
            with suppress(ValidationError):
                found.append(cls.model_validate(obj))
        return found


# The names of all objects that are referred to are DNS subdomains: a wrong one would be waited for in vain.
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
Name = Annotated[str, Field(max_length=253, pattern=NAME_PATTERN)]
SET: dict[str, JsonValue] = {"x-kubernetes-list-type": "set"}
# Strings only, where Kubernetes would take a bare number too: CEL compares them, and a unit is asked for.
Quantity = Annotated[
    str, Field(max_length=24, pattern=r"^[0-9]+(\.[0-9]{1,6})?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
]

# Bytes a second: with a unit, as a bare number is nearly always a mistake, and never none.
Rate = Annotated[str, Field(max_length=24, pattern=r"^[1-9][0-9]{0,8}(k|M|G|T|Ki|Mi|Gi|Ti)$")]


class ObjectMeta(Model):
    """The part of Kubernetes' metadata that decisions look at."""

    name: str
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []


class LocalReference(Model):
    """An object of this namespace, by name."""

    name: Name
    """Name of the object."""


class SecretReference(Model):
    """A Secret: in the Vault's namespace, or in the operator's for a VaultClass."""

    name: Name
    """Name of the Secret."""
    key: Annotated[str, Field(max_length=253)] | None = None
    """Key inside the Secret, where one value is meant."""


class Condition(Model):
    """metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """Type of the condition, such as Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=1024)]
    """One word for programs."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """A sentence for people: the object, the cause, what to do."""
    last_transition_time: str
    """When `status` last changed."""
    observed_generation: int | None = None
    """The generation of the spec that this is about."""


Conditions = Annotated[
    list[Condition],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


# Nothing that parsers of URLs take in different ways: no backslash, no escapes, no letters beside ASCII.
ENDPOINT = r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$"


class S3Storage(Model):
    """A place in an S3-compatible object store."""

    endpoint: Annotated[str, Field(max_length=1024, pattern=ENDPOINT)] | None = None
    """URL of the store, such as https://s3.example.com. Left out for AWS."""
    region: Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9._-]*$")] | None = None
    """Region, where the store knows any."""
    bucket: Annotated[str, Field(min_length=3, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Bucket. It must exist: Blockvault makes no buckets."""
    prefix: Annotated[str, Field(max_length=512, pattern=r"^[A-Za-z0-9._/=-]*$")] | None = None
    """Everything lies under this prefix."""
    credentials_secret_ref: LocalReference | None = None
    """Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if need be, AWS_SESSION_TOKEN."""
    ca_bundle_secret_ref: SecretReference | None = None
    """Secret with the PEM bundle (key ca.crt) that the store's certificate is checked against."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """How the bucket is named in requests: auto is path-style for an endpoint of one's own."""
    storage_class: Annotated[str, Field(max_length=63)] | None = None
    """Storage class of new objects, such as STANDARD_IA."""
    server_side_encryption: Literal["none", "AES256", "aws:kms"] = "none"
    """Encryption by the store, with keys that the store holds."""


class ClaimStorage(Model):
    """A directory on a ReadWriteMany claim in the operator's namespace (NFS, a NAS)."""

    claim_name: Name
    """Name of the claim."""
    path: Annotated[str, Field(max_length=1024)] = ""
    """Directory on it."""


class Encryption(Model):
    """Encryption before anything leaves the cluster."""

    key_secret_ref: SecretReference
    """Secret with the vault key of 32 bytes under `key`; while rotating, the former under `previousKey`."""


class Limits(Model):
    """Bounds on what a vault's movers may use."""

    bandwidth: Rate | None = None
    """Bytes a second to and from the store, of all its backups and its upkeep together; a restore has as much again."""
    concurrent_backups: Annotated[int, Field(ge=1, le=256)] | None = None
    """Backups at once. Where the bandwidth is bounded: one, unless this says more; each has its share then."""
    resources: Annotated[int, Field(ge=1, le=256)] | None = None
    """Resources that one vault may hold."""


class Progress(Model):
    """How far a mover has come."""

    phase: str | None = None
    """What it is doing."""
    bytes_scanned: int | None = None
    """Bytes of the volume looked at."""
    bytes_changed: int | None = None
    """Bytes of the volume that differ from the backup before."""
    bytes_stored: int | None = None
    """Bytes sent to the store."""
    bytes_written: int | None = None
    """Bytes written to the volume."""
    bytes_total: int | None = None
    """Bytes to look at in all."""
    percent: int | None = None
    """Share done, 0 to 100."""
    eta: str | None = None
    """When it will be done if it goes on like this."""


class Timing(Model):
    """One step, and how long it took."""

    name: str
    """What was done or waited for."""
    start_time: str
    """When it began; the last time, where it was taken several times."""
    seconds: float | None = None
    """How long it took, all times together. Of the step that is going on, its earlier times only."""


# More than there are steps of any kind.
Timings = Annotated[list[Timing], Field(max_length=16)]


class MoverStatus(Model):
    """What is known of a mover that has ended."""

    job: str | None = None
    """Name of its Job in the operator's namespace; it stays an hour."""
    attempts: int | None = None
    """Pods that tried."""
    last_words: str | None = None
    """The last 4 KiB of its log."""
    error_class: str | None = None
    """Class of its error, as in docs/exit-codes.md."""
    timings: Timings | None = None
    """Its own steps, in its own words: Loading, Opening the store, and what it did then. By the clock of its node."""


class OperationStatus(Model):
    """How the work ended, recorded before cleaning up begins."""

    outcome: Literal["Succeeded", "Failed"] | None = None
    """Succeeded or Failed."""
    reason: str | None = None
    """Why, in one word."""
    message: str | None = None
    """Why, in a sentence."""


class BaseStatus(Model):
    """What every status has."""

    phase: str | None = None
    """The phase as one word."""
    reason: str | None = None
    """Why it is in this phase, in one word for programs."""
    message: str | None = None
    """Why it is in this phase, and what to do, in a sentence for people."""
    conditions: Conditions = []
    """Ready, Reconciling and Stalled as kstatus reads them, and others."""
    observed_generation: int | None = None
    """The generation of the spec that this status is about."""


class RunStatus(BaseStatus):
    """What the status of a Backup and of a Restore have in common."""

    progress: Progress | None = None
    """How far the mover has come."""
    started_at: str | None = None
    """When work began."""
    completed_at: str | None = None
    """When it ended."""
    attempt: int | None = None
    """Which of its movers is at work, where the nodes of those before it were lost."""
    timings: Timings | None = None
    """How long each step took: waiting, what the storage made, the mover's start and work, cleaning up."""
    mover: MoverStatus | None = None
    """What is known of its mover."""
    operation: OperationStatus | None = None
    """How the work ended."""


def as_dict(model: BaseModel) -> dict[str, Any]:
    """A model as it stands in a manifest: without what is not set."""
    return model.model_dump(by_alias=True, exclude_none=True, mode="json")
