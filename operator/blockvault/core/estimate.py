"""How much capacity a vault needs: by the guide's formula, and by what has changed so far. Pure (A14).

The formula: (size + retention / frequency x daily change) x 120 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import mean

RESERVE = 1.2
# Change is told by no fewer incremental backups than this, over no less than a day.
LEAST_BACKUPS, LEAST_SPAN = 2, timedelta(days=1)


@dataclass(frozen=True)
class Needs:
    """In bytes. `backups`: how many there are at a time."""

    size: float
    change: float
    backups: float

    @property
    def capacity(self) -> int:
        """The capacity to ask for, with the reserve."""
        return int((self.size + self.backups * self.change) * RESERVE)


def by_formula(size: float, daily_change: float, every: timedelta, keep: timedelta) -> Needs:
    """What one volume needs. `size` in bytes, `daily_change` in bytes a day; the formula counts it for each backup.

    Raises ValueError where a time is not positive.
    """
    if every <= timedelta(0) or keep <= timedelta(0):
        raise ValueError("the times between backups and of their keeping must be longer than nothing")
    return Needs(size, daily_change, keep / every)


@dataclass(frozen=True)
class Stored:
    """What one backup has added to the store, in bytes; `full`: it built on nothing."""

    at: datetime
    stored: int
    full: bool


@dataclass(frozen=True)
class Rate:
    """What was measured of a volume: bytes of a whole backup as stored, and bytes that a day adds."""

    whole: int
    daily: float
    backups: int
    span: timedelta


def measured(backups: Sequence[Stored]) -> Rate | None:
    """The rate at which a volume's backups have grown; None while there are too few to tell."""
    ordered = sorted(backups, key=lambda b: b.at)
    wholes = [b.stored for b in ordered if b.full]
    later = [b for b in ordered if not b.full]
    if not wholes or len(later) < LEAST_BACKUPS:
        return None
    before = max((b.at for b in ordered if b.at < later[0].at), default=later[0].at)
    span = later[-1].at - before
    if span < LEAST_SPAN:
        return None
    return Rate(
        int(mean(wholes)), sum(b.stored for b in later) / (span / timedelta(days=1)), len(ordered), span
    )


def by_rate(rate: Rate, keep: timedelta) -> Needs:
    """What the volume needs if it goes on like this, and its backups stay so long."""
    return Needs(rate.whole, rate.daily, keep / timedelta(days=1))
