"""What a Vault's policy removes, and when it does nothing (B1, B5, B8 to B10, F20)."""

from __future__ import annotations

import pytest

from blockvault.api import Backup, BackupPolicy
from blockvault.core.automatic import expiry_status, made_of, origin_of, origin_status
from blockvault.core.conditions import timestamp

from .runs import START, World, policy


def test_b8_a_backup_carries_the_rule_it_was_made_under() -> None:
    world = World(policy({"months": 1}, hours=[2], timeZone="Europe/Berlin"))
    world.turn()
    (name,) = world.at("07-07 00:00").turn()
    backup = Backup.model_validate(world.backups[name])
    origin = origin_of(backup)
    assert origin is not None
    assert (origin.policy, origin.time_zone, origin.retention.months) == ("nightly", "Europe/Berlin", 1)
    assert expiry_status(origin_of(backup)) == {"expiresAt": "2026-08-07T00:00:00Z"}
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
    assert expiry_status(origin_of(Backup.model_validate(world.backups[name]))) == {}
    assert len(world.at("07-08 02:00").turn()) == 1


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


def test_f20_what_a_rule_would_remove_is_seen_before_it_does() -> None:
    world = World(policy({"count": 7}))
    world.turn()
    for day in range(7, 13):
        world.at(f"07-{day:02} 02:00").turn()
    plan = world.look()
    assert plan.policy is not None
    assert (plan.policy.would_remove, plan.policy.removals) == (0, [])
    # Another rule is set, and counts from the next run on; it can be tried while the policy is disabled, too.
    world.at("07-12 10:00")
    for enabled in (True, False):
        world.policy = policy({"count": 2}, enabled=enabled)
        plan = world.look()
        assert plan.policy is not None
        assert (plan.remove, plan.policy.would_remove) == ([], 5)
        first = (plan.policy.removals or [])[0]
        assert (world.backups[first.name]["status"]["slot"], first.reason) == (
            "2026-07-07T02:00:00Z",
            "NotKept",
        )
    world.policy = policy({"count": 2})
    world.turn()
    expected = {r.name for r in (world.look().policy or plan.policy).removals or []}
    world.at("07-13 02:00").turn()
    assert {v.name for v in world.at("07-13 02:01").look().remove} == expected


def test_b1_a_policy_that_is_one_too_many_runs_nowhere() -> None:
    world = World(policy())
    world.turn()
    assert world.policy is not None
    surplus = world.policy.model_dump(by_alias=True) | {
        "status": {"reason": "TooManyPolicies", "message": "32 already"}
    }
    world.policy = BackupPolicy.model_validate(surplus)
    plan = world.at("07-07 02:00").look()
    assert plan.policy is not None
    assert (plan.policy.state, plan.make) == ("Refused", [])


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
