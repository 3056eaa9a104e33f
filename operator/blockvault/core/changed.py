"""Whom a Backup asks which blocks changed, and since which snapshot. Pure (F1).

The storage is told the base by its handle only, and checks nothing: that the base is a snapshot of the same volume, and
of which backup, stands in what the operator itself wrote down. Where anything of that is not certain nobody is asked.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass

from blockvault.api import Backup

from .kept import Kept, held_by, newest_first
from .naming import VOLUME_HANDLE_ANNOTATION
from .objects import Object, content_handle, deleting
from .source import read_source

# Why nobody is asked.
NO_SERVICE = "NoService"
SERVICE_FORBIDDEN = "ServiceForbidden"
SERVICE_INVALID = "ServiceInvalid"
NO_BASE = "NoBase"
OTHER_VOLUME = "OtherVolume"

_ADDRESS = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
# It travels in the mover's Secret, which may have 1 MiB.
_MOST_CERTIFICATES = 256 << 10


@dataclass(frozen=True)
class Service:
    """Where a CSI driver's SnapshotMetadata service is. `ca`: the certificates to check its own against, PEM."""

    address: str
    audience: str
    ca: str


def read_service(obj: Object | None) -> Service | str:
    """What a SnapshotMetadataService says, or why it cannot be used."""
    if obj is None:
        return NO_SERVICE
    spec = obj.get("spec") or {}
    address, audience = str(spec.get("address") or ""), str(spec.get("audience") or "")
    try:
        ca = b64decode(str(spec.get("caCert") or ""), validate=True).decode()
    except ValueError:
        return SERVICE_INVALID
    # Without an audience of its own the token would be one for the API server, which is nobody else's to see.
    if not _ADDRESS.fullmatch(address) or not audience or "BEGIN CERTIFICATE" not in ca:
        return SERVICE_INVALID
    return SERVICE_INVALID if len(ca) > _MOST_CERTIFICATES else Service(address, audience, ca)


@dataclass(frozen=True)
class Base:
    """The snapshot since which changes are asked for, by its handle, and the backup that was made from it."""

    handle: str
    backup_id: str


def choose_base(backup: Backup, volume: str, content: Object, kept: list[Kept]) -> Base | str:
    """The newest kept snapshot of the same volume whose backup lies in the same lineage; or why there is none.

    `volume`: the lineage's name; `content`: of the snapshot that is backed up now.
    """
    why = NO_BASE
    for each in newest_first(kept):
        handle, backup_id = content_handle(each.content), _backup_id(backup, volume, each)
        if handle is None or backup_id is None or deleting(each.content):
            continue
        if _is_same_volume(content, each.content):
            return Base(handle, backup_id)
        if _volume_of(each.content) is not None:
            why = OTHER_VOLUME
    return why


def _backup_id(backup: Backup, volume: str, kept: Kept) -> str | None:
    """The backup that was made from a snapshot, when it is one that this Backup can build on."""
    if kept.backup is None or kept.backup.spec.vault_ref.name != backup.spec.vault_ref.name:
        return None
    return next((v.backup_id for v in held_by(kept) if v.lineage_volume == volume), None)


def _volume_of(content: Object) -> tuple[str, str, str] | None:
    """Driver, volume and claim of a snapshot; a claim that was made again has another uid. None: not recorded."""
    handle = (content["metadata"].get("annotations") or {}).get(VOLUME_HANDLE_ANNOTATION)
    source = read_source(content)
    if not handle or source is None or not source.claim_uid:
        return None
    return content["spec"]["driver"], handle, source.claim_uid


def _is_same_volume(one: Object, other: Object) -> bool:
    volume = _volume_of(one)
    return volume is not None and volume == _volume_of(other)
