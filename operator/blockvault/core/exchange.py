"""One claim, two storages: how a claim's PersistentVolume comes to stand for other storage (D1, F4). Pure.

A PersistentVolume's source cannot be changed, but an object of the same name can take its place: the claim
keeps its name, its uid and all that refers to it. The way: the old object lets go of the claim (from then on no pod
can begin to use it), is kept under another name, and goes; the new one is made. Both storages are owned by objects
with the policy Retain meanwhile, so that nothing that is deleted takes storage with it.
"""

from __future__ import annotations

from datetime import datetime

from blockvault.api import Exchange, StoppedWorkload

from .conditions import parse_timestamp
from .decision import Decision
from .lost_nodes import lost_node, what_helps
from .objects import Object, deleting
from .restore_model import Action, RestoreView
from .restoring import ON_LOST_NODE, detaching, doing, retained
from .workloads import User, key_of, names, noted, stoppable

EXCHANGING = "Exchanging"


def handle_of(volume: Object) -> str:
    """The storage that a PersistentVolume stands for."""
    return str((volume["spec"].get("csi") or {}).get("volumeHandle") or "")


def claim_lost(view: RestoreView) -> str:
    """Why the claim whose storage is exchanged is not there any more; empty when it is."""
    status = view.restore.status
    noted_uid = status.exchange.claim_uid if status and status.exchange else None
    if view.target is None or deleting(view.target):
        return f"{view.target_name} was deleted."
    if noted_uid and view.target["metadata"]["uid"] != noted_uid:
        return f"{view.target_name} was deleted and made again."
    return ""


def fenced(view: RestoreView) -> bool:
    """Whether the claim's PersistentVolume has let go of it."""
    if view.claim_volume is None or view.target is None:
        return False
    ref = view.claim_volume["spec"].get("claimRef") or {}
    return bool(ref.get("uid") != view.target["metadata"]["uid"])


def has_former(view: RestoreView) -> bool | None:
    """Whether the claim's PersistentVolume stands for its former storage; None while there is none."""
    if view.claim_volume is None:
        return None
    return handle_of(view.claim_volume) == _noted(view).former_handle


def has_other(view: RestoreView) -> bool:
    """Whether the claim's PersistentVolume stands for storage that this Restore knows nothing of."""
    if view.claim_volume is None or has_former(view):
        return False
    restored = _noted(view).restored_handle
    return handle_of(view.claim_volume) != restored


def _noted(view: RestoreView) -> Exchange:
    status = view.restore.status
    assert status is not None
    assert status.exchange is not None
    return status.exchange


def exchange_step(
    view: RestoreView, incoming: Object | None, outgoing: Object | None, park: Action
) -> Decision:
    """The next step until the claim's PersistentVolume stands for the storage of `incoming`.

    `outgoing` is the object under which the other storage is kept, made by the action `park`.
    """
    current = view.claim_volume
    text = f"Giving {view.target_name} its other storage."
    if current is None and incoming is None:
        return doing(
            "VolumeLost", f"The PersistentVolume objects of {view.target_name} were deleted by somebody."
        )
    if current is None:
        return doing(EXCHANGING, text, Action.CREATE_CLAIM_VOLUME, incoming)
    if not retained(view, current):
        return doing(EXCHANGING, text, Action.RETAIN_CLAIM_VOLUME)
    blocked = stop_step(view)
    if fenced(view):
        if blocked is not None:
            return doing(blocked.reason, blocked.message, Action.UNFENCE)
        if outgoing is None:
            return doing(EXCHANGING, text, park)
        # Somebody may have asked for its deletion before: it goes as soon as no claim has it.
        return doing(EXCHANGING, text, None if deleting(current) else Action.DELETE_CLAIM_VOLUME)
    return blocked or doing(EXCHANGING, text, Action.FENCE)


def stop_step(view: RestoreView) -> Decision | None:
    """What is done, or waited for, until nobody uses the claim; None when nobody does."""
    original = view.restore.spec.target.original
    assert original is not None
    stopped = {key_of(w): w for w in now_stopped(view)}
    for key, workload in view.workloads.items():
        if key in stopped and workload is not None and workload.replicas > 0:
            if not stopped[key].stopped:  # it was noted, and perhaps not done
                return doing("StoppingWorkload", f"Scaling {key} to zero.", Action.STOP_WORKLOAD, workload)
            return doing(
                "WorkloadScaledBack",
                f"{key} was scaled back to {workload.replicas} by somebody while {view.target_name} is restored: "
                "stop what does it (an autoscaler, GitOps, an operator that owns it) and scale it to zero.",
            )
    # What lets go of the claim keeps new pods from starting: only those that have a node can be using it.
    users = [u for u in view.users if u.placed or not fenced(view)]
    if users and not original.stop_workload:
        return doing(
            "ClaimInUse",
            f"{view.target_name} is in use by {names(users)}: stop them, or set stopWorkload in a new Restore.",
        )
    if users:
        problem = stoppable(users)
        if problem:
            return doing("ClaimInUse", problem)
        for user in users:
            if user.workload is not None and str(user.workload) not in stopped and user.workload.replicas > 0:
                return doing(
                    "StoppingWorkload",
                    f"Scaling {user.workload} to zero.",
                    Action.STOP_WORKLOAD,
                    user.workload,
                )
        return _ending(view, users)
    if view.claim_attached:
        words = f"Waiting for {view.target_name} to be detached from its node."
        return detaching(view, view.claim_attached, words)
    return None


def _ending(view: RestoreView, users: list[User]) -> Decision:
    """The wait until pods have ended: those on a lost node do not, and may write to their volume for all we know."""
    words = f"Waiting for {names(users)} to end."
    lost = {u.node: why for u in users if (why := lost_node(u.node, view.nodes, view.now))}
    if not lost:
        return doing("StoppingWorkload", words)
    return doing(ON_LOST_NODE, f"{words} {'; '.join(lost.values())}. {what_helps(lost)}.")


def now_stopped(view: RestoreView) -> list[StoppedWorkload]:
    """What the Restore has stopped, as this look shows it."""
    status = view.restore.status
    return noted(list(status.workloads or []) if status else [], view.workloads)


def start_step(view: RestoreView) -> Decision | None:
    """The next workload that gets its replicas back; None when all have them."""
    for stopped in now_stopped(view):
        found = view.workloads.get(key_of(stopped))
        if found is not None and found.replicas == 0:
            return doing(
                "StartingWorkload",
                f"Scaling {found} to {stopped.replicas} again.",
                Action.START_WORKLOAD,
                stopped,
            )
    return None


def kept_until(view: RestoreView) -> datetime | None:
    """When the former storage of a claim goes by itself; None before it is restored."""
    status = view.restore.status
    return parse_timestamp(status.rollback_until) if status and status.rollback_until else None
