"""When a Vault's policy makes Backups (B2, B3, B7, F27): single looks, and long histories with crashes in them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockvault.api import ResourceStatus
from blockvault.core.conditions import parse_timestamp
from blockvault.core.runs import offset_of

from .runs import World, policy


def test_b2_nothing_runs_before_its_slot_and_a_slot_runs_once() -> None:
    world = World(policy(), ("db", "web"))
    assert world.turn() == []
    assert world.line().next_run == "2026-07-07T02:00:00Z"
    assert world.look().next_look == 600
    world.at("07-07 01:59")
    assert world.turn() == []
    assert world.look().next_look == pytest.approx(60.5)
    made = world.at("07-07 02:00").turn()
    assert [n.rsplit("-", 1)[1] for n in made] == ["0001", "0002"]
    assert all(name.startswith("autobk-") for name in made), "C1"
    assert {b["spec"]["resource"]["name"] for b in world.backups.values()} == {"db", "web"}
    assert world.turn() == world.at("07-07 02:30").turn() == []
    assert (world.line().last_slot, world.line().next_run) == ("2026-07-07T02:00:00Z", "2026-07-08T02:00:00Z")
    assert world.line().last_backup == made[0]
    assert len(world.at("07-08 02:00").turn()) == 2


def test_b3_a_slot_is_skipped_while_the_former_still_runs_and_the_next_one_runs() -> None:
    """The guide's own case: 00:00 takes 90 minutes, so that 01:00 is skipped and 02:00 runs."""
    world = World(policy(hours=[0, 1, 2]))
    world.turn()
    (first,) = world.at("07-07 00:00").turn(end=False)
    plan = world.at("07-07 01:00").look()
    assert plan.make == []
    ((claim, skipped),) = plan.skipped
    assert (claim, skipped.slot, skipped.reason) == ("db", "2026-07-07T01:00:00Z", "StillRunning")
    assert first in skipped.message
    world.record(plan)
    world.at("07-07 01:30").end(first)
    assert world.turn() == []
    assert len(world.at("07-07 02:00").turn()) == 1
    assert world.slots() == ["2026-07-07T00:00:00Z", "2026-07-07T02:00:00Z"]


def test_b3_a_manual_backup_that_runs_skips_no_slot() -> None:
    world = World(policy(), annotations={"blockvault.dev/run-now": "1"})
    assert len(world.turn(end=False)) == 1
    assert len(world.at("07-07 02:00").turn()) == 1


@pytest.mark.parametrize(
    ("back", "ran"), [("02:10", True), ("03:00", True), ("03:01", False), ("09:00", False)]
)
def test_b3_a_slot_that_came_while_the_operator_was_away_runs_late_or_not_at_all(
    back: str, ran: bool
) -> None:
    world = World(policy())
    world.turn()
    assert len(world.at(f"07-07 {back}").turn()) == ran
    skipped = world.line().skipped
    assert (skipped is None) == ran
    if skipped is not None:
        assert (skipped.slot, skipped.reason) == ("2026-07-07T02:00:00Z", "Missed")
    assert world.turn() == []
    assert world.line().next_run == "2026-07-08T02:00:00Z"


def test_b3_after_days_away_one_backup_is_made_and_the_rest_is_recorded_as_missed() -> None:
    world = World(policy(every="15m"))
    world.turn()
    assert len(world.at("07-09 10:03").turn()) == 1
    assert world.slots() == ["2026-07-09T10:00:00Z"]
    skipped = world.line().skipped
    assert skipped is not None
    assert (skipped.slot, skipped.reason) == ("2026-07-09T09:45:00Z", "Missed")
    assert "and at 286 before it" in skipped.message  # 3 days of 96, but for this one and the first


def test_a_schedule_that_is_set_counts_from_then_on() -> None:
    """Neither an edited nor a new policy, nor one that is enabled again, runs a slot that is over."""
    world = World(policy(hours=[2]))
    world.turn()
    world.at("07-08 10:30").turn()
    world.policy = policy(hours=[10])
    assert world.turn() == []
    assert world.line().next_run == "2026-07-09T10:00:00Z"
    world.at("07-09 09:00").policy = policy(enabled=False, hours=[10])
    world.turn()
    world.at("07-09 10:20").policy = policy(hours=[10])
    assert world.turn() == []
    world.named = None
    world.turn()
    world.at("07-10 10:30").named = "nightly"
    assert world.turn() == []
    assert len(world.at("07-11 10:00").turn()) == 1


def test_a_claim_that_comes_later_waits_for_the_next_slot() -> None:
    world = World(policy())
    world.turn()
    late = ResourceStatus(
        kind="PersistentVolumeClaim", name="late", state="Associated", since="2026-07-07T02:10:00Z"
    )
    world.at("07-07 02:20").status["resources"].append(late.model_dump(by_alias=True))
    world.turn()
    assert [b["spec"]["resource"]["name"] for b in world.backups.values()] == ["db"]


@pytest.mark.parametrize("state", ["Waiting", "Refused", "Gone"])
def test_a3_only_what_is_associated_is_backed_up(state: str) -> None:
    world = World(policy(), ("db", "web"), states={"web": state}, annotations={"blockvault.dev/run-now": "x"})
    world.turn()
    world.at("07-07 02:00").turn()
    assert {b["spec"]["resource"]["name"] for b in world.backups.values()} == {"db"}
    assert world.line("web").next_run is None


def test_b7_a_periodic_full_by_the_last_full_one() -> None:
    world = World(policy({"permanent": True}, full=3, hours=[2]))
    world.turn()
    kinds = []
    for day in range(7, 15):
        (name,) = world.at(f"07-{day:02} 02:00").turn(end=False)
        full = bool(world.backups[name]["spec"]["full"]) or day == 7
        kinds.append(full)
        world.end(name, kind="Full" if full else "Incremental")
    assert kinds == [True, False, False, True, False, False, True, False]


def test_b7_a_periodic_full_counts_from_the_last_full_one_though_that_is_gone() -> None:
    world = World(policy({"count": 2}, full=5, hours=[2]))
    world.turn()
    kinds = []
    for day in range(7, 19):
        (name,) = world.at(f"07-{day:02} 02:00").turn(end=False)
        full = bool(world.backups[name]["spec"]["full"]) or day == 7
        kinds.append(full)
        world.end(name, kind="Full" if full else "Incremental")
        world.at(f"07-{day:02} 03:00").turn()
    assert [day for day, full in zip(range(7, 19), kinds, strict=True) if full] == [7, 12, 17]


def test_run_now_waits_for_the_claims_that_were_applied_with_it() -> None:
    world = World(None, named=None, states={"db": "Waiting"}, annotations={"blockvault.dev/run-now": "1"})
    assert world.turn() == []
    world.states = {}
    assert len(world.turn()) == 1


def test_run_now_backs_all_up_once_for_each_value() -> None:
    world = World(None, ("db", "web"), named=None, annotations={"blockvault.dev/run-now": "monday"})
    made = world.turn()
    assert [n.rsplit("-", 1)[1] for n in made] == ["0001", "0002"]
    assert all(name.startswith("manualbk-") for name in made), "C1"
    assert all(b["status"]["trigger"] == "Manual" for b in world.backups.values())
    assert world.turn() == []
    world.annotations = {"blockvault.dev/run-now": "tuesday"}
    assert len(world.turn()) == 2
    world.annotations = {}
    assert world.turn() == []


def test_f27_a_spread_is_stable_even_and_within_its_window() -> None:
    spread = policy(hours=[2], spread="20m")
    offsets = [offset_of(spread, f"claim-{n}") for n in range(1000)]
    assert offsets == [offset_of(spread, f"claim-{n}") for n in range(1000)]
    assert max(offsets) < timedelta(minutes=20)
    quarters = [
        sum(timedelta(minutes=5) * q <= o < timedelta(minutes=5) * (q + 1) for o in offsets) for q in range(4)
    ]
    assert min(quarters) > 200
    world = World(spread, tuple(f"claim-{n}" for n in range(40)))
    world.turn()
    started = [len(world.at(f"07-07 02:{minute:02}").turn()) for minute in range(25)]
    assert sum(started) == 40
    assert max(started) < 10
    assert len(world.slots()) == len(world.backups) == 40


def test_a_clock_that_was_far_ahead_for_a_while_stops_nothing() -> None:
    world = World(policy())
    world.turn()
    world.now = datetime(2031, 1, 1, 2, 0, tzinfo=UTC)
    assert len(world.turn()) == 1
    assert len(world.at("07-08 02:00").turn()) == 1
    # A clock that goes back a little runs no slot again.
    assert world.at("07-08 01:50").turn() == world.at("07-08 02:00").turn() == []


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([{"hours": [2, 14]}, {"every": "6h"}, {"hours": [2], "spread": "2h"}]),
)
def test_b3_no_slot_runs_twice_whatever_is_interrupted(seed: int, schedule: dict[str, Any]) -> None:
    """Any part of a plan may be done, and any answer lost; then it is looked at again, now or days later."""
    chance = random.Random(seed)
    world = World(policy({"count": 4}, **schedule), ("db", "web", "log"))
    made: list[tuple[str, str]] = []
    for _ in range(60):
        due = world.line(chance.choice(["db", "web", "log"])).next_run
        if due and chance.random() < 0.5:
            world.now = max(world.now, parse_timestamp(due))
        world.now += timedelta(minutes=chance.choice([0, 0, 1, 10, 200, 3000]))
        plan = world.look()
        for new in plan.make:
            if chance.random() < 0.2:
                break  # killed here
            name = world.make(new)
            made.append((new.claim, world.backups[name]["status"]["slot"]))
        else:
            for verdict in plan.remove:
                if chance.random() < 0.8:
                    del world.backups[verdict.name]
            if chance.random() < 0.7:
                world.record(plan)
        for backup in list(world.backups.values()):
            if backup["status"]["phase"] == "Creating" and chance.random() < 0.7:
                world.end(backup["metadata"]["name"], chance.choice(["Available", "Available", "Error"]))
    assert len(made) == len(set(made)), "a slot of a claim ran twice"
    assert made
    for claim in ("db", "web", "log"):
        slots = [parse_timestamp(slot) for name, slot in made if name == claim]
        assert slots == sorted(slots)
