"""What Backups and Restores have in common: their mover, its words, and how their status is written."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Container
from typing import Any

from blockvault.api import Backup, Restore, Vault
from blockvault.core.conditions import State, micro_timestamp, ready_conditions, timestamp
from blockvault.core.decision import Decision
from blockvault.core.mover import final_report
from blockvault.core.naming import OPERATION_LABEL, job_name, mover_name
from blockvault.core.objects import Object, last_progress, newest
from blockvault.core.restore_model import RESTORED
from blockvault.core.restore_model import TERMINAL as RESTORE_ENDS
from blockvault.core.tasks import tasks_of
from blockvault.core.timings import Timing, mover_began, timed

from .context import Context, utc_now
from .gateway import ConflictError, GatewayError
from .resources import BACKUPS, CLAIMS, EVENTS, JOBS, PODS, RESTORES, SECRETS, VAULTS, VOLUMES, Resource

log = logging.getLogger(__name__)

# Phases in which an operation holds its claim against others.
FINISHED = {BACKUPS.kind: ("Available", "Error", "Deleting"), RESTORES.kind: (*RESTORE_ENDS, RESTORED)}

LAST_WORDS_BYTES = 4096
PROGRESS_SECONDS = 5.0


async def own_pods(context: Context, uid: str) -> list[Object]:
    """The mover pods of an operation, terminating ones too."""
    return await context.gateway.list_objects(PODS, context.settings.namespace, labels={OPERATION_LABEL: uid})


async def own_job(context: Context, uid: str, attempt: int) -> Object | None:
    """The Job of one of an operation's movers."""
    return await context.gateway.get(JOBS, job_name(uid, attempt), context.settings.namespace)


async def has_secret(context: Context, uid: str, attempt: int = 1) -> bool:
    """Whether the mover's Secret is there."""
    return (
        await context.gateway.get(SECRETS, mover_name(uid, attempt), context.settings.namespace) is not None
    )


async def delete_job(context: Context, uid: str, attempt: int) -> None:
    """Delete the Job of one of an operation's movers with its pods."""
    await context.gateway.delete(JOBS, job_name(uid, attempt), context.settings.namespace)


async def delete_pods(context: Context, pods: list[Object]) -> None:
    """Delete the pods of a Job that has ended: they hold their claim as long as they are there."""
    gone = [
        context.gateway.delete(PODS, pod["metadata"]["name"], context.settings.namespace)
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
    ]
    await asyncio.gather(*gone)


async def delete_secret(context: Context, uid: str, attempt: int = 1) -> None:
    """Delete the Secrets of an operation's movers, of which `attempt` is the last."""
    for number in range(1, attempt + 1):
        await context.gateway.delete(SECRETS, mover_name(uid, number), context.settings.namespace)


async def delete_raw_claim(context: Context, uid: str, attempt: int) -> None:
    """Delete the mover's raw claim; its storage follows by the policy of its volume."""
    await context.gateway.delete(CLAIMS, mover_name(uid, attempt), context.settings.namespace)


async def set_reclaim_policy(context: Context, volume: Object, policy: str) -> None:
    """Say what becomes of a PersistentVolume's storage when its claim goes."""
    patch = {"spec": {"persistentVolumeReclaimPolicy": policy}}
    await context.gateway.patch(VOLUMES, volume["metadata"]["name"], None, patch)


async def progress(context: Context, pods: list[Object]) -> dict[str, Any] | None:
    """The mover's latest figures, read from the end of its log."""
    pod = newest(pods)
    if pod is None or (pod.get("status") or {}).get("phase") != "Running":
        return None
    figures = last_progress(await _log(context, pod, 5))
    if figures is None:
        return None
    total = int(figures.get("bytesTotal") or 0)
    done = int(figures.get("bytesScanned") or figures.get("bytesWritten") or 0)
    return {**figures, "percent": min(100, 100 * done // total) if total else 0}


async def mover_status(
    context: Context, job: Object | None, pods: list[Object], timings: list[Timing]
) -> dict[str, Any]:
    """What the status keeps of a mover that has ended: the end of its log, the class of its error, its times.

    `timings`: those of the status until now.
    """
    if job is None:
        return {}
    status: dict[str, Any] = {"job": job["metadata"]["name"], "attempts": max(1, len(pods))}
    report = final_report(job, pods)
    if report is not None and not report.ok:
        status["errorClass"] = report.reason
    pod = newest(pods)
    if pod is not None:
        status["lastWords"] = (await _log(context, pod, 40))[-LAST_WORDS_BYTES:]
    if report is not None and report.timings:
        status["timings"] = report.timings
    return {"mover": status, "timings": mover_began(timings, report, utc_now())}


async def _log(context: Context, pod: Object, lines: int) -> str:
    """The last lines that a mover wrote. Nothing where its node does not answer: that must not hold anything up."""
    name, namespace = pod["metadata"]["name"], context.settings.namespace
    try:
        return await context.gateway.pod_log(name, namespace, tail_lines=lines)
    except GatewayError as error:
        log.warning("Pod %s/%s: %s", namespace, name, error)
        return ""


def decided_status(
    decision: Decision, former: dict[str, Any], generation: int, context: Context
) -> dict[str, Any]:
    """The status patch that a decision amounts to."""
    now = context.clock()
    good = decision.finished and decision.phase in ("Available", "Completed", "RolledBack", "Skipped")
    state: State = (
        "ready" if good or decision.phase == RESTORED else "stalled" if decision.finished else "reconciling"
    )
    status: dict[str, Any] = {
        "phase": decision.phase,
        "reason": decision.reason,
        "message": decision.message,
        "observedGeneration": generation,
        "conditions": ready_conditions(
            former.get("conditions") or [],
            state,
            decision.reason,
            decision.message,
            generation=generation,
            now=now,
        ),
    }
    if decision.outcome is not None:
        status["operation"] = {
            "outcome": "Succeeded" if decision.outcome.succeeded else "Failed",
            "reason": decision.outcome.reason,
            "message": decision.outcome.message,
        }
    if decision.attempt is not None:
        status["attempt"] = decision.attempt
        context.figures.observe_lost_mover()
    if decision.phase != "Pending" and not former.get("startedAt"):
        status["startedAt"] = timestamp(now)
    if decision.finished:
        status["completedAt"] = timestamp(now)
    # Not by the calendar, which tests move and rules go by.
    return status | {"timings": timed(former, status, utc_now())}


def count_steps(context: Context, kind: str, status: dict[str, Any]) -> None:
    """Let the figures have the time of each step of an operation that has ended."""
    steps = {str(t["name"]): float(t.get("seconds") or 0.0) for t in status.get("timings") or []}
    context.figures.observe_steps(kind, steps)


async def write_status(context: Context, resource: Resource, obj: Object, status: dict[str, Any]) -> None:
    """Write what is new in a status; nothing when nothing is. A change of reason is told as an event."""
    former = obj.get("status") or {}
    changed = {key: value for key, value in status.items() if _set(former.get(key)) != _set(value)}
    if not changed:
        return
    meta = obj["metadata"]
    await context.gateway.patch_status(resource, meta["name"], meta.get("namespace"), changed)
    if changed.keys() & {"phase", "reason"}:
        log_transition(resource, meta, former, status)
    context.note_tasks(tasks_of(resource.kind, obj, status, context.clock()))
    if changed.get("reason"):
        await tell(context, resource, obj, status)


def log_transition(
    resource: Resource, meta: dict[str, Any], former: dict[str, Any], status: dict[str, Any]
) -> None:
    """One line of the operator's log: which object, from which phase to which, why. As JSON these are fields, too."""
    now = {**former, **status}
    before, phase, reason = (
        str(of.get(key) or "new") for of, key in ((former, "phase"), (now, "phase"), (now, "reason"))
    )
    ref = {"kind": resource.kind} | {key: meta[key] for key in ("namespace", "name", "uid") if key in meta}
    message = " ".join(str(now.get("message") or "").split())
    name = "/".join(filter(None, (meta.get("namespace"), meta["name"])))
    steps = phase if before == phase else f"{before} -> {phase}"
    log.log(
        logging.WARNING if phase == "Error" else logging.INFO,
        "%s %s: %s, %s: %s", resource.kind, name, steps, reason, message,
        extra={"k8s_ref": ref, "phase": phase, "former_phase": before, "reason": reason},
    )  # fmt: skip


def _set(value: Any) -> Any:
    """What is set of a value: a null in a patch, and nothing in what is stored, are the same."""
    if isinstance(value, dict):
        return {key: _set(item) for key, item in value.items() if item is not None}
    return [_set(item) for item in value] if isinstance(value, list) else value


async def tell_vault(
    context: Context, meta: dict[str, Any], reason: str, message: str, *, phase: str = "Available"
) -> None:
    """An event on a Vault, by its metadata; a warning with the phase Error. See `tell`."""
    await tell(context, VAULTS, {"metadata": meta}, {"phase": phase, "reason": reason, "message": message})


async def unfinished(
    context: Context, resource: Resource, namespace: str | None, **fields: str
) -> list[Object]:
    """Backups or Restores that have not ended, with these selectable fields (`spec__resource__name`)."""
    ended = [("status.phase", phase) for phase in FINISHED[resource.kind]]
    wanted = {name.replace("__", "."): value for name, value in fields.items()}
    return await context.gateway.list_objects(resource, namespace, fields=wanted, but=ended)


async def backups_of(context: Context, vault: Vault, phase: str | None = None) -> list[Backup]:
    """The Backups of a Vault; with `phase`, those in that phase."""
    wanted = {"spec.vaultRef.name": vault.metadata.name} | ({"status.phase": phase} if phase else {})
    found = await context.gateway.list_objects(BACKUPS, vault.metadata.namespace, fields=wanted)
    return [Backup.model_validate(b) for b in found]


async def restores_of(context: Context, namespace: str | None, backups: Container[str]) -> list[Restore]:
    """The Restores at work that read one of these Backups, by their names."""
    return [r for r in await restoring(context, namespace) if r.reads in backups]


async def restoring(context: Context, namespace: str | None) -> list[Restore]:
    """The Restores at work in a namespace."""
    found = await context.gateway.list_objects(RESTORES, namespace, fields={"status.phase": "Restoring"})
    return [Restore.model_validate(obj) for obj in found]


async def tell(context: Context, resource: Resource, obj: Object, status: dict[str, Any]) -> None:
    """An event on an object. Its name is derived from what it says, so that a repeated one is one event."""
    meta = obj["metadata"]
    text = f"{status['phase']}: {status['message']}"[:1000]
    digest = hashlib.sha256(f"{meta['uid']}{status['reason']}{text}".encode()).hexdigest()[:12]
    event = {
        "metadata": {
            "name": f"{meta['name'][:200]}.{digest}",
            # Events of cluster-scoped objects belong into this namespace: the API server refuses any other.
            "namespace": meta.get("namespace") or "default",
        },
        "eventTime": micro_timestamp(context.clock()),
        "type": "Warning" if status["phase"] == "Error" else "Normal",
        "reason": status["reason"],
        "action": status["phase"],
        "note": text,
        "reportingController": "blockvault.dev/operator",
        "reportingInstance": context.settings.instance,
        "regarding": {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "name": meta["name"],
            "namespace": meta.get("namespace"),
            "uid": meta["uid"],
        },
    }
    try:
        await context.gateway.create(EVENTS, event)
    except ConflictError:
        return
