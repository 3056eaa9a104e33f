"""Figures and times as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from blockvault.plugin import words
from blockvault.plugin.picture import retention_words, schedule_words

from .world import NOW


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172799, "47 h"),
        (172800, "2 d"),
    ],
)
def test_lengths_of_time(seconds: float, expected: str) -> None:
    assert words.span(seconds) == expected


def test_what_is_ahead_and_what_is_past() -> None:
    assert words.ahead("2026-11-29T15:00:00Z", NOW) == "in 3 h"
    assert words.ahead("2026-11-29T11:00:00Z", NOW) == "now"
    assert words.ago("2026-11-29T09:00:00Z", NOW) == "3 h"
    assert words.ago(None, NOW) == words.ahead("soon", NOW) == "-"


@pytest.mark.parametrize(
    ("share", "expected"), [(0, "░" * 10), (0.01, "█" + "░" * 9), (99.9, "█" * 9 + "░"), (250, "█" * 10)]
)
def test_a_little_is_more_than_nothing_and_not_all_is_less_than_all(share: float, expected: str) -> None:
    assert words.bar(share) == expected


def test_times_that_people_type() -> None:
    assert words.parse_span("90m") == timedelta(minutes=90)
    assert words.parse_span("1.5d") == timedelta(hours=36)
    assert words.parse_when("24h", NOW) == NOW - timedelta(days=1)
    assert words.parse_when("2026-11-29", NOW).isoformat() == "2026-11-29T00:00:00+00:00"
    for wrong in ("", "soon", "5", "7x"):
        with pytest.raises(ValueError, match="is n"):
            words.parse_when(wrong, NOW)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"every": "15m"}, "every 15m"),
        ({"hours": [2, 0], "minute": 5}, "00:05, 02:05 UTC"),
        ({"hours": list(range(24)), "timeZone": "Asia/Tokyo"}, "hourly at :00 Asia/Tokyo"),
        ({"hours": [2], "everyDays": 3}, "02:00 UTC every 3 days"),
    ],
)
def test_schedules(schedule: dict[str, object], expected: str) -> None:
    assert schedule_words(schedule) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"days": 30}, "30 days"),
        ({"months": 1}, "1 month"),
        ({"count": 7}, "the last 7"),
        ({"permanent": True}, "for ever"),
        ({"keep": {"daily": 7, "weekly": 4, "yearly": 0}}, "7 daily, 4 weekly"),
    ],
)
def test_rules(rule: dict[str, object], expected: str) -> None:
    assert retention_words(rule) == expected
