"""F2: a mover whose node died is given up and replaced; what the node holds is neither used again nor waited for."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from blockvault.api import Backup, Restore
from blockvault.core.decision import Decision
from blockvault.core.lost_nodes import OUT_OF_SERVICE, GivenUp, lost_pod
from blockvault.core.naming import job_name, mover_name
from blockvault.core.plan_backup import Action, decide_backup
from blockvault.core.plan_in_place import cleaning_step
from blockvault.core.plan_restore import SELECTED_NODE, decide_restore
from blockvault.core.plan_upkeep import Action as Upkeep
from blockvault.core.plan_upkeep import UpkeepView, decide_upkeep
from blockvault.core.plan_upkeep import next_cleaning as upkeep_cleaning

from . import world
from .backups import MOVED, ended_view, ready_view
from .lost_world import MINUTE, LostWorld, node, placed
from .world import NOW

SINCE = NOW - timedelta(seconds=60)
GONE_AT = "2026-11-23T11:58:00Z"
BEFORE = "2026-11-23T11:00:00Z"


@pytest.mark.parametrize(
    ("pod", "found", "words"),
    [
        (placed("p", "a"), node("a"), ""),
        (
            placed("p", "a", creationTimestamp=BEFORE),
            node("a", "Unknown", SINCE),
            "Node a has not been ready",
        ),
        (placed("p", "a", creationTimestamp=BEFORE), node("a", "False", SINCE), "Node a has not been ready"),
        (placed("p", "a", creationTimestamp=BEFORE), node("a", "Unknown", SINCE + MINUTE / 60), ""),
        (placed("p", "a"), None, "Node a does not exist"),
        (placed("p", "a", phase="Pending", creationTimestamp=BEFORE), node("a", "Unknown", SINCE), "Node a"),
        # Ended: its words count.
        (placed("p", "a", phase="Succeeded", creationTimestamp=BEFORE), None, ""),
        (placed("p", "a", phase="Failed", creationTimestamp=BEFORE), node("a", "Unknown", SINCE), ""),
        # An administrator knows that the machine is off: no more waiting. Only as long as it does not answer.
        (
            placed("p", "a", creationTimestamp=BEFORE),
            node("a", "Unknown", NOW, OUT_OF_SERVICE),
            "out of service",
        ),
        (placed("p", "a", creationTimestamp=BEFORE), node("a", "True", NOW, OUT_OF_SERVICE), ""),
        # A toleration put it on a node that was dead then.
        (placed("p", "a"), node("a", "Unknown", SINCE), ""),
        # To be deleted, and it does not go.
        (placed("p", "a", deletionTimestamp=GONE_AT), node("a"), "Pod p on node a does not end"),
        (placed("p", "a", deletionTimestamp=world.STAMP), node("a"), ""),
        (placed("p", ""), None, ""),
    ],
)
def test_when_a_pod_is_lost(pod: world.Object, found: world.Object | None, words: str) -> None:
    said = lost_pod(pod, {"a": found}, NOW)
    assert words in said
    assert bool(said) is bool(words)


def test_of_a_node_that_was_not_looked_at_nothing_is_said() -> None:
    assert lost_pod(placed("p", "a", deletionTimestamp=world.STAMP), {}, NOW) == ""


OLD_POD = placed("bv-b-1-1-x", "a", "bv-b-1-1", creationTimestamp=BEFORE)
DEAD = {"a": node("a", "Unknown", SINCE)}


def test_a_mover_on_a_dead_node_is_given_up_with_a_word_on_what_helps() -> None:
    view = ready_view(**MOVED, job=world.job(), pods=[OLD_POD], nodes=DEAD)
    decision = decide_backup(view)
    assert (decision.reason, decision.attempt, decision.action, decision.outcome) == (
        "NodeLost",
        2,
        None,
        None,
    )
    assert (
        "kubectl taint nodes a node.kubernetes.io/out-of-service=nodeshutdown:NoExecute" in decision.message
    )


def test_until_then_it_is_said_that_the_node_does_not_answer() -> None:
    nodes = {"a": node("a", "Unknown", SINCE + MINUTE / 2)}
    decision = decide_backup(ready_view(**MOVED, job=world.job(), pods=[OLD_POD], nodes=nodes))
    assert (decision.reason, decision.attempt) == ("NodeNotReady", None)
    assert "Node a has not been ready since" in decision.message


def test_elapsed_time_alone_gives_up_nothing() -> None:
    """What moves data fails for lack of progress only."""
    late = NOW + timedelta(days=3)
    view = ready_view(**MOVED, job=world.job(), pods=[OLD_POD], nodes={"a": node("a")}, now=late)
    assert (decide_backup(view).reason, decide_backup(view).attempt) == ("Moving", None)


def test_a_mover_that_had_ended_before_its_node_died_is_believed() -> None:
    done = {**world.pod("Succeeded", world.GOOD), "spec": {"nodeName": "a"}}
    decision = decide_backup(ready_view(**MOVED, job=world.job("Complete"), pods=[done], nodes=DEAD))
    assert decision.outcome is not None
    assert decision.outcome.succeeded


def backups(there: LostWorld) -> Any:
    return there.backup()


def restores(there: LostWorld) -> Any:
    return there.restore()


KINDS = pytest.mark.parametrize(
    ("uid", "look", "decide"),
    [("b-1", backups, decide_backup), ("r-1", restores, decide_restore)],
    ids=["Backup", "Restore"],
)


@KINDS
@pytest.mark.parametrize("seed", range(40))
def test_f2_whatever_is_done_twice_or_not_at_all_one_mover_counts(
    uid: str, look: Callable[[LostWorld], Any], decide: Callable[[Any], Decision], seed: int
) -> None:
    """Nodes die three times; status and effects are lost or repeated, also by an operator that looked long ago."""
    chance = random.Random(seed)
    there = LostWorld(uid)
    deaths, stale = 3, []
    for turn in range(600):
        view = look(there)
        decision = decide(view)
        if decision.outcome is not None:
            assert decision.outcome.succeeded, decision
            break
        stale.append((view, decision))
        if chance.random() < 0.8:
            there.note(decision)
            if chance.random() < 0.8:
                there.act(view, decision)
        if chance.random() < 0.3 and decision.action in ("CreateClone", "CreateRawClaim", "CreateSecret"):
            there.act(*chance.choice(stale[-3:]))
        there.schedule(chance)
        if deaths and chance.random() < 0.1:
            there.die(chance.choice("ab"))
            deaths -= 1
        elif there.dead and chance.random() < 0.1:
            there.back()
        if turn > 300:
            there.end()
        there.wait(chance.choice([1, 30, 61]))
    else:
        raise AssertionError(f"seed {seed}: it does not end: {decision}")
    # Each mover had a volume of its own, which none before it had.
    for job, claim in there.wrote:
        assert mover_name(uid, int(job.rpartition("-")[2])) == claim


@KINDS
def test_f2_the_steps_to_the_next_mover(
    uid: str, look: Callable[[LostWorld], Any], decide: Callable[[Any], Decision]
) -> None:
    there, chance, steps = LostWorld(uid), random.Random(1), []

    def step() -> Decision:
        view = look(there)
        decision = decide(view)
        there.note(decision)
        there.act(view, decision)
        steps.append(str(decision.action or decision.reason))
        return decision

    for _ in range(3):
        step()
    there.schedule(chance)
    assert step().reason == "Moving"
    where = next(iter(there.pods.values()))["spec"]["nodeName"]
    there.die(where)
    assert step().reason == "NodeNotReady"
    there.wait()
    step()
    assert there.attempt == 2
    del steps[:]
    for _ in range(4):
        step()
    made = ["CreateClone" if uid == "b-1" else "CreateRawClaim", "CreateSecret", "CreateJob"]
    assert steps == ["DeleteGivenUp", *made]
    there.schedule(chance)
    assert [p["spec"]["nodeName"] for p in there.pods.values()][-1] != where
    assert there.wrote == [(job_name(uid, 1), mover_name(uid, 1)), (job_name(uid, 2), mover_name(uid, 2))]
    # What the dead node holds is there yet, to be deleted, and is looked past.
    assert set(there.claims) == {mover_name(uid, 1), mover_name(uid, 2)}
    there.end()
    assert step().outcome is not None
    there.back()
    assert set(there.claims) == {mover_name(uid, 2)}


def terminating(pod: world.Object) -> world.Object:
    return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": world.STAMP}}


def test_f3_cancelling_waits_for_no_dead_node_and_lets_nobody_commit_later() -> None:
    view = ended_view("Failed", cancel=True, **MOVED, pods=[OLD_POD], nodes=DEAD)
    assert decide_backup(view).action is Action.DELETE_PODS
    view = dataclasses.replace(view, pods=[terminating(OLD_POD)])
    assert decide_backup(view).action is Action.DELETE_CLONE
    view = dataclasses.replace(view, clone=terminating(view.clone))  # type: ignore[arg-type]
    assert decide_backup(view).action is Action.FORGET_STORED
    view = dataclasses.replace(view, has_secret=False)
    assert decide_backup(view).action is Action.DELETE_SNAPSHOT
    gone = {"own_content": None, "own_snapshot": None}
    end = decide_backup(dataclasses.replace(view, **gone))  # type: ignore[arg-type]
    assert end.phase == "Error"
    assert "bv-b-1-1-x" in end.message
    assert "kubectl taint nodes a" in end.message
    # A node that answers is waited for.
    alive = dataclasses.replace(view, nodes={"a": node("a")}, clone=None)
    assert (decide_backup(alive).phase, decide_backup(alive).reason) == ("Creating", "CleaningUp")


def test_a_failure_after_a_lost_node_fences_the_mover_there() -> None:
    view = ended_view("Failed", **{**MOVED, "clone": None}, attempt=2)
    assert decide_backup(view).action is Action.FORGET_STORED
    view = ended_view("Failed", **{**MOVED, "clone": None})
    assert decide_backup(view).action is Action.DELETE_SECRET


def test_f3_cancelled_before_the_next_mover_has_its_secret_the_lost_one_commits_nothing() -> None:
    there = {**MOVED, "clone": None, "has_secret": False}
    view = ended_view("Failed", cancel=True, **there, attempt=2, given_up=GivenUp(has_secrets=True))
    assert decide_backup(view).action is Action.FORGET_STORED


def test_what_succeeded_on_another_node_is_available_while_the_dead_one_holds_the_first_clone() -> None:
    there = LostWorld("b-1")
    there.status = {
        "attempt": 2,
        "operation": {"outcome": "Succeeded", "reason": "Completed", "message": "m"},
    }
    there.pods = {"p": terminating(OLD_POD)}
    there.claims = {"bv-b-1": terminating({"metadata": {"name": "bv-b-1"}})}
    there.dead = {"a": SINCE}
    decision = decide_backup(there.backup())
    assert (decision.phase, decision.finished) == ("Available", True)
    assert "stay on a for now" in decision.message


@pytest.mark.parametrize("in_place", [False, True])
def test_f3_the_deletion_of_a_restore_waits_for_no_dead_node(in_place: bool) -> None:
    there = LostWorld("r-1")
    there.pods = {"p": terminating(placed("p", "a", job_name("r-1", 1), creationTimestamp=BEFORE))}
    there.claims = {"bv-r-1": terminating({"metadata": {"name": "bv-r-1"}, "spec": {}})}
    there.dead = {"a": SINCE}
    view = dataclasses.replace(there.restore(), target=None)
    if in_place:
        body = world.restore_object()
        body["spec"]["target"] = {"original": {}}
        body["status"] = {"phase": "Restoring", "exchange": {"claimUid": "c-1", "volume": "pv-db"}}
        view = dataclasses.replace(view, restore=Restore.model_validate(body), target=world.CLAIM)
    assert cleaning_step(view) is None
    step = cleaning_step(dataclasses.replace(view, nodes={"a": node("a")}))
    assert step is not None
    assert step.action == "DeletePods"


def test_a_claim_that_is_filled_is_not_admitted_anew_while_its_mover_is_replaced() -> None:
    """D3: what waits for its data keeps its Restore at work."""
    there = LostWorld("r-1")
    there.status = {"attempt": 2}
    view = there.restore()
    body = world.restore_object()
    body["metadata"]["annotations"] = {"blockvault.dev/populates": "t"}
    target = {
        **view.target,  # type: ignore[dict-item]
        "metadata": {"name": "db-copy", "uid": "t", "annotations": {SELECTED_NODE: "a"}},
    }
    view = dataclasses.replace(view, restore=Restore.model_validate(body), target=target, storage_classes=[])
    decision = decide_restore(view)
    assert (decision.phase, decision.action) == ("Restoring", "CreateRawClaim")
    assert decision.detail.node == "a"
    # The pod that waits for it has to go elsewhere when the node that was chosen for it died.
    elsewhere = decide_restore(dataclasses.replace(view, nodes=DEAD))
    assert elsewhere.detail.node is None


def test_a_claim_deleted_while_the_mover_is_replaced_is_not_made_again() -> None:
    there = LostWorld("r-1")
    there.status = {"attempt": 2}
    decision = decide_restore(dataclasses.replace(there.restore(), target=None))
    assert decision.outcome is not None
    assert decision.outcome.reason == "TargetLost"


def test_a_volume_attached_to_a_dead_node_waits_with_a_reason_and_what_helps() -> None:
    there = LostWorld("r-1")
    there.status = {"operation": {"outcome": "Succeeded", "reason": "Completed", "message": ""}}
    kept = {"blockvault.dev/reclaim-policy": "Delete", "blockvault.dev/retained-by": "r-1"}
    raw = {
        "metadata": {"name": "pv", "annotations": kept},
        "spec": {"persistentVolumeReclaimPolicy": "Retain"},
    }
    view = dataclasses.replace(there.restore(), raw_volume=raw, attached="a", nodes=DEAD)
    decision = decide_restore(view)
    assert (decision.reason, decision.action) == ("VolumeOnLostNode", None)
    assert "Node a has not been ready since" in decision.message
    assert "kubectl taint nodes a" in decision.message
    assert decide_restore(dataclasses.replace(view, nodes={"a": node("a")})).reason == "Detaching"


def test_upkeep_on_a_dead_node_begins_anew_and_cleaning_waits_for_nobody() -> None:
    run = {"run": 3, "startedAt": world.STAMP}
    job = {"metadata": {"name": "j", "uid": "j", "creationTimestamp": world.STAMP}, "status": {}}
    pod = placed("p", "a", "j", creationTimestamp=BEFORE)
    view = UpkeepView(NOW, "v", NOW, job=job, pods=[pod], has_secret=True, nodes=DEAD)
    view = dataclasses.replace(view, status=type(view.status).model_validate(run))
    assert decide_upkeep(view).action is Upkeep.DELETE_JOB
    left = dataclasses.replace(view, job=None, pods=[terminating(pod)])
    assert decide_upkeep(left).action is Upkeep.CREATE_JOB
    assert upkeep_cleaning(left) is Upkeep.DELETE_SECRET
    # Words of the one that was given up are not those of the next.
    bad = {**terminating(pod), "status": world.pod("Failed", world.BAD)["status"]}
    other = {"metadata": {"name": "j", "uid": "k", "creationTimestamp": world.STAMP}}
    done = dataclasses.replace(
        left, pods=[bad], job={**other, "status": world.job("Complete")["status"]}, nodes={"a": node("a")}
    )
    assert decide_upkeep(done).status is not None
    assert decide_upkeep(done).status["reason"] == "Completed"  # type: ignore[index]


def test_the_attempt_stands_in_the_status() -> None:
    assert Backup.model_validate({**world.backup_object(), "status": {"attempt": 2}}).status.attempt == 2  # type: ignore[union-attr]
