"""All about one object."""

from __future__ import annotations

from blockvault.plugin.description import describe

from . import world
from .world import NOW


def test_a_backup_that_failed_says_why_and_what_to_do() -> None:
    backup = world.failed("autobk-3") | {"spec": {"vaultRef": {"name": "disks"}, "description": "nightly",
                                                  "resource": {"kind": "PersistentVolumeClaim", "name": "db-data"}}}  # fmt: skip
    backup["status"] |= {"mover": {"job": "bv-1-1", "attempts": 4, "lastWords": "line one\nline two\n"}}
    assert (
        describe("Backup", backup, NOW)
        == """\
Name:          autobk-3
Kind:          Backup
Namespace:     shop
Claim:         db-data
Vault:         disks
Description:   nightly
Phase:         Error
Reason:        StoreUnreachable
Message:       The store s3://backups does not answer: connection refused.
What to do:    Check the endpoint, network policies between the operator's namespace and it, and its own health. A Backup or Restore that has failed by this is made again by hand or at the next slot.
Type:          Incremental
Asked for by:  Policy nightly
Made:          2026-11-29T02:00:00Z (10 h ago)
Ended:         2026-11-29T09:00:00Z (3 h ago)
Mover:         bv-1-1
Attempts:      4
Last words:    line one
               line two
"""
    )


def test_a_good_backup_has_its_figures() -> None:
    text = describe("Backup", world.backup("autobk-1", expiresAt="2026-12-06T12:00:00Z"), NOW)
    for line in (
        "Size:          10.0 GiB (10737418240 bytes)",
        "Changes by:    Compare (NoService: docs/resources.md)",
        "Expires:       2026-12-06T12:00:00Z (in 7 d)",
        f"Id:            {'autobk-1-id'.ljust(32, '0')}",
    ):
        assert line in text.splitlines()


def test_a_vault_names_its_claims_and_conditions() -> None:
    lines = [
        world.line("db-data"),
        world.line("gone", state="Gone", reason="ClaimGone", message="It is gone."),
    ]
    text = describe("Vault", world.vault(resources=lines, inTrash=2, trashBytes=5), NOW)
    assert "Claims:        db-data: Associated, last backup 9 h ago, next in 13 h" in text
    assert "               gone: Gone, ClaimGone: It is gone." in text
    assert "In the trash:  2, 5 B" in text
    assert "Conditions:    StoreReachable=True CanaryPassed" in text


def test_all_kinds_can_be_described() -> None:
    task = world.task("t", phase="Failed", reason="ClaimExists", remedy="Name another claim.")
    assert "What to do:    Name another claim." in describe("Task", task, NOW)
    assert "Runs:       02:00, 14:00" in describe("BackupPolicy", world.policy(), NOW)
    assert "Target:     in place" in describe("Restore", world.restore(target={"original": {}}), NOW)
    vault_class = world.obj(
        "VaultClass", "standard", {"storage": {"s3": {"bucket": "b"}}, "trashDays": 7}, {}
    )
    assert "Trash:      7 days" in describe("VaultClass", vault_class, NOW)
