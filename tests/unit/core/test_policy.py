"""What a BackupPolicy's status says (B1, B2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from blockvault.api import BackupPolicy
from blockvault.core.policy import decide_policy_status, is_one_too_many, seconds_to_next_run


def policy(
    enabled: bool = True, retention: dict[str, Any] | None = None, status: Any = None, **schedule: Any
) -> BackupPolicy:
    body = {
        "metadata": {
            "name": "nightly",
            "uid": "p",
            "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "enabled": enabled,
            "schedule": schedule,
            "retention": {"count": 7} if retention is None else retention,
        },
        "status": status,
    }
    return BackupPolicy.model_validate(body)


NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_b2_a_valid_policy_shows_its_next_slots() -> None:
    status = decide_policy_status(policy(hours=[3]), NOW)
    assert (status["phase"], status["observedGeneration"]) == ("Ready", 3)
    assert status["nextRuns"][:2] == ["2026-11-24T03:00:00Z", "2026-11-25T03:00:00Z"]
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert conditions == {"Ready": ("True", "Valid")}
    assert seconds_to_next_run(policy(hours=[12], minute=10), NOW) == 601


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"hours": [3], "timeZone": "Europe/Atlantis"}, ["timeZone", "Europe/Atlantis", "Europe/Berlin"]),
        ({"hours": [3], "timeZone": "../../etc/passwd"}, ["timeZone", "IANA"]),
        ({"every": "1m"}, ["spec.schedule.every", "5m"]),
        ({"every": "25h"}, ["spec.schedule.every", "24h"]),
        ({}, ["spec.schedule", "exactly one of hours and every"]),
        ({"hours": [3], "every": "1h"}, ["spec.schedule", "exactly one of hours and every"]),
        ({"hours": [3], "weekDays": ["Monday"], "everyDays": 2}, ["weekDays or everyDays"]),
        ({"every": "15m", "spread": "20m"}, ["spec.schedule.spread"]),
        ({"hours": [3], "spread": "25h"}, ["spec.schedule.spread", "24h"]),
        ({"hours": [3], "retention": {}}, ["spec.retention", "exactly one"]),
        ({"hours": [3], "retention": {"count": 7, "days": 7}}, ["spec.retention", "exactly one"]),
        ({"hours": [3], "retention": {"permanent": False}}, ["spec.retention", "exactly one"]),
        ({"hours": [3], "retention": {"keep": {"last": 0}}}, ["spec.retention.keep", "keep nothing"]),
    ],
)
def test_an_invalid_policy_says_what_to_write(schedule: dict[str, Any], words: list[str]) -> None:
    status = decide_policy_status(policy(**schedule), NOW)
    assert status["phase"] == "Error"
    assert all(word in status["message"] for word in words)
    assert status["nextRuns"] == []


def test_b1_a_disabled_policy_has_no_slots() -> None:
    status = decide_policy_status(policy(enabled=False, hours=[3]), NOW)
    assert (status["phase"], status["nextRuns"]) == ("Disabled", [])


@pytest.mark.parametrize(
    "retention",
    [{"days": 30}, {"months": 6}, {"count": 2}, {"permanent": True}, {"keep": {"daily": 7, "last": 0}}],
)
def test_b4_each_rule_alone_is_valid(retention: dict[str, Any]) -> None:
    assert decide_policy_status(policy(hours=[3], retention=retention), NOW)["phase"] == "Ready"


def test_conditions_remember_since_when() -> None:
    before = decide_policy_status(policy(hours=[3]), NOW)
    later = decide_policy_status(policy(hours=[4], status=before), NOW + timedelta(days=1))
    assert {c["lastTransitionTime"] for c in later["conditions"]} == {"2026-11-23T12:00:00Z"}
    broken = decide_policy_status(policy(status=later), NOW + timedelta(days=2))
    conditions = {c["type"]: (c["status"], c["lastTransitionTime"]) for c in broken["conditions"]}
    assert conditions["Ready"] == ("False", "2026-11-25T12:00:00Z")
    assert conditions["Stalled"] == ("True", "2026-11-25T12:00:00Z")


def test_b1_e3_so_many_policies_are_in_a_namespace_and_the_younger_ones_say_so() -> None:
    many = [policy(hours=[3]) for _ in range(4)]
    for number, each in enumerate(many):
        each.metadata.uid = f"p{number}"
        each.metadata.creation_timestamp = NOW + timedelta(minutes=number)
    assert [is_one_too_many(each, many, 3) for each in many] == [False, False, False, True]
    status = decide_policy_status(many[3], NOW, most=3)
    assert (status["phase"], status["reason"], status["nextRuns"]) == ("Error", "TooManyPolicies", [])
    assert "has 3 BackupPolicies already" in status["message"]


def test_conditions_of_a_version_that_ran_nothing_go() -> None:
    old = {
        "type": "RunsServed",
        "status": "False",
        "reason": "NotServed",
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }
    status = decide_policy_status(policy(hours=[3], status={"conditions": [old]}), NOW)
    assert [c["type"] for c in status["conditions"]] == ["Ready"]


@pytest.mark.parametrize("idle", [policy(enabled=False, hours=[3]), policy()])
def test_without_slots_it_is_looked_at_daily(idle: BackupPolicy) -> None:
    assert seconds_to_next_run(idle, NOW) == 86400
