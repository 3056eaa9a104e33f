"""When a Vault's store is tidied up, and the next step of a run, as a pure function of what is there (A12, F18).

A run is a mover without a volume. That one is under way stands in the Vault's status before anything is made for it, so
that a crash between any two steps loses nothing and leaves nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from blockvault.api import UpkeepStatus

from .conditions import parse_timestamp, timestamp
from .decision import Outcome
from .lost_nodes import Nodes, beyond_reach
from .mover import final_report, judge_mover, mover_wait, pods_of
from .objects import MoverReport, Object, job_ended

# Once a day; and soon after something was deleted for good, though not for each such deletion.
EVERY, PAUSE = timedelta(days=1), timedelta(minutes=10)
# A new vault has nothing to tidy up yet.
FIRST = timedelta(hours=1)
# Bytes that one run stores anew.
BUDGET = 16 * 2**30

BOUND: Object = {"status": {"phase": "Bound"}}


class Action(StrEnum):
    """One effect each; every one of them can be repeated without harm."""

    CREATE_SECRET = "CreateSecret"  # noqa: S105
    CREATE_JOB = "CreateJob"
    DELETE_JOB = "DeleteJob"
    DELETE_PODS = "DeletePods"
    DELETE_SECRET = "DeleteSecret"  # noqa: S105


@dataclass(frozen=True)
class UpkeepView:
    """All that a decision about upkeep looks at. `since`: when the Vault was made. `job`: of the run in `status`.

    `wall`: the time by which the cluster stamps, where `now` is a calendar that was moved. `nodes`: those of the pods.
    """

    now: datetime
    uid: str
    since: datetime
    status: UpkeepStatus = field(default_factory=UpkeepStatus)
    job: Object | None = None
    pods: list[Object] = field(default_factory=list)
    has_secret: bool = False
    wall: datetime | None = None
    nodes: Nodes = field(default_factory=dict)

    @property
    def stamps(self) -> datetime:
        """Now, as the cluster stamps it."""
        return self.wall or self.now

    @property
    def running(self) -> bool:
        """Whether a run has begun and not ended."""
        return bool(self.status.run and not self.status.ended_at)


@dataclass(frozen=True)
class Step:
    """An effect, or what the status is to say; neither when there is nothing to do."""

    action: Action | None = None
    status: dict[str, Any] | None = None


def decide_upkeep(view: UpkeepView) -> Step:
    """The next step. One thing at a time: looking again after it asks for the rest."""
    if view.running:
        return _go_on(view)
    leftover = next_cleaning(view)
    if leftover is not None:
        return Step(leftover)
    if view.now >= due_at(view):
        begun = {"run": view.status.run + 1, "startedAt": timestamp(view.now), "endedAt": None}
        return Step(status={**begun, "reason": "Running", "message": "The store is being tidied up."})
    return Step()


def next_cleaning(view: UpkeepView) -> Action | None:
    """The next thing of a run to remove, None when none is left. A Job that has ended stays for its hour.

    What a lost node holds goes when that is back or gone, as it is to be deleted.
    """
    if view.job is not None and not job_ended(view.job):
        return Action.DELETE_JOB
    if not all(beyond_reach(pod, view.nodes, view.stamps) for pod in view.pods):
        return Action.DELETE_PODS
    return Action.DELETE_SECRET if view.has_secret else None


def due_at(view: UpkeepView) -> datetime:
    """When the next run begins: spread over the day by the Vault's uid, earlier where a deletion wants it."""
    ended, started, wanted = (
        parse_timestamp(text) if text else None
        for text in (view.status.ended_at, view.status.started_at, view.status.wanted)
    )
    share = int.from_bytes(hashlib.sha256(view.uid.encode()).digest()[:4]) / 2**32
    first = FIRST + share * (EVERY - FIRST)
    due = ended + EVERY if ended else view.since + first
    if wanted is not None and (started is None or wanted > started):
        return min(due, max(wanted, (ended or view.since) + PAUSE))
    return due


def _go_on(view: UpkeepView) -> Step:
    job = view.job
    if job is None:
        return Step(Action.CREATE_JOB if view.has_secret else Action.CREATE_SECRET)
    pods = pods_of(job, view.pods)  # not those of one that was given up
    if job_ended(job):
        outcome = judge_mover(job, pods)
        if outcome is None:  # its words are lost: they are of no use later, and another run does no harm
            outcome = Outcome(True, "Completed", "The store was tidied up; its figures are lost.")
        return Step(status=_ended(view, outcome, final_report(job, pods)))
    if not view.has_secret:  # somebody deleted it: a pod that has not started waits for it
        return Step(Action.CREATE_SECRET)
    wait = mover_wait(job, pods, BOUND, view.stamps, view.nodes)
    if isinstance(wait, Outcome) or wait.lost:
        # It never began: the Job goes first, or it would begin when nobody waits for it. Or its node died: another one
        # begins, and should the first live, both tidy up, as two may.
        return Step(Action.DELETE_JOB)
    return Step()


def _ended(view: UpkeepView, outcome: Outcome, report: MoverReport | None) -> dict[str, Any]:
    result = report.result if report and report.ok else {}
    reason, message = outcome.reason, outcome.message
    errors = result.get("errors") or []
    if errors:
        reason = str(errors[0].get("reason") or "Failed")
        more = f" (and {result['failed'] - 1} more volumes)" if result.get("failed", 1) > 1 else ""
        message = (
            f"Volume {errors[0].get('volume')}: {errors[0].get('message')} {errors[0].get('remedy')}{more}"
        )
    return {
        "endedAt": timestamp(view.now),
        "reason": reason,
        "message": message,
        **{key: result.get(key) for key in ("deletedBytes", "deletedObjects", "rewrittenBytes")},
    }
