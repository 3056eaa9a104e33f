"""A small model of the cluster for plans: it applies one action at a time, as the effects would.

It has no timing and no operator code in it: what Kubernetes' own controllers do (make a snapshot ready,
bind it, run a Job) are single moves that a test makes, in any order and number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from blockvault.api import Backup, Vault

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
STAMP = "2026-11-23T12:00:00Z"

Object = dict[str, Any]

VAULT: Object = {
    "apiVersion": "blockvault.dev/v1alpha1",
    "kind": "Vault",
    "metadata": {
        "name": "disks",
        "namespace": "shop",
        "uid": "v-1",
        "generation": 1,
        "creationTimestamp": STAMP,
    },
    "spec": {
        "type": "Disk",
        "capacity": "100Gi",
        "storage": {
            "s3": {
                "endpoint": "https://s3.example.com",
                "bucket": "backups",
                "credentialsSecretRef": {"name": "s3-creds"},
            }
        },
    },
    "status": {"phase": "Available", "usedBytes": 0},
}

CLAIM: Object = {
    "metadata": {"name": "db", "namespace": "shop", "uid": "c-1"},
    "spec": {
        "volumeName": "pv-db",
        "storageClassName": "fast",
        "volumeMode": "Filesystem",
        "accessModes": ["ReadWriteOnce"],
    },
    "status": {"phase": "Bound"},
}

VOLUME: Object = {
    "metadata": {"name": "pv-db"},
    "spec": {
        "csi": {"driver": "csi.example.com", "volumeHandle": "h"},
        "capacity": {"storage": "10Gi"},
        "claimRef": {"namespace": "shop", "name": "db", "uid": "c-1"},
    },
}

SNAPSHOT_CLASS: Object = {
    "metadata": {"name": "snaps"},
    "driver": "csi.example.com",
    "deletionPolicy": "Delete",
}


def backup_object(**spec: Any) -> Object:
    """A Backup as a user would make it."""
    return {
        "metadata": {
            "name": "b",
            "namespace": "shop",
            "uid": "b-1",
            "generation": 1,
            "creationTimestamp": STAMP,
        },
        "spec": {
            "vaultRef": {"name": "disks"},
            "resource": {"kind": "PersistentVolumeClaim", "name": "db"},
            **spec,
        },
    }


def restore_object(**new_claim: Any) -> Object:
    """A Restore as a user would make it."""
    return {
        "metadata": {
            "name": "r",
            "namespace": "shop",
            "uid": "r-1",
            "generation": 1,
            "creationTimestamp": STAMP,
        },
        "spec": {"backupRef": {"name": "b"}, "target": {"newClaim": {"name": "db-copy", **new_claim}}},
    }


def available_backup(**volume: Any) -> Backup:
    """A Backup that can be restored."""
    body = backup_object()
    stored = {
        "claim": "db",
        "size": 10 * 2**30,
        "backupId": "id-1",
        "lineageVolume": "shop/db",
        "volumeMode": "Filesystem",
        "storageClassName": "fast",
        "fileSystem": "ext4",
    }
    body["status"] = {"phase": "Available", "volumes": [{**stored, **volume}]}
    return Backup.model_validate(body)


def snapshot(ready: bool = True, **status: Any) -> Object:
    """A VolumeSnapshot; ready and bound unless told otherwise."""
    full = (
        {"readyToUse": True, "boundVolumeSnapshotContentName": "content-1", "restoreSize": "10Gi"}
        if ready
        else {}
    )
    return {
        "metadata": {"name": "bv-b-1", "creationTimestamp": STAMP},
        "spec": {"source": {"persistentVolumeClaimName": "db"}},
        "status": {**full, **status},
    }


def content(policy: str = "Delete") -> Object:
    """A VolumeSnapshotContent with a handle."""
    return {
        "metadata": {"name": "content-1"},
        "spec": {"deletionPolicy": policy, "driver": "csi.example.com", "source": {"volumeHandle": "h"}},
        "status": {"snapshotHandle": "snap-1"},
    }


def job(condition: str | None = None, reason: str = "") -> Object:
    """A mover's Job: running, or with an end condition."""
    conditions = [{"type": condition, "status": "True", "reason": reason, "message": ""}] if condition else []
    return {
        "metadata": {"name": "bv-b-1-1", "creationTimestamp": STAMP},
        "status": {"conditions": conditions},
    }


def pod(phase: str = "Running", report: Object | None = None, created: str = STAMP, **status: Any) -> Object:
    """A mover's pod, with its report in the termination message when it has ended."""
    terminated = {"terminated": {"exitCode": 0, "message": json.dumps(report)}} if report else {}
    return {
        "metadata": {"name": "pod-1", "creationTimestamp": created},
        "status": {"phase": phase, "containerStatuses": [{"name": "mover", "state": terminated}], **status},
    }


GOOD = {"ok": True, "result": {"backupId": "id-1", "type": "full", "size": 10 * 2**30}}
BAD = {
    "ok": False,
    "error": {"reason": "AccessDenied", "message": "no", "remedy": "fix it", "retryable": False},
}


@dataclass
class Clock:
    """A clock that tests move."""

    now: datetime = field(default=NOW)

    def move(self, **delta: float) -> datetime:
        """Move on by a timedelta's arguments."""
        self.now += timedelta(**delta)
        return self.now


def vault(**status: Any) -> Vault:
    """The Vault of these tests with another status."""
    return Vault.model_validate({**VAULT, "status": {**VAULT["status"], **status}})
