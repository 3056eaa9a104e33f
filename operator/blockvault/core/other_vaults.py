"""What other Vaults mean for one that is being deleted. Pure (F11, F18)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from blockvault.api import MassDeletion, Vault

from .plan_vault_deletion import deletes_data


def deleted_together(
    vault: Vault, everyone: Iterable[Vault], gone: Iterable[tuple[datetime, str]], limit: MassDeletion
) -> tuple[list[str], int]:
    """Namespaces of the Vaults that are deleted with their data as this one is, itself first; and how many are gone.

    What counts is when each was deleted, not when somebody looks: an operator that was away sees as many. One of which
    nothing is erased yet counts always. `gone`: those that went with their data, with the times of their deletion.
    """
    meta, while_ = vault.metadata, timedelta(minutes=limit.minutes)

    def near(moment: datetime) -> bool:
        return abs(moment - (meta.deletion_timestamp or moment)) <= while_

    def counts(each: Vault) -> bool:
        status, moment = each.status, each.metadata.deletion_timestamp
        if status is None or moment is None or each.metadata.uid == meta.uid or not deletes_data(each):
            return False
        if status.deletion is not None:
            return near(moment) or not status.deletion.run
        return bool((status.backups or 0) + (status.in_trash or 0))

    here = [str(each.metadata.namespace) for each in everyone if counts(each)]
    past = [where for moment, where in gone if near(moment)]
    return [str(meta.namespace), *here, *past], len(past)


def sharing(vault: Vault, everyone: Iterable[Vault]) -> str | None:
    """Namespace and name of another Vault that shows the same store: one place can be written in several ways."""
    store = vault.status.store_id if vault.status else None
    return next(
        (
            f"{each.metadata.namespace}/{each.metadata.name}"
            for each in everyone
            if store
            and each.metadata.uid != vault.metadata.uid
            and each.status
            and each.status.store_id == store
        ),
        None,
    )
