"""How long each step of a Backup or a Restore took, told in its status while it works and ever after. Pure.

A step begins and ends with the look that decides so, and nothing is remembered but what the status says: the reason
tells which step is going on, its entry since when. So a new operator goes on counting, and one that was away counts its
absence into the step that waited for it. A step that is taken again has one entry: what it took before is added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from blockvault.api import RunStatus

from .conditions import micro_timestamp, parse_timestamp
from .objects import MoverReport

Timing = dict[str, Any]
Status = Mapping[str, Any]

WAITING = "Waiting"
CLEANING_UP = "CleaningUp"
MOVING = "Moving"

# The reason that a status gives for being at work, and the step that this is.
STEPS = {
    "Snapshotting": "Snapshotting",
    "SnapshotRetrying": "Snapshotting",
    "Binding": "Binding",
    "Provisioning": "Provisioning",
    "SnapshotUnusable": "Provisioning",
    "Cloning": "Cloning",
    "Starting": "Starting",
    "Moving": MOVING,
    "NodeLost": MOVING,
    "NodeNotReady": MOVING,
    "MoverLost": MOVING,
    "StoppingWorkload": "StoppingWorkload",
    "Detaching": "Detaching",
    "HandingOver": "HandingOver",
    "Exchanging": "Exchanging",
    "StartingWorkload": "StartingWorkload",
    "CleaningUp": CLEANING_UP,
}
# In these nothing is going on. A restore that can be rolled back works again only when it is told to.
RESTING = (None, "Available", "Completed", "RolledBack", "Skipped", "Restored", "Deleting", "Error")
# Steps that a mover's start is awaited in.
_BEFORE_MOVING = ("Cloning", "Starting", "Provisioning")


def step_of(status: Status) -> str | None:
    """The step that is going on by a status; None when nothing is."""
    phase, reason = status.get("phase"), status.get("reason")
    if phase in RESTING:
        return None
    if phase == "Pending":
        return WAITING
    return STEPS.get(str(reason), CLEANING_UP if status.get("operation") else WAITING)


def timed(former: Status, status: Status, now: datetime) -> list[Timing]:
    """The timings that go with a new status. `former`: the whole status before; `status`: what is new in it.

    The entry of the step that is going on is the last one, and its `seconds` are those of its earlier times only.
    """
    timings = [dict(t) for t in former.get("timings") or []]
    ending, beginning = step_of(former), step_of({**former, **status})
    if ending == beginning:
        return timings
    if ending is not None and timings and timings[-1]["name"] == ending:
        timings[-1] = _longer(timings[-1], now - parse_timestamp(timings[-1]["startTime"]))
    if beginning is not None:
        taken = next((t for t in timings if t["name"] == beginning), {})
        timings = [t for t in timings if t is not taken]
        timings.append({**taken, "name": beginning, "startTime": micro_timestamp(now)})
    return timings


def _longer(timing: Timing, more: timedelta) -> Timing:
    """A clock that was set back makes nothing shorter."""
    seconds = (timing.get("seconds") or 0.0) + max(0.0, more.total_seconds())
    return {**timing, "seconds": round(seconds, 3)}


def patience(status: RunStatus | None, now: datetime) -> float:
    """Seconds until the next look at what goes by itself and wakes nobody: the longer, the longer it has taken."""
    timings = status.timings if status else None
    began = parse_timestamp(timings[-1].start_time) if timings else now
    return min(2.0, max(0.1, (now - began).total_seconds() / 4))


def mover_began(timings: list[Timing], report: MoverReport | None, now: datetime) -> list[Timing]:
    """The timings of a mover that has ended: it says itself when it began, looks see it late or not at all.

    So seconds go from the step in which it was waited for to Moving. Its clock is that of its node: however wrong,
    the sum stays, and no step gets less than nothing.
    """
    began = report.timings[0].get("startTime") if report is not None and report.timings else None
    before = next((t for t in reversed(timings) if t["name"] in _BEFORE_MOVING and t.get("seconds")), None)
    if began is None or before is None:
        return timings
    moving = next((t for t in timings if t["name"] == MOVING), None)
    seen = parse_timestamp(moving["startTime"]) if moving is not None else now
    late = timedelta(
        seconds=min(max(0.0, (seen - parse_timestamp(began)).total_seconds()), before["seconds"])
    )
    start = {"name": MOVING, "startTime": micro_timestamp(seen - late)}
    moved = _longer({**(moving or {}), **start}, late)
    shorter = {**before, "seconds": round(before["seconds"] - late.total_seconds(), 3)}
    changed = [shorter if t is before else moved if t is moving else t for t in timings]
    if moving is None:
        changed.insert(timings.index(before) + 1, moved)
    return changed
