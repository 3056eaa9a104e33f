"""What may go wrong with one request, and how often: drawn from the seed."""

from __future__ import annotations

import random

CRASH_BEFORE = "crash before the effect"
CRASH_AFTER = "crash after the effect"
LOST_REQUEST = "request lost"
LOST_ANSWER = "answer lost"
LATE = "request lands late"
DUPLICATE = "request lands twice"
ERROR = "500"
SLOW_DOWN = "503"
CONFLICT = "409"
OWN_412 = "412 of our own write"
LAGGING = "listing lags"
TRUNCATED = "body truncated"
FLIPPED = "body with a flipped bit"
EXPIRED = "credentials expired"
OUTAGE = "outage"
SLEEP = "machine sleeps"

ALL = (
    CRASH_BEFORE, CRASH_AFTER, LOST_REQUEST, LOST_ANSWER, LATE, DUPLICATE, ERROR, SLOW_DOWN, CONFLICT, OWN_412,
    LAGGING, TRUNCATED, FLIPPED, EXPIRED, OUTAGE, SLEEP,
)  # fmt: skip

_ANY = {CRASH_BEFORE, CRASH_AFTER, LOST_REQUEST, LOST_ANSWER, ERROR, SLOW_DOWN, EXPIRED, OUTAGE, SLEEP}
POSSIBLE = {
    "get": _ANY | {TRUNCATED, FLIPPED},
    "head": _ANY,
    "list": _ANY,
    "put": _ANY | {LATE, DUPLICATE},
    "create": _ANY | {LATE, DUPLICATE, CONFLICT, OWN_412},
    "delete": _ANY | {LATE, DUPLICATE},
}

# What is rare in the field and ends much is drawn more rarely.
_RARE = {OUTAGE: 0.1, EXPIRED: 0.1, CRASH_BEFORE: 0.4, CRASH_AFTER: 0.4}
# Commits are few and everything hangs on them.
_AT_COMMITS = 8.0


class Faults:
    """Which fault, if any, befalls a request. A seed uses some kinds only, each at a rate of its own."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        calm = chance.random() < 0.08
        self.rates: dict[str, float] = {}
        for kind in ALL:
            rate = 10 ** chance.uniform(-2.7, -1.2) * _RARE.get(kind, 1.0)
            if chance.random() < 0.55 and not calm:
                self.rates[kind] = rate
        if LAGGING in self.rates:
            self.rates[LAGGING] = chance.choice([0.1, 0.5, 1.0])
        self.enabled = True

    def sleepy(self) -> None:
        """Let machines sleep often just before they commit."""
        if self.rates:
            self.rates[SLEEP] = 0.02

    def draw(self, kind: str, key: str) -> str | None:
        """A fault for one request of that kind."""
        if not self.enabled:
            return None
        factor = _AT_COMMITS if kind == "create" and "/commits/" in key else 1.0
        for fault, rate in self.rates.items():
            if fault in POSSIBLE[kind] and self._chance.random() < rate * factor:
                return fault
        return None

    def lagging(self) -> bool:
        """Whether this listing lags."""
        return self.enabled and self._chance.random() < self.rates.get(LAGGING, 0.0)
