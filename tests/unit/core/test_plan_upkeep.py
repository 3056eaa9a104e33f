"""When a store is tidied up, and that a run survives a crash between any two of its steps (A12, F18)."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockvault.api import UpkeepStatus
from blockvault.core.conditions import timestamp
from blockvault.core.plan_upkeep import EVERY, PAUSE, Action, Step, UpkeepView, decide_upkeep, due_at

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DONE = {"deletedBytes": 5, "deletedObjects": 2, "rewrittenBytes": 1, "errors": [], "failed": 0}


def status(**fields: Any) -> UpkeepStatus:
    """Times as they are written."""
    texts = {k: timestamp(v) if isinstance(v, datetime) else v for k, v in fields.items()}
    return UpkeepStatus.model_validate(texts)


def view(**fields: Any) -> UpkeepView:
    return UpkeepView(NOW, "v-1", NOW - timedelta(days=30), status(**fields))


def job(condition: str | None = None) -> dict[str, Any]:
    conditions = [{"type": condition, "status": "True", "message": "why"}] if condition else []
    return {
        "metadata": {"name": "j", "uid": "j-1", "creationTimestamp": timestamp(NOW)},
        "status": {"conditions": conditions},
    }


def pod(words: dict[str, Any] | None, created: datetime = NOW) -> dict[str, Any]:
    state = {"terminated": {"message": json.dumps(words)}} if words else {"running": {}}
    return {
        "metadata": {
            "name": "p",
            "creationTimestamp": timestamp(created),
            "ownerReferences": [{"name": "j", "uid": "j-1"}],
        },
        "status": {"phase": "Running", "containerStatuses": [{"state": state}]},
    }


def test_a_new_vault_waits_for_its_hour_which_others_do_not_share() -> None:
    fresh = [UpkeepView(NOW, f"v-{n}", NOW) for n in range(200)]
    offsets = sorted(due_at(each) - NOW for each in fresh)
    assert offsets[0] >= HOUR
    assert offsets[-1] < EVERY
    assert offsets[150] - offsets[50] > EVERY / 4
    assert decide_upkeep(fresh[0]) == Step()


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({"run": 3, "started_at": NOW - 2 * HOUR, "ended_at": NOW - HOUR}, NOW - HOUR + EVERY),
        # Something was deleted since it began.
        ({"run": 3, "started_at": NOW - 2 * HOUR, "ended_at": NOW - HOUR, "wanted": NOW}, NOW),
        (
            {"run": 3, "started_at": NOW - 2 * HOUR, "ended_at": NOW - HOUR, "wanted": NOW - HOUR * 1.5},
            NOW - HOUR + PAUSE,
        ),
        (
            {"run": 3, "started_at": NOW - HOUR, "ended_at": NOW, "wanted": NOW + timedelta(minutes=1)},
            NOW + PAUSE,
        ),
        # What it began after is dealt with.
        ({"run": 3, "started_at": NOW - HOUR, "ended_at": NOW, "wanted": NOW - HOUR}, NOW + EVERY),
    ],
)
def test_a_run_is_due_daily_and_soon_after_a_deletion(fields: dict[str, Any], due: datetime) -> None:
    assert due_at(view(**fields)) == due


def test_a_run_that_begins_is_written_down_before_anything_is_made() -> None:
    step = decide_upkeep(view(run=3, started_at=NOW - 2 * EVERY, ended_at=NOW - EVERY))
    assert step.action is None
    assert step.status is not None
    assert (step.status["run"], step.status["startedAt"], step.status["endedAt"]) == (
        4,
        "2026-11-23T12:00:00Z",
        None,
    )


def test_what_failed_for_some_volumes_is_told_with_the_first_of_them() -> None:
    error = {"volume": "shop/db", "reason": "StoredDataDamaged", "message": "bad.", "remedy": "Verify."}
    words = {"ok": True, "result": DONE | {"errors": [error], "failed": 3}}
    ended = decide_upkeep(replace(view(run=1, started_at=NOW), job=job("Complete"), pods=[pod(words)])).status
    assert ended is not None
    assert (ended["reason"], ended["deletedBytes"]) == ("StoredDataDamaged", 5)
    assert ended["message"] == "Volume shop/db: bad. Verify. (and 2 more volumes)"


def test_a_run_that_failed_says_why_and_a_lost_word_is_no_failure() -> None:
    words = {"ok": False, "error": {"reason": "StoreUnreachable", "message": "no answer", "remedy": "Look."}}
    failed = decide_upkeep(replace(view(run=1, started_at=NOW), job=job("Failed"), pods=[pod(words)])).status
    assert failed is not None
    assert (failed["reason"], failed["message"], failed["deletedBytes"]) == (
        "StoreUnreachable",
        "no answer Look.",
        None,
    )
    lost = decide_upkeep(replace(view(run=1, started_at=NOW), job=job("Complete"))).status
    assert lost is not None
    assert lost["reason"] == "Completed"


def test_a_mover_that_cannot_start_is_taken_away_and_tried_again() -> None:
    old = {"metadata": {"name": "j", "uid": "j-1", "creationTimestamp": timestamp(NOW - HOUR)}, "status": {}}
    step = decide_upkeep(replace(view(run=1, started_at=NOW - HOUR), job=old, has_secret=True))
    assert step.action is Action.DELETE_JOB


@given(st.integers(0, 2**32))
def test_each_run_happens_once_and_leaves_nothing_whatever_is_interrupted(seed: int) -> None:
    """Any step may be done twice or not at all; the Job ends when it likes."""
    chance = random.Random(seed)
    state: dict[str, Any] = {}
    jobs: dict[int, dict[str, Any]] = {}
    pods: list[dict[str, Any]] = []
    secret = False
    now, made = NOW, []
    for _ in range(120):
        now += timedelta(minutes=chance.choice([0, 1, 30]))
        current = UpkeepStatus.model_validate(state)
        seen = UpkeepView(now, "v", NOW, current, jobs.get(current.run), list(pods), secret)
        step = decide_upkeep(seen)
        if chance.random() < 0.7 and step.status is not None:
            state |= step.status
        for _ in range(chance.choice([0, 1, 1, 2])):
            match step.action:
                case Action.CREATE_SECRET:
                    secret = True
                case Action.CREATE_JOB:
                    if current.run not in jobs:
                        made.append(current.run)
                        jobs[current.run] = {
                            "metadata": {"uid": "j-1", "creationTimestamp": timestamp(now)},
                            "status": {},
                        }
                        pods = [pod(None, now)]
                case Action.DELETE_JOB:
                    jobs.pop(current.run, None)
                    pods = []
                case Action.DELETE_PODS:
                    pods = []
                case Action.DELETE_SECRET:
                    assert not pods, "a pod holds it"
                    secret = False
        running = jobs.get(current.run)
        if running is not None and pods and chance.random() < 0.3:
            assert secret
            running["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
            pods = [pod({"ok": True, "result": DONE}, now)]
        if not secret and state.get("endedAt"):
            assert not pods
    assert made == sorted(set(made)), "a run was made twice"


def test_a_secret_that_somebody_deletes_is_made_again_for_a_mover_that_waits_for_it() -> None:
    running = replace(view(run=1, started_at=NOW), job=job())
    assert decide_upkeep(running) == Step(Action.CREATE_SECRET)
    assert decide_upkeep(replace(running, has_secret=True)) == Step()
