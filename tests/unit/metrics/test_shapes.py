"""What of a Vault's status becomes a figure (E2)."""

from __future__ import annotations

from typing import Any

from blockvault.api import Vault
from blockvault.metrics.shapes import vault_figures

MADE = 1_795_867_200.0  # 2026-11-28T12:00:00Z


def vault(deleting: bool = False, **status: Any) -> Vault:
    meta: dict[str, Any] = {
        "name": "disks", "namespace": "shop", "uid": "u", "creationTimestamp": "2026-11-28T12:00:00Z",
    }  # fmt: skip
    if deleting:
        meta["deletionTimestamp"] = "2026-11-29T12:00:00Z"
    spec = {"className": "standard", "capacity": "10Gi"}
    return Vault.model_validate({"metadata": meta, "spec": spec, "status": status or None})


def test_of_a_vault_that_nobody_has_looked_at_next_to_nothing_is_known() -> None:
    found = vault_figures(vault())
    assert (found.phase, found.up, found.used_bytes, found.capacity_bytes) == ("Pending", False, None, None)


def test_e2_the_figures_of_a_status() -> None:
    found = vault_figures(
        vault(
            phase="Available", reason="Available", capacity="20Gi", usedBytes=7, backups=3, trashBytes=2, inTrash=1,
            trash=[
                {"backupId": "b", "volume": "v", "until": "2026-12-02T12:00:00Z"},
                {"backupId": "a", "volume": "v", "until": "2026-12-01T12:00:00Z"},
            ],
            nextRun="2026-11-28T12:01:00Z", associatedBytes=5,
            upkeep={"run": 3, "endedAt": "2026-11-28T12:00:30Z", "reason": "Completed"},
            resources=[
                {"kind": "PersistentVolumeClaim", "name": "a", "state": "Associated"},
                {"kind": "PersistentVolumeClaim", "name": "b", "state": "Refused"},
            ],
        )
    )  # fmt: skip
    assert (found.phase, found.reason, found.up, found.damaged) == ("Available", "Available", True, False)
    assert (found.used_bytes, found.capacity_bytes, found.backups) == (7, 20 * 2**30, 3)
    assert (found.trash_bytes, found.in_trash) == (2, 1)
    assert found.trash_goes == MADE + 3 * 86400  # the one that goes first
    assert (found.next_run, found.tidied, found.tidied_well) == (MADE + 60, MADE + 30, True)
    assert found.resources == {"Associated": 1, "Waiting": 0, "Refused": 1, "Gone": 0}
    assert found.holds == frozenset()


def test_what_waits_for_a_word_is_told() -> None:
    hold = {"token": "t", "since": "2026-11-28T12:00:00Z", "message": "m"}
    odd = {"backup": "b", "token": "t", "reason": "NearlyEmpty", "message": "m"}
    assert vault_figures(vault(deletionHold=hold)).holds == {"Deletion"}
    assert vault_figures(vault(dissociationHold=hold)).holds == {"Dissociation"}
    found = vault_figures(vault(anomalies=[odd, {**odd, "acknowledged": True}]))
    assert (found.holds, found.anomalies) == ({"Expiry"}, 1)
    assert vault_figures(vault(anomalies=[{**odd, "acknowledged": True}])).holds == frozenset()


def test_upkeep_counts_from_when_the_vault_was_made_until_it_has_run() -> None:
    found = vault_figures(vault(upkeep={"run": 1, "startedAt": "2026-11-28T13:00:00Z", "reason": "Running"}))
    assert (found.tidied, found.tidied_well) == (MADE, True)
    failed = {"run": 1, "endedAt": "2026-11-28T12:00:30Z", "reason": "StoreUnreachable"}
    assert not vault_figures(vault(upkeep=failed)).tidied_well


def test_a_reason_that_this_version_does_not_know_is_no_label_of_its_own() -> None:
    assert vault_figures(vault(reason="FromANewerOne")).reason == "Other"
    assert vault_figures(vault(reason="WrongKey")).reason == "WrongKey"


def test_damage_and_deletion() -> None:
    condition = {
        "type": "VolumesReadable",
        "status": "False",
        "reason": "VolumesDamaged",
        "lastTransitionTime": "x",
    }
    assert vault_figures(vault(conditions=[condition])).damaged
    assert vault_figures(vault(deleting=True, phase="Available")).phase == "Deleting"
