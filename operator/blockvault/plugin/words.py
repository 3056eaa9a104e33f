"""Figures and times as words and bars. Pure."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta

from blockvault.core.conditions import parse_timestamp
from blockvault.core.objects import Object
from blockvault.terminal import size

NONE = "-"
_STEPS = ((86400 * 2, 86400, "d"), (3600 * 2, 3600, "h"), (120, 60, "min"), (0, 1, "s"))
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|min|h|d|w)")
_UNITS = {"m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def span(seconds: float) -> str:
    """A length of time: `3 h`."""
    seconds = max(0.0, seconds)
    return next(f"{int(seconds // unit)} {word}" for least, unit, word in _STEPS if seconds >= least)


def moment(text: str | None) -> datetime | None:
    """A time of a status; None when there is none that can be read."""
    try:
        found = parse_timestamp(str(text)) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found


def ago(text: str | None, now: datetime) -> str:
    """How long ago: `3 h`; what is ahead is `0 s`."""
    then = moment(text)
    return NONE if then is None else span((now - then).total_seconds())


def ahead(text: str | None, now: datetime) -> str:
    """How far ahead: `in 3 h`; what has passed is `now`."""
    then = moment(text)
    if then is None:
        return NONE
    seconds = (then - now).total_seconds()
    return "now" if seconds <= 0 else f"in {span(seconds)}"


def parse_span(text: str) -> timedelta:
    """`90m`, `24h`, `7d`, `4w`. Raises ValueError on anything else."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 90m, 24h, 7d or 4w")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def parse_when(text: str, now: datetime) -> datetime:
    """A moment: `2026-11-29`, `2026-11-29T22:00Z`, or so long ago as `7d`. Raises ValueError on anything else."""
    if _SPAN.fullmatch(text.strip()):
        return now - parse_span(text)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is neither a time such as 7d nor a date such as 2026-11-29") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def bar(percent: float, width: int = 10) -> str:
    """A bar of so many characters, in plain ones where the terminal has no others."""
    full, empty = ("█", "░") if _draws() else ("#", ".")
    share = min(100.0, max(0.0, percent))
    done = int(width * share / 100)
    # A little is more than nothing, and not all is less than everything.
    done = max(1, done) if share > 0 else 0
    return full * done + empty * (width - done)


def arrow() -> str:
    """What stands before a remedy."""
    return "→" if _draws() else "->"


def _draws() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def percent(number: float) -> str:
    """`41 %`."""
    return f"{number:.0f} %"


def bytes_or_none(count: float | None) -> str:
    """Bytes for people, `-` of none."""
    return NONE if count is None else size(count)


def several(number: int, one: str, many: str | None = None) -> str:
    """`1 vault`, `2 vaults`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def name_of(obj: Object) -> str:
    """Name of an object."""
    return str(obj["metadata"]["name"])
