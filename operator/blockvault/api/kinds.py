"""The six kinds with what their definitions say besides the fields: CEL rules, columns, names.

Rules have a message that says what to do, since the API server shows it to whoever applies the object.
"""

from __future__ import annotations

from .backup import Backup
from .policy import BackupPolicy, Keep
from .restore import Restore
from .schema import Kind, Schema
from .task import Task
from .vault import Vault
from .vault_class import VaultClass

AGE = ("Age", "date", ".metadata.creationTimestamp", 0)
PHASE = ("Phase", "string", ".status.phase", 0)
MESSAGE = ("Message", "string", ".status.message", 1)


def rule(expression: str, message: str, reason: str = "FieldValueInvalid") -> Schema:
    """A CEL rule."""
    return {"rule": expression, "message": message, "reason": reason}


def fixed(field: str, message: str) -> Schema:
    """A rule on the parent of an optional field that can be neither changed, set nor removed later.

    It stands on the parent, because a transition rule on the field itself never runs when the field goes.
    """
    same = f"!has(self.{field}) || self.{field} == oldSelf.{field}"
    expression = f"has(self.{field}) == has(oldSelf.{field}) && ({same})"
    return rule(expression, message, "FieldValueForbidden")


def exactly_one(*fields: str) -> str:
    """An expression: one of these optional fields is set, and one only."""
    return "[" + ", ".join(f"has(self.{field})" for field in fields) + "].filter(x, x).size() == 1"


def at_most_one(*fields: str) -> str:
    """An expression: no two of these optional fields are set."""
    return "[" + ", ".join(f"has(self.{field})" for field in fields) + "].filter(x, x).size() <= 1"


NEW = "create another object instead."

# Of an S3 store: address and credentials may move, the place in it may not.
PLACE = [
    rule(
        "self.bucket == oldSelf.bucket",
        f"the bucket cannot be changed, since the data lies there: {NEW}",
        "FieldValueForbidden",
    ),
    fixed("prefix", f"the prefix cannot be changed, since the data lies there: {NEW}"),
]

# Keys may change, and lie elsewhere; whether there is one may not.
ENCRYPTED = rule(
    "has(self.encryption) == has(oldSelf.encryption)",
    f"spec.encryption cannot be added or removed, since the data lies there encrypted, or not: {NEW}",
    "FieldValueForbidden",
)

BOUNDED = (
    "(quantity(self.capacity).compareTo(quantity('10Gi')) >= 0 && "
    "quantity(self.capacity).compareTo(quantity('10485760Gi')) <= 0)"
)

VAULT_CLASS = Kind(
    VaultClass,
    "vaultclasses",
    ["bvclass"],
    [
        PHASE,
        ("Bucket", "string", ".spec.storage.s3.bucket", 0),
        ("Endpoint", "string", ".spec.storage.s3.endpoint", 0),
        AGE,
        MESSAGE,
    ],
    rules={
        "spec": [ENCRYPTED],
        "spec.storage": [
            rule(
                exactly_one("s3", "persistentVolumeClaim"), "set exactly one of s3 and persistentVolumeClaim."
            ),
            fixed("persistentVolumeClaim", f"the claim cannot be changed, since vaults lie there: {NEW}"),
        ],
        "spec.storage.s3": PLACE,
        "spec.defaults": [
            rule(f"!has(self.capacity) || {BOUNDED}", "capacity must be between 10Gi and 10485760Gi."),
        ],
    },
    selectable=[".status.phase"],
    namespaced=False,
)  # fmt: skip

VAULT = Kind(
    Vault,
    "vaults",
    ["bvault"],
    [
        PHASE,
        ("Type", "string", ".spec.type", 0),
        ("Capacity", "string", ".status.capacity", 0),
        ("Used%", "string", ".status.utilization", 0),
        ("Backups", "integer", ".status.backups", 0),
        AGE,
        ("Location", "string", ".status.location", 1),
        MESSAGE,
    ],
    [".spec.type", ".spec.className", ".status.phase"],
    {
        "spec": [
            ENCRYPTED,
            rule("self.type == oldSelf.type", f"spec.type cannot be changed: {NEW}", "FieldValueForbidden"),
            rule(
                f"!has(self.capacity) || {BOUNDED}",
                "spec.capacity must be between 10Gi and 10485760Gi.",
            ),
            rule(
                "has(self.capacity) || !has(self.storage)",
                "set spec.capacity: with storage of its own there is no class that has a default.",
            ),
            rule(
                "has(self.capacity) || !has(oldSelf.capacity)",
                "spec.capacity cannot be removed: it can only grow.",
                "FieldValueForbidden",
            ),
            rule(
                "!has(self.capacity) || !has(oldSelf.capacity) || "
                "quantity(self.capacity).compareTo(quantity(oldSelf.capacity)) == 0 || "
                "quantity(self.capacity).sub(quantity('1Gi')).compareTo(quantity(oldSelf.capacity)) >= 0",
                "spec.capacity can only grow, and by at least 1Gi.",
                "FieldValueForbidden",
            ),
            rule(at_most_one("className", "storage"), "set spec.className or spec.storage, not both."),
            fixed("adopt", f"spec.adopt cannot be changed, since the data lies there: {NEW}"),
            fixed(
                "className",
                f"spec.className cannot be changed, since the data lies in the class's store: {NEW}",
            ),
            rule(
                "has(self.storage) == has(oldSelf.storage)",
                f"spec.storage cannot be added or removed, since the data lies there: {NEW}",
                "FieldValueForbidden",
            ),
            rule(
                "self.type != 'Disk' || !has(self.resources) || "
                "self.resources.all(r, r.kind == 'PersistentVolumeClaim')",
                "a vault of type Disk takes PersistentVolumeClaims only.",
            ),
            rule(
                "self.type != 'FileSystem' || !has(self.resources) || "
                "self.resources.all(r, r.kind == 'PersistentVolumeClaim')",
                "a vault of type FileSystem takes PersistentVolumeClaims only.",
            ),
            rule(
                "self.type != 'Server' || !has(self.resources) || "
                "self.resources.all(r, r.kind != 'PersistentVolumeClaim')",
                "a vault of type Server takes workloads only, such as StatefulSets.",
            ),
            rule(
                "!has(self.tags) || self.tags.all(k, k.matches('^[A-Za-z0-9_-]{1,36}$'))",
                "keys of spec.tags have 1 to 36 letters, digits, - and _.",
            ),
        ],
        "spec.storage.s3": PLACE,
    },
)

POLICY = Kind(
    BackupPolicy,
    "backuppolicies",
    ["bvpolicy"],
    [
        PHASE,
        ("Enabled", "boolean", ".spec.enabled", 0),
        ("Next", "string", ".status.nextRuns[0]", 0),
        AGE,
        MESSAGE,
    ],
    [".status.phase"],
    {
        "spec.schedule": [
            rule(exactly_one("hours", "every"), "set exactly one of hours and every."),
            rule(at_most_one("weekDays", "everyDays"), "set weekDays or everyDays, not both."),
            rule(
                "!has(self.every) || !(has(self.weekDays) || has(self.everyDays))",
                "weekDays and everyDays go with hours, not with every.",
            ),
            rule(
                "!has(self.every) || "
                "duration(self.every) >= duration('5m') && duration(self.every) <= duration('24h')",
                "every must be between 5m and 24h.",
            ),
            rule("!has(self.every) || self.minute == 0", "minute goes with hours, not with every."),
            rule(
                "!has(self.spread) || "
                "duration(self.spread) <= duration(has(self.every) ? self.every : '24h')",
                "spread must not be longer than every, nor than 24h.",
            ),
        ],
        "spec.retention": [
            rule(
                exactly_one("days", "months", "count", "permanent", "keep"),
                "set exactly one of days, months, count, permanent and keep.",
            ),
            rule(
                "!has(self.permanent) || self.permanent",
                "permanent can only be true: set another rule instead.",
            ),
        ],
        "spec.retention.keep": [
            # All of them 0 would keep nothing.
            rule(
                " || ".join(f"has(self.{each}) && self.{each} > 0" for each in Keep.model_fields),
                "set at least one of last, hourly, daily, weekly, monthly and yearly to 1 or more.",
            ),
        ],
        "spec.verification.drill": [
            rule(
                "(self.check == 'Command') == has(self.command)",
                "command goes with check: Command, and only with it.",
            ),
        ],
    },
)

BACKUP = Kind(
    Backup,
    "backups",
    ["bvbackup"],
    [
        PHASE,
        ("Claim", "string", ".spec.resource.name", 0),
        ("Type", "string", ".status.type", 0),
        ("Progress%", "integer", ".status.progress.percent", 0),
        ("Stored", "integer", ".status.volumes[0].bytesStored", 0),
        AGE,
        ("Vault", "string", ".spec.vaultRef.name", 1),
        ("Size", "integer", ".status.volumes[0].size", 1),
        MESSAGE,
    ],
    [".spec.vaultRef.name", ".spec.resource.name", ".spec.resource.kind", ".status.phase", ".status.type"],
    {
        "spec": [
            rule(
                exactly_one("resource", "sharedFrom"), "set exactly one of spec.resource and spec.sharedFrom."
            ),
            rule(
                "self.vaultRef == oldSelf.vaultRef",
                f"spec.vaultRef cannot be changed: {NEW}",
                "FieldValueForbidden",
            ),
            fixed("resource", f"spec.resource cannot be changed: {NEW}"),
            fixed("sharedFrom", f"spec.sharedFrom cannot be changed: {NEW}"),
            rule("self.full == oldSelf.full", f"spec.full cannot be changed: {NEW}", "FieldValueForbidden"),
            rule(
                "self.startDeadlineSeconds == oldSelf.startDeadlineSeconds",
                f"spec.startDeadlineSeconds cannot be changed: {NEW}",
                "FieldValueForbidden",
            ),
            rule("!oldSelf.cancel || self.cancel", "a cancelled Backup stays cancelled: create another one."),
        ]
    },
)

RESTORE = Kind(
    Restore,
    "restores",
    ["bvrestore"],
    [
        PHASE,
        ("Backup", "string", ".spec.backupRef.name", 0),
        ("Claim", "string", ".status.claim", 0),
        ("Progress%", "integer", ".status.progress.percent", 0),
        AGE,
        MESSAGE,
    ],
    [".spec.backupRef.name", ".status.phase"],
    {
        "spec": [
            rule(
                exactly_one("backupRef", "latestOf"), "set exactly one of spec.backupRef and spec.latestOf."
            ),
            rule("!has(self.ifNone) || has(self.latestOf)", "spec.ifNone goes with spec.latestOf only."),
            fixed("backupRef", f"spec.backupRef cannot be changed: {NEW}"),
            fixed("latestOf", f"spec.latestOf cannot be changed: {NEW}"),
            rule(
                "self.target == oldSelf.target",
                f"spec.target cannot be changed: {NEW}",
                "FieldValueForbidden",
            ),
            rule(
                "self.startDeadlineSeconds == oldSelf.startDeadlineSeconds",
                f"spec.startDeadlineSeconds cannot be changed: {NEW}",
                "FieldValueForbidden",
            ),
            rule("!(self.rollback && self.confirm)", "set spec.rollback or spec.confirm, not both."),
            rule(
                "has(self.target.original) || !self.rollback && !self.confirm && !has(self.rollbackWindow)",
                "spec.rollback, spec.confirm and spec.rollbackWindow go with spec.target.original only.",
            ),
            rule("!oldSelf.rollback || self.rollback", "a Restore that is rolled back stays so."),
            rule("!oldSelf.confirm || self.confirm", "a Restore that is confirmed stays so."),
            rule(
                "!oldSelf.cancel || self.cancel", "a cancelled Restore stays cancelled: create another one."
            ),
        ],
        "spec.target": [
            rule(
                exactly_one("newClaim", "original", "populate", "workload"),
                "set exactly one of newClaim, original, populate and workload.",
            ),
        ],
    },
)

# Its status is no subresource, so that one write says all of it, its labels too: only the operator writes any of it.
TASK = Kind(
    Task,
    "tasks",
    ["bvtask"],
    [
        ("Type", "string", ".spec.type", 0),
        ("Resource", "string", ".spec.resource.name", 0),
        ("Vault", "string", ".spec.vaultRef.name", 0),
        PHASE,
        ("Progress%", "integer", ".status.progress.percent", 0),
        ("Reason", "string", ".status.reason", 0),
        AGE,
        ("Object", "string", ".spec.object.name", 1),
        ("Ended", "string", ".status.completedAt", 1),
        MESSAGE,
        ("Remedy", "string", ".status.remedy", 1),
    ],
    [
        ".spec.type",
        ".spec.trigger",
        ".spec.vaultRef.name",
        ".spec.resource.name",
        ".spec.object.name",
        ".spec.object.uid",
        ".status.phase",
        ".status.reason",
    ],
    status_apart=False,
)

KINDS = (VAULT_CLASS, VAULT, POLICY, BACKUP, RESTORE, TASK)
