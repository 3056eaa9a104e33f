"""What operations leave in their Tasks (E1). Pure.

A Task is a record beside the operation and never a condition of it: it follows from what the operation's own status
says, so that it can be written late, twice, or made up after a crash.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from blockvault.api import SkippedRun, TaskPhase, TaskType, Vault, parse_quantity

from .conditions import find_condition, timestamp
from .decision import CANCELLED
from .naming import (
    IMPORTED_ANNOTATION,
    POLICY_ANNOTATION,
    task_name,
)
from .objects import Object, deleting
from .restore_model import RESTORED, ROLLING_BACK
from .task_record import Record

ROLLED_BACK, CANNOT_ROLL_BACK = "RolledBack", "CannotRollBack"
# How operations end, by the phase of their object. What is in none of these phases has not ended.
ENDED: dict[str, TaskPhase] = {
    "Available": "Succeeded",
    "Completed": "Succeeded",
    "Error": "Failed",
    "Skipped": "Skipped",
}
# Of what has one of these phases the Task has ended: a Backup that is read has long been made.
OVER = {
    "Backup": (*ENDED, "Restoring", "Deleting"),
    "Restore": (*ENDED, RESTORED, ROLLING_BACK, ROLLED_BACK, "Deleting"),
}
# Deletions that take the object and leave the data, as they have said themselves.
DATA_STAYS = ("DataKept", "OwnedElsewhere", "StoredElsewhere")


def tasks_of(kind: str, obj: Object, status: dict[str, Any], now: datetime) -> list[Record]:
    """What the Tasks say when an object's status becomes `status`; `obj` as it was before.

    What has ended before is not told again: terminal phases are never left.
    """
    former = obj.get("status") or {}
    whole = {**former, **status}
    if whole.get("phase") == "Deleting" or (deleting(obj) and kind == "Backup"):
        return _deletion(kind, obj, whole)
    if kind == "Vault":
        return _expansion(obj, former, whole, now)
    if kind == "Restore" and former.get("phase") in (RESTORED, ROLLING_BACK):
        return _rollback(obj | {"status": whole}, former, now)
    if kind not in OVER or former.get("phase") in OVER[kind]:
        return []
    record = operation_of(kind, obj | {"status": whole})
    return [record] if record else []


def operation_of(kind: str, obj: Object) -> Record | None:
    """The Task of a Backup or Restore by its object; None of a Backup that only shows what the store has."""
    status, notes = obj.get("status") or {}, obj["metadata"].get("annotations") or {}
    if IMPORTED_ANNOTATION in notes or status.get("phase") == "Deleting":
        return None
    if "populate" in (obj["spec"].get("target") or {}):  # it only says what others are to do
        return None
    phase, work = _phase(status), status.get("operation") or {}
    later = status.get("phase") in ("Restoring", ROLLING_BACK, ROLLED_BACK) and phase == "Succeeded"
    said = work if later and work.get("outcome") else status
    progress = (status.get("progress") or {}).get("percent")
    return replace(
        _about(cast(TaskType, kind), kind, obj),
        phase=phase,
        reason=said.get("reason") or "",
        message=said.get("message") or "",
        percent=100 if phase == "Succeeded" else progress,
        started=status.get("startedAt"),
        # What is kept for going back has done its work when the claim had its data.
        ended=(status.get("restoredAt") or status.get("completedAt")) if phase != "Running" else None,
    )


def _phase(status: dict[str, Any]) -> TaskPhase:
    if status.get("reason") == CANCELLED and status.get("phase") in ENDED:
        return "Cancelled"
    known = ENDED.get(str(status.get("phase")))
    if known is not None:
        return known
    if status.get("phase") == "Restoring" and status.get("volumes"):
        return "Succeeded"  # a Backup that is being read was made before
    if status.get("phase") in (RESTORED, ROLLING_BACK, ROLLED_BACK):
        return "Succeeded"  # a claim that is given its former data back had what was restored
    # Of phases that this table does not know yet, the conditions tell.
    for condition, phase in (("Stalled", "Failed"), ("Ready", "Succeeded")):
        found = find_condition(status.get("conditions") or [], condition)
        if found is not None and found["status"] == "True":
            return cast(TaskPhase, phase)
    return "Running"


def _about(type: TaskType, kind: str, obj: Object, *key: str) -> Record:
    meta, spec = obj["metadata"], obj.get("spec") or {}
    notes = meta.get("annotations") or {}
    vault = (
        meta["name"]
        if kind == "Vault"
        else _name(spec.get("vaultRef") or (spec.get("latestOf") or {}).get("vaultRef"))
    )
    resource = _name(spec.get("resource")) or (obj.get("status") or {}).get("claim")
    target = (spec.get("target") or {}).get("newClaim")
    removed_by = (obj.get("status") or {}).get("removedBy")
    by_rule = bool(removed_by) if type == "DeleteBackup" else POLICY_ANNOTATION in notes
    return Record(
        type,
        task_name(type, meta["uid"], *key),
        meta["namespace"],
        kind,
        meta["name"],
        meta["uid"],
        vault=vault,
        resource=resource or _name(target),
        trigger="Policy" if kind == "Backup" and by_rule else "Manual",
        created=meta.get("creationTimestamp") or "",
    )


def _name(ref: Any) -> str | None:
    return (ref or {}).get("name") or None


def _deletion(kind: str, obj: Object, status: dict[str, Any]) -> list[Record]:
    type: TaskType = "DeleteVault" if kind == "Vault" else "DeleteBackup"
    meta = obj["metadata"]
    if kind not in ("Backup", "Vault") or not deleting(obj):
        return []
    # Of a Vault that takes its Backups along.
    total, left = ((status.get("deletion") or {}).get(word) for word in ("total", "left"))
    return [
        replace(
            _about(type, kind, obj),
            reason=status.get("reason") or "",
            message=status.get("message") or "",
            percent=100 * (total - (left or 0)) // total if total else None,
            created=meta["deletionTimestamp"],
            started=meta["deletionTimestamp"],
        )
    ]


def _rollback(obj: Object, former: dict[str, Any], now: datetime) -> list[Record]:
    """The Task of going back, of a Restore that was done (F4). What stands in its way is waited for."""
    status = obj["status"]
    phase, reason, message = (str(status.get(word) or "") for word in ("phase", "reason", "message"))
    record = replace(
        _about("Rollback", "Restore", obj), reason=reason, message=message, started=timestamp(now)
    )
    if phase == ROLLING_BACK or (phase == RESTORED and reason == CANNOT_ROLL_BACK):
        return [record]
    if former.get("phase") != ROLLING_BACK and former.get("reason") != CANNOT_ROLL_BACK:
        return []
    if phase == ROLLED_BACK:
        return [_done(record, reason, message, now)]
    # The time for it is over, or nothing is left to go back to.
    return [_done(record, CANNOT_ROLL_BACK, message, now, "Failed")] if phase in ENDED else []


def _expansion(obj: Object, former: dict[str, Any], status: dict[str, Any], now: datetime) -> list[Record]:
    """A Vault's capacity that is in force from now on, where it grew (A6)."""
    before, after = former.get("capacity"), status.get("capacity")
    if not before or not after or parse_quantity(after) <= parse_quantity(before):
        return []
    words = f"The capacity of Vault {obj['metadata']['name']} grew from {before} to {after}."
    return [_done(_about("Expand", "Vault", obj, after), "Expanded", words, now)]


def deleted_tasks(kind: str, obj: Object, open_tasks: list[Record], now: datetime) -> list[Record]:
    """What the Tasks say when the operator has let a deleted object go. `open_tasks`: those of this object."""
    found = [
        _cut_short(record, now) for record in open_tasks if record.type in ("Backup", "Restore", "Rollback")
    ]
    if kind not in ("Backup", "Vault"):
        return found
    type: TaskType = "DeleteVault" if kind == "Vault" else "DeleteBackup"
    begun = next((record for record in open_tasks if record.type == type), None)
    if begun is None:
        begun = next(iter(_deletion(kind, obj, {})), None)
    if begun is None:
        return found
    if begun.reason in DATA_STAYS:
        return [*found, _done(begun, begun.reason, begun.message, now)]
    return [*found, _done(begun, "Deleted", _last_words(kind, obj, begun), now)]


def _last_words(kind: str, obj: Object, begun: Record) -> str:
    words = f"{kind} {begun.object} is deleted."
    if kind == "Backup":
        return f"{words} What can still be brought back stands in the Vault's status.trash."
    if begun.message:
        return f"{words} Last it said: {begun.message}"
    place = (obj.get("status") or {}).get("location")
    return f"{words} Its stored data stays at {place}." if place else words


def _cut_short(record: Record, now: datetime) -> Record:
    words = f"{record.kind} {record.object} was deleted before it had ended."
    return replace(record, phase="Cancelled", reason="DeletedMeanwhile", message=words, ended=timestamp(now))


def _ended_before(record: Record, status: dict[str, Any]) -> Record | None:
    """How it ended, of an object that is being deleted since; None if it had not."""
    outcome, ended = status.get("operation") or {}, status.get("completedAt")
    if not outcome.get("outcome") or not ended:
        return None
    reason = outcome.get("reason") or ""
    phase: TaskPhase = "Cancelled" if reason == "Cancelled" else outcome["outcome"]
    message = outcome.get("message") or ""
    return replace(
        record, phase=phase, reason=reason, message=message, started=status.get("startedAt"), ended=ended
    )


def _done(record: Record, reason: str, message: str, now: datetime, phase: TaskPhase = "Succeeded") -> Record:
    """A Task that has ended; one that took no time began then too."""
    moment = timestamp(now)
    return replace(
        record,
        phase=phase,
        reason=reason,
        message=message,
        percent=100 if phase == "Succeeded" else record.percent,
        created=record.created or moment,
        started=record.started or moment,
        ended=moment,
    )


def closed(record: Record, obj: Object | None, now: datetime) -> Record | None:
    """How a Task that says Running ends, by its object as it is now; None while that goes on.

    For what was not written: a crash between the operation's last word and its Task's, or an API that took no writes.
    """
    there = obj if obj is not None and obj["metadata"]["uid"] == record.uid else None
    if record.type in ("DeleteBackup", "DeleteVault"):
        if there is not None:
            return None
        if record.reason in DATA_STAYS:
            return _done(record, record.reason, record.message, now)
        return _done(
            record, "EndNotSeen", f"{record.kind} {record.object} is gone; its last step was not seen.", now
        )
    if there is None:
        words = f"{record.kind} {record.object} is gone, and how it ended was not seen."
        return _done(record, "EndNotSeen", words, now, "Cancelled")
    if deleting(there):
        return _ended_before(record, there.get("status") or {}) or _cut_short(record, now)
    if record.type == "Rollback":
        phase = (there.get("status") or {}).get("phase")
        if phase == ROLLED_BACK:
            return _done(record, ROLLED_BACK, str(there["status"].get("message") or ""), now)
        words = f"Restore {record.object} is {phase}."
        return _done(record, CANNOT_ROLL_BACK, words, now, "Failed") if phase in ENDED else None
    found = operation_of(record.kind, there)
    return None if found is None or found.open else replace(found, vault=found.vault or record.vault)


def skipped_task(vault: Vault, claim: str, skipped: SkippedRun, now: datetime) -> Record:
    """The Task of a slot without a backup (B3)."""
    about = _about("Skip", "Vault", _dump(vault), claim, skipped.slot)
    record = replace(about, resource=claim, slot=skipped.slot, trigger="Policy")
    return _done(record, skipped.reason, skipped.message, now, "Skipped")


def instant_task(
    type: TaskType, vault: Vault, key: str, reason: str, message: str, now: datetime, *, failed: bool = False
) -> Record:
    """The Task of something that is done to a Vault in one step. `key` tells it from others of its type."""
    phase: TaskPhase = "Failed" if failed else "Succeeded"
    return _done(_about(type, "Vault", _dump(vault), key), reason, message, now, phase)


def upkeep_tasks(vault: Vault, run: int, status: dict[str, Any], now: datetime) -> list[Record]:
    """The Task of a run of upkeep that has ended, where it deleted something or failed."""
    failed = status.get("reason") != "Completed"
    if not status.get("endedAt") or not (failed or status.get("deletedBytes")):
        return []
    message = status.get("message") or ""
    if not failed:
        removed = f"{status.get('deletedObjects')} objects and {status.get('deletedBytes')} bytes"
        message = f"{removed} were removed from the store."
    record = instant_task("Upkeep", vault, str(run), str(status.get("reason")), message, now, failed=failed)
    return [replace(record, started=status.get("startedAt") or record.started)]


def _dump(vault: Vault) -> Object:
    meta = vault.metadata
    return {"metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}}
