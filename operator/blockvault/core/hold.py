"""The hold on mass deletion: when many backups of a vault are deleted at once, somebody must say that it is meant.

A prune of a GitOps tool or a wrong kubectl deletes in seconds what took years to make. What a rule removes does not
count, nor does what holds no data. Pure (F11).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from blockvault.api import Backup, DeletionHold, MassDeletion, Vault

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
        if not counts_as_many(view.limit, view.going + view.done, view.present + view.done):
            return Answer.GO_ON, None
        hold = _new_hold(view)
    answer = answer_of(view.vault, hold)
    if view.going == 0:
        return answer, None  # what was held is gone
    return answer, hold


@dataclass(frozen=True)
class VaultHoldView:
    """A Vault that is being deleted with all that it stores: `stored` backups, those in the trash too.

    `here`, `everywhere`: Vaults that are being deleted so, or were lately, this one too, in its namespace and in the
    cluster; `vaults`: all of the cluster, with those that were deleted lately.
    """

    now: datetime
    vault: Vault
    limit: MassDeletion
    stored: int
    here: int = 1
    everywhere: int = 1
    vaults: int = 1


def decide_vault_hold(view: VaultHoldView) -> tuple[Answer, DeletionHold | None]:
    """Whether a Vault's data is deleted with it, and the hold that its status shows from now on.

    The token follows from the deletion, so that no crash makes another one of it.
    """
    hold = standing_hold(view.vault)
    if hold is None:
        token = _vault_token(view.vault)
        why = _why_held(view)
        if why is None:
            return Answer.GO_ON, None
        command = command_of(view.vault)
        message = (
            f"{why} It waits until somebody says that it is meant, as nothing of it can be brought back then. "
            f"To go on: {command}={token}. To remove the Vault only and keep all data: {command}={KEEP}{token}."
        )
        hold = DeletionHold(token=token, since=timestamp(view.now), message=message)
    return answer_of(view.vault, hold), hold


def standing_hold(vault: Vault) -> DeletionHold | None:
    """The hold on this very deletion of the Vault that its status shows."""
    hold = vault.status.deletion_hold if vault.status else None
    return hold if hold is not None and hold.token == _vault_token(vault) else None


def _vault_token(vault: Vault) -> str:
    return token_of(f"{vault.metadata.uid}/vault/{vault.metadata.deletion_timestamp}")


def _why_held(view: VaultHoldView) -> str | None:
    """A Vault that goes takes all it has: of five backups on that is many, whatever share the class allows but all."""
    percent = view.limit.percent
    if not view.stored or percent == 100:
        return None
    if view.stored >= LEAST:
        return f"The Vault is deleted with all of its {view.stored} backups."
    if view.here > 1:
        return f"{view.here} Vaults of this namespace are deleted with their backups at the same time."
    if view.everywhere >= LEAST and view.everywhere * 100 > percent * view.vaults:
        return f"{view.everywhere} of {view.vaults} Vaults are deleted with their backups at the same time."
    return None


def counts(backup: Backup) -> bool:
    """Whether a Backup's deletion by somebody deletes data of this cluster.

    That a rule removes it stands in its status, which people cannot write: an annotation would lift every hold.
    """
    status = backup.status
    return bool(status and status.volumes and not status.cluster and not status.removed_by)


def counts_as_many(limit: MassDeletion, wanted: int, total: int) -> bool:
    """Whether the deletion of so many of a vault's backups is held."""
    return wanted >= LEAST and wanted * 100 > limit.percent * total


def answer_of(vault: Vault, hold: DeletionHold) -> Answer:
    """What the annotation says to a hold."""
    given = vault.metadata.annotations.get(ALLOW_DELETION_ANNOTATION)
    return {hold.token: Answer.GO_ON, f"{KEEP}{hold.token}": Answer.KEEP_DATA}.get(given or "", Answer.WAIT)


def token_of(text: str) -> str:
    """A short word that stands for a text, to be typed by somebody."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def command_of(vault: Vault) -> str:
    """The command that says something to a hold, up to the word."""
    meta = vault.metadata
    return f"kubectl annotate vault {meta.name} -n {meta.namespace} --overwrite {ALLOW_DELETION_ANNOTATION}"


def _new_hold(view: HoldView) -> DeletionHold:
    token = token_of(f"{view.vault.metadata.uid}/{view.now.timestamp()}")
    wanted, total = view.going + view.done, view.present + view.done
    command = command_of(view.vault)
    message = (
        f"{wanted} of {total} backups were deleted within {view.limit.minutes} minutes: the rest waits until somebody "
        f"says that it is meant. To go on: {command}={token}. To remove the objects only and keep all data, which is "
        f"shown again as objects afterwards: {command}={KEEP}{token}."
    )
    return DeletionHold(token=token, since=timestamp(view.now), message=message)
