"""What the deletion of a Vault does next, as a pure function of what is there (A5, A6, F11, F18).

Its stored data stays, unless `deletionPolicy: Delete` is in force: then, after the hold, its Backup objects go first
and the stored data last, by one mover. Until that begins, setting Retain leaves all data where it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from blockvault.api import Backup, DeletionHold, UpkeepStatus, Vault, VaultDeletion

from .conditions import parse_timestamp, timestamp
from .decision import Missing, Outcome, Refusal, failed
from .hold import Answer, standing_hold
from .lost_nodes import Nodes
from .mover import final_report, judge_mover, mover_wait, pods_of
from .objects import MoverReport, Object, deleting, job_ended
from .plan_upkeep import BOUND, UpkeepView, next_cleaning
from .plan_upkeep import Action as Upkeep

# A prune deletes many Vaults within seconds: no data of the first goes before the others are seen.
SETTLE = timedelta(seconds=10)
# A run that failed is tried again after so long; one that found objects locked, later.
RETRY, LOCKED_RETRY = timedelta(minutes=1), timedelta(hours=1)
# Backups whose deletion one step asks for.
BATCH = 50
# Restores that a message names.
NAMED = 3
ERASED, LOCKED = "Erased", "ObjectsLocked"
# What only the report of a run that erased has.
ITS_WORDS = {"volumes", "foreign", "failed", "lockedObjects", "deletedObjects", "deletedBytes"}
STEP_SECONDS, LOOK_SECONDS = 1.0, 5.0
# Nothing wakes what is held: while its deletion is handled, no event of a Vault comes through. Its look costs little.
HELD_SECONDS = 10.0


class Action(StrEnum):
    """One effect each; every one of them can be repeated without harm."""

    DELETE_BACKUPS = "DeleteBackups"
    CREATE_SECRET = Upkeep.CREATE_SECRET
    CREATE_JOB = Upkeep.CREATE_JOB
    DELETE_JOB = Upkeep.DELETE_JOB
    DELETE_PODS = Upkeep.DELETE_PODS
    DELETE_SECRET = Upkeep.DELETE_SECRET


@dataclass(frozen=True)
class DeletionView:
    """All that a decision about a Vault's deletion looks at; `now` is the time by which the API server stamps.

    `leaving`: its namespace or its definition goes too. `problem`: why the place cannot be worked on now. `backups`:
    its own Backup objects. `shared`: another Vault that shows the same store. `restores`: names of Restores that read
    its Backups now. `hold`: what the hold says. `job`, `pods`, `has_secret`: of the run that erases, or of the last run
    of upkeep before it. `nodes`: those of the pods.
    """

    now: datetime
    vault: Vault
    leaving: bool = False
    problem: Refusal | Missing | None = None
    backups: list[Backup] = field(default_factory=list)
    shared: str | None = None
    restores: list[str] = field(default_factory=list)
    hold: tuple[Answer, DeletionHold | None] = (Answer.GO_ON, None)
    job: Object | None = None
    pods: list[Object] = field(default_factory=list)
    has_secret: bool = False
    nodes: Nodes = field(default_factory=dict)

    @property
    def deletion(self) -> VaultDeletion | None:
        """What the status says of it."""
        return self.vault.status.deletion if self.vault.status else None


@dataclass(frozen=True)
class Step:
    """What the status says now, and one effect or none. `deletion`: what is new in `status.deletion`.

    `stuck`: somebody has to do something. `done`: the finalizer may go; `requeue` in seconds.
    """

    reason: str = ""
    message: str = ""
    action: Action | None = None
    deletion: dict[str, Any] | None = None
    hold: DeletionHold | None = None
    stuck: bool = False
    done: bool = False
    requeue: float = LOOK_SECONDS


def deletion_policy(vault: Vault) -> str:
    """Retain or Delete, as it is in force.

    A class's default counts only as the status shows it of the spec as it is: what nobody could see deletes nothing.
    """
    if vault.spec.deletion_policy is not None:
        return vault.spec.deletion_policy
    status, meta = vault.status, vault.metadata
    if status is None or status.deletion_policy is None:
        return "Retain"
    # The deletion itself counts as a change of the object.
    newest = meta.generation - (1 if meta.deletion_timestamp else 0)
    return status.deletion_policy if (status.observed_generation or 0) >= newest else "Retain"


def deletes_data(vault: Vault) -> bool:
    """Whether the Vault is being deleted and takes its backups with it. One whose store never answered has none."""
    has_store = bool(vault.status and vault.status.store_id)
    return bool(vault.metadata.deletion_timestamp) and has_store and deletion_policy(vault) == "Delete"


def keeps_data(vault: Vault | None) -> bool:
    """Whether the Vault is gone or going without its backups: then no Backup takes its data either."""
    return vault is None or (bool(vault.metadata.deletion_timestamp) and not deletes_data(vault))


def waits_for_vault(vault: Vault | None, backup: Backup) -> bool:
    """Whether a Backup that is deleted waits for its Vault, which is to take it along and has not begun."""
    begun = vault is not None and vault.status is not None and vault.status.deletion is not None
    return vault is not None and not begun and deletes_data(vault) and bool(own_backups(vault, [backup]))


def wants_store(view: DeletionView) -> bool:
    """Whether the next step depends on whether the store answers."""
    deletion = view.deletion
    if not deletes_data(view.vault) or view.leaving:
        return False
    if deletion is None:
        return standing_hold(view.vault) is None
    running = bool(deletion.run and not deletion.ended_at)
    return not (view.backups or deletion.left or running or deletion.reason == ERASED)


def run_of(vault: Vault) -> int:
    """The number of the run whose Job may be there: that which erases, or the last one of upkeep."""
    status = vault.status
    if status and status.deletion and status.deletion.run:
        return status.deletion.run
    return status.upkeep.run if status and status.upkeep else 0


def own_backups(vault: Vault, backups: Iterable[Backup]) -> list[Backup]:
    """Those of the Backups that name this Vault which are its own, and not of a former one of its name elsewhere."""
    place = vault.status.location if vault.status else None
    return [b for b in backups if not (b.status and b.status.location and b.status.location != place)]


def decide_deletion(view: DeletionView) -> Step:
    """The next step. One thing at a time: looking again after it asks for the rest."""
    another = view.problem is not None and view.problem.reason == "LocationInUse"
    keeps = view.hold[0] is Answer.KEEP_DATA and view.deletion is None
    if view.leaving or another or keeps or view.shared or not deletes_data(view.vault):
        return _clean(view) or _let_go(view)
    deletion = view.deletion
    if deletion is None:
        return _begin(view)
    if view.backups:
        return _remove_backups(view, deletion)
    if deletion.left:
        return Step("RemovingBackups", _left(0, deletion.total), deletion={"left": 0}, requeue=0.0)
    if deletion.run and not deletion.ended_at:
        return _erase(view, deletion)
    if deletion.reason == ERASED:
        return _clean(view) or Step(done=True)
    return _start_run(view, deletion)


def _let_go(view: DeletionView) -> Step:
    """The end where data stays. In a namespace that goes, nothing can be said any more."""
    status = view.vault.status
    place = status.location if status else None
    if view.leaving or not place or not status or not status.store_id:
        return Step(done=True)
    if view.problem is not None and view.problem.reason == "LocationInUse":
        return Step(done=True)
    deletion = view.deletion
    if deletion is not None and deletion.run:
        if deletion.reason == ERASED:
            return Step(done=True)
        words = (
            f"Only this object goes, what is left of its data stays at {place}. Erasing it had begun: its backups may "
            "be gone in part or all, and what is left of them may not be restorable."
        )
        return Step("PartlyErased", words, done=True)
    if view.shared and deletes_data(view.vault):
        words = (
            f"Only this object goes, what is stored at {place} stays: Vault {view.shared} has the same store."
        )
        return Step("StoreShared", words, done=True)
    message = f"Only this object goes, what is stored stays at {place}: a Vault with that in spec.adopt shows it again."
    return Step("DataKept", message, done=True)


def words_of_exit(vault: Vault) -> str:
    """How to let a Vault go whose data cannot be deleted."""
    meta, deletion = vault.metadata, vault.status.deletion if vault.status else None
    begun = deletion is not None and deletion.run
    left = "what is left, of which backups may be gone already" if begun else "what is stored"
    return (
        f"To let the object go and leave {left}: "
        f"kubectl patch vault {meta.name} -n {meta.namespace} --type merge "
        """-p '{"spec":{"deletionPolicy":"Retain"}}'."""
    )


def _begin(view: DeletionView) -> Step:
    answer, hold = view.hold
    early = ((view.vault.metadata.deletion_timestamp or view.now) + SETTLE - view.now).total_seconds()
    if hold is None and early > 0:
        message = "The Vault is deleted with its backups in a few seconds."
        return Step("Deleting", message, requeue=min(early, SETTLE.total_seconds()) + 0.1)
    if answer is Answer.WAIT and hold is not None:
        return Step("DeletionHeld", hold.message, hold=hold, stuck=True, requeue=HELD_SECONDS)
    if view.problem is not None:
        return _blocked(view, view.problem.reason, f"Nothing is deleted yet: {view.problem.message}")
    total = len(view.backups)
    begun = {"total": total, "left": total, "run": 0}
    return Step("RemovingBackups", _left(total, total), deletion=begun, requeue=0.0)


def _remove_backups(view: DeletionView, deletion: VaultDeletion) -> Step:
    left = len(view.backups)
    message = _left(left, max(left, deletion.total))
    if view.restores:
        more = f" and {len(view.restores) - NAMED} more" if len(view.restores) > NAMED else ""
        message += f" Waiting for what is restored from them: {', '.join(view.restores[:NAMED])}{more}."
    asked = all(b.metadata.deletion_timestamp for b in view.backups)
    return Step(
        "RemovingBackups",
        message,
        None if asked else Action.DELETE_BACKUPS,
        {"left": left, "total": max(left, deletion.total)},
        requeue=STEP_SECONDS,
    )


def _left(left: int, total: int) -> str:
    return f"{left} of {total} Backups are left; what is stored goes after them."


def _start_run(view: DeletionView, deletion: VaultDeletion) -> Step:
    clean = _clean(view)  # what a run before it has left; the Secret has one name for all
    if clean is not None:
        return clean
    if deletion.ended_at:
        wait = LOCKED_RETRY if deletion.reason == LOCKED else RETRY
        due = parse_timestamp(deletion.ended_at) + wait
        if view.now < due:
            words = f"What is stored cannot be deleted yet: {deletion.message}"
            left = (due - view.now).total_seconds()
            return _blocked(view, str(deletion.reason), words, min(left, wait.total_seconds()))
    if view.problem is not None:
        words = f"What is stored cannot be deleted yet: {view.problem.message}"
        return _blocked(view, view.problem.reason, words)
    upkeep = (view.vault.status.upkeep if view.vault.status else None) or UpkeepStatus()
    begun = {
        "run": max(upkeep.run, deletion.run) + 1,
        "startedAt": timestamp(view.now),
        "endedAt": None,
        "reason": None,
        "message": None,
    }
    return Step("Erasing", "Erasing what is stored.", deletion=begun, requeue=0.0)


def _erase(view: DeletionView, deletion: VaultDeletion) -> Step:
    job = view.job
    if job is None:
        if view.problem is not None:
            words = f"What is stored cannot be deleted yet: {view.problem.message}"
            return _blocked(view, view.problem.reason, words)
        action = Action.CREATE_JOB if view.has_secret else Action.CREATE_SECRET
        return Step("Erasing", "Starting the mover that erases what is stored.", action, requeue=STEP_SECONDS)
    view = replace(view, pods=pods_of(job, view.pods))  # what a run before it said is no word of this one
    if job_ended(job):
        return _ended(view, job)
    if not view.has_secret and view.problem is None:
        # Somebody deleted it: a pod that has not started waits for it.
        return Step("Erasing", "Erasing what is stored.", Action.CREATE_SECRET, requeue=STEP_SECONDS)
    wait = mover_wait(job, view.pods, BOUND, view.now, view.nodes)
    if isinstance(wait, Outcome):
        return _failure(view, wait)
    if wait.lost:  # what was erased stays so, also should it live
        return Step("Erasing", wait.message, Action.DELETE_JOB, requeue=STEP_SECONDS)
    report = final_report(job, view.pods)
    if report is not None and not report.ok:
        words = f"Erasing what is stored failed and is tried again: {report.message} {report.remedy}".strip()
        return _blocked(view, report.reason, words)
    words = "Erasing what is stored." if wait.reason == "Moving" else wait.message
    return Step("Erasing", words)


def _ended(view: DeletionView, job: Object) -> Step:
    outcome = judge_mover(job, view.pods)
    if outcome is None:  # whether all of it went stood in its words alone: the next run will say
        outcome = failed("MoverLost", "The mover's words are lost: another one looks.")
    report = final_report(job, view.pods)
    if not outcome.succeeded or report is None:
        return _failure(view, outcome)
    if not report.result.keys() >= ITS_WORDS:
        return _failure(view, failed("MoverLost", "The mover says nothing of erasing: another one looks."))
    problem = _not_all(report)
    if problem is not None:
        return _failure(view, problem)
    result = report.result
    others = ", ".join(result.get("foreignNames") or [])
    stays = f" {result['foreign']} volumes of other clusters, or of nobody, stay: {others}." if others else ""
    message = f"All that was stored is erased.{stays}"
    return Step(
        ERASED,
        message,
        deletion={
            "endedAt": timestamp(view.now),
            "reason": ERASED,
            "message": message,
            **{key: result.get(key) for key in ("deletedBytes", "deletedObjects")},
        },
        requeue=0.0,
    )


def _not_all(report: MoverReport) -> Outcome | None:
    result = report.result
    errors = result.get("errors") or []
    if errors:
        first = errors[0]
        more = f" (and {result['failed'] - 1} more volumes)" if result.get("failed", 1) > 1 else ""
        words = f"Volume {first.get('volume')}: {first.get('message')} {first.get('remedy')}{more}"
        return failed(str(first.get("reason") or "Failed"), words)
    if result["failed"]:  # their words were too long for the report
        return failed("Failed", f"{result['failed']} volumes could not be erased: the mover's log says why.")
    if result.get("lockedObjects"):
        until = result.get("lockedUntil")
        return failed(LOCKED, f"{result['lockedObjects']} objects are locked, some of them until {until}.")
    return None


def _failure(view: DeletionView, outcome: Outcome) -> Step:
    ended = {"endedAt": timestamp(view.now), "reason": outcome.reason, "message": outcome.message}
    step = _blocked(view, outcome.reason, f"What is stored cannot be deleted yet: {outcome.message}")
    return Step(step.reason, step.message, deletion=ended, stuck=True, requeue=STEP_SECONDS)


def _blocked(view: DeletionView, reason: str, message: str, requeue: float = LOOK_SECONDS) -> Step:
    words = f"{message} {words_of_exit(view.vault)}"
    return Step(reason, words, hold=view.hold[1], stuck=True, requeue=min(requeue, 60.0))


def _clean(view: DeletionView) -> Step | None:
    """The next thing to remove of a run that goes on no more, None when nothing is left."""
    # A pod on a dead node never ends: it is not waited for, as nothing may hang on our finalizer.
    pods = [pod for pod in view.pods if not deleting(pod)]
    run = UpkeepView(
        view.now, view.vault.metadata.uid, view.now, UpkeepStatus(), view.job, pods, view.has_secret
    )
    action = next_cleaning(run)
    if action is None:
        return None
    return Step("CleaningUp", "Removing what was made in the cluster.", Action(action), requeue=STEP_SECONDS)
