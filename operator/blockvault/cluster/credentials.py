"""Movers at work are given new credentials and CA bundles: what lies in their own Secrets is exchanged."""

from __future__ import annotations

import hashlib
from base64 import b64encode

from blockvault.api import Backup, Restore, Vault
from blockvault.core.lost_nodes import attempt_of
from blockvault.core.naming import mover_name
from blockvault.engine import Access
from blockvault.stores.secret_files import ACCESS_KEY, CA_BUNDLE, SECRET_KEY, SESSION_TOKEN

from . import operations
from .context import Context
from .places import Place
from .resources import SECRETS

# Looks after a change at which movers' Secrets are compared: one may have been made by what was read before it.
LOOKS = 2


async def renew_movers(context: Context, vault: Vault, place: Place) -> None:
    """Bring the Secrets of this Vault's movers up to date, where its credentials have changed lately."""
    wanted = _data(place.access)
    mark = hashlib.sha256(repr(sorted(wanted.items())).encode()).hexdigest()
    former, looks = context.credentials.get(vault.metadata.uid, ("", 0))
    if mark != former:
        looks = LOOKS
    if looks:
        for name in await _at_work(context, vault):
            await _renew(context, name, wanted)
    context.credentials[vault.metadata.uid] = mark, max(0, looks - 1)


async def _renew(context: Context, name: str, wanted: dict[str, str | None]) -> None:
    namespace = context.settings.namespace
    secret = await context.gateway.get(SECRETS, name, namespace)
    if secret is None:
        return
    present = secret.get("data") or {}
    changes = {key: value for key, value in wanted.items() if present.get(key) != value}
    if changes:
        await context.gateway.patch(SECRETS, name, namespace, {"data": changes})


async def _at_work(context: Context, vault: Vault) -> list[str]:
    """The names of the Secrets of the Vault's movers: of its Backups and Restores, and of the Vault itself."""
    namespace = vault.metadata.namespace
    making = await operations.backups_of(context, vault, "Creating")
    # All Backups of a Vault may be thousands: they are looked through only where something is restored.
    reading = await operations.restoring(context, namespace)
    names = {b.metadata.name for b in await operations.backups_of(context, vault)} if reading else set()
    at_work: list[Backup | Restore] = [*making, *(r for r in reading if r.reads in names)]
    movers = [mover_name(each.metadata.uid, attempt_of(each)) for each in at_work]
    return [mover_name(vault.metadata.uid, 1), *movers]


def _data(access: Access) -> dict[str, str | None]:
    """As it lies in a mover's Secret; None for what is not set."""
    given = access.location.credentials
    texts = {
        ACCESS_KEY: given.access_key if given else None,
        SECRET_KEY: given.secret_key if given else None,
        SESSION_TOKEN: given.session_token if given else None,
        CA_BUNDLE: access.location.ca_bundle,
    }
    return {name: b64encode(text.encode()).decode() if text else None for name, text in texts.items()}
