"""Bad and good objects of each kind, and what the API server says to them.

One table for two tests: the emulation judges it in every `make test`, a real API server in
`make test-cluster`, so that neither the rules nor the emulation can drift from the real thing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Changes = dict[str, Any]

GONE = object()
"""A value that stands for taking the field away."""

S3 = {"endpoint": "https://s3.example.com", "bucket": "backups", "prefix": "a"}
GOOD: dict[str, Object] = {
    "VaultClass": {"storage": {"s3": S3}},
    "Vault": {"type": "Disk", "capacity": "100Gi", "storage": {"s3": S3}},
    "BackupPolicy": {"schedule": {"hours": [0, 12]}, "retention": {"count": 7}},
    "Backup": {"vaultRef": {"name": "disks"}, "resource": {"name": "db-data"}},
    "Task": {"type": "Backup", "object": {"kind": "Backup", "name": "one", "uid": "u"}},
    "Restore": {"backupRef": {"name": "one"}, "target": {"newClaim": {"name": "copy"}}},
}


@dataclass(frozen=True)
class Case:
    """An object made from the good one by `first` and, for an update, changed again by `then`."""

    kind: str
    words: str
    first: Changes = field(default_factory=dict)
    then: Changes | None = None
    server_only: bool = False
    """Whether only a real API server checks it: kinds of lists and formats are not emulated."""

    def __str__(self) -> str:
        what = self.first if self.then is None else self.then
        return f"{self.kind}: {', '.join(what)}: {self.words}"[:110]

    @property
    def before(self) -> Object | None:
        """The object that is there before an update; None for a creation."""
        return None if self.then is None else self._object({})

    @property
    def given(self) -> Object:
        """The object that is judged."""
        return self._object(self.then or {})

    def _object(self, then: Changes) -> Object:
        spec = copy.deepcopy(GOOD[self.kind])
        for path, value in [*self.first.items(), *then.items()]:
            _set(spec, path.split("."), value)
        return {
            "apiVersion": "blockvault.dev/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": "case"},
            "spec": spec,
        }


def _set(holder: Object, path: list[str], value: Any) -> None:
    for part in path[:-1]:
        holder = holder.setdefault(part, {})
    if value is GONE:
        holder.pop(path[-1], None)
    else:
        holder[path[-1]] = value


def _refused(kind: str, *rows: tuple[Changes, str]) -> list[Case]:
    return [Case(kind, words, first) for first, words in rows]


def _fixed(kind: str, *rows: tuple[Changes, Changes, str]) -> list[Case]:
    return [Case(kind, words, first, then) for first, then, words in rows]


def _taken(kind: str, *rows: Changes) -> list[Case]:
    return [Case(kind, "taken", first) for first in rows]


def _changed(kind: str, *rows: tuple[Changes, Changes]) -> list[Case]:
    return [Case(kind, "taken", first, then) for first, then in rows]


OWN: Changes = {}
LATEST = {"vaultRef": {"name": "v"}, "resource": {"name": "c"}}
CLASS: Changes = {"storage": GONE, "className": "gold"}
KEY: Changes = {"encryption": {"keySecretRef": {"name": "vault-key"}}}
ALL_HOURS = list(range(24))

IN_PLACE = {"target": {"original": {}}}

BAD = [
    *_refused(
        "Task",
        ({"type": "Dance"}, 'supported values: "Backup"'),
        ({"object.name": "Not a name"}, "should match"),
    ),
    *_refused(
        "VaultClass",
        ({"storage": {}}, "set exactly one of s3 and persistentVolumeClaim"),
        (
            {"storage.persistentVolumeClaim": {"claimName": "nas"}},
            "set exactly one of s3 and persistentVolumeClaim",
        ),
        ({"storage": GONE}, "spec.storage: Required value"),
        ({"trashDays": -1}, "spec.trashDays"),
        ({"massDeletion": {"percent": 0}}, "spec.massDeletion.percent"),
        ({"objectLock": {"mode": "Governance"}}, "spec.objectLock.days: Required value"),
        ({"adoption": "Always"}, 'supported values: "Never"'),
        ({"defaults": {"capacity": "9Gi"}}, "capacity must be between 10Gi and 10485760Gi"),
    ),
    *_fixed(
        "VaultClass",
        ({}, {"storage.s3.bucket": "other"}, "the bucket cannot be changed"),
        ({}, {"storage.s3.prefix": "b"}, "the prefix cannot be changed"),
        (
            {"storage": {"persistentVolumeClaim": {"claimName": "nas"}}},
            {"storage.persistentVolumeClaim.claimName": "other"},
            "the claim cannot be changed",
        ),
        ({}, KEY, "spec.encryption cannot be added or removed"),
        (KEY, {"encryption": GONE}, "spec.encryption cannot be added or removed"),
    ),
    *_refused(
        "Vault",
        ({"type": "Tape"}, 'supported values: "Disk"'),
        ({"capacity": GONE}, "set spec.capacity: with storage of its own"),
        ({"capacity": "9Gi"}, "between 10Gi and 10485760Gi"),
        ({"capacity": "10485761Gi"}, "between 10Gi and 10485760Gi"),
        ({"capacity": "much"}, "spec.capacity"),
        ({"capacity": "-5Gi"}, "spec.capacity"),
        ({"className": "gold"}, "set spec.className or spec.storage, not both"),
        ({"storage": {}}, "spec.storage.s3: Required value"),
        ({"storage.s3.endpoint": "ftp://x"}, "spec.storage.s3.endpoint"),
        ({"storage.s3.endpoint": "https://user:word@x"}, "spec.storage.s3.endpoint"),
        ({"storage.s3.bucket": "a/b"}, "spec.storage.s3.bucket"),
        (
            {"storage.s3.credentialsSecretRef": {"name": "Not A Name"}},
            "spec.storage.s3.credentialsSecretRef.name",
        ),
        ({"storage.s3.addressing": "any"}, 'supported values: "auto"'),
        ({"tags": {f"k{i}": "v" for i in range(11)}}, "spec.tags"),
        ({"tags": {"k" * 37: "v"}}, "keys of spec.tags have 1 to 36"),
        ({"tags": {"": "v"}}, "keys of spec.tags have 1 to 36"),
        ({"tags": {"a b": "v"}}, "keys of spec.tags have 1 to 36"),
        ({"tags": {"k": "v" * 44}}, "spec.tags.k"),
        ({"tags": {"k": "a.b"}}, "spec.tags.k"),
        (
            {"resources": [{"kind": "StatefulSet", "name": "db"}]},
            "type Disk takes PersistentVolumeClaims only",
        ),
        (
            {"type": "FileSystem", "resources": [{"kind": "Pod", "name": "db"}]},
            "type FileSystem takes PersistentVolumeClaims only",
        ),
        (
            {"type": "Server", "resources": [{"kind": "PersistentVolumeClaim", "name": "db"}]},
            "type Server takes workloads only",
        ),
        (
            {"resources": [{"kind": "PersistentVolumeClaim", "name": f"c{i}"} for i in range(257)]},
            "spec.resources",
        ),
        ({"deletionPolicy": "Keep"}, 'supported values: "Retain"'),
        ({"limits": {"concurrentBackups": 0}}, "spec.limits.concurrentBackups"),
        ({"limits": {"bandwidth": "0Mi"}}, "spec.limits.bandwidth"),
        ({"limits": {"bandwidth": "200"}}, "spec.limits.bandwidth"),
    ),
    *_fixed(
        "Vault",
        (OWN, {"type": "Server"}, "spec.type cannot be changed"),
        (OWN, {"capacity": "99Gi"}, "spec.capacity can only grow"),
        (CLASS, {"capacity": GONE}, "spec.capacity cannot be removed"),
        (OWN, {"capacity": "100.5Gi"}, "by at least 1Gi"),
        (OWN, {"storage.s3.bucket": "other"}, "the bucket cannot be changed"),
        (OWN, {"storage.s3.prefix": "b"}, "the prefix cannot be changed"),
        (OWN, {"storage.s3.prefix": GONE}, "the prefix cannot be changed"),
        (OWN, {"storage": GONE}, "spec.storage cannot be added or removed"),
        (CLASS, {"adopt": "s3://b/n/v-01234567"}, "spec.adopt cannot be changed"),
        (OWN, KEY, "spec.encryption cannot be added or removed"),
        (KEY, {"encryption": GONE}, "spec.encryption cannot be added or removed"),
        (CLASS, {"className": "silver"}, "spec.className cannot be changed"),
        (CLASS, {"className": GONE}, "spec.className cannot be changed"),
        ({"storage": GONE}, {"className": "gold"}, "spec.className cannot be changed"),
    ),
    *_refused(
        "BackupPolicy",
        ({"schedule": {}}, "set exactly one of hours and every"),
        ({"schedule.every": "1h"}, "set exactly one of hours and every"),
        ({"schedule.hours": []}, "spec.schedule.hours"),
        ({"schedule.hours": [24]}, "spec.schedule.hours"),
        ({"schedule.minute": 60}, "spec.schedule.minute"),
        ({"schedule.weekDays": ["Monday"], "schedule.everyDays": 2}, "set weekDays or everyDays, not both"),
        ({"schedule.weekDays": ["Moonday"]}, 'supported values: "Monday"'),
        ({"schedule.everyDays": 0}, "spec.schedule.everyDays"),
        ({"schedule.everyDays": 31}, "spec.schedule.everyDays"),
        ({"schedule": {"every": "1h", "everyDays": 2}}, "weekDays and everyDays go with hours"),
        ({"schedule": {"every": "1h", "minute": 5}}, "minute goes with hours"),
        ({"schedule": {"every": "4m"}}, "every must be between 5m and 24h"),
        ({"schedule": {"every": "25h"}}, "every must be between 5m and 24h"),
        ({"schedule": {"every": "1d"}}, "spec.schedule.every"),
        ({"schedule.spread": "25h"}, "spread must not be longer"),
        ({"schedule": {"every": "15m", "spread": "20m"}}, "spread must not be longer"),
        ({"retention": {}}, "set exactly one of days, months, count, permanent and keep"),
        ({"retention.days": 30}, "set exactly one of days, months, count, permanent and keep"),
        ({"retention": {"days": 1}}, "spec.retention.days"),
        ({"retention": {"days": 100000}}, "spec.retention.days"),
        ({"retention": {"count": 1}}, "spec.retention.count"),
        ({"retention": {"months": 2}}, "spec.retention.months"),
        ({"retention": {"permanent": False}}, "permanent can only be true"),
        ({"retention": {"keep": {}}}, "set at least one of last, hourly"),
        ({"retention": {"keep": {"last": 0, "daily": 0}}}, "set at least one of last, hourly"),
        ({"verification": {"everyDays": 7, "sample": "101%"}}, "spec.verification.sample"),
        (
            {"verification": {"everyDays": 7, "drill": {"check": "Command"}}},
            "command goes with check: Command",
        ),
        (
            {"verification": {"everyDays": 7, "drill": {"command": ["true"]}}},
            "command goes with check: Command",
        ),
    ),
    *_refused(
        "Backup",
        ({"vaultRef": GONE}, "spec.vaultRef: Required value"),
        ({"resource": GONE}, "set exactly one of spec.resource and spec.sharedFrom"),
        (
            {"sharedFrom": {"namespace": "a", "name": "b"}},
            "set exactly one of spec.resource and spec.sharedFrom",
        ),
        ({"resource.name": GONE}, "spec.resource.name: Required value"),
        ({"resource.name": "../secret"}, "spec.resource.name"),
        ({"resource.kind": "Secret"}, 'supported values: "PersistentVolumeClaim"'),
        ({"description": "d" * 256}, "spec.description"),
        ({"sharedWith": [f"n{i}" for i in range(11)]}, "spec.sharedWith"),
        ({"startDeadlineSeconds": 86401}, "spec.startDeadlineSeconds"),
    ),
    *_fixed(
        "Backup",
        ({}, {"vaultRef.name": "other"}, "spec.vaultRef cannot be changed"),
        ({}, {"resource.name": "other"}, "spec.resource cannot be changed"),
        ({}, {"full": True}, "spec.full cannot be changed"),
        ({}, {"startDeadlineSeconds": 5}, "spec.startDeadlineSeconds cannot be changed"),
        ({"cancel": True}, {"cancel": False}, "a cancelled Backup stays cancelled"),
        (
            {"resource": GONE, "sharedFrom": {"namespace": "a", "name": "b"}},
            {"sharedFrom.name": "c"},
            "spec.sharedFrom cannot be changed",
        ),
    ),
    *_refused(
        "Restore",
        ({"backupRef": GONE}, "set exactly one of spec.backupRef and spec.latestOf"),
        (
            {"latestOf": LATEST},
            "set exactly one of spec.backupRef and spec.latestOf",
        ),
        ({"ifNone": "Empty"}, "spec.ifNone goes with spec.latestOf only"),
        ({"target": {}}, "set exactly one of newClaim, original, populate and workload"),
        ({"target.populate": {}}, "set exactly one of newClaim, original, populate and workload"),
        ({"target.newClaim.name": "No_Name"}, "spec.target.newClaim.name"),
        ({"target.newClaim.size": "big"}, "spec.target.newClaim.size"),
        ({"target.newClaim.accessModes": ["Exclusive"]}, 'supported values: "ReadWriteOnce"'),
        (
            {"target": {"original": {}}, "rollback": True, "confirm": True},
            "set spec.rollback or spec.confirm, not both",
        ),
        ({"confirm": True}, "go with spec.target.original only"),
        ({"rollbackWindow": "1h"}, "go with spec.target.original only"),
        ({"rollbackWindow": "1 day"}, "spec.rollbackWindow"),
    ),
    *_fixed(
        "Restore",
        ({}, {"backupRef.name": "two"}, "spec.backupRef cannot be changed"),
        ({}, {"target.newClaim.size": "20Gi"}, "spec.target cannot be changed"),
        ({}, {"startDeadlineSeconds": 5}, "spec.startDeadlineSeconds cannot be changed"),
        ({"cancel": True}, {"cancel": GONE}, "a cancelled Restore stays cancelled"),
        ({**IN_PLACE, "rollback": True}, {"rollback": GONE}, "a Restore that is rolled back stays so"),
        ({**IN_PLACE, "confirm": True}, {"confirm": GONE}, "a Restore that is confirmed stays so"),
        (
            {"backupRef": GONE, "latestOf": LATEST},
            {"latestOf.resource.name": "d"},
            "spec.latestOf cannot be changed",
        ),
    ),
]

BAD += [
    Case("BackupPolicy", "Duplicate value", {"schedule.hours": [3, 3]}, server_only=True),
    Case("BackupPolicy", "Duplicate value", {"schedule.weekDays": ["Monday", "Monday"]}, server_only=True),
    Case(
        "Vault",
        "Duplicate value",
        {"resources": [{"kind": "PersistentVolumeClaim", "name": "a"}] * 2},
        server_only=True,
    ),
    Case(
        "Restore",
        "spec.latestOf.before",
        {"backupRef": GONE, "latestOf": {**LATEST, "before": "noon"}},
        server_only=True,
    ),
]

TAKEN = [
    *_taken("Task", {}, {"vaultRef": {"name": "disks"}, "slot": "2026-11-23T02:00:00Z", "trigger": "Policy"}),
    *_taken(
        "VaultClass",
        {},
        {"storage": {"persistentVolumeClaim": {"claimName": "nas", "path": "backups"}}},
        {
            "encryption": {"keySecretRef": {"name": "key"}},
            "adoption": "SameNamespace",
            "objectLock": {"mode": "Governance", "days": 30},
            "trashDays": 7,
            "massDeletion": {"percent": 30, "minutes": 10},
            "mover": {
                "resources": {"requests": {"memory": "1Gi"}},
                "tolerations": [{"key": "backup", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "nodeSelector": {"disk": "fast"},
                "priorityClassName": "low",
                "labels": {"a": "b"},
                "imagePullSecrets": [{"name": "pull"}],
            },
            "limits": {"bandwidth": "200Mi", "concurrentBackups": 4, "resources": 256},
            "defaults": {"capacity": "1Ti", "policyRef": {"name": "nightly"}, "deletionPolicy": "Retain"},
        },
    ),
    *_changed("VaultClass", ({}, {"storage.s3.endpoint": "https://new.example.com:9000"})),
    *_taken(
        "Vault",
        {},
        {"capacity": "10Gi"},
        {"capacity": "10485760Gi"},
        {"storage": GONE},
        CLASS,
        CLASS | {"capacity": GONE},
        {"storage.s3.endpoint": GONE},
        {"tags": {f"team-{i}": "a_B-9" for i in range(10)}},
        {"tags": {"k" * 36: "v" * 43, "empty": ""}},
        {
            "resources": [{"kind": "PersistentVolumeClaim", "name": f"c{i}"} for i in range(256)],
            "resourceSelector": {"matchLabels": {"backup": "true"}},
            "policyRef": {"name": "nightly"},
            "dissociation": "Retain",
            "adopt": "s3://backups/a",
        },
        {
            "type": "Server",
            "resources": [
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "excludeVolumes": ["tmp"]}
            ],
        },
    ),
    *_changed(
        "Vault",
        (OWN, {"capacity": "101Gi"}),
        (CLASS | {"capacity": GONE}, {"capacity": "20Gi"}),
        (OWN, {"capacity": "1Ti", "tags": {"a": "b"}}),
        (OWN, {"capacity": "102400Mi"}),
        (OWN, {"storage.s3.endpoint": "https://new.example.com", "storage.s3.region": "eu"}),
        (OWN, {"storage.s3.credentialsSecretRef": {"name": "rotated"}}),
        (KEY, {"encryption.keySecretRef.name": "rotated"}),
    ),
    *_taken(
        "BackupPolicy",
        {},
        {"schedule.hours": ALL_HOURS, "schedule.minute": 59, "schedule.spread": "20m"},
        {"schedule.weekDays": ["Monday", "Friday"], "schedule.timeZone": "Europe/Berlin"},
        {"schedule.everyDays": 30, "enabled": False, "fullEveryDays": 30},
        {"schedule": {"every": "5m", "spread": "5m"}},
        {"schedule": {"every": "24h"}},
        {"retention": {"days": 99999}},
        {"retention": {"months": 12}},
        {"retention": {"permanent": True}},
        {"retention": {"keep": {"daily": 7, "monthly": 12}}},
        {
            "verification": {
                "everyDays": 7,
                "sample": "5%",
                "drill": {"check": "Command", "command": ["true"]},
            }
        },
    ),
    *_changed("BackupPolicy", ({}, {"schedule": {"every": "15m"}, "retention": {"days": 180}})),
    *_taken(
        "Backup",
        {},
        {"full": True, "description": "d" * 255, "startDeadlineSeconds": 0},
        {"resource": GONE, "sharedFrom": {"namespace": "a", "name": "b"}},
    ),
    *_changed(
        "Backup",
        ({}, {"cancel": True}),
        ({}, {"description": "why", "sharedWith": ["team-b"]}),
        ({"description": "why", "sharedWith": ["team-b"]}, {"description": GONE, "sharedWith": GONE}),
    ),
    *_taken(
        "Restore",
        {},
        {
            "target.newClaim": {
                "name": "copy",
                "storageClassName": "fast",
                "size": "20Gi",
                "accessModes": ["ReadWriteOnce"],
                "volumeMode": "Block",
            }
        },
        {"target": {"original": {"stopWorkload": True}}, "rollbackWindow": "24h"},
        {"target": {"populate": {}}},
        {"target": {"workload": {"volumes": [{"source": "data", "claim": "other"}]}}},
        {
            "backupRef": GONE,
            "ifNone": "Empty",
            "latestOf": {**LATEST, "before": "2026-11-23T12:00:00Z"},
        },
    ),
    *_changed(
        "Restore", ({}, {"cancel": True}), (IN_PLACE, {"rollback": True}), (IN_PLACE, {"confirm": True})
    ),
]
