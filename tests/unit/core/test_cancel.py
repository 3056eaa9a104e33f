"""Cancelling at any step (F3): nothing but the object is left, and what is done already stays done."""

from __future__ import annotations

from typing import Any

import pytest

from blockvault.api import Backup, Restore
from blockvault.core.plan_backup import Action, decide_backup
from blockvault.core.plan_restore import decide_restore
from blockvault.core.restore_model import RestoreView

from . import world
from .backups import MOVED, STEPS, clean, ended_view, ready_view
from .world import NOW

CANCELLED = Backup.model_validate(world.backup_object(cancel=True))


@pytest.mark.parametrize(("there", "_action"), STEPS)
def test_f3_it_is_cancelled_at_any_step(there: dict[str, Any], _action: Action | None) -> None:
    decision = decide_backup(ready_view(backup=CANCELLED, **there))
    assert decision.outcome is not None
    assert (decision.outcome.succeeded, decision.outcome.reason, decision.action) == (
        False,
        "Cancelled",
        None,
    )


def test_f3_what_a_stopped_mover_may_have_committed_is_forgotten_before_its_secret_goes() -> None:
    view = ended_view("Failed", cancel=True, **MOVED, job=world.job(), pods=[world.pod()])
    done = clean(view, keep_snapshot=False, keep_job=True)
    assert done[:4] == [Action.DELETE_JOB, Action.DELETE_PODS, Action.DELETE_CLONE, Action.FORGET_STORED]
    assert Action.DELETE_SECRET not in done
    # One that had succeeded before is deleted as any other: into the trash, not for good.
    done = clean(ended_view("Succeeded", cancel=True, **MOVED), keep_snapshot=False, keep_job=False)
    assert Action.FORGET_STORED not in done
    # Where no mover was, nothing can have been stored.
    assert Action.FORGET_STORED not in clean(
        ended_view("Failed", cancel=True), keep_snapshot=False, keep_job=True
    )


@pytest.mark.parametrize(
    ("report", "reason"), [(world.GOOD, "Completed"), (world.BAD, "Cancelled"), (None, "Cancelled")]
)
def test_f3_a_mover_that_has_said_that_it_is_done_is_not_cancelled(report: Any, reason: str) -> None:
    pods = [world.pod("Succeeded", report)] if report else []
    decision = decide_backup(ready_view(backup=CANCELLED, **MOVED, job=world.job("Complete"), pods=pods))
    assert decision.outcome is not None
    assert decision.outcome.reason == reason


def restoring(outcome: str | None = None) -> RestoreView:
    body = world.restore_object()
    body["spec"]["cancel"] = True
    if outcome:
        body["status"] = {
            "phase": "Restoring",
            "operation": {"outcome": outcome, "reason": "R", "message": "m"},
        }
    backup, vault = world.available_backup(), world.vault()
    return RestoreView(
        now=NOW, calendar=NOW, restore=Restore.model_validate(body), backup=backup, vault=vault
    )


def test_f3_a_restore_is_cancelled_until_it_is_written() -> None:
    decision = decide_restore(restoring())
    assert decision.outcome is not None
    assert (decision.outcome.succeeded, decision.outcome.reason) == (False, "Cancelled")
    # After that, handing over goes on to its end: half of it would leave a claim without a volume.
    assert decide_restore(restoring("Succeeded")).reason != "Cancelled"
    assert decide_restore(restoring("Failed")).phase == "Error"
