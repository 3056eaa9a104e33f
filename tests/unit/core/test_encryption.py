"""An encrypted volume gets an encrypted backup, or a refusal that says what to do (C9)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from blockvault.core.encryption import check_encryption, encrypted_at_source
from blockvault.core.plan_backup import decide_backup

from . import backups, world


def storage_class(labels: dict[str, str] | None = None, **parameters: str) -> dict[str, Any]:
    return {"metadata": {"name": "fast", "labels": labels or {}}, "parameters": parameters}


@pytest.mark.parametrize(
    ("found", "encrypted"),
    [
        (None, False),
        (storage_class(), False),
        (storage_class(type="gp3", encrypted="true"), True),
        (storage_class(encrypted="True"), True),
        (storage_class(encrypted="false", kmsKeyId=""), False),
        (storage_class(kmsKeyId="arn:aws:kms:1"), True),
        (storage_class(**{"disk-encryption-kms-key": "projects/p/k"}), True),
        (storage_class(diskEncryptionSetID="/subscriptions/1"), True),
        (storage_class(secure="true"), True),
        (storage_class({"blockvault.dev/encrypted": "true"}), True),
        (storage_class({"blockvault.dev/encrypted": "false"}, encrypted="true"), False),
        (storage_class({"blockvault.dev/encrypted": "maybe"}, encrypted="true"), True),
    ],
)
def test_c9_what_a_class_says_of_encryption(found: dict[str, Any] | None, encrypted: bool) -> None:
    assert encrypted_at_source(found) is encrypted


@pytest.mark.parametrize(("vault_encrypted", "refused"), [(True, False), (False, True), (None, True)])
def test_c9_only_an_encrypted_vault_takes_it(vault_encrypted: bool | None, refused: bool) -> None:
    vault = world.vault(encrypted=vault_encrypted)
    problem = check_encryption("db", storage_class(encrypted="true"), vault)
    assert (problem is not None) is refused
    assert check_encryption("db", storage_class(), vault) is None


def volume(by_class: bool = True, name: str | None = "fast", **attributes: str) -> dict[str, Any]:
    notes = {"pv.kubernetes.io/provisioned-by": "csi.example.com"} if by_class else {}
    csi = {"driver": "csi.example.com", "volumeHandle": "h", "volumeAttributes": attributes}
    return {
        "metadata": {"name": "pv-db", "annotations": notes},
        "spec": {"csi": csi, "claimRef": {"uid": "c-1"}} | ({"storageClassName": name} if name else {}),
    }


@pytest.mark.parametrize(
    ("found", "of", "reason"),
    [
        # The volume itself says so, whatever became of its class.
        (None, volume(encrypted="true"), "EncryptionNeeded"),
        (None, volume(by_class=False, name=None, kmsKeyId="arn:aws:kms:1"), "EncryptionNeeded"),
        (storage_class(), volume(encrypted="true"), "EncryptionNeeded"),
        (storage_class(encrypted="false"), volume(encrypted="true"), "EncryptionNeeded"),
        (storage_class({"blockvault.dev/encrypted": "false"}), volume(encrypted="true"), None),
        # Nobody can tell any more.
        (None, volume(), "EncryptionUnknown"),
        (None, volume(fsName="x"), "EncryptionUnknown"),
        (None, volume(encrypted="false"), None),
        # Made by hand: the class need not be there, and had no say.
        (None, volume(by_class=False), None),
        (None, volume(name=None), None),
        (storage_class(), volume(), None),
        (None, None, None),
    ],
)
def test_c9_a_class_that_is_gone_lets_no_encrypted_volume_through(
    found: dict[str, Any] | None, of: dict[str, Any] | None, reason: str | None
) -> None:
    problem = check_encryption("db", found, world.vault(encrypted=False), of)
    assert (problem.reason if problem else None) == reason
    assert check_encryption("db", found, world.vault(encrypted=True), of) is None


def test_c9_a_backup_is_refused_before_its_snapshot() -> None:
    view = dataclasses.replace(backups.ready_view(), storage_class=storage_class(encrypted="true"))
    decision = decide_backup(view)
    assert decision.outcome is not None
    assert decision.outcome.reason == "EncryptionNeeded"
    assert all(
        word in decision.outcome.message for word in ("db", "fast", "disks", "blockvault.dev/encrypted")
    )


def test_c9_a_backup_of_a_volume_whose_class_is_gone_says_what_to_do() -> None:
    view = dataclasses.replace(backups.ready_view(), storage_class=None, volume=volume())
    decision = decide_backup(view)
    assert decision.outcome is not None
    assert decision.outcome.reason == "EncryptionUnknown"
    assert all(
        word in decision.outcome.message for word in ("db", "fast", "disks", "blockvault.dev/encrypted")
    )
