"""What a BackupPolicy's status says: whether it is valid, and its next slots. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from blockvault.api import BackupPolicy, Retention, Schedule

from .conditions import State, ready_conditions, remove_condition, timestamp
from .schedule import next_runs, parse_interval, zone_of

SHOWN_RUNS = 5
TOO_MANY = "TooManyPolicies"
SHORTEST_INTERVAL, LONGEST_INTERVAL = timedelta(minutes=5), timedelta(hours=24)
# Slots are shown a little after they pass at the latest; a far one is looked at again daily all the same.
LONGEST_SLEEP = timedelta(days=1)


def validate_policy(policy: BackupPolicy) -> list[str]:
    """What is wrong with a policy, each with its remedy; empty when nothing is.

    The schema and its rules refuse most of it before it is stored; what needs a table of time zones is
    found here, and so is what came by a definition without rules.
    """
    return [*_check_schedule(policy.spec.schedule), *_check_retention(policy.spec.retention)]


def _check_schedule(schedule: Schedule) -> list[str]:
    problems = []
    if (schedule.hours is None) == (schedule.every is None):
        problems.append("spec.schedule: set exactly one of hours and every.")
    if schedule.week_days is not None and schedule.every_days is not None:
        problems.append("spec.schedule: set weekDays or everyDays, not both.")
    try:
        zone_of(schedule.time_zone)
    except ValueError as error:
        problems.append(f"spec.schedule.timeZone: {error}")
    longest = LONGEST_INTERVAL
    if schedule.every is not None:
        longest = parse_interval(schedule.every)
        if not SHORTEST_INTERVAL <= longest <= LONGEST_INTERVAL:
            problems.append("spec.schedule.every: set 5m to 24h.")
    if schedule.spread is not None and parse_interval(schedule.spread) > longest:
        problems.append("spec.schedule.spread: set no more than every, and no more than 24h.")
    return problems


def _check_retention(retention: Retention) -> list[str]:
    rules = (retention.days, retention.months, retention.count, retention.permanent or None, retention.keep)
    if sum(rule is not None for rule in rules) != 1:
        return ["spec.retention: set exactly one of days, months, count, permanent and keep."]
    if retention.keep is not None and not any(dict(retention.keep).values()):
        return ["spec.retention.keep: set one of its numbers to 1 or more: this would keep nothing."]
    return []


def is_one_too_many(policy: BackupPolicy, others: Iterable[BackupPolicy], most: int) -> bool:
    """Whether so many older policies are in its namespace already (B1)."""

    def age(each: BackupPolicy) -> tuple[datetime, str]:
        return each.metadata.creation_timestamp, each.metadata.uid

    return sum(age(each) < age(policy) for each in others) >= most


def decide_policy_status(policy: BackupPolicy, now: datetime, *, most: int | None = None) -> dict[str, Any]:
    """The whole status of a policy at a moment. `most`: it is one too many, of which so many are allowed."""
    generation = policy.metadata.generation
    former = policy.status.conditions if policy.status else []
    conditions = [c.model_dump(by_alias=True, mode="json") for c in former]
    problems = validate_policy(policy)
    state: State = "stalled" if problems else "ready"
    runs: list[str] = []
    if most is not None:
        problems = [
            f"This namespace has {most} BackupPolicies already, the most that it may have: delete one, or share one "
            "among several Vaults."
        ]
        state = "stalled"
    if problems:
        phase, reason, message = "Error", "Invalid" if most is None else TOO_MANY, " ".join(problems)
    elif not policy.spec.enabled:
        phase, reason, message = "Disabled", "Disabled", "The policy is disabled: set spec.enabled to run it."
    else:
        phase, reason, message = "Ready", "Valid", "The policy is valid."
        slots = next_runs(policy.spec.schedule, now, policy.metadata.creation_timestamp, SHOWN_RUNS)
        runs = [timestamp(slot) for slot in slots]
    conditions = ready_conditions(conditions, state, reason, message, generation=generation, now=now)
    conditions = remove_condition(conditions, "RunsServed")  # of versions that ran no policies
    return {
        "phase": phase,
        "reason": reason,
        "message": message,
        "nextRuns": runs,
        "observedGeneration": generation,
        "conditions": conditions,
    }


def seconds_to_next_run(policy: BackupPolicy, now: datetime) -> float:
    """When the shown slots change next, in seconds; a day at the most."""
    if validate_policy(policy) or not policy.spec.enabled:
        return LONGEST_SLEEP.total_seconds()
    first = next_runs(policy.spec.schedule, now, policy.metadata.creation_timestamp, 1)[0]
    return min(first - now + timedelta(seconds=1), LONGEST_SLEEP).total_seconds()
