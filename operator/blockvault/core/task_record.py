"""A Task as it is in memory and in the API, and what it tells the claim (E1). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from blockvault.api import Task, TaskPhase, TaskType

from .association import CLAIM
from .conditions import timestamp
from .naming import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    OBJECT_LABEL,
    RESOURCE_LABEL,
    TASK_DAY_LABEL,
    TASK_PHASE_LABEL,
    TASK_TYPE_LABEL,
    VAULT_LABEL,
    label_value,
)
from .objects import Object
from .reasons import at_work, remedy_of

# A Task is small, whatever a driver or a store has said.
LONGEST_MESSAGE = 1024
# What is told on the claim too.
CLAIM_EVENTS: dict[tuple[TaskType, TaskPhase], str] = {
    ("Backup", "Running"): "BackupStarted",
    ("Backup", "Succeeded"): "BackupSucceeded",
    ("Backup", "Failed"): "BackupFailed",
    ("Backup", "Cancelled"): "BackupCancelled",
    ("Restore", "Running"): "RestoreStarted",
    ("Restore", "Succeeded"): "RestoreSucceeded",
    ("Restore", "Failed"): "RestoreFailed",
    ("Restore", "Cancelled"): "RestoreCancelled",
    ("Restore", "Skipped"): "RestoreSkipped",
    ("Rollback", "Running"): "RollbackStarted",
    ("Rollback", "Succeeded"): "RollbackSucceeded",
    ("Rollback", "Failed"): "RollbackFailed",
    ("Skip", "Skipped"): "BackupSkipped",
}


@dataclass(frozen=True)
class Record:
    """One Task: what it is about, and how it goes. Times as in statuses."""

    type: TaskType
    name: str
    namespace: str
    kind: str
    object: str
    uid: str
    phase: TaskPhase = "Running"
    reason: str = ""
    message: str = ""
    vault: str | None = None
    resource: str | None = None
    trigger: str = "Manual"
    slot: str | None = None
    percent: int | None = None
    created: str = ""
    started: str | None = None
    ended: str | None = None

    @property
    def open(self) -> bool:
        """Whether its operation goes on."""
        return self.phase == "Running"


def body_of(record: Record) -> Object:
    """The Task as the API takes it. Nothing is null, so that it serves as a merge patch too."""
    status: Object = {
        "phase": record.phase,
        "reason": record.reason,
        "message": record.message[:LONGEST_MESSAGE],
        # A patch cannot leave a former one standing.
        "remedy": remedy_of(record.reason) if record.phase != "Succeeded" else "",
    }
    if record.percent is not None:
        status["progress"] = {"percent": record.percent}
    if record.started:
        status["startedAt"] = record.started
    if record.ended:
        status["completedAt"] = record.ended
    spec: Object = {
        "type": record.type,
        "trigger": record.trigger,
        "object": {"kind": record.kind, "name": record.object, "uid": record.uid},
    }
    labels = {
        MANAGED_BY_LABEL: MANAGED_BY,
        TASK_TYPE_LABEL: record.type,
        TASK_PHASE_LABEL: record.phase,
        TASK_DAY_LABEL: (record.started or record.created)[:10],
        OBJECT_LABEL: label_value(record.object),
    }
    if record.vault:
        spec["vaultRef"] = {"name": record.vault}
        labels[VAULT_LABEL] = label_value(record.vault)
    if record.resource:
        spec["resource"] = {"kind": CLAIM, "name": record.resource}
        labels[RESOURCE_LABEL] = label_value(record.resource)
    if record.slot:
        spec["slot"] = record.slot
    metadata = {"name": record.name, "namespace": record.namespace, "labels": labels}
    return {"metadata": metadata, "spec": spec, "status": status}


def claim_event(before: Record | None, record: Record) -> dict[str, str] | None:
    """What the claim is told, as `operations.tell` takes it: beginnings and ends only. `before`: what was told last."""
    # What is refused at once has not begun.
    begins = record.open and record.started and at_work(record.reason) and not (before and before.started)
    reason = CLAIM_EVENTS.get((record.type, record.phase))
    if record.resource is None or reason is None or (record.open and not begins):
        return None
    what = f"{record.kind} {record.object}"
    message = f"{what} has begun."
    if not record.open:
        advice = "" if record.phase == "Succeeded" else remedy_of(record.reason)
        slot = f" at {record.slot}" if record.slot else ""
        message = f"{what}{slot}: {record.message} {advice}".rstrip()
    # An event is a warning by the phase Error.
    return {
        "phase": "Error" if record.phase == "Failed" else record.phase,
        "reason": reason,
        "message": message,
    }


def record_of(task: Task) -> Record:
    """The reverse of `body_of`."""
    spec, status, meta = task.spec, task.status, task.metadata
    return Record(
        spec.type,
        meta.name,
        str(meta.namespace),
        spec.object.kind,
        spec.object.name,
        spec.object.uid,
        status.phase if status else "Running",
        (status.reason if status else None) or "",
        (status.message if status else None) or "",
        spec.vault_ref.name if spec.vault_ref else None,
        spec.resource.name if spec.resource else None,
        spec.trigger,
        spec.slot,
        status.progress.percent if status and status.progress else None,
        timestamp(meta.creation_timestamp),
        status.started_at if status else None,
        status.completed_at if status else None,
    )
