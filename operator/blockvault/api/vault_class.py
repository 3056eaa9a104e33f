"""VaultClass, made by an administrator as StorageClasses are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .common import (
    BaseStatus,
    ClaimStorage,
    Encryption,
    Limits,
    LocalReference,
    Model,
    Name,
    ObjectMeta,
    Quantity,
    S3Storage,
)

FreeForm = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
Labels = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=32)]
Annotations = Annotated[dict[str, Annotated[str, Field(max_length=65536)]], Field(max_length=32)]
DeletionPolicy = Literal["Retain", "Delete"]


class ClassStorage(Model):
    """Exactly one of the two."""

    s3: S3Storage | None = None
    """An S3 store. Without credentials the operator's workload identity is used."""
    persistent_volume_claim: ClaimStorage | None = None
    """A directory on a shared claim in the operator's namespace."""


class ObjectLock(Model):
    """Immutable backups by the store's object lock (F8)."""

    mode: Literal["Governance", "Compliance"]
    """Governance: who has the store's right to do so can lift a lock. Compliance: nobody can."""
    days: Annotated[int, Field(ge=1, le=36500)]
    """For so many days nobody can delete a backup, nor anything that it needs."""


class MassDeletion(Model):
    """When deletion is held until somebody confirms it."""

    percent: Annotated[int, Field(ge=1, le=100)] = 30
    """Share of a vault's backups."""
    minutes: Annotated[int, Field(ge=1, le=1440)] = 10
    """Within this time."""


class MoverTemplate(Model):
    """How the class's mover pods are scheduled, as in a pod's spec."""

    resources: FreeForm | None = None
    """Requests and limits."""
    tolerations: Annotated[list[FreeForm], Field(max_length=32)] | None = None
    """Tolerations."""
    affinity: FreeForm | None = None
    """Affinity."""
    node_selector: Labels | None = None
    """Node selector."""
    priority_class_name: Name | None = None
    """Priority class."""
    labels: Labels | None = None
    """Labels of the pods."""
    annotations: Annotations | None = None
    """Annotations of the pods."""
    image_pull_secrets: Annotated[list[LocalReference], Field(max_length=16)] | None = None
    """Pull secrets in the operator's namespace."""


class VaultDefaults(Model):
    """What a Vault of this class has when it does not say."""

    capacity: Quantity | None = None
    """Capacity."""
    policy_ref: LocalReference | None = None
    """Policy."""
    deletion_policy: DeletionPolicy | None = None
    """What becomes of the data when the Vault is deleted."""


class VaultClassSpec(Model):
    """Store, credentials in the operator's namespace, keys, limits, mover pods, defaults."""

    storage: ClassStorage
    """Where vaults of this class lie, each under `<prefix>/<namespace>/<name>-<first 8 of uid>`."""
    encryption: Encryption | None = None
    """Encryption of all vaults of this class."""
    adoption: Literal["Never", "SameNamespace", "Any"] = "Never"
    """Which vaults may take over the place of a former one."""
    object_lock: ObjectLock | None = None
    """Immutable backups, in vaults made from now on: a store's lock is part of it and does not change."""
    trash_days: Annotated[int, Field(ge=0, le=3650)] | None = None
    """Days that a deleted backup can be brought back."""
    mass_deletion: MassDeletion | None = None
    """When deletion is held."""
    mover: MoverTemplate | None = None
    """How mover pods are scheduled."""
    limits: Limits | None = None
    """Bounds."""
    defaults: VaultDefaults | None = None
    """Defaults of its vaults."""


class VaultClassStatus(BaseStatus):
    """Whether vaults may name this class."""


class VaultClass(Model):
    """A class of vaults, made by an administrator as StorageClasses are; cluster-scoped."""

    metadata: ObjectMeta
    spec: VaultClassSpec
    status: VaultClassStatus | None = None
