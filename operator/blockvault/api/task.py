"""Task: the record of one operation, written by the operator only (E1)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import LocalReference, Model, Name, ObjectMeta

TaskType = Literal[
    "Backup",
    "Restore",
    "Rollback",
    "DeleteBackup",
    "DeleteVault",
    "Expand",
    "Skip",
    "Import",
    "TakeOver",
    "Undelete",
    "Upkeep",
]
TaskPhase = Literal["Running", "Succeeded", "Failed", "Skipped", "Cancelled"]


class TaskObject(Model):
    """The object that an operation is about, as it was then; it may be gone since."""

    kind: Annotated[str, Field(max_length=63)]
    """Its kind."""
    name: Name
    """Its name."""
    uid: Annotated[str, Field(max_length=63)]
    """Its uid, which tells it from a later one of the same name."""


class TaskResource(Model):
    """The resource that is backed up, or restored to."""

    kind: Annotated[str, Field(max_length=63)]
    """Its kind."""
    name: Name
    """Its name."""


class TaskSpec(Model):
    """Which operation it is."""

    type: TaskType
    """What is done."""
    trigger: Literal["Manual", "Policy"] = "Manual"
    """Who asked for it: somebody, or a BackupPolicy."""
    vault_ref: LocalReference | None = None
    """The Vault that it works on."""
    resource: TaskResource | None = None
    """The resource that it works on."""
    object: TaskObject
    """The object that asks for it."""
    slot: Annotated[str, Field(max_length=32)] | None = None
    """The slot of the schedule, of a Skip."""


class TaskProgress(Model):
    """How far it has come."""

    percent: int
    """Share done, 0 to 100."""


class TaskStatus(Model):
    """How it goes, or went. A phase other than Running is never left."""

    phase: TaskPhase
    """Running, also while it waits; or how it ended."""
    reason: str | None = None
    """Why, in one word; docs/troubleshooting.md explains each."""
    message: str | None = None
    """The cause, in a sentence."""
    remedy: str | None = None
    """What to do."""
    progress: TaskProgress | None = None
    """How far it has come."""
    started_at: str | None = None
    """When work began; not set while it waits to begin."""
    completed_at: str | None = None
    """When it ended; it is kept for 30 days from then on."""


class Task(Model):
    """The record of one operation. Written by the operator; may be deleted at any time without harm."""

    metadata: ObjectMeta
    spec: TaskSpec
    status: TaskStatus | None = None
