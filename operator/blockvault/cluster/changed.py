"""What a mover needs to ask its storage which blocks changed (decided in core.changed)."""

from __future__ import annotations

from blockvault.core.changed import SERVICE_FORBIDDEN, Service, choose_base, read_service
from blockvault.core.naming import (
    TOKEN_DIR,
    TOKEN_FILE,
    owned_name,
    volume_name,
)
from blockvault.core.objects import Object
from blockvault.core.plan_backup import BackupView

from . import snapshots
from .context import Context
from .gateway import GatewayError
from .resources import METADATA_SERVICES
from .templates import Owner


async def changed_blocks(context: Context, owner: Owner, view: BackupView) -> Object:
    """The part of a mover's request about it: whom to ask, or the reason why nobody."""
    service = await _service(context, view)
    if isinstance(service, str):
        return {"reason": service}
    assert view.own_content is not None
    kept = await snapshots.kept_of(context, owner)
    volume = volume_name(owner.namespace, owner.claim)
    base = choose_base(view.backup, volume, view.own_content, kept)
    if isinstance(base, str):
        return {"reason": base}
    return {
        "service": {"address": service.address, "caCert": service.ca},
        "tokenPath": f"{TOKEN_DIR}/{TOKEN_FILE}",
        "snapshot": {"namespace": context.settings.namespace, "name": owned_name(owner.uid)},
        "base": {"handle": base.handle, "backupId": base.backup_id},
    }


async def token_audience(context: Context, view: BackupView) -> str | None:
    """Whom a mover's token is for; None where the driver has no service."""
    service = await _service(context, view)
    return service.audience if isinstance(service, Service) else None


async def _service(context: Context, view: BackupView) -> Service | str:
    assert view.own_content is not None
    driver = view.own_content["spec"]["driver"]
    try:
        return read_service(await context.gateway.get(METADATA_SERVICES, driver))
    except GatewayError as error:
        if error.status != 403:
            raise
        return SERVICE_FORBIDDEN  # an older role than this operator: no reason to make no backup
