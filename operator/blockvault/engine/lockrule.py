"""For how long backups are locked, and what is written down of it. Pure; locks.py does it."""

from __future__ import annotations

from dataclasses import replace

from blockvault.engine import runtime
from blockvault.engine.state import RootEntry
from blockvault.stores import ObjectLock

DAY = 24 * 3600.0

# Days of margin, at most: what is deleted stays for so long beyond its days, and locks are moved so seldom.
LONGEST_MARGIN = 30
# Of the margin, this share is left when locks are moved, so that they are in time for a slow run and a wrong clock.
EARLY = 0.1

# In a backup's entry: until when all that it needs is locked, at least.
LOCKED_UNTIL = "lockedUntil"


class LockRule:
    """For how long backups are locked."""

    def __init__(self, lock: ObjectLock) -> None:
        self.lock = lock

    @property
    def margin(self) -> int:
        """Days that locks last longer than they must."""
        return min(LONGEST_MARGIN, self.lock.days)

    @property
    def of_new(self) -> ObjectLock:
        """What objects are stored with."""
        return replace(self.lock, days=self.lock.days + self.margin)

    def at_least(self, days: int | None) -> LockRule:
        """The same, for more days."""
        return self if days is None or days <= self.lock.days else LockRule(replace(self.lock, days=days))

    def end(self, at: float) -> float:
        """When a lock ends that is made at that time."""
        return at + self.of_new.days * DAY

    def due(self, until: float | None, at: float) -> bool:
        """Whether a lock that ends then must be moved for a backup that is made at that time."""
        return until is None or until < at + (self.lock.days + self.margin * EARLY) * DAY


def held(entry: RootEntry | None) -> float | None:
    """Until when all that a backup needs is locked; None when that is not known."""
    until = None if entry is None else entry.extra.get(LOCKED_UNTIL)
    return None if until is None else runtime.seconds_of(until)


def hold(entry: RootEntry, until: float | None) -> None:
    """Write down until when all that a backup needs is locked."""
    if until is not None:
        entry.extra[LOCKED_UNTIL] = runtime.time_of(until)


def lower(entry: RootEntry, others: list[RootEntry]) -> None:
    """A backup that needs what these need is locked no longer than they are."""
    if LOCKED_UNTIL in entry.extra and others:
        ends = [held(each) for each in (entry, *others)]
        if None in ends:
            del entry.extra[LOCKED_UNTIL]
        else:
            hold(entry, min(end for end in ends if end is not None))
