"""The hold on mass deletion: when many backups of a vault are deleted at once, somebody must say that it is meant.

A prune of a GitOps tool or a wrong kubectl deletes in seconds what took years to make. What a rule removes does not
count, nor does what holds no data. Pure (F11).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from blockvault.api import DeletionHold, MassDeletion, Vault

from .conditions import timestamp
from .naming import ALLOW_DELETION_ANNOTATION

# Fewer than so many deletions are never held.
LEAST = 5
KEEP = "keep-"


class Answer(StrEnum):
    """What becomes of the deletions that wait."""

    GO_ON = "GoOn"
    KEEP_DATA = "KeepData"
    WAIT = "Wait"


@dataclass(frozen=True)
class HoldView:
    """Of Backups with data, `going`: people are deleting them; `present`: all, these too; `done`: deleted lately."""

    now: datetime
    vault: Vault
    limit: MassDeletion
    going: int
    present: int
    done: int


def decide_hold(view: HoldView) -> tuple[Answer, DeletionHold | None]:
    """Whether deletions of this vault go on, and the hold that its status shows from now on."""
    hold = view.vault.status.deletion_hold if view.vault.status else None
    if hold is None:
        if not _is_mass(view):
            return Answer.GO_ON, None
        hold = _new_hold(view)
    given = view.vault.metadata.annotations.get(ALLOW_DELETION_ANNOTATION)
    answer = {hold.token: Answer.GO_ON, f"{KEEP}{hold.token}": Answer.KEEP_DATA}.get(given or "", Answer.WAIT)
    if view.going == 0:
        return answer, None  # what was held is gone
    return answer, hold


def _is_mass(view: HoldView) -> bool:
    wanted, total = view.going + view.done, view.present + view.done
    return wanted >= LEAST and wanted * 100 > view.limit.percent * total


def _new_hold(view: HoldView) -> DeletionHold:
    meta = view.vault.metadata
    token = hashlib.sha256(f"{meta.uid}/{view.now.timestamp()}".encode()).hexdigest()[:8]
    wanted, total = view.going + view.done, view.present + view.done
    command = (
        f"kubectl annotate vault {meta.name} -n {meta.namespace} --overwrite {ALLOW_DELETION_ANNOTATION}"
    )
    message = (
        f"{wanted} of {total} backups were deleted within {view.limit.minutes} minutes: the rest waits until somebody "
        f"says that it is meant. To go on: {command}={token}. To remove the objects only and keep all data, which is "
        f"shown again as objects afterwards: {command}={KEEP}{token}."
    )
    return DeletionHold(token=token, since=timestamp(view.now), message=message)
