"""What a decision about an object looks like.

A reconciler looks at the world, decides by a pure function, does at most one thing, and looks again.
So a crash between any two lines is the same as no crash: the next look sees what was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from blockvault.api import NotServed, RunStatus

QUEUED = "OperationInProgress"
# Seconds until the look after an action: enough that one without effect does not keep the API server busy.
SOON = 0.05
CANCELLED = "Cancelled"


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
    seconds; None says that there is nothing more to do for this object. `attempt`: the mover before this one is given
    up, which the status says before anything is made for the new one.
    """

    phase: str
    reason: str
    message: str
    action: StrEnum | None = None
    detail: Any = None
    outcome: Outcome | None = None
    requeue: float | None = 2.0
    attempt: int | None = None

    @property
    def next_look(self) -> float | None:
        """Seconds until the next look. What was just made is looked at soon, as nobody wakes us for it."""
        soon = self.action is not None and self.reason != "CleaningUp"
        return SOON if soon else self.requeue

    @property
    def finished(self) -> bool:
        """Whether the object has reached its last state."""
        return self.requeue is None


def still_waiting(
    missing: Missing, created: datetime, deadline_seconds: int, now: datetime
) -> Decision | Refusal:
    """The wait, or the refusal that it becomes at the start deadline.

    Who queues behind another operation on the same claim waits for as long as that one takes (C13).
    """
    if missing.reason == QUEUED or now - created < timedelta(seconds=deadline_seconds):
        return Decision("Pending", missing.reason, missing.message)
    return Refusal(
        missing.reason,
        f"{missing.message} Given up after {deadline_seconds} s (spec.startDeadlineSeconds).",
    )


def cancelled() -> Outcome:
    """The outcome of what somebody stopped (F3)."""
    return failed(CANCELLED, "Cancelled on request (spec.cancel).")


def failed(reason: str, message: str) -> Outcome:
    """An outcome that failed."""
    return Outcome(False, reason, message)


def recorded_outcome(status: RunStatus | None) -> Outcome | None:
    """The outcome that a status keeps of work that has ended; None while it goes on."""
    operation = status.operation if status else None
    if operation is None or not operation.outcome:
        return None
    return Outcome(operation.outcome == "Succeeded", operation.reason or "", operation.message or "")


def refuse_unserved(unserved: list[NotServed], prefix: str = "") -> Refusal | None:
    """The refusal of what this version does not do; None when there is nothing of it."""
    if not unserved:
        return None
    first = unserved[0]
    return Refusal("NotServed", f"{prefix}{first.field}: {first.reason} {first.remedy}")
