"""Figures: what is set stays until removed, what is observed adds up, from any thread."""

from __future__ import annotations

import threading

import pytest

from blockvault.metrics import Figures
from blockvault.metrics.shapes import ClaimFigures, VaultFigures

PLACE = ("shop", "disks")
BACKUP = {
    "type": "incremental",
    "bytesScanned": 1000,
    "bytesChanged": 300,
    "bytesStored": 100,
    "requests": 12,
    "seconds": 7.5,
}


def test_a_vault_made_again_replaces_the_one_before() -> None:
    figures = Figures()
    figures.set_vault(VaultFigures(*PLACE, "uid-1", "Available", used_bytes=5))
    figures.set_vault(VaultFigures(*PLACE, "uid-2", "Pending"))
    figures.remove_vault(*PLACE, "uid-1")  # the event of the former one comes late
    assert [(vault.uid, vault.used_bytes) for vault in figures.snapshot().vaults] == [("uid-2", None)]


def test_removing_twice_is_the_same_as_once() -> None:
    figures = Figures()
    figures.set_vault(VaultFigures(*PLACE, "uid-1", "Available", used_bytes=5))
    figures.set_backup("b-1", "shop", "Available")
    for _ in range(2):
        figures.remove_vault(*PLACE, "uid-1")
        figures.remove_backup("b-1")
    assert figures.snapshot().vaults == []
    assert figures.snapshot().backups == {}


def test_what_is_of_a_vault_goes_with_it() -> None:
    figures = Figures()
    figures.set_vault(VaultFigures(*PLACE, "uid-1", "Available"))
    figures.set_claims(*PLACE, [ClaimFigures("db", 1.0, 2.0)])
    figures.observe_backup(PLACE, BACKUP, "failed")
    figures.remove_vault(*PLACE, "uid-1")
    now = figures.snapshot()
    assert (now.claims, now.flows) == ({}, {})


def test_a_backup_is_counted_in_its_last_phase_only() -> None:
    figures = Figures()
    figures.set_backup("b-1", "shop", "Pending")
    figures.set_backup("b-1", "shop", "Available")
    figures.set_backup("b-2", "shop", "Available")
    assert figures.snapshot().backups == {("shop", "Available"): 2}


def test_runs_add_up() -> None:
    figures = Figures()
    figures.observe_backup(PLACE, BACKUP, "succeeded")
    figures.observe_backup(PLACE, BACKUP, "succeeded")
    figures.observe_restore("shop", {"bytesWritten": 2000, "seconds": 3}, "succeeded")
    now = figures.snapshot()
    flows = now.flows[PLACE]
    assert flows.runs["succeeded", "incremental"] == 2
    assert list(flows.amounts.values()) == [2000, 600, 200, 24, 0, 0]
    assert now.backup_durations["incremental"].seconds == 15
    assert now.restore_runs == {("shop", "succeeded"): 1, ("shop", "failed"): 0}
    assert (now.restore_written_bytes, now.restore_durations.seconds) == (2000, 3)


def test_a_run_that_reported_nothing_is_counted_without_a_duration() -> None:
    figures = Figures()
    figures.observe_backup(PLACE, {"type": None, "seconds": None}, "failed")
    figures.observe_restore("shop", {}, "failed")
    now = figures.snapshot()
    assert now.flows[PLACE].runs["failed", "unknown"] == 1
    assert sum(now.backup_durations["unknown"].counts + now.restore_durations.counts) == 0


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "12", None, True])
def test_a_wrong_number_counts_as_nothing(wrong: object) -> None:
    """A counter that fell, or NaN in a sum, would spoil every figure after it."""
    figures = Figures()
    figures.observe_backup(PLACE, {**BACKUP, "bytesStored": wrong}, "succeeded")
    assert figures.snapshot().flows[PLACE].amounts["bytesStored"] == 0


def test_labels_are_bounded_by_known_types() -> None:
    figures = Figures()
    figures.observe_backup(PLACE, {**BACKUP, "type": "surprise"}, "succeeded")
    figures.observe_backup(PLACE, {**BACKUP, "type": ["a", "list"]}, "succeeded")
    assert figures.snapshot().flows[PLACE].runs["succeeded", "unknown"] == 2


def test_f1_what_told_the_changed_blocks_is_counted_with_its_reason() -> None:
    figures = Figures()
    figures.observe_backup(PLACE, {**BACKUP, "changedBlockSource": "SnapshotMetadata"}, "succeeded")
    figures.observe_backup(
        PLACE, {**BACKUP, "changedBlockSource": "Compare", "changedBlockReason": "BaseGone"}, "succeeded"
    )
    for wrong in ("surprise", ["a", "list"]):
        figures.observe_backup(
            PLACE, {**BACKUP, "changedBlockSource": "Compare", "changedBlockReason": wrong}, "succeeded"
        )
        figures.observe_backup(PLACE, {**BACKUP, "changedBlockSource": wrong}, "succeeded")
    figures.observe_backup(PLACE, {}, "failed")
    counted = {key: count for key, count in figures.snapshot().changed_blocks.items() if count}
    assert counted == {("SnapshotMetadata", ""): 1, ("Compare", "BaseGone"): 1, ("Compare", "other"): 2}


def test_a_snapshot_does_not_change_afterwards() -> None:
    figures = Figures()
    figures.set_vault(VaultFigures(*PLACE, "uid-1", "Available"))
    figures.observe_steps("Backup", {"Moving": 1})
    before = figures.snapshot()
    figures.observe_steps("Backup", {"Moving": 1})
    figures.observe_upkeep({"deletedBytes": 3}, "succeeded")
    figures.observe_backup(PLACE, BACKUP, "succeeded")
    figures.observe_restore("shop", {"seconds": 1}, "succeeded")
    figures.observe_reconcile_error("Backup")
    figures.observe_lost_mover()
    assert sum(before.flows[PLACE].runs.values()) == sum(before.restore_runs.values()) == 0
    assert before.steps["Backup", "Moving"].seconds == 1
    assert before.upkeep.deleted_bytes == 0
    assert sum(before.backup_durations["incremental"].counts + before.restore_durations.counts) == 0
    assert before.reconcile_errors == {}
    assert (before.lost_movers, figures.snapshot().lost_movers) == (0, 1)


def test_nothing_is_lost_between_threads() -> None:
    figures = Figures()

    def work() -> None:
        for number in range(500):
            figures.observe_backup(PLACE, BACKUP, "succeeded")
            figures.set_backup(f"b-{number}", "shop", "Available")
            figures.snapshot()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = figures.snapshot()
    assert now.flows[PLACE].runs["succeeded", "incremental"] == 2000
    assert now.flows[PLACE].amounts["bytesStored"] == 2000 * 100
    assert now.backups == {("shop", "Available"): 500}
