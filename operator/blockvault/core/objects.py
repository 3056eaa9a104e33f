"""What the state of a Kubernetes object says: small questions, asked of plain dicts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


def condition_is_true(obj: Object, type: str) -> bool:
    """Whether the object has that condition with status True."""
    conditions = obj.get("status", {}).get("conditions") or []
    return any(c.get("type") == type and c.get("status") == "True" for c in conditions)


def deleting(obj: Object) -> bool:
    """Whether deletion was asked for and finalizers hold it."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def job_ended(job: Object) -> bool:
    """Whether the Job has ended for good: all its pods are down, not merely doomed."""
    return condition_is_true(job, "Complete") or condition_is_true(job, "Failed")


def job_failure(job: Object) -> str:
    """The Job controller's own words on why a Job failed."""
    for condition in job.get("status", {}).get("conditions") or []:
        if condition.get("type") == "Failed":
            return f"{condition.get('reason', 'Failed')}: {condition.get('message', '')}".strip()
    return ""


def pod_ended(pod: Object) -> bool:
    """Whether the pod's containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def snapshot_is_ready(snapshot: Object) -> bool:
    """Whether a VolumeSnapshot is bound and can be cloned from."""
    status = snapshot.get("status") or {}
    return bool(status.get("readyToUse") and status.get("boundVolumeSnapshotContentName"))


def snapshot_error(snapshot: Object) -> str:
    """The latest error of a VolumeSnapshot; empty when there is none. The snapshotter retries for ever."""
    error = (snapshot.get("status") or {}).get("error") or {}
    return str(error.get("message") or "")


def content_handle(content: Object) -> str | None:
    """The storage system's own id of a snapshot."""
    handle = (content.get("status") or {}).get("snapshotHandle")
    handle = handle or content["spec"].get("source", {}).get("snapshotHandle")
    return str(handle) if handle else None


def csi_driver(volume: Object) -> str | None:
    """The CSI driver of a PersistentVolume, None when it has another kind of source."""
    driver = (volume["spec"].get("csi") or {}).get("driver")
    return str(driver) if driver else None


def claim_is_bound(claim: Object) -> bool:
    """Whether a claim has its volume."""
    return (claim.get("status") or {}).get("phase") == "Bound" and bool(claim["spec"].get("volumeName"))


@dataclass(frozen=True)
class MoverReport:
    """What a mover said at its end. `retryable` is its own view: the same work may succeed later.

    `timings`: its own steps one after the other, as {name, startTime, seconds}.
    """

    ok: bool
    result: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    message: str = ""
    remedy: str = ""
    retryable: bool = False
    timings: list[dict[str, Any]] = field(default_factory=list)


def mover_report(pod: Object) -> MoverReport | None:
    """The report in a pod's termination message; None while it runs or when it left none that can be read.

    A container that was killed leaves the last lines of its log there instead (terminationMessagePolicy
    FallbackToLogsOnError), so anything that is not a report is passed over.
    """
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        text = ((status.get("state") or {}).get("terminated") or {}).get("message") or ""
        for line in reversed(text.splitlines()):
            report = _parse_report(line)
            if report is not None:
                return report
    return None


def _parse_report(line: str) -> MoverReport | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("ok"), bool):
        return None
    timings = list(data.get("timings") or [])
    if data["ok"]:
        return MoverReport(ok=True, result=dict(data.get("result") or {}), timings=timings)
    error = data.get("error") or {}
    return MoverReport(
        ok=False,
        reason=str(error.get("reason") or "MoverFailed"),
        message=str(error.get("message") or ""),
        remedy=str(error.get("remedy") or ""),
        retryable=bool(error.get("retryable")),
        timings=timings,
    )


def pod_trouble(pod: Object) -> str:
    """Why a pod has not started, in the words of the scheduler or the kubelet; empty when it has."""
    status = pod.get("status") or {}
    if status.get("phase") != "Pending":
        return ""
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            return f"{waiting.get('reason', '')}: {waiting.get('message', '')}".strip(": ")
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return "the pod has not started"


def newest(objects: list[Object]) -> Object | None:
    """The object made last, None of none."""
    return max(objects, key=lambda o: o["metadata"].get("creationTimestamp", ""), default=None)


def last_progress(log: str) -> dict[str, Any] | None:
    """The newest progress line of a mover's log."""
    for line in reversed(log.splitlines()):
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("progress"), dict):
            progress: dict[str, Any] = data["progress"]
            return progress
    return None
