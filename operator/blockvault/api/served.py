"""What this version does not serve yet.

A field that nobody acts upon must never be accepted in silence: whoever sets `encryption` and gets a plain
backup has been deceived. So every such field or value that a user has set is named, with the reason and
what to do instead, and the object is refused by a condition.
"""

from __future__ import annotations

from dataclasses import dataclass

from .backup import Backup
from .restore import Restore
from .vault import Vault
from .vault_class import VaultClass


@dataclass(frozen=True)
class NotServed:
    """One field or value that is set and not acted upon."""

    field: str
    reason: str
    remedy: str


LEAVE_OUT = "Leave it out, or wait for a later version."


def not_served(obj: VaultClass | Vault | Backup | Restore) -> list[NotServed]:
    """All that the object asks for and this version does not do; empty when it does everything."""
    if isinstance(obj, VaultClass):
        return _vault_class(obj)
    if isinstance(obj, Vault):
        return _vault(obj)
    if isinstance(obj, Backup):
        return _backup(obj)
    return _restore(obj)


def _found(rows: list[tuple[bool, str, str]]) -> list[NotServed]:
    return [NotServed(field, reason, LEAVE_OUT) for is_set, field, reason in rows if is_set]


def _vault_class(obj: VaultClass) -> list[NotServed]:
    spec = obj.spec
    return _found(
        [
            (spec.storage.persistent_volume_claim is not None, "spec.storage.persistentVolumeClaim",
             "vaults on a shared claim are not served yet."),
        ]
    )  # fmt: skip


def _vault(obj: Vault) -> list[NotServed]:
    spec = obj.spec
    return _found(
        [
            (spec.type != "Disk", "spec.type", f"type {spec.type} is not served yet, only Disk is."),
        ]
    )  # fmt: skip


def _backup(obj: Backup) -> list[NotServed]:
    spec = obj.spec
    kind = spec.resource.kind if spec.resource else ""
    return _found(
        [
            (spec.shared_from is not None, "spec.sharedFrom", "sharing is not served yet."),
            (bool(spec.shared_with), "spec.sharedWith", "sharing is not served yet."),
            (spec.resource is None, "spec.resource", "a Backup without a resource is not served yet."),
            (kind not in ("", "PersistentVolumeClaim"), "spec.resource.kind",
             f"{kind} is not served yet, only PersistentVolumeClaim is."),
        ]
    )  # fmt: skip


def _restore(obj: Restore) -> list[NotServed]:
    spec = obj.spec
    target = spec.target
    return _found(
        [
            (spec.latest_of is not None and spec.latest_of.resource.kind != "PersistentVolumeClaim",
             "spec.latestOf.resource.kind", "only PersistentVolumeClaim is served yet."),
            (target.workload is not None, "spec.target.workload", "restoring workloads is not served yet."),
        ]
    )  # fmt: skip
