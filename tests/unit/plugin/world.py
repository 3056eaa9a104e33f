"""Objects of a namespace as the operator leaves them, for the plugin to show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]
NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
GIB = 1 << 30


def obj(kind: str, name: str, spec: Object, status: Object, **meta: Any) -> Object:
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}",
        "creationTimestamp": "2026-11-29T02:00:00Z",
    } | meta
    return {"kind": kind, "metadata": metadata, "spec": spec, "status": status}


def vault(name: str = "disks", phase: str = "Available", **status: Any) -> Object:
    facts: Object = {
        "phase": phase,
        "capacity": "100Gi",
        "usedBytes": 41 * GIB,
        "utilization": "41.0",
        "backups": 12,
        "location": "s3://backups/shop/disks-1a2b3c4d",
        "policy": {"name": "nightly", "state": "Applied", "message": "The policy is applied."},
        "nextRun": "2026-11-30T01:00:00Z",
        "lastCheckedAt": "2026-11-29T11:59:30Z",
        "resources": [line("db-data"), line("web")],
        "conditions": [
            {"type": "StoreReachable", "status": "True", "reason": "CanaryPassed", "message": "It answers."},
            {"type": "Ready", "status": "True", "reason": "Available", "message": "It answers."},
        ],
    }
    return obj("Vault", name, {"type": "Disk", "className": "standard"}, facts | status)


def line(claim: str, **facts: Any) -> Object:
    return {
        "kind": "PersistentVolumeClaim",
        "name": claim,
        "state": "Associated",
        "lastBackupAt": "2026-11-29T02:05:00Z",
        "nextRun": "2026-11-30T01:00:00Z",
    } | facts


def policy(name: str = "nightly", phase: str = "Ready", **status: Any) -> Object:
    spec = {
        "schedule": {"hours": [14, 2], "timeZone": "Europe/Berlin", "weekDays": ["Monday", "Friday"]},
        "retention": {"count": 7},
    }
    return obj("BackupPolicy", name, spec, {"phase": phase, "nextRuns": ["2026-11-30T01:00:00Z"]} | status)


def backup(name: str, claim: str = "db-data", phase: str = "Available", **changes: Any) -> Object:
    spec = {"vaultRef": {"name": "disks"}, "resource": {"kind": "PersistentVolumeClaim", "name": claim}}
    volume = {
        "claim": claim,
        "size": 10 * GIB,
        "backupId": f"{name}-id".ljust(32, "0"),
        "bytesStored": GIB,
        "bytesChanged": 2 * GIB,
        "snapshotTime": "2026-11-29T02:00:10Z",
        "changedBlockSource": "Compare",
        "changedBlockReason": "NoService",
    }
    status: Object = {"phase": phase, "type": "Incremental", "trigger": "Policy", "policy": "nightly"}
    if phase == "Available":
        status |= {"completedAt": "2026-11-29T02:05:00Z", "volumes": [volume]}
    meta = changes.pop("meta", {})
    volume |= changes.pop("volume", {})
    return obj("Backup", name, spec | changes.pop("spec", {}), status | changes, **meta)


def working(name: str = "manualbk-1a2b", claim: str = "db-data") -> Object:
    progress = {
        "phase": "Reading",
        "bytesScanned": 4 * GIB,
        "bytesTotal": 10 * GIB,
        "percent": 40,
        "eta": "2026-11-29T12:03:00Z",
    }
    return backup(name, claim, "Creating", reason="Moving", progress=progress, trigger="Manual", policy=None)


def failed(name: str, claim: str = "db-data", ended: str = "2026-11-29T09:00:00Z") -> Object:
    words = "The store s3://backups does not answer: connection refused."
    return backup(name, claim, "Error", completedAt=ended, reason="StoreUnreachable", message=words)


def restore(
    name: str = "back", phase: str = "Completed", target: Object | None = None, **status: Any
) -> Object:
    spec = {"backupRef": {"name": "autobk-1"}, "target": target or {"newClaim": {"name": "copy"}}}
    facts = {"phase": phase, "claim": "copy", "completedAt": "2026-11-29T10:00:00Z"}
    return obj("Restore", name, spec, facts | status)


def task(
    name: str, kind: str = "Backup", phase: str = "Succeeded", thing: str = "autobk-1", **status: Any
) -> Object:
    spec = {
        "type": kind,
        "trigger": "Policy",
        "vaultRef": {"name": "disks"},
        "resource": {"kind": "PersistentVolumeClaim", "name": "db-data"},
        "object": {"kind": "Backup", "name": thing, "uid": f"uid-{thing}"},
    }
    facts = {"phase": phase, "reason": "Completed", "message": "Completed.",
             "startedAt": "2026-11-29T02:00:00Z", "completedAt": "2026-11-29T02:05:00Z"}  # fmt: skip
    return obj("Task", name, spec, facts | status)


def claim(name: str, *, phase: str = "Bound", **meta: Any) -> Object:
    metadata = {"name": name, "namespace": "shop"} | meta
    spec = {"volumeName": f"pv-{name}" if phase == "Bound" else "", "storageClassName": "fast"}
    return {"kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec, "status": {"phase": phase}}
