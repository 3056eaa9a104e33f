"""What an automatic backup remembers of the policy that made it. Pure.

It is written into annotations together with the Backup, so that no crash leaves one that is taken for a manual one; the
first status takes it over, and counts from then on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from blockvault.api import Backup, BackupPolicy, Retention, as_dict

from .conditions import parse_timestamp, timestamp
from .naming import POLICY_ANNOTATION, RETENTION_ANNOTATION, SLOT_ANNOTATION, TIME_ZONE_ANNOTATION
from .plan_backup import TERMINAL
from .retention import Made, expires_at
from .schedule import zone_of


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
    return _origin(
        notes.get(POLICY_ANNOTATION),
        notes.get(SLOT_ANNOTATION),
        _json(notes.get(RETENTION_ANNOTATION)),
        notes.get(TIME_ZONE_ANNOTATION),
    )


def origin_in(meta: dict[str, Any]) -> Origin | None:
    """Where a backup in the store says that it comes from; None of a manual one, and of what nobody can read."""
    if meta.get("trigger") != "Policy":
        return None
    return _origin(meta.get("policy"), meta.get("slot"), meta.get("retention"), meta.get("timeZone"))


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


def _origin(policy: Any, slot: Any, retention: Any, time_zone: Any) -> Origin | None:
    """An origin, if all of it can be used: it comes from annotations and stores that anybody may have written."""
    try:
        moment, zone = parse_timestamp(str(slot)), str(time_zone or "UTC")
        zone_of(zone)
        rule = retention if isinstance(retention, Retention) else Retention.model_validate(retention)
    except ValueError:  # pydantic's ValidationError is one
        return None
    if not policy or moment.tzinfo is None or sum(value is not None for _, value in rule) != 1:
        return None
    return Origin(str(policy)[:253], moment, rule, zone)


def origin_status(backup: Backup) -> dict[str, Any]:
    """What the status says of where a Backup comes from."""
    origin = origin_of(backup)
    return {"trigger": "Manual"} if origin is None else origin_facts(origin)


def origin_facts(origin: Origin) -> dict[str, Any]:
    """An origin as it stands in a status, and in the stored backup."""
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
    if status is None or status.phase not in TERMINAL or meta.deletion_timestamp or status.cluster:
        return None
    origin = origin_of(backup)
    ended = parse_timestamp(status.completed_at) if status.completed_at else meta.creation_timestamp
    shown = next((v.snapshot_time for v in status.volumes if v.snapshot_time), None)
    seen = parse_timestamp(shown) if shown else meta.creation_timestamp
    taken = origin.slot if origin else seen if seen.tzinfo else meta.creation_timestamp
    return Made(
        meta.name,
        taken,
        ended,
        origin.retention if origin else None,
        origin.time_zone if origin else "UTC",
        failed=status.phase == "Error",
        busy=busy,
    )


def expiry_status(origin: Origin | None) -> dict[str, Any]:
    """`expiresAt` of a backup that has just become Available, by the rule that it was made under."""
    if origin is None:
        return {}
    end = expires_at(Made("", origin.slot, origin.slot, origin.retention, origin.time_zone))
    return {"expiresAt": timestamp(end)} if end else {}
