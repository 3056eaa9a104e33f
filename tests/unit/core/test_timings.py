"""How long each step took, as the status tells it: across looks, restarts, steps taken twice, and a mover's own words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from blockvault.api.backup import BackupStatus
from blockvault.api.restore import RestoreStatus
from blockvault.core.conditions import micro_timestamp
from blockvault.core.objects import MoverReport
from blockvault.core.reasons import REASONS
from blockvault.core.timings import STEPS, WAITING, mover_began, step_of, timed

from .world import NOW

Object = dict[str, Any]


def at(seconds: float) -> str:
    return micro_timestamp(NOW + timedelta(seconds=seconds))


def look(status: Object, seconds: float, phase: str, reason: str, **more: Any) -> Object:
    """The whole status after one more look, so many seconds after NOW."""
    new = {"phase": phase, "reason": reason, **more}
    timings = timed(status, new, NOW + timedelta(seconds=seconds))
    return {**status, **new, "timings": timings}


def run(*looks: tuple[float, str, str]) -> Object:
    status: Object = {}
    for seconds, phase, reason in looks:
        status = look(status, seconds, phase, reason)
    return status


def figures(status: Object) -> list[tuple[str, float | None]]:
    return [(t["name"], t.get("seconds")) for t in status["timings"]]


WHOLE = (
    (0.0, "Pending", "ClaimNotBound"),
    (1.5, "Creating", "Snapshotting"),
    (2.0, "Creating", "SnapshotRetrying"),
    (4.0, "Creating", "Binding"),
    (4.25, "Creating", "Cloning"),
    (4.5, "Creating", "Starting"),
    (6.5, "Creating", "Moving"),
    (16.5, "Creating", "CleaningUp"),
    (17.0, "Available", "Completed"),
)
SECONDS = [
    ("Waiting", 1.5), ("Snapshotting", 2.5), ("Binding", 0.25), ("Cloning", 0.25), ("Starting", 2.0),
    ("Moving", 10.0), ("CleaningUp", 0.5),
]  # fmt: skip


def test_each_step_has_its_time_and_their_sum_is_the_whole() -> None:
    status = run(*WHOLE)
    assert figures(status) == SECONDS
    assert status["timings"][2] == {"name": "Binding", "startTime": at(4.0), "seconds": 0.25}
    assert sum(t["seconds"] for t in status["timings"]) == 17.0


@pytest.mark.parametrize("stop", range(len(WHOLE)))
def test_looks_that_change_nothing_and_new_operators_change_no_time(stop: int) -> None:
    """The status is all that is remembered: a look may be repeated by another process after any other look."""
    status: Object = {}
    for number, (seconds, phase, reason) in enumerate(WHOLE):
        status = look(status, seconds, phase, reason)
        if number == stop:
            again = look(status, seconds + 0.2, phase, reason)
            assert again == status
    assert figures(status) == SECONDS


def test_the_step_that_is_going_on_has_a_beginning_and_no_seconds() -> None:
    status = run(*WHOLE[:7])
    assert status["timings"][-1] == {"name": "Moving", "startTime": at(6.5)}


def test_a_step_that_is_taken_again_has_one_entry() -> None:
    """So the list is as long as there are steps, however often a driver or a mover fails."""
    status = run(
        *[(float(n), "Creating", "Starting" if n % 2 else "Cloning") for n in range(101)],
        (101.0, "Error", "MoverFailed"),
    )
    assert figures(status) == [("Starting", 50.0), ("Cloning", 51.0)]
    assert status["timings"][1]["startTime"] == at(100.0)
    everything = [(float(n), "Creating", reason) for n, reason in enumerate([*STEPS, "Odd"] * 3)]
    longest = run(*everything)["timings"]
    BackupStatus.model_validate({"timings": longest})
    RestoreStatus.model_validate({"timings": longest, "mover": {"timings": longest}})


def test_a_clock_that_is_set_back_makes_nothing_shorter() -> None:
    status = run((10.0, "Creating", "Snapshotting"), (3.0, "Creating", "Binding"), (4.0, "Error", "X"))
    assert figures(status) == [("Snapshotting", 0.0), ("Binding", 1.0)]


def test_d1_a_restore_that_can_be_rolled_back_does_not_count_the_wait() -> None:
    status = run((0.0, "Restoring", "Exchanging"), (1.0, "Restored", "RollbackPossible"))
    assert figures(status) == [("Exchanging", 1.0)]
    status = look(status, 3600.0, "RollingBack", "Exchanging")
    assert figures(status) == [("Exchanging", 1.0)]
    assert figures(look(status, 3602.0, "RolledBack", "RolledBack")) == [("Exchanging", 3.0)]


def test_what_follows_the_outcome_is_cleaning_up_whatever_its_reason() -> None:
    status = look(run(*WHOLE[:7]), 7.0, "Creating", "VaultLost", operation={"outcome": "Failed"})
    assert step_of(status) == "CleaningUp"
    assert step_of({"phase": "Creating", "reason": "VaultNotFound"}) == WAITING


def test_every_reason_that_is_a_step_is_a_reason() -> None:
    """A renamed reason would end in Waiting."""
    assert set(STEPS) <= REASONS.keys()
    assert all(REASONS[reason].sort in ("works", "waits") for reason in STEPS)


def said(began: float) -> MoverReport:
    return MoverReport(ok=True, timings=[{"name": "Loading", "startTime": at(began), "seconds": 0.3}])


def ended(*looks: tuple[float, str, str], began: float, end: float) -> list[tuple[str, float | None]]:
    status = look(run(*looks), end, "Creating", "Completed", operation={"outcome": "Succeeded"})
    timings = mover_began(status["timings"], said(began), NOW + timedelta(seconds=end))
    assert timings[-1] == {"name": "CleaningUp", "startTime": at(end)}
    return figures({"timings": timings[:-1]})


def test_a_mover_says_itself_when_it_began() -> None:
    """A look saw it 0.7 s late, or never."""
    seen = [(0.0, "Creating", "Starting"), (2.0, "Creating", "Moving")]
    assert ended(*seen, began=1.3, end=5.0) == [("Starting", 1.3), ("Moving", 3.7)]
    assert ended(*seen[:1], began=1.3, end=1.9) == [("Starting", 1.3), ("Moving", 0.6)]


@pytest.mark.parametrize(("began", "starting"), [(-3600.0, 0.0), (3600.0, 2.0)])
def test_a_node_s_wrong_clock_takes_no_more_than_there_is(began: float, starting: float) -> None:
    seen = [(0.0, "Creating", "Starting"), (2.0, "Creating", "Moving")]
    assert ended(*seen, began=began, end=5.0) == [("Starting", starting), ("Moving", 5.0 - starting)]


def test_the_mover_of_another_version_says_nothing() -> None:
    timings = run(*WHOLE)["timings"]
    for report in (None, MoverReport(ok=True)):
        assert mover_began(timings, report, NOW) == timings
