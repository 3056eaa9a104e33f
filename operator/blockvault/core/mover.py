"""How a mover's Job is judged: going, stuck, or ended and how."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from .conditions import parse_timestamp
from .decision import Outcome, failed
from .lost_nodes import (
    NODE_LOST,
    NODE_NOT_READY,
    PATIENCE,
    Nodes,
    lost_mover,
    nodes_named,
    unready_mover,
    what_helps,
)
from .objects import MoverReport, Object, condition_is_true, job_failure, mover_report, newest, pod_trouble

# A pod that has not started by then never will without help: no node fits, no image, no volume.
START_LIMIT = timedelta(minutes=15)


@dataclass(frozen=True)
class Waiting:
    """A mover that is going, or on its way; `lost`: it is given up, and another one takes its place."""

    reason: str
    message: str
    lost: bool = False


def pods_of(job: Object, pods: list[Object]) -> list[Object]:
    """Those of an owner's pods that are of this Job, and not of one before it."""
    uid = job["metadata"]["uid"]
    return [
        pod
        for pod in pods
        if any(ref.get("uid") == uid for ref in pod["metadata"].get("ownerReferences") or [])
    ]


def final_report(job: Object, pods: list[Object]) -> MoverReport | None:
    """The words that count: a success's if there is one, else those of the newest pod that left any."""
    reports = [
        (pod["metadata"].get("creationTimestamp", ""), report)
        for pod in pods
        if (report := mover_report(pod)) is not None
    ]
    good = [report for _, report in reports if report.ok]
    if good:
        return good[-1]
    return max(reports, key=lambda pair: pair[0])[1] if reports else None


def judge_mover(job: Object, pods: list[Object]) -> Outcome | None:
    """The outcome of a Job that has ended; None when it succeeded but its words are lost."""
    report = final_report(job, pods)
    if report is not None and report.ok:
        return Outcome(True, "Completed", "Completed.")
    if condition_is_true(job, "Complete"):
        return None
    if report is not None:
        text = f"{report.message} {report.remedy}".strip()
        return failed(report.reason, text or job_failure(job))
    return failed("MoverFailed", f"The mover ended without a word. {job_failure(job)}".strip())


def mover_wait(
    job: Object, pods: list[Object], claim: Object, now: datetime, nodes: Nodes
) -> Waiting | Outcome:
    """What a Job that has not ended is waiting for; an outcome when it cannot be expected to start."""
    lost, unready = lost_mover(pods, nodes, now), unready_mover(pods, nodes)
    if lost:
        text = f"{lost}: its mover is given up, and another one goes on with what it has sent."
        return Waiting(
            NODE_LOST, f"{text} What it holds stays there for now. {what_helps(nodes_named(pods))}", True
        )
    pod = newest(pods)
    trouble = pod_trouble(pod) if pod is not None else "the Job controller has not made its pod"
    if unready and not trouble:
        limit = int(PATIENCE.total_seconds())
        return Waiting(
            NODE_NOT_READY, f"{unready}: after {limit} s its mover is replaced by one on another node."
        )
    if not trouble:
        return Waiting("Moving", "The mover is at work.")
    since = parse_timestamp((pod or job)["metadata"]["creationTimestamp"])
    text = f"The mover's pod has not started: {trouble}"
    if now - since > START_LIMIT:
        return failed("MoverNotStarted", f"{text}. Given up after {int(START_LIMIT.total_seconds())} s.")
    if (claim.get("status") or {}).get("phase") != "Bound":
        return Waiting("Cloning", f"Waiting for the mover's volume to be provisioned. {text}")
    return Waiting("Starting", text)
