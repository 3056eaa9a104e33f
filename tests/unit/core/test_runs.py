"""What a Vault's policy does next (B1 to B3, B7 to B10, F27): single looks, and long histories with crashes in them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import Backup, BackupPolicy, ResourceStatus, Vault
from blockvault.core.automatic import expiry_status, made_of, origin_of, origin_status
from blockvault.core.conditions import parse_timestamp, timestamp
from blockvault.core.runs import NewBackup, RunPlan, RunView, offset_of, plan_runs

START = datetime(2026, 7, 6, 10, 0, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)


def policy(
    retention: dict[str, Any] | None = None,
    enabled: bool = True,
    uid: str = "p",
    full: int | None = None,
    **schedule: Any,
) -> BackupPolicy:
    spec: dict[str, Any] = {
        "enabled": enabled,
        "schedule": schedule or {"hours": [2]},
        "retention": retention or {"count": 3},
    }
    if full:
        spec["fullEveryDays"] = full
    meta = {"name": "nightly", "namespace": "shop", "uid": uid, "creationTimestamp": timestamp(START)}
    return BackupPolicy.model_validate({"metadata": meta, "spec": spec})


@dataclass
class World:
    """A vault with claims and its Backups: what the API server and the movers would do, and nothing of the plan."""

    policy: BackupPolicy | None
    claims: tuple[str, ...] = ("db",)
    now: datetime = START
    named: str | None = "nightly"
    annotations: dict[str, str] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    backups: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        lines = [
            ResourceStatus(
                kind="PersistentVolumeClaim", name=c, state="Associated", since=timestamp(self.now)
            )
            for c in self.claims
        ]
        self.status["resources"] = [line.model_dump(by_alias=True) for line in lines]

    def vault(self) -> Vault:
        spec: dict[str, Any] = {"capacity": "100Gi", "className": "c"}
        if self.named:
            spec["policyRef"] = {"name": self.named}
        meta = {
            "name": "disks", "namespace": "shop", "uid": "v", "creationTimestamp": timestamp(START),
            "annotations": self.annotations,
        }  # fmt: skip
        return Vault.model_validate({"metadata": meta, "spec": spec, "status": self.status})

    def look(self, busy: frozenset[str] = frozenset()) -> RunPlan:
        vault = self.vault()
        lines = (vault.status.resources if vault.status else None) or []
        lines = [
            line.model_copy(update={"state": self.states.get(line.name, "Associated")}) for line in lines
        ]
        found = [Backup.model_validate(b) for b in self.backups.values()]
        return plan_runs(RunView(self.now, vault, lines, self.policy, found, busy))

    def make(self, new: NewBackup) -> str:
        number = 1
        while f"{new.prefix}-{number:04}" in self.backups:
            number += 1
        name = f"{new.prefix}-{number:04}"
        meta = {
            "name": name, "namespace": "shop", "uid": name, "creationTimestamp": timestamp(self.now),
            "annotations": new.annotations,
        }  # fmt: skip
        resource = {"kind": "PersistentVolumeClaim", "name": new.claim}
        body: dict[str, Any] = {
            "metadata": meta,
            "spec": {"vaultRef": {"name": "disks"}, "resource": resource, "full": new.full},
        }
        body["status"] = {"phase": "Creating", **origin_status(Backup.model_validate(body))}
        self.backups[name] = body
        return name

    def end(self, name: str, phase: str = "Available", kind: str = "Incremental") -> None:
        self.backups[name]["status"] |= {"phase": phase, "completedAt": timestamp(self.now), "type": kind}

    def record(self, plan: RunPlan) -> None:
        applied = plan.policy.model_dump(by_alias=True) if plan.policy else None
        lines = [line.model_dump(by_alias=True) for line in plan.lines]
        self.status |= {"resources": lines, "policy": applied, "lastRunNow": plan.last_run_now}

    def turn(self, *, end: bool = True) -> list[str]:
        """One whole look: what was made. Backups end at once unless told otherwise."""
        plan = self.look()
        made = [self.make(new) for new in plan.make]
        for verdict in plan.remove:
            del self.backups[verdict.name]
            self.removed.append(verdict.name)
        self.record(plan)
        for name in made if end else ():
            self.end(name)
        return made

    def at(self, text: str) -> World:
        self.now = datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        return self

    def line(self, claim: str = "db") -> ResourceStatus:
        return next(ResourceStatus.model_validate(r) for r in self.status["resources"] if r["name"] == claim)

    def slots(self) -> list[str]:
        return sorted(str(b["status"].get("slot")) for b in self.backups.values())


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


def test_b8_a_backup_carries_the_rule_it_was_made_under() -> None:
    world = World(policy({"months": 1}, hours=[2], timeZone="Europe/Berlin"))
    world.turn()
    (name,) = world.at("07-07 00:00").turn()
    backup = Backup.model_validate(world.backups[name])
    origin = origin_of(backup)
    assert origin is not None
    assert (origin.policy, origin.time_zone, origin.retention.months) == ("nightly", "Europe/Berlin", 1)
    assert expiry_status(backup) == {"expiresAt": "2026-08-07T00:00:00Z"}
    made = made_of(backup)
    assert made is not None
    assert made.automatic


@pytest.mark.parametrize(
    "notes", [{}, {"blockvault.dev/slot": "2026-07-07T00:00:00Z"}, {"blockvault.dev/retention": "[]"}]
)
def test_b5_what_has_no_readable_rule_is_manual(notes: dict[str, str]) -> None:
    meta = {"name": "b", "namespace": "shop", "creationTimestamp": timestamp(START), "annotations": notes}
    backup = Backup.model_validate({"metadata": meta, "spec": {"vaultRef": {"name": "v"}}})
    assert (origin_of(backup), origin_status(backup)) == (None, {"trigger": "Manual"})


def test_b5_annotations_that_come_later_make_no_manual_backup_automatic() -> None:
    world = World(policy())
    world.turn()
    (name,) = world.at("07-07 02:00").turn()
    forged = world.backups[name] | {"status": {"phase": "Available", "trigger": "Manual"}}
    made = made_of(Backup.model_validate(forged))
    assert made is not None
    assert not made.automatic


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


def test_a13_backups_of_another_namespace_s_claim_of_that_name_are_those_of_another_volume() -> None:
    world = World(policy({"count": 2}))
    world.turn()
    for day in (7, 8):
        world.at(f"07-{day:02} 02:00").turn()
    for body in world.backups.values():
        body["status"]["volumes"] = [{"claim": "db", "lineageVolume": "former/db", "backupId": "x"}]
    for day in (9, 10, 11):
        world.at(f"07-{day:02} 02:00").turn()
        world.at(f"07-{day:02} 03:00").turn()
    # Each volume has its two newest.
    assert world.slots() == [f"2026-07-{day:02}T02:00:00Z" for day in (7, 8, 10, 11)]


def test_f5_what_another_cluster_made_at_a_slot_is_not_ours() -> None:
    world = World(policy())
    world.turn()
    (name,) = world.at("07-07 02:00").turn()
    world.backups[name]["status"]["cluster"] = "elsewhere"
    world.status["resources"][0]["lastSlot"] = None
    assert len(world.turn()) == 1


def test_run_now_waits_for_the_claims_that_were_applied_with_it() -> None:
    world = World(None, named=None, states={"db": "Waiting"}, annotations={"blockvault.dev/run-now": "1"})
    assert world.turn() == []
    world.states = {}
    assert len(world.turn()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"blockvault.dev/time-zone": "Mars/Olympus"},
        {"blockvault.dev/slot": "2026-07-07T02:00:00"},
        {"blockvault.dev/slot": "soon"},
        {"blockvault.dev/retention": '{"days": 1}'},
        {"blockvault.dev/retention": '{"days": 7, "count": 7}'},
        {"blockvault.dev/retention": "{"},
        {"blockvault.dev/policy": ""},
    ],
)
def test_b5_notes_that_cannot_be_used_stop_nothing(change: dict[str, str]) -> None:
    world = World(policy({"months": 1}))
    world.turn()
    (name,) = world.at("07-07 02:00").turn()
    world.backups[name]["metadata"]["annotations"] = world.backups[name]["metadata"]["annotations"] | change
    world.backups[name]["status"] = {"phase": "Available", "completedAt": timestamp(world.now)}
    assert expiry_status(Backup.model_validate(world.backups[name])) == {}
    assert len(world.at("07-08 02:00").turn()) == 1


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


def test_b1_b9_b10_what_a_policy_that_is_off_away_or_wrong_removes_is_nothing() -> None:
    world = World(policy({"days": 2}))
    world.turn()
    for day in (7, 8):
        world.at(f"07-{day:02} 02:00").turn()
    world.at("07-20 00:00")
    good = world.policy
    for state, found in (
        ("Disabled", policy({"days": 2}, enabled=False)), ("Waiting", None), ("Refused", policy({"days": 2}, every="1m")),
    ):  # fmt: skip
        world.policy = found
        plan = world.look()
        assert plan.policy is not None
        assert (plan.policy.state, plan.remove, plan.make) == (state, [], [])
    # Taken away from the vault, time goes on; and the last good one stays.
    world.policy, world.named = good, None
    assert [v.reason for v in world.look().remove] == ["Expired"]


def test_b8_a_rule_counts_from_when_it_was_set() -> None:
    world = World(policy({"count": 3}))
    world.turn()
    for day in (7, 8, 9):
        world.at(f"07-{day:02} 02:00").turn()
    world.at("07-09 10:00").policy = policy({"count": 2})
    world.turn()
    world.at("07-09 18:00").turn()
    assert len(world.backups) == 3
    world.at("07-10 02:00").turn()
    world.at("07-10 02:01").turn()
    assert world.slots() == ["2026-07-09T02:00:00Z", "2026-07-10T02:00:00Z"]


def test_the_next_look_is_at_the_next_slot_or_expiry() -> None:
    world = World(policy({"days": 2}, hours=[2]))
    world.turn()
    world.at("07-07 02:00").turn()
    world.at("07-08 02:00").turn()
    world.policy, world.named = None, None
    assert world.at("07-09 01:58").look().next_look == pytest.approx(120.5)
    assert world.at("07-09 02:00").look().remove[0].reason == "Expired"


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
