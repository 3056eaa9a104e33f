"""Conditions keep the promise of the Kubernetes API conventions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from blockvault.core.conditions import (
    condition_while,
    find_condition,
    parse_timestamp,
    ready_conditions,
    set_condition,
    timestamp,
)

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)


def test_same_status_keeps_the_transition_time_but_not_the_message() -> None:
    first = set_condition([], "Ready", "False", "Waiting", "for a", generation=1, now=NOON)
    second = set_condition(first, "Ready", "False", "Waiting", "for b", generation=2, now=LATER)
    ready = find_condition(second, "Ready")
    assert ready is not None
    assert ready["lastTransitionTime"] == timestamp(NOON)
    assert (ready["message"], ready["observedGeneration"]) == ("for b", 2)
    assert first[0]["message"] == "for a", "the list given is left alone"


def test_changed_status_has_a_new_transition_time() -> None:
    first = set_condition([], "Ready", "False", "Waiting", "", generation=1, now=NOON)
    second = set_condition(first, "Ready", "True", "Done", "", generation=1, now=LATER)
    assert find_condition(second, "Ready") == {
        "type": "Ready",
        "status": "True",
        "reason": "Done",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": timestamp(LATER),
    }


def test_abnormal_conditions_are_true_or_absent() -> None:
    """kstatus: a Reconciling or Stalled that stands there as False keeps some tools waiting."""
    conditions = ready_conditions([], "reconciling", "Working", "", generation=1, now=NOON)
    assert {c["type"]: c["status"] for c in conditions} == {"Ready": "Unknown", "Reconciling": "True"}
    conditions = ready_conditions(conditions, "stalled", "Failed", "", generation=1, now=LATER)
    assert {c["type"]: c["status"] for c in conditions} == {"Ready": "False", "Stalled": "True"}
    conditions = ready_conditions(conditions, "ready", "Done", "", generation=1, now=LATER)
    assert {c["type"]: c["status"] for c in conditions} == {"Ready": "True"}


def test_a_message_too_long_for_the_api_is_cut() -> None:
    conditions = set_condition([], "Ready", "False", "Waiting", "x" * 100_000, generation=1, now=NOON)
    assert len(conditions[0]["message"]) == 32768


def test_timestamps_come_back_and_are_in_utc() -> None:
    assert timestamp(NOON) == "2026-11-23T12:00:00Z"
    assert parse_timestamp(timestamp(NOON)) == NOON
    assert parse_timestamp("2026-11-23T13:00:00.250+01:00") == NOON + timedelta(milliseconds=250)


def test_a_condition_that_goes_on_keeps_its_transition_time_and_goes_with_its_words() -> None:
    held = condition_while([], "DeletionHeld", "True", "MassDeletion", "5 wait", generation=1, now=NOON)
    later = condition_while(held, "DeletionHeld", "True", "MassDeletion", "4 wait", generation=1, now=LATER)
    assert later[0]["lastTransitionTime"] == held[0]["lastTransitionTime"] == timestamp(NOON)
    assert condition_while(later, "DeletionHeld", "True", "", None, generation=1, now=LATER) == []
