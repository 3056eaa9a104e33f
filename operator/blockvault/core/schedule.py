"""When a policy runs: slots of a schedule in its time zone, summer time included. Pure (B2, F27).

A slot whose local time does not exist (the clock jumps over it) runs at the moment that the clock would
have shown without the jump, an hour later by the new time. A slot whose local time comes twice runs at
the first of the two. So each slot of a day runs once, in every zone, on every day.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from blockvault.api import Schedule

WEEK_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def zone_of(name: str) -> ZoneInfo:
    """The IANA time zone. Raises ValueError naming what cannot be found."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone of the IANA database: write one such as Europe/Berlin or UTC."
        ) from None


def parse_interval(text: str) -> timedelta:
    """`15m` or `2h`. Raises ValueError on anything else."""
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in ("m", "h"):
        raise ValueError(f"{text!r} is not an interval such as 15m or 2h")
    return timedelta(minutes=int(number)) if unit == "m" else timedelta(hours=int(number))


def next_runs(schedule: Schedule, after: datetime, created: datetime, count: int = 5) -> list[datetime]:
    """The next so many slots strictly after a moment, in UTC.

    `created` is when the policy was made: `everyDays` counts from its day. Raises ValueError on a time
    zone or an interval that cannot be used, and on a schedule that has no slots at all.
    """
    if schedule.every is not None:
        return list(islice(_by_interval(parse_interval(schedule.every), after), count))
    if not schedule.hours:
        raise ValueError("a schedule without hours and without every has no slots")
    return list(islice(_by_hours(schedule, after, created), count))


def slots_between(schedule: Schedule, after: datetime, until: datetime, created: datetime) -> list[datetime]:
    """All slots after a moment, and up to another one inclusive. Raises as `next_runs`."""
    slots: Iterator[datetime] = (
        _by_interval(parse_interval(schedule.every), after)
        if schedule.every is not None
        else _by_hours(schedule, after, created)
    )
    return list(takewhile(lambda slot: slot <= until, slots))


def _by_interval(interval: timedelta, after: datetime) -> Iterator[datetime]:
    # Counted from the epoch, so that a restart of the operator moves no slot.
    slot = EPOCH + ((after - EPOCH) // interval + 1) * interval
    while True:
        yield slot
        slot += interval


def _by_hours(schedule: Schedule, after: datetime, created: datetime) -> Iterator[datetime]:
    zone = zone_of(schedule.time_zone)
    first = created.astimezone(zone).date()
    # A day early: a slot of yesterday can fall after midnight when the clock jumps.
    day = after.astimezone(zone).date() - timedelta(days=1)
    last = after
    while True:
        if _runs_on(schedule, day, first):
            for slot in _slots_of(schedule, day, zone):
                if slot > last:
                    last = slot
                    yield slot
        day += timedelta(days=1)


def _runs_on(schedule: Schedule, day: date, first: date) -> bool:
    if schedule.week_days:
        return WEEK_DAYS[day.weekday()] in schedule.week_days
    if schedule.every_days:
        return (day - first).days % schedule.every_days == 0
    return True


def _slots_of(schedule: Schedule, day: date, zone: ZoneInfo) -> list[datetime]:
    # fold=0: of a time that comes twice the first; of one that does not exist the offset before the jump.
    times = [datetime.combine(day, time(hour, schedule.minute), tzinfo=zone) for hour in schedule.hours or []]
    return sorted({moment.astimezone(UTC) for moment in times})
