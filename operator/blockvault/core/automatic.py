"""What an automatic backup remembers of the policy that made it. Pure.

It is written into annotations together with the Backup, so that no crash leaves one that is taken for a manual one; the
first status takes it over, and counts from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from blockvault.api import Backup, BackupPolicy, Retention, as_dict

from .conditions import parse_timestamp, timestamp
from .naming import POLICY_ANNOTATION, RETENTION_ANNOTATION, SLOT_ANNOTATION, TIME_ZONE_ANNOTATION
from .retention import Made, expires_at


@dataclass(frozen=True)
class Origin:
    """The policy, its slot and its rule as they were when the backup was made."""

    policy: str
    slot: datetime
    retention: Retention
    time_zone: str


def annotations_of(policy: BackupPolicy, slot: datetime) -> dict[str, str]:
    """The annotations of a Backup that a policy makes."""
    return {
        POLICY_ANNOTATION: policy.metadata.name,
        SLOT_ANNOTATION: timestamp(slot),
        RETENTION_ANNOTATION: policy.spec.retention.model_dump_json(by_alias=True, exclude_none=True),
        TIME_ZONE_ANNOTATION: policy.spec.schedule.time_zone,
    }


def origin_of(backup: Backup) -> Origin | None:
    """Where an automatic backup comes from; None of a manual one, and of annotations that nobody can read."""
    status = backup.status
    if status and status.trigger:
        if status.trigger == "Manual" or status.retention is None:
            return None
        return _origin(status.policy, status.slot, status.retention, status.time_zone)
    notes = backup.metadata.annotations
    try:
        retention = Retention.model_validate_json(notes.get(RETENTION_ANNOTATION) or "")
    except ValidationError:
        return None
    return _origin(
        notes.get(POLICY_ANNOTATION), notes.get(SLOT_ANNOTATION), retention, notes.get(TIME_ZONE_ANNOTATION)
    )


def _origin(
    policy: str | None, slot: str | None, retention: Retention, time_zone: str | None
) -> Origin | None:
    try:
        moment = parse_timestamp(slot or "")
    except ValueError:
        return None
    return Origin(policy, moment, retention, time_zone or "UTC") if policy and moment.tzinfo else None


def origin_status(backup: Backup) -> dict[str, Any]:
    """What the status says of where a Backup comes from."""
    origin = origin_of(backup)
    if origin is None:
        return {"trigger": "Manual"}
    return {
        "trigger": "Policy",
        "policy": origin.policy,
        "slot": timestamp(origin.slot),
        "retention": as_dict(origin.retention),
        "timeZone": origin.time_zone,
    }


def made_of(backup: Backup, *, busy: bool = False) -> Made | None:
    """A Backup as retention sees it; None while it has not ended, when it is on its way out, or another cluster's."""
    status, meta = backup.status, backup.metadata
    if (
        status is None
        or status.phase not in ("Available", "Error")
        or meta.deletion_timestamp
        or status.cluster
    ):
        return None
    origin = origin_of(backup)
    ended = parse_timestamp(status.completed_at) if status.completed_at else meta.creation_timestamp
    shown = next((v.snapshot_time for v in status.volumes if v.snapshot_time), None)
    taken = origin.slot if origin else parse_timestamp(shown) if shown else meta.creation_timestamp
    return Made(
        meta.name,
        taken,
        ended,
        origin.retention if origin else None,
        origin.time_zone if origin else "UTC",
        failed=status.phase == "Error",
        busy=busy,
    )


def expiry_status(backup: Backup) -> dict[str, Any]:
    """`expiresAt` of a backup that has just become Available, by the rule that it was made under."""
    origin = origin_of(backup)
    if origin is None:
        return {}
    end = expires_at(Made("", origin.slot, origin.slot, origin.retention, origin.time_zone))
    return {"expiresAt": timestamp(end)} if end else {}
