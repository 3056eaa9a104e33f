"""What a decision about an object looks like.

A reconciler looks at the world, decides by a pure function, does at most one thing, and looks again.
So a crash between any two lines is the same as no crash: the next look sees what was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Refusal:
    """What is present and wrong: no waiting helps. The message names the object and the remedy."""

    reason: str
    message: str


@dataclass(frozen=True)
class Missing:
    """What is absent or not ready yet: worth waiting for, until the start deadline."""

    reason: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """How the work ended. Recorded in the status before cleaning up begins; a failure stays a failure."""

    succeeded: bool
    reason: str
    message: str


@dataclass(frozen=True)
class Decision:
    """The next thing to do, and what the status says meanwhile.

    `action` is one effect or None. `outcome` is set once, when the work has ended. `requeue` is in
    seconds; None says that there is nothing more to do for this object.
    """

    phase: str
    reason: str
    message: str
    action: StrEnum | None = None
    detail: Any = None
    outcome: Outcome | None = None
    requeue: float | None = 2.0

    @property
    def next_look(self) -> float | None:
        """Seconds until the next look. What was just made is looked at soon, as nobody wakes us for it."""
        soon = self.action is not None and self.reason != "CleaningUp"
        return 0.2 if soon else self.requeue

    @property
    def finished(self) -> bool:
        """Whether the object has reached its last state."""
        return self.requeue is None


def waited_too_long(
    missing: Missing, created: datetime, deadline_seconds: int, now: datetime
) -> Refusal | None:
    """The refusal that a wait becomes at the start deadline; None before."""
    if now - created < timedelta(seconds=deadline_seconds):
        return None
    return Refusal(
        missing.reason,
        f"{missing.message} Given up after {deadline_seconds} s (spec.startDeadlineSeconds).",
    )


def failed(reason: str, message: str) -> Outcome:
    """An outcome that failed."""
    return Outcome(False, reason, message)
