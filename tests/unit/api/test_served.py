"""What is not served yet is named, with the field, and never passed over; what is harmless is not refused."""

from __future__ import annotations

from typing import Any

import pytest

from blockvault.api import Backup, Restore, Vault, VaultClass, not_served
from tests.unit.api.definitions import GONE, Case

MODELS = {"VaultClass": VaultClass, "Vault": Vault, "Backup": Backup, "Restore": Restore}

# What is acted upon, or recorded and said in a condition, by path of the spec.
SERVED = {
    "VaultClass": {
        "storage", "encryption", "trashDays", "mover", "adoption", "massDeletion", "defaults", "objectLock", "limits",
    },
    "Vault": {
        "type", "capacity", "className", "storage", "encryption", "adopt", "deletionPolicy", "tags",
        "policyRef", "resources", "resourceSelector", "dissociation", "limits",
    },
    "Backup": {"vaultRef", "resource", "full", "description", "startDeadlineSeconds", "cancel"},
    "Restore": {"backupRef", "target", "startDeadlineSeconds", "cancel", "rollback", "confirm", "rollbackWindow", "latestOf", "ifNone"},
}  # fmt: skip
IN_A_CONDITION: dict[str, set[str]] = {}

LATEST = {"vaultRef": {"name": "v"}, "resource": {"name": "c"}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "VaultClass",
        {"storage": {"persistentVolumeClaim": {"claimName": "nas"}}},
        "spec.storage.persistentVolumeClaim",
    ),
    ("Vault", {"type": "Server"}, "spec.type"),
    ("Vault", {"type": "FileSystem"}, "spec.type"),
    ("Backup", {"resource": GONE, "sharedFrom": {"namespace": "a", "name": "b"}}, "spec.sharedFrom"),
    ("Backup", {"sharedWith": ["team-b"]}, "spec.sharedWith"),
    ("Backup", {"resource.kind": "StatefulSet"}, "spec.resource.kind"),
    ("Restore", {"target": {"workload": {}}}, "spec.target.workload"),
]

HARMLESS: list[tuple[str, dict[str, Any]]] = [
    ("VaultClass", {}),
    ("VaultClass", {"defaults": {"capacity": "1Ti", "policyRef": {"name": "nightly"}}}),
    ("VaultClass", {"adoption": "Any", "trashDays": 0}),
    ("VaultClass", {"massDeletion": {"percent": 50}}),
    ("VaultClass", {"trashDays": 7, "mover": {"nodeSelector": {"a": "b"}}}),
    ("VaultClass", {"encryption": {"keySecretRef": {"name": "k"}}}),
    ("Vault", {"encryption": {"keySecretRef": {"name": "k"}}}),
    ("Vault", {}),
    ("Vault", {"deletionPolicy": "Retain", "tags": {"team": "shop"}, "dissociation": "Delete"}),
    ("Vault", {"policyRef": {"name": "nightly"}, "resourceSelector": {"matchLabels": {"a": "b"}}}),
    ("Vault", {"resources": [{"kind": "PersistentVolumeClaim", "name": "c"}]}),
    ("Vault", {"limits": {"concurrentBackups": 4, "resources": 10, "bandwidth": "200Mi"}}),
    ("VaultClass", {"limits": {"concurrentBackups": 4, "resources": 10, "bandwidth": "200Mi"}}),
    ("VaultClass", {"objectLock": {"mode": "Governance", "days": 30}}),
    ("Backup", {}),
    ("Backup", {"full": True, "description": "why", "startDeadlineSeconds": 5, "cancel": True}),
    ("Backup", {"sharedWith": []}),
    ("Restore", {}),
    ("Restore", {"backupRef": GONE, "latestOf": LATEST, "ifNone": "Empty", "target": {"populate": {}}}),
    ("Restore", {"cancel": True, "rollback": False, "confirm": False}),
    ("Restore", {"target": {"original": {"stopWorkload": True}}, "rollback": True, "rollbackWindow": "1h"}),
]


def refused(kind: str, changes: dict[str, Any]) -> list[str]:
    given = Case(kind, "", changes).given
    given["metadata"]["creationTimestamp"] = "2026-11-23T12:00:00Z"
    answers = not_served(MODELS[kind].model_validate(given))
    assert all(answer.reason.endswith(".") and answer.remedy for answer in answers)
    return [answer.field for answer in answers]


@pytest.mark.parametrize(("kind", "changes", "field"), REFUSED)
def test_what_is_not_served_is_named(kind: str, changes: dict[str, Any], field: str) -> None:
    assert field in refused(kind, changes)


@pytest.mark.parametrize(("kind", "changes"), HARMLESS)
def test_what_is_served_or_harmless_is_not_refused(kind: str, changes: dict[str, Any]) -> None:
    assert refused(kind, changes) == []


@pytest.mark.parametrize("kind", MODELS)
def test_every_field_is_served_refused_or_said_in_a_condition(kind: str) -> None:
    """A field added to the models and to nothing else is found here."""
    spec = MODELS[kind].model_fields["spec"].annotation
    assert spec is not None
    known = SERVED[kind] | IN_A_CONDITION.get(kind, set())
    known |= {field.split(".")[1] for of, _, field in REFUSED if of == kind}
    assert {str(field.alias) for field in spec.model_fields.values()} == known
