"""A Restore in place, interrupted anywhere, by anybody: no data is lost, and none is exchanged under a pod (D1, F4)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockvault.core.naming import (
    RECLAIM_POLICY_ANNOTATION,
    RETAINED_BY_ANNOTATION,
    former_name,
    owned_name,
)
from blockvault.core.restore_model import Action

from .in_place_world import NEW, OLD, RESTORE_UID, World

MOVES = st.lists(
    st.sampled_from(
        [
            "step", "step", "step", "step", "step", "dies", "twice", "controllers", "controllers", "mover",
            "scale back",
        ]
    ),
    max_size=60,
)  # fmt: skip
ENDS = st.sampled_from(["", "cancel", "rollback", "confirm", "delete", "fails", "delete claim"])


def move(world: World, name: str) -> None:
    match name:
        case "step":
            world.step()
        case "dies":
            world.step(effect=False)
        case "twice":
            view, decision = world.view(), world.step()
            once = ("DeleteClaimVolume", "StopWorkload", "StartWorkload", "DeletePods")
            if decision is not None and decision.action is not None and decision.action not in once:
                world.act(view, Action(decision.action), decision.detail)
        case "controllers":
            world.controllers()
        case "mover":
            world.mover(good=True)
        case "scale back":
            world.wanted = 1


def end(world: World, name: str) -> None:
    match name:
        case "cancel" | "rollback" | "confirm":
            world.spec[name] = True
        case "delete":
            world.deleted = True
        case "fails":
            world.mover(good=False)
        case "delete claim":
            world.delete_claim()


def check(world: World, why: str) -> None:
    """How it may stand at the end."""
    phase, volumes = world.status.get("phase"), set(world.volumes)
    new, former = owned_name(RESTORE_UID), former_name(RESTORE_UID)
    if world.claim is None:
        assert phase in ("Error", "Completed", "Restored") or world.deleted
        assert NEW not in world.storages or "pv-db" in volumes
        return
    claims = world.volumes["pv-db"]
    handle = claims["spec"]["csi"]["volumeHandle"]
    assert world.claim["status"]["phase"] == "Bound", (why, world.status)
    assert handle in world.storages
    assert claims["spec"]["persistentVolumeReclaimPolicy"] == world.policy
    assert claims["metadata"]["labels"] == {"zone": "a"}
    assert world.wanted == 1, "its users run again"
    assert new not in volumes
    assert not world.secret
    assert world.raw_claim is None
    if phase in ("Error", "RolledBack", None, "Pending"):
        assert (handle, world.storages) == (OLD, {OLD}), (why, world.status)
        assert volumes == {"pv-db"}
    elif phase == "Restored" and not world.deleted:
        assert world.resting() or why == "rollback"
        assert (handle, world.storages) == (NEW, {OLD, NEW})
        assert former in volumes
    elif phase == "Completed":
        assert handle == NEW


@settings(max_examples=400, deadline=None)
@given(before=MOVES, why=ENDS, after=MOVES)
def test_whatever_happens_nothing_is_lost(before: list[str], why: str, after: list[str]) -> None:
    world = World()
    for name in before:
        move(world, name)
    end(world, why)
    for name in after:
        move(world, name)
    world.wanted = min(world.wanted, 1) if why != "delete claim" else 0
    if world.status.get("reason") == "WorkloadScaledBack" or "scale back" in (*before, *after):
        scaled_to_zero_for_good(world)
    else:
        world.settle()
    check(world, why)


def scaled_to_zero_for_good(world: World) -> None:
    """Whoever scaled it back is told, and scales it to zero as often as it takes."""
    for _ in range(60):
        world.controllers()
        if world.status.get("reason") == "WorkloadScaledBack":
            world.wanted = 0
            world.pods()
        world.mover(good=True)
        left = world.step()
        if world.gone or left is None or world.resting():
            break
    world.settle()


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
def test_the_former_storage_goes_as_its_class_says(policy: str) -> None:
    world = World(policy=policy)
    world.settle()
    assert world.status["phase"] == "Restored"
    assert world.mounted == NEW
    world.later()
    world.settle()
    assert world.status["phase"] == "Completed"
    assert (OLD in world.storages) is (policy == "Retain")
    check(world, "")


def test_f4_brought_back_it_is_the_same_volume() -> None:
    world = World()
    world.settle()
    world.spec["rollback"] = True
    world.settle()
    assert world.status["phase"] == "RolledBack"
    check(world, "")
    assert world.mounted == OLD


def test_d1_a_pod_that_comes_in_the_last_moment_keeps_its_volume() -> None:
    """Between what was seen and what was done somebody started: the claim is given back, and the restore waits."""
    world = World(stop=False)
    world.wanted = 0
    world.pods()
    while (decision := world.step()) is not None and decision.action != "Fence":
        world.controllers()
        world.mover(good=True)
    world.pod, world.pod_placed, world.mounted, world.wanted = True, True, OLD, 1
    decision = world.step()
    assert decision is not None
    assert (decision.action, decision.reason) == ("Unfence", "ClaimInUse")
    world.controllers()
    decision = world.step()
    assert decision is not None
    assert (decision.action, decision.reason) == (None, "ClaimInUse")
    assert world.storages == {OLD, NEW}


def test_f4_a_claim_deleted_while_it_is_lost_leaves_its_data() -> None:
    world = World()
    while (decision := world.step()) is not None and decision.action != "DeleteClaimVolume":
        world.controllers()
        world.mover(good=True)
    world.controllers()
    world.delete_claim()
    world.settle()
    assert world.status["phase"] == "Error"
    assert OLD in world.storages
    assert world.volumes[former_name(RESTORE_UID)]["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


@pytest.mark.parametrize("why", ["cancel", "rollback", "confirm", "delete", "fails", "delete claim"])
@pytest.mark.parametrize("eager", [True, False])
def test_f4_f3_whatever_comes_between_any_two_steps(why: str, eager: bool) -> None:
    """`eager`: Kubernetes' controllers have acted on the last step before it comes."""
    steps, ended = 0, False
    while not ended:
        world = World()
        for _ in range(steps):
            world.controllers()
            world.mover(good=True)
            ended = world.step() is None or world.resting()
        if eager:
            world.controllers()
        current = world.volumes.get("pv-db")
        bound = current is not None and current["spec"]["claimRef"]["uid"] == "c-1"
        before = bound and current["spec"]["csi"]["volumeHandle"] == OLD  # type: ignore[index]
        end(world, why)
        if why == "delete claim":
            world.status.setdefault("exchange", None)
        world.settle()
        phase = world.status.get("phase")
        if why in ("cancel", "rollback") and before:
            assert phase == "Error", f"after {steps} steps"
        if why == "delete" and (current is None or before):
            assert world.storages == {OLD}, f"after {steps} steps"
        if why == "delete claim" and not bound:
            assert OLD in world.storages, f"after {steps} steps"
        elif why == "delete claim" and before:
            assert world.storages == set(), f"after {steps} steps"
        check(world, why)
        steps += 1
    assert steps > 20


def test_f4_deleted_while_it_is_asked_to_go_back_it_goes_back_first() -> None:
    """At each step of the way back: the former data is what was asked for last."""
    steps, over = 0, False
    while not over:
        world = World()
        world.settle()
        world.spec["rollback"] = True
        for _ in range(steps):
            world.controllers()
            over = world.step() is None
        world.deleted = True
        world.settle()
        assert world.volumes["pv-db"]["spec"]["csi"]["volumeHandle"] == OLD, f"after {steps} steps"
        assert OLD in world.storages
        steps += 1
    assert steps > 5


def test_f4_a_rollback_that_cannot_be_done_keeps_the_former_data() -> None:
    """In use, and nothing may be stopped: the deletion goes on, and nothing of what was asked back is lost."""
    world = World(stop=False)
    world.wanted = 0
    world.pods()
    world.settle()
    world.wanted = 1
    world.pods()
    world.spec["rollback"], world.deleted = True, True
    world.settle()
    assert world.gone
    assert {OLD, NEW} <= world.storages
    assert world.mounted == NEW
    assert world.volumes[former_name(RESTORE_UID)]["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


@pytest.mark.parametrize("why", ["confirm", "cancel"])
def test_an_administrators_retain_stays_whatever_a_former_restore_has_noted(why: str) -> None:
    world = World(policy="Retain")
    notes = {RECLAIM_POLICY_ANNOTATION: "Delete", RETAINED_BY_ANNOTATION: "an-earlier-one"}
    world.volumes["pv-db"]["metadata"]["annotations"] |= notes
    if why == "cancel":
        for _ in range(8):
            world.controllers()
            world.mover(good=True)
            world.step()
    world.spec[why] = True
    world.settle()
    assert OLD in world.storages
    assert world.volumes["pv-db"]["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert world.status["phase"] == ("Error" if why == "cancel" else "Completed")


def test_storage_that_others_have_given_the_claim_is_not_taken_for_restored() -> None:
    """Another Restore was first: this one fails, and leaves the claim what it has."""
    world = World()
    while world.job != "running":
        world.controllers()
        world.step()
    world.storages.add("third")
    world.volumes["pv-db"]["spec"]["csi"]["volumeHandle"] = "third"
    world.mounted = "third"
    world.settle()
    assert (world.status["phase"], world.status["reason"]) == ("Error", "VolumeChanged")
    assert world.volumes["pv-db"]["spec"]["csi"]["volumeHandle"] == "third"
    assert world.storages == {OLD, "third"}, "what this one has made is gone"
    assert set(world.volumes) == {"pv-db"}


def test_an_old_failure_that_is_deleted_touches_nothing() -> None:
    world = World()
    for _ in range(9):
        world.controllers()
        world.mover(good=True)
        world.step()
    world.spec["cancel"] = True
    world.settle()
    assert world.status["phase"] == "Error"
    world.wanted = 0
    world.deleted = True
    world.settle()
    assert (world.gone, world.wanted) == (True, 0)
