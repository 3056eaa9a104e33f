"""Slots of a schedule (B2, F27), through summer time and around the world."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import Schedule
from blockvault.core.schedule import next_runs

CREATED = datetime(2026, 1, 1, 10, 0, tzinfo=UTC)


def runs(after: str, count: int = 3, created: datetime = CREATED, **fields: Any) -> list[str]:
    """Slots as local times of the schedule's zone."""
    schedule = Schedule.model_validate(fields)
    zone = ZoneInfo(schedule.time_zone)
    found = next_runs(schedule, datetime.fromisoformat(after), created, count)
    return [slot.astimezone(zone).strftime("%m-%d %H:%M%z") for slot in found]


@pytest.mark.parametrize(
    ("after", "fields", "expected"),
    [
        # B2: several hours of the day, at a chosen minute
        (
            "2026-03-10T11:00+00:00",
            {"hours": [0, 12], "minute": 30},
            ["03-10 12:30+0000", "03-11 00:30+0000", "03-11 12:30+0000"],
        ),
        # strictly after: a slot that is now has been taken
        (
            "2026-03-10T12:30+00:00",
            {"hours": [0, 12], "minute": 30},
            ["03-11 00:30+0000", "03-11 12:30+0000", "03-12 00:30+0000"],
        ),
        # B2: on chosen week days (2026-03-10 is a Tuesday)
        (
            "2026-03-10T00:00+00:00",
            {"hours": [3], "weekDays": ["Monday", "Friday"]},
            ["03-13 03:00+0000", "03-16 03:00+0000", "03-20 03:00+0000"],
        ),
        # B2: every n days counted from creation (January 1st)
        (
            "2026-01-01T12:00+00:00",
            {"hours": [3], "everyDays": 10},
            ["01-11 03:00+0000", "01-21 03:00+0000", "01-31 03:00+0000"],
        ),
        # counted in the time zone: in Samoa it was still December 31st when the policy was made
        (
            "2026-01-01T12:00+00:00",
            {"hours": [1], "everyDays": 30, "timeZone": "Pacific/Pago_Pago"},
            ["01-30 01:00-1100", "03-01 01:00-1100", "03-31 01:00-1100"],
        ),
        # the hour from 2 to 3 does not exist in Berlin on March 29th: it runs at 03:30 of the new time
        (
            "2026-03-28T12:00+00:00",
            {"hours": [2], "minute": 30, "timeZone": "Europe/Berlin"},
            ["03-29 03:30+0200", "03-30 02:30+0200", "03-31 02:30+0200"],
        ),
        # and is one run with the slot that is there already
        (
            "2026-03-28T12:00+00:00",
            {"hours": [2, 3], "minute": 30, "timeZone": "Europe/Berlin"},
            ["03-29 03:30+0200", "03-30 02:30+0200", "03-30 03:30+0200"],
        ),
        # the hour from 2 to 3 comes twice in Berlin on October 25th: it runs at the first
        (
            "2026-10-24T12:00+00:00",
            {"hours": [2], "minute": 30, "timeZone": "Europe/Berlin"},
            ["10-25 02:30+0200", "10-26 02:30+0100", "10-27 02:30+0100"],
        ),
        # between the two it has run already
        (
            "2026-10-25T01:00+00:00",
            {"hours": [2], "minute": 30, "timeZone": "Europe/Berlin"},
            ["10-26 02:30+0100", "10-27 02:30+0100", "10-28 02:30+0100"],
        ),
        # a day of Apia's that begins long before the UTC day
        (
            "2026-03-09T11:30+00:00",
            {"hours": [1], "weekDays": ["Tuesday"], "timeZone": "Pacific/Apia"},
            ["03-10 01:00+1300", "03-17 01:00+1300", "03-24 01:00+1300"],
        ),
        # F27: an interval
        (
            "2026-03-10T11:07+00:00",
            {"every": "15m"},
            ["03-10 11:15+0000", "03-10 11:30+0000", "03-10 11:45+0000"],
        ),
    ],
)
def test_b2_f27_slots(after: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert runs(after, **fields) == expected


zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]
)
moments = st.integers(1_577_836_800, 2_051_222_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
schedules = st.one_of(
    st.builds(
        lambda hours, minute, zone, days: Schedule(
            hours=sorted(hours), minute=minute, time_zone=zone, **days
        ),
        st.sets(st.integers(0, 23), min_size=1, max_size=6),
        st.integers(0, 59),
        zones,
        st.one_of(st.just({}), st.integers(1, 30).map(lambda n: {"every_days": n})),
    ),
    st.integers(5, 1440).map(lambda minutes: Schedule(every=f"{minutes}m")),
)


@given(schedules, moments)
def test_slots_rise_lie_after_and_go_on_from_any_of_them(schedule: Schedule, after: datetime) -> None:
    """Asking anew from a slot gives the rest: a restart of the operator neither repeats nor loses one."""
    slots = next_runs(schedule, after, CREATED, 6)
    assert slots[0] > after
    assert all(a < b for a, b in pairwise(slots))
    assert next_runs(schedule, slots[2], CREATED, 3) == slots[3:]


@given(st.integers(0, 23), zones, moments)
def test_a_daily_slot_runs_once_on_each_local_day(hour: int, zone: str, after: datetime) -> None:
    slots = next_runs(Schedule(hours=[hour], time_zone=zone), after, CREATED, 30)
    days = [slot.astimezone(ZoneInfo(zone)).date() for slot in slots]
    assert len(set(days)) == len(days)
    assert max(b - a for a, b in pairwise(slots)) <= timedelta(hours=26)


def test_a_schedule_without_slots_is_an_error_and_no_endless_search() -> None:
    with pytest.raises(ValueError, match="no slots"):
        next_runs(Schedule(), CREATED, CREATED)
