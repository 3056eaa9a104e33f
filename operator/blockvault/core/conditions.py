"""Conditions in metav1 style, and the three that kstatus-based tools judge health by.

One setter, used everywhere, so that `lastTransitionTime` means what the Kubernetes API conventions
say: the time when `status` of that condition last changed, and not the time of the last write.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

Condition = dict[str, Any]
State = Literal["ready", "reconciling", "stalled"]

# The API server refuses longer messages (metav1.Condition); we cut instead of losing the write.
MAX_MESSAGE = 32768


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, as Kubernetes' MicroTime."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> datetime:
    """The reverse of both. Raises ValueError on anything else."""
    return datetime.fromisoformat(text)


def find_condition(conditions: list[Condition], type: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.get("type") == type), None)


def set_condition(
    conditions: list[Condition],
    type: str,
    status: str,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """A new list with this condition in it; the list given is left alone.

    A condition whose status did not change keeps its `lastTransitionTime`; its reason, message and
    `observedGeneration` are always those given.
    """
    former = find_condition(conditions, type)
    unchanged = former is not None and former.get("status") == status
    condition = {
        "type": type,
        "status": status,
        "reason": reason,
        "message": message[:MAX_MESSAGE],
        "observedGeneration": generation,
        "lastTransitionTime": former["lastTransitionTime"] if former and unchanged else timestamp(now),
    }
    if former is None:
        return [*conditions, condition]
    return [condition if c is former else c for c in conditions]


def condition_while(
    conditions: list[Condition],
    type: str,
    status: str,
    reason: str,
    message: str | None,
    *,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """A new list that has this condition while there is something to say, and lacks it when there is not."""
    if message is None:
        return remove_condition(conditions, type)
    return set_condition(conditions, type, status, reason, message, generation=generation, now=now)


def remove_condition(conditions: list[Condition], type: str) -> list[Condition]:
    """A new list without the condition of that type."""
    return [c for c in conditions if c.get("type") != type]


def ready_conditions(
    conditions: list[Condition],
    state: State,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """Ready, Reconciling and Stalled as kstatus reads them.

    Reconciling and Stalled are "abnormal-true": they stand there as True or not at all, else Flux and
    `kubectl wait` would go on waiting for something that has ended.
    """
    ready = {"ready": "True", "reconciling": "Unknown", "stalled": "False"}[state]
    result = set_condition(conditions, "Ready", ready, reason, message, generation=generation, now=now)
    for type, holds in (("Reconciling", state == "reconciling"), ("Stalled", state == "stalled")):
        words = message if holds else None
        result = condition_while(result, type, "True", reason, words, generation=generation, now=now)
    return result


def deleting_status(obj: dict[str, Any], reason: str, message: str, now: datetime) -> dict[str, Any]:
    """The status of an object whose deletion was asked for and takes a while: it is fit for use no more."""
    generation, former = obj["metadata"]["generation"], obj.get("status") or {}
    conditions = ready_conditions(
        former.get("conditions") or [], "reconciling", reason, message, generation=generation, now=now
    )
    return {
        "phase": "Deleting",
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "conditions": conditions,
    }
