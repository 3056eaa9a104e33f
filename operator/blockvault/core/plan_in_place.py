"""What a Restore of a claim that is there does next, as a pure function of what is there (D1, F4).

A raw volume is filled while the claim is in use as before: how long its users stand still does not depend on the
size. Only then they are stopped, the claim gets the restored storage (core.exchange), and they start again. The former
storage is kept until somebody confirms, or until the window ends; until then it can be brought back.
"""

from __future__ import annotations

from datetime import timedelta

from blockvault.api import not_served, parse_quantity

from .admission import check_rivals, check_volume
from .decision import Decision, Missing, Outcome, Refusal, cancelled, failed, refuse_unserved
from .exchange import claim_lost, exchange_step, fenced, has_former, has_other, kept_until, start_step
from .latest import done_by
from .lost_nodes import left_behind
from .naming import FENCED_ANNOTATION
from .objects import Object, claim_is_bound, deleting
from .restore_model import RESTORED, ROLLING_BACK, Action, RawClaim, RestoreView, annotation
from .restoring import (
    check_mode,
    check_source,
    doing,
    ended,
    fill,
    next_cleaning,
    not_admitted,
    policy_of,
    policy_pending,
    raw_claim_for,
    skipped,
    take_over,
)
from .schedule import parse_interval
from .workloads import names, stoppable

DEFAULT_WINDOW = "24h"
LOOK_AGAIN = 60.0


def window_of(view: RestoreView) -> timedelta:
    """How long former data is kept."""
    return parse_interval(view.restore.spec.rollback_window or DEFAULT_WINDOW)


def decide_in_place(view: RestoreView) -> Decision:
    """The next step. Never raises; never asks for more than one effect."""
    status = view.restore.status
    phase = status.phase if status else None
    if phase == ROLLING_BACK or (phase == RESTORED and view.restore.spec.rollback):
        return _roll_back(view)
    if phase == RESTORED:
        return _keep(view)
    outcome = view.outcome
    if outcome is not None:
        return _exchange(view) if outcome.succeeded else clean_up(view, outcome)
    if _called_off(view):
        return ended(cancelled())
    if not (status and status.exchange):
        return _admit(view)
    wanted = _raw_claim(view)
    if wanted is None:
        return ended(
            failed("VolumeLost", f"The PersistentVolume of {view.target_name} was deleted by somebody.")
        )
    return fill(view, wanted, claim_lost(view))


def _called_off(view: RestoreView) -> bool:
    return view.restore.spec.cancel or view.restore.spec.rollback


def _admit(view: RestoreView) -> Decision:
    problem = refuse_unserved(not_served(view.restore)) or check_source(view) or _check_empty(view)
    if problem is not None:
        return not_admitted(view, problem)
    if view.already_done or view.done_before or _known_to_store(view):
        return skipped(view)
    problem = _check_claim(view) or _check_users(view)
    if problem is None and isinstance(view.stored, Missing):
        problem = view.stored
    if problem is None:
        problem = check_rivals(view.me, view.rivals, view.claim)
    if problem is not None:
        return not_admitted(view, problem)
    return doing(
        "Provisioning", "Making the volume to restore into.", Action.CREATE_RAW_CLAIM, _raw_claim(view)
    )


def _check_empty(view: RestoreView) -> Refusal | None:
    if view.backup is not None:
        return None
    return Refusal("NoBackup", f"There never was a backup of {view.target_name}: it is left as it is.")


def _known_to_store(view: RestoreView) -> bool:
    return isinstance(view.stored, dict) and done_by(view.full_name, [view.stored])


def _check_claim(view: RestoreView) -> Refusal | Missing | None:
    assert view.target is not None
    assert view.backup is not None
    assert view.backup.status is not None
    if deleting(view.target):
        return Missing("ClaimDeleting", f"{view.target_name} is being deleted; then it is made again.")
    if not claim_is_bound(view.target):
        phase = (view.target.get("status") or {}).get("phase", "Pending")
        return Missing(
            "ClaimNotBound",
            f"{view.target_name} is {phase} and has no data to exchange: delete it, and it is made again, "
            "or let a pod use it once.",
        )
    problem = check_volume(view.claim, view.target, view.claim_volume)
    if problem is not None:
        return problem
    assert view.claim_volume is not None
    if deleting(view.claim_volume):
        return Refusal(
            "VolumeDeleting",
            f"The PersistentVolume {view.claim_volume['metadata']['name']} of {view.target_name} is being deleted, "
            "and goes as soon as nothing uses it: restore to a newClaim.",
        )
    size, stored = _size(view.claim_volume), int(view.backup.status.volumes[0].size or 0)
    if size < stored:
        return Refusal(
            "TargetTooSmall",
            f"{view.target_name} has {size} bytes, but the backup holds a volume of {stored}: expand the claim, "
            "or restore to a newClaim.",
        )
    mode = view.target["spec"].get("volumeMode") or "Filesystem"
    return check_mode(view, mode, "restore it to a newClaim with volumeMode Block")


def _check_users(view: RestoreView) -> Refusal | Missing | None:
    """Known before anything is moved: whether the claim could be taken from its users in the end."""
    original = view.restore.spec.target.original
    assert original is not None
    if not view.users:
        return None
    if not original.stop_workload:
        return Missing(
            "ClaimInUse",
            f"{view.target_name} is in use by {names(view.users)}: stop them, or create the Restore with "
            "spec.target.original.stopWorkload: true.",
        )
    problem = stoppable(view.users)
    return Refusal("CannotStopWorkload", problem) if problem else None


def _size(volume: Object) -> int:
    return parse_quantity(volume["spec"]["capacity"]["storage"])


def _raw_claim(view: RestoreView) -> RawClaim | None:
    volume = view.claim_volume
    if volume is None:
        return None
    return raw_claim_for(view, _size(volume), volume["spec"].get("storageClassName") or "")


def _exchange(view: RestoreView) -> Decision:
    """The data is there. The claim gets it."""
    lost = claim_lost(view)
    if lost:
        return ended(failed("TargetLost", lost))
    former = has_former(view)
    if has_other(view):
        text = f"{view.target_name} has got other storage meanwhile, by another Restore or by hand."
        return ended(failed("VolumeChanged", text))
    if former is False:
        return _finish(view)
    if former and not fenced(view) and _called_off(view):
        return ended(cancelled())
    if former or view.new_volume is None:
        taking = take_over(view, Action.PARK_RESTORED)
        if taking is not None:
            return taking
    return exchange_step(view, view.new_volume, view.former_volume, Action.PARK_FORMER)


def _finish(view: RestoreView) -> Decision:
    """The claim has its restored storage: its users start again."""
    text = f"{view.target_name} has its restored data."
    settling = _settle(view, text, view.new_volume, Action.DELETE_VOLUME_OBJECT)
    if settling is not None:
        return settling
    if not view.already_done:
        return doing("HandingOver", text, Action.MARK_CLAIM)
    original = view.restore.spec.target.original
    start = start_step(view) if original is not None and original.start_after else None
    if start is not None:
        return start
    if view.has_secrets:
        return doing("CleaningUp", text, Action.DELETE_SECRET)
    return _restored(view, None)


def _settle(view: RestoreView, text: str, parked: Object | None, drop: Action) -> Decision | None:
    """The next step after an exchange, until the claim's volume is the only object on its storage, as it was before.

    `parked`: the object that has kept the storage which the claim has now, removed by the action `drop`.
    """
    if not _bound(view):
        return doing("Binding", f"Waiting for {view.target_name} to be bound to its volume.")
    if parked is not None:
        return doing("HandingOver", text, drop)
    if policy_pending(view, view.claim_volume):
        return doing("HandingOver", text, Action.SET_CLAIM_POLICY)
    return None


def _bound(view: RestoreView) -> bool:
    """Whether the claim and its PersistentVolume have found each other again."""
    phase = ((view.claim_volume or {}).get("status") or {}).get("phase")
    return view.target is not None and claim_is_bound(view.target) and phase == "Bound" and not fenced(view)


def _restored(view: RestoreView, action: Action | None, otherwise: Action | None = None) -> Decision:
    """It can be rolled back. `otherwise`: what is done where the action fails."""
    until = kept_until(view) or view.calendar + window_of(view)
    original = view.restore.spec.target.original
    idle = ""
    if original is not None and original.stop_workload and not original.start_after:
        idle = " What was stopped (status.workloads) stays at zero replicas, as was asked for."
    return Decision(
        RESTORED,
        "RollbackPossible",
        f"{view.target_name} holds the backup.{idle} Its former data is kept until {until:%Y-%m-%d %H:%M} UTC: "
        "spec.confirm lets it go, "
        "spec.rollback brings it back.",
        action=action,
        detail=otherwise,
        requeue=1.0
        if not _recorded(view)
        else min(LOOK_AGAIN, max(1.0, (until - view.calendar).total_seconds())),
    )


def _keep(view: RestoreView) -> Decision:
    """The former data is kept for a while."""
    volume, until = view.former_volume, kept_until(view)
    if volume is None or deleting(volume):
        return _completed(view, "")
    over = view.restore.spec.confirm or (until is not None and view.calendar >= until)
    if over and not _recorded(view):  # what cannot be told to the store now does not hold it up
        return _restored(view, Action.RECORD, Action.DISCARD_FORMER)
    if over and policy_pending(view, volume):
        return _restored(view, Action.DISCARD_FORMER)
    if over:
        stays = policy_of(volume) == "Retain"
        name = volume["metadata"]["name"]
        return _completed(
            view,
            f" Its former storage stays as PersistentVolume {name}, as its policy is Retain."
            if stays
            else "",
        )
    return _restored(view, None if _recorded(view) else Action.RECORD)


def _recorded(view: RestoreView) -> bool:
    return bool(view.restore.status and view.restore.status.recorded)


def _completed(view: RestoreView, more: str) -> Decision:
    return Decision("Completed", "Completed", f"{view.target_name} holds the backup.{more}", requeue=None)


def _roll_back(view: RestoreView) -> Decision:
    """The claim gets its former storage again; what was restored goes."""
    problem = _cannot_roll_back(view)
    if problem:
        restored = _restored(view, None)
        return (
            Decision(RESTORED, "CannotRollBack", problem, requeue=restored.requeue)
            if (view.former_volume is not None)
            else _completed(view, f" {problem}")
        )
    if not has_former(view):
        at_work = [r for r in view.rivals if r.at_work]
        if view.claim_volume is not None and not fenced(view) and at_work:
            rival = min(at_work)
            return _rolling(
                doing(
                    "OperationInProgress", f"Waiting for {rival.kind} {rival.name}, which works on the claim."
                )
            )
        return _rolling(exchange_step(view, view.former_volume, view.new_volume, Action.PARK_RESTORED))
    return _rolling(_finish_rollback(view))


def _rolling(step: Decision) -> Decision:
    phase = step.phase if step.finished else ROLLING_BACK
    return Decision(phase, step.reason, step.message, step.action, step.detail, None, step.requeue)


def _cannot_roll_back(view: RestoreView) -> str:
    lost = claim_lost(view)
    name = view.former_volume["metadata"]["name"] if view.former_volume else ""
    if lost:
        return f"{lost} Its former data is in PersistentVolume {name}." if name else lost
    status = view.restore.status
    assert status is not None
    if view.claim_volume is None or has_former(view) or status.exchange is None:
        return ""
    if view.former_volume is None:
        return "The former data is not kept any more."
    if has_other(view):
        return f"{view.target_name} has other storage by now, of a later Restore: roll that one back first."
    return ""


def _finish_rollback(view: RestoreView) -> Decision:
    text = f"{view.target_name} has its former data again."
    settling = _settle(view, text, view.former_volume, Action.DELETE_FORMER_OBJECT)
    if settling is not None:
        return settling
    start = start_step(view)
    if start is not None:
        return start
    if view.new_volume is not None and policy_pending(view, view.new_volume):
        return doing("CleaningUp", text, Action.DISCARD_VOLUME)
    return Decision("RolledBack", "RolledBack", text, requeue=None)


def clean_up(view: RestoreView, outcome: Outcome) -> Decision:
    """The next step after a failure of any Restore, until nothing of it is left."""
    step = cleaning_step(view)
    if step is not None:
        return Decision("Restoring", "CleaningUp", outcome.message, step.action, step.detail, None, 1.0)
    kept = _kept(view)
    more = f" Its former storage is kept as PersistentVolume {kept}, with the policy Retain." if kept else ""
    more += left_behind([*view.pods, *view.given_up.pods], view.nodes, view.now)
    return Decision("Error", outcome.reason, f"{outcome.message}{more}", requeue=None)


def _kept(view: RestoreView) -> str:
    """The PersistentVolume that keeps what a claim had that was deleted in the middle."""
    taken_away = annotation(view.claim_volume, FENCED_ANNOTATION) is not None
    volume = view.former_volume or (view.claim_volume if taken_away else None)
    return str(volume["metadata"]["name"]) if volume and claim_lost(view) else ""


def cleaning_step(view: RestoreView) -> Decision | None:
    """The next step after a failure, or of a deletion; None when nothing of this Restore is left.

    In place, a claim that has its restored storage keeps it, and its former storage goes; any other gets its former
    one back.
    """
    text = "Removing what was made for this Restore."
    status = view.restore.status
    if status is None or status.exchange is None:
        return _generic(view, text)
    first = next_cleaning(view)
    if first in (Action.DELETE_JOB, Action.DELETE_GIVEN_UP, Action.DELETE_PODS):
        return doing("CleaningUp", text, first)
    step = _settle_claim(view, text) if not claim_lost(view) else _settle_lost(view, text)
    return step or start_step(view) or _generic(view, text)


def _generic(view: RestoreView, text: str) -> Decision | None:
    action = next_cleaning(view)
    return doing("CleaningUp", text, action) if action is not None else None


def _settle_claim(view: RestoreView, text: str) -> Decision | None:
    current, former = view.claim_volume, view.former_volume
    if current is None:
        if former is None and view.new_volume is None:
            return None  # deleted by hand, both of them: there is nothing to give the claim
        return doing("CleaningUp", text, Action.CREATE_CLAIM_VOLUME, former or view.new_volume)
    if fenced(view):
        return doing("CleaningUp", text, None if deleting(current) else Action.UNFENCE)
    if has_former(view) or has_other(view):
        if former is not None:
            return doing("CleaningUp", text, Action.DELETE_FORMER_OBJECT)
    else:
        if view.new_volume is not None:
            return doing("CleaningUp", text, Action.DELETE_VOLUME_OBJECT)
        if policy_pending(view, former):
            return doing("CleaningUp", text, Action.DISCARD_FORMER)
    if policy_pending(view, current):
        return doing("CleaningUp", text, Action.SET_CLAIM_POLICY)
    return None


def _settle_lost(view: RestoreView, text: str) -> Decision | None:
    """The claim was deleted: its storage goes as its class says, but not what it had before a restore took it away.

    That stays, with the policy Retain: whoever deletes a claim that is Lost for a moment must not lose its data.
    """
    current = view.claim_volume
    if current is None:
        return None
    if deleting(current):
        return doing("CleaningUp", text)
    if has_former(view):
        if view.former_volume is not None:
            return doing("CleaningUp", text, Action.DELETE_FORMER_OBJECT)
        taken_away = annotation(current, FENCED_ANNOTATION) is not None
        if policy_pending(view, current) and not taken_away:
            return doing("CleaningUp", text, Action.SET_CLAIM_POLICY)
        return None
    if view.new_volume is not None and not has_other(view):
        return doing("CleaningUp", text, Action.DELETE_VOLUME_OBJECT)
    return doing("CleaningUp", text, Action.SET_CLAIM_POLICY) if policy_pending(view, current) else None
