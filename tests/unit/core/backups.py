"""Views of a Backup at each of its steps, and cleaning up after it as the effects would."""

from __future__ import annotations

import dataclasses
from typing import Any

from blockvault.api import Backup
from blockvault.core.plan_backup import Action, BackupView, next_cleaning

from . import world
from .world import NOW


def ready_view(**changes: Any) -> BackupView:
    """A view in which nothing stands in the way and nothing has been made."""
    view = BackupView(
        now=NOW,
        backup=Backup.model_validate(world.backup_object()),
        vault=world.vault(),
        claim=world.CLAIM,
        volume=world.VOLUME,
        snapshot_classes=[world.SNAPSHOT_CLASS],
    )
    return dataclasses.replace(view, **changes)


def own_content(policy: str = "Delete") -> world.Object:
    """The content by which the operator owns the snapshot."""
    body = world.content(policy)
    body["metadata"]["name"] = "bv-b-1"
    return body


CLONE = {"metadata": {"name": "bv-b-1"}, "status": {"phase": "Bound"}}
MOVED = {"own_content": own_content(), "own_snapshot": world.snapshot(), "clone": CLONE, "has_secret": True}
# Each row is what is there after one more step; the action is the step that must come next.
STEPS: list[tuple[dict[str, Any], Action | None]] = [
    ({}, Action.CREATE_SNAPSHOT),
    ({"snapshot": world.snapshot(ready=False)}, None),
    ({"snapshot": world.snapshot(), "content": world.content()}, Action.RETAIN_CONTENT),
    ({"snapshot": world.snapshot(), "content": world.content("Retain")}, Action.BIND_CONTENT),
    (
        {"snapshot": world.snapshot(), "content": world.content("Retain"), "own_content": own_content()},
        Action.BIND_SNAPSHOT,
    ),
    (
        {
            "snapshot": world.snapshot(),
            "content": world.content("Retain"),
            "own_content": own_content(),
            "own_snapshot": world.snapshot(ready=False),
        },
        None,
    ),
    (
        {
            "snapshot": world.snapshot(),
            "content": world.content("Retain"),
            "own_content": own_content(),
            "own_snapshot": world.snapshot(),
        },
        Action.DROP_SOURCE_SNAPSHOT,
    ),
    (
        {"content": world.content("Retain"), "own_content": own_content(), "own_snapshot": world.snapshot()},
        Action.DROP_SOURCE_SNAPSHOT,
    ),
    ({"own_content": own_content(), "own_snapshot": world.snapshot()}, Action.CREATE_CLONE),
    ({"own_content": own_content(), "own_snapshot": world.snapshot(), "clone": CLONE}, Action.CREATE_SECRET),
    (
        {"own_content": own_content(), "own_snapshot": world.snapshot(), "clone": CLONE, "has_secret": True},
        Action.CREATE_JOB,
    ),
    (
        {
            "own_content": own_content(),
            "own_snapshot": world.snapshot(),
            "clone": CLONE,
            "has_secret": True,
            "job": world.job(),
        },
        None,
    ),
]


def ended_view(outcome: str, *, cancel: bool = False, **there: Any) -> BackupView:
    """A view of a Backup whose outcome is recorded."""
    body = world.backup_object(cancel=cancel)
    body["status"] = {"phase": "Creating", "operation": {"outcome": outcome, "reason": "R", "message": "m"}}
    return ready_view(backup=Backup.model_validate(body), **there)


def going(obj: world.Object) -> world.Object:
    """The object after its deletion was asked for, while finalizers hold it."""
    return {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": world.STAMP}}


def clean(view: BackupView, *, keep_snapshot: bool, keep_job: bool, slow: bool = False) -> list[Action]:
    """Apply cleaning actions one by one, as the effects would, until none is left.

    With `slow`, finalizers hold what is deleted until nothing else is left to do.
    """
    done: list[Action] = []
    left: list[dict[str, Any]] = []
    removes = {
        Action.DELETE_JOB: {"job": None},
        Action.DELETE_PODS: {"pods": []},
        Action.DELETE_CLONE: {"clone": None},
        Action.DELETE_SECRET: {"has_secret": False},
        Action.FORGET_STORED: {"has_secret": False},
        Action.DROP_SOURCE_SNAPSHOT: {"snapshot": None, "content": None},
        Action.RESTORE_CONTENT: {"content": world.content("Delete")},
        Action.DELETE_SNAPSHOT: {
            "snapshot": None,
            "content": None,
            "own_snapshot": None,
            "own_content": None,
        },
        Action.DELETE_FORMER_SNAPSHOTS: {"former_snapshots": []},
    }
    while (action := next_cleaning(view, keep_snapshot=keep_snapshot, keep_job=keep_job)) is not None:
        if action is Action.AWAIT_GONE:
            assert left, "nothing was asked to go"
            view = dataclasses.replace(view, **left.pop(0))
            continue
        done.append(action)
        assert len(done) < 20, f"cleaning does not end: {done}"
        change = removes[action]
        if slow:
            held = {
                name: _going(getattr(view, name)) for name, value in change.items() if value in (None, [])
            }
            left.append({name: change[name] for name in held})
            change = {**change, **held}
        view = dataclasses.replace(view, **change)
    assert not left, "it does not wait until all is gone"
    return done


def _going(there: Any) -> Any:
    if isinstance(there, list):
        return [going(obj) for obj in there]
    return going(there) if there else None
