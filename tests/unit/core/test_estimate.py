"""How much capacity a vault needs (A14)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from blockvault.core.estimate import Stored, by_formula, by_rate, measured

DAY = timedelta(days=1)
START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "change", "every", "keep", "expected"),
    [
        (500, 10, DAY, 30 * DAY, 960),
        (100, 0, DAY, DAY, 120),
        (100, 7, 2 * DAY, 14 * DAY, 178),
        (0, 5, DAY / 2, DAY, 12),
    ],
)
def test_a14_the_guide_s_formula(
    size: int, change: int, every: timedelta, keep: timedelta, expected: int
) -> None:
    assert by_formula(size, change, every, keep).capacity == expected


def test_a14_times_must_be_longer_than_nothing() -> None:
    with pytest.raises(ValueError, match="longer than nothing"):
        by_formula(1, 1, timedelta(0), DAY)


def test_a_rate_is_measured_over_the_time_that_the_backups_span() -> None:
    backups = [Stored(START, 800, True), Stored(START + DAY, 20, False), Stored(START + 4 * DAY, 40, False)]
    rate = measured(backups)
    assert rate is not None
    assert (rate.whole, rate.daily, rate.backups, rate.span) == (800, 15, 3, 4 * DAY)
    assert by_rate(rate, 10 * DAY).capacity == int((800 + 150) * 1.2)


def test_too_little_is_no_rate() -> None:
    full = Stored(START, 800, True)
    assert measured([]) is None
    assert measured([full, Stored(START + 9 * DAY, 5, False)]) is None
    hours = [Stored(START + timedelta(hours=n), 5, False) for n in range(1, 9)]
    assert measured([full, *hours]) is None, "eight hours say nothing of a day"
    assert measured([Stored(START + n * DAY, 5, False) for n in range(5)]) is None, "the first one is gone"
