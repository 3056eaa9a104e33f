"""What becomes of the backups of a resource that has left its vault (A7). Pure.

Under `dissociation: Delete` they go, after a while in which it can come back, and held like any mass deletion when they
are many: what leaves within that while counts together, as a selector with a typing error lets all leave at once. What
is allowed to go stands in the status, so that the word for one set of resources is none for another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from blockvault.api import Backup, DeletionHold, LeavingResource, MassDeletion, Vault

from .association import CLAIM
from .conditions import parse_timestamp, timestamp
from .hold import KEEP, Answer, answer_of, command_of, counts_as_many, token_of
from .naming import volume_name
from .retention import Verdict
from .runs import volume_of

DISSOCIATED = "Dissociated"
# How soon what is being removed, or waits for a word, is looked at again, in seconds.
LOOK_SECONDS = 5.0
# Resources that leave at a time and are remembered: twice as many as a vault holds. Of those beyond nothing is deleted.
MOST_LEAVING = 512


@dataclass(frozen=True)
class LeavingView:
    """`left`: names that the vault held until now; `wanted`: those that it names or selects. `backups`: all of its.

    `odd`: volumes of which nothing is removed, as an odd backup of theirs waits for somebody to look (core.anomaly).
    """

    now: datetime
    vault: Vault
    limit: MassDeletion
    left: list[str]
    wanted: Iterable[str]
    backups: list[Backup]
    odd: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LeavingPlan:
    """`told`: (reason, message) of events. `next_look` in seconds, None when nothing is to come."""

    leaving: list[LeavingResource] = field(default_factory=list)
    hold: DeletionHold | None = None
    remove: list[Verdict] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    next_look: float | None = None


def plan_leaving(view: LeavingView) -> LeavingPlan:
    """What to do now about all that has left. Looking again after any part of it was done asks for the rest."""
    wanted = set(view.wanted)
    former = {each.name: each for each in (view.vault.status.leaving if view.vault.status else None) or []}
    told = [
        ("Returned", f"{CLAIM} {name} is back: its backups stay.") for name in sorted(wanted & set(former))
    ]
    new = [name for name in view.left if name not in former and name not in wanted]
    if view.vault.spec.dissociation == "Retain":
        told += [
            (DISSOCIATED, f"{CLAIM} {name} has left the vault. Its backups stay (spec.dissociation).")
            for name in new
        ]
        return LeavingPlan(told=told)
    leaving = [each for name, each in former.items() if name not in wanted]
    leaving += [LeavingResource(kind=CLAIM, name=name, since=timestamp(view.now)) for name in new]
    leaving = leaving[:MOST_LEAVING]
    theirs = {each.name: backups_of(view.vault, each, view.backups) for each in leaving}
    for each in leaving:
        if each.name in new:
            told.append((DISSOCIATED, _farewell(each, len(theirs[each.name]), view.limit)))
    leaving = [each for each in leaving if theirs[each.name]]
    answer, hold = _hold(view, [each for each in leaving if not each.allowed], theirs)
    if answer is Answer.KEEP_DATA:
        told += [
            ("BackupsKept", f"{CLAIM} {each.name} has left the vault, and its backups stay.")
            for each in leaving
            if not each.allowed
        ]
        leaving = [each for each in leaving if each.allowed]
    leaving = [_allowed(each, answer, hold, view) for each in leaving]
    leaving = [each.model_copy(update={"backups": len(theirs[each.name])}) for each in leaving]
    remove = [
        Verdict(
            backup.metadata.name,
            True,
            DISSOCIATED,
            f"{CLAIM} {each.name} has left the vault: its backups go.",
        )
        for each in leaving
        if each.allowed and _volume(view, each) not in view.odd
        for backup in theirs[each.name]
        if not backup.metadata.deletion_timestamp and _ended(backup)
    ]
    return LeavingPlan(leaving, hold, remove, told, _next_look(view, leaving, hold))


def backups_of(vault: Vault, resource: LeavingResource, backups: Iterable[Backup]) -> list[Backup]:
    """The Backups that go with a resource: those that were asked for before it left, and are this cluster's."""
    volume, since = volume_name(str(vault.metadata.namespace), resource.name), parse_timestamp(resource.since)
    return [
        b
        for b in backups
        if volume_of(b) == volume
        and b.metadata.creation_timestamp <= since
        and not (b.status and b.status.cluster)
    ]


def _volume(view: LeavingView, resource: LeavingResource) -> str:
    return volume_name(str(view.vault.metadata.namespace), resource.name)


def _ended(backup: Backup) -> bool:
    """A run that goes on is not stopped: it goes when it has ended."""
    return bool(backup.status and backup.status.phase in ("Available", "Error"))


def _hold(
    view: LeavingView, undecided: list[LeavingResource], theirs: dict[str, list[Backup]]
) -> tuple[Answer, DeletionHold | None]:
    if not undecided:
        return Answer.GO_ON, None
    text = [view.vault.metadata.uid, *sorted(f"{each.name}/{each.since}" for each in undecided)]
    token = token_of("\n".join(text))
    former = view.vault.status.dissociation_hold if view.vault.status else None
    many = sum(_has_data(b) for each in undecided for b in theirs[each.name])
    total = sum(_has_data(b) for b in view.backups)
    if former is None and not counts_as_many(view.limit, many, total):
        return Answer.GO_ON, None
    if former is not None and former.token == token:
        return answer_of(view.vault, former), former
    command = command_of(view.vault)
    message = (
        f"{len(undecided)} resources have left the vault, with {many} of its {total} backups: these wait until "
        f"somebody says that it is meant. To delete them: {command}={token}. To keep them: {command}={KEEP}{token}, "
        "or let the vault name or select the resources again."
    )
    hold = DeletionHold(token=token, since=former.since if former else timestamp(view.now), message=message)
    return answer_of(view.vault, hold), hold


def _has_data(backup: Backup) -> bool:
    return bool(backup.status and backup.status.volumes and not backup.status.cluster)


def _allowed(
    each: LeavingResource, answer: Answer, hold: DeletionHold | None, view: LeavingView
) -> LeavingResource:
    """What somebody has said a word for need not wait for its time as well."""
    due = hold is not None or view.now >= _due(each, view.limit)
    if each.allowed or (answer is Answer.GO_ON and due):
        return each.model_copy(update={"allowed": True})
    return each


def _due(each: LeavingResource, limit: MassDeletion) -> datetime:
    return parse_timestamp(each.since) + timedelta(minutes=limit.minutes)


def _next_look(view: LeavingView, leaving: list[LeavingResource], hold: DeletionHold | None) -> float | None:
    if hold is not None or any(each.allowed and _volume(view, each) not in view.odd for each in leaving):
        return LOOK_SECONDS
    waits = [(_due(each, view.limit) - view.now).total_seconds() for each in leaving if not each.allowed]
    return max(1.0, min(waits) + 0.5) if waits else None


def _farewell(each: LeavingResource, backups: int, limit: MassDeletion) -> str:
    if not backups:
        return f"{CLAIM} {each.name} has left the vault. It had no backups."
    return (
        f"{CLAIM} {each.name} has left the vault. Its {backups} backups go into the trash in {limit.minutes} minutes: "
        "let the vault name or select it again, or set spec.dissociation to Retain, to keep them."
    )
