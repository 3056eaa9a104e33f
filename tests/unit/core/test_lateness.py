"""How late a claim's backup is, by its policy (E2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from blockvault.api import AppliedPolicy, Backup, ResourceStatus
from blockvault.core.conditions import timestamp
from blockvault.core.lateness import due_at, is_failing

from .runs import START, policy

HOUR = timedelta(hours=1)


def line(last: timedelta | None = None, state: Any = "Associated") -> ResourceStatus:
    """A claim that the vault holds since START; `last`: when its last backup was safe, after START."""
    at = timestamp(START + last) if last is not None else None
    return ResourceStatus(
        kind="PersistentVolumeClaim", name="db", state=state, since=timestamp(START), last_backup_at=at
    )


APPLIED = AppliedPolicy(name="nightly", state="Applied", message="", schedule_since=timestamp(START))


@pytest.mark.parametrize(
    ("last", "due"),
    [
        (None, 16 * HOUR),  # none yet: the first slot since the vault holds it, at two at night
        (16 * HOUR + HOUR, 40 * HOUR),  # that of the night after
        (20 * HOUR, 40 * HOUR),  # made by hand in between: it counts
        (15 * HOUR, 16 * HOUR),
        (70 * HOUR, 88 * HOUR),  # two slots went by without one
    ],
)
def test_e2_a_backup_is_due_at_the_first_slot_after_the_last_good_one(last: Any, due: timedelta) -> None:
    assert due_at(policy(), APPLIED, line(last)) == START + due


def test_e2_where_resources_are_spread_each_has_its_own_time() -> None:
    spread = policy(hours=[2], spread="2h")
    due = due_at(spread, APPLIED, line())
    assert due is not None
    assert timedelta(0) < due - (START + 16 * HOUR) < 2 * HOUR
    # The backup of that slot was safe a minute later: the next one is a day after.
    assert due_at(spread, APPLIED, line(due - START + timedelta(minutes=1))) == due + 24 * HOUR


@pytest.mark.parametrize("state", ["Disabled", "Waiting", "Refused"])
def test_nothing_is_due_by_a_policy_that_is_not_applied(state: Any) -> None:
    assert due_at(policy(), AppliedPolicy(name="nightly", state=state, message=""), line()) is None
    assert due_at(None, APPLIED, line()) is None
    assert due_at(policy(), None, line()) is None
    assert due_at(policy(), APPLIED, line(state="Gone")) is None


def backup(hours: int, phase: str, reason: str = "Completed") -> Backup:
    at = timestamp(START + timedelta(hours=hours))
    meta = {"name": f"b-{hours}", "namespace": "shop", "uid": f"b-{hours}", "creationTimestamp": at}
    status = {"phase": phase, "reason": reason, "completedAt": at, "trigger": "Manual"}
    spec = {"vaultRef": {"name": "disks"}, "resource": {"kind": "PersistentVolumeClaim", "name": "db"}}
    return Backup.model_validate({"metadata": meta, "spec": spec, "status": status})


def test_the_newest_that_has_ended_says_whether_a_claim_is_failing() -> None:
    good, failed = backup(1, "Available"), backup(2, "Error", "StoreUnreachable")
    assert not is_failing([])
    assert is_failing([failed, good])
    assert not is_failing([failed, backup(3, "Available"), good])
    assert is_failing([failed, backup(3, "Creating", "Moving"), good])  # it may fail as well
    assert not is_failing([good, backup(2, "Error", "Cancelled")])
