"""What a mover is asked to do: `request.json`, with the store's credentials as files beside it."""

from __future__ import annotations

import json
import os
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from blockvault.engine import LATEST, Access, BadRequest
from blockvault.stores import StoreLocation
from blockvault.stores.secret_files import SecretFiles

DEFAULT_PATH = "/var/run/blockvault/request.json"
VERSION = 1

# Files with the vault's key, and while it is being rotated the one before it.
VAULT_KEY = "vault.key"
PREVIOUS_KEY = "previous.key"

BACKUP = "backup"
RESTORE = "restore"
UPKEEP = "upkeep"
ERASE = "erase"
OPERATIONS = (BACKUP, RESTORE, UPKEEP, ERASE)


@dataclass(frozen=True)
class Asked:
    """Whom to ask what changed, and since when.

    `ca`: the certificates that the service's own is checked against, PEM. `token`: path of a file with a token for the
    service, which may be replaced at any moment. `base`: handle of the snapshot that backup `parent` was made from;
    `target`: name of the VolumeSnapshot, in `namespace`, that is backed up now.
    """

    address: str
    ca: str
    token: str
    namespace: str
    target: str
    base: str
    parent: str


@dataclass(frozen=True)
class Request:
    """One piece of work; `budget` (bytes) for upkeep; `store_id` for erasing: that of the only store that is meant.

    `attempt`: which of the operation's movers this is.
    For a backup `full`, `meta`, and `asked`: whom to ask what changed, or `no_list`: why nobody is asked.
    For a restore `backup_id`, and `have`: the backup that the device holds, as far as is known.
    """

    operation: str
    operation_id: str
    volume: str
    device: str
    access: Access
    full: bool = False
    meta: dict[str, Any] = field(default_factory=dict)
    backup_id: str = LATEST
    have: str | None = None
    budget: int = 0
    store_id: str = ""
    asked: Asked | None = None
    no_list: str | None = None
    attempt: int = 0


def load(path: str) -> Request:
    """Read a request and its credentials. Raises BadRequest, which never shows a secret."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError) as error:
        raise BadRequest(f"{path}: {error}") from error
    try:
        request = _parse(data)
    except KeyError as error:
        raise BadRequest(f"{path}: {error.args[0]} is missing") from error
    except TypeError as error:
        raise BadRequest(f"{path}: {error}") from error
    return replace(request, access=_with_secrets(request.access, os.path.dirname(path)))


def _parse(data: Any) -> Request:
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise TypeError(f"only requests of version {VERSION} are understood")
    operation = data["operation"]
    if operation not in OPERATIONS:
        raise TypeError(f"operation {operation!r} is none of {', '.join(OPERATIONS)}")
    for key in ("operationId",) if operation in (UPKEEP, ERASE) else ("operationId", "volume", "device"):
        if not isinstance(data[key], str) or not data[key]:
            raise TypeError(f"{key} must be text")
    if not isinstance(data["store"], dict):
        raise TypeError("store must be an object")
    compare_with = data.get("compareWith", LATEST)
    if compare_with not in (LATEST, None):
        raise TypeError(f"compareWith must be {LATEST!r} or null")
    changed = data.get("changedBlocks") or {}
    return Request(
        operation=operation,
        operation_id=data["operationId"],
        volume=data.get("volume", ""),
        device=data.get("device", ""),
        access=Access(
            StoreLocation.from_dict(data["store"]), actor=data.get("actor"), limit_rate=_rate(data)
        ),
        full=bool(data.get("full")) or compare_with is None,
        meta=data.get("meta") or {},
        backup_id=data["backupId"] if operation == RESTORE else LATEST,
        have=data.get("have") if operation == RESTORE else None,
        budget=int(data.get("budget") or 0),
        store_id=str(data["storeId"]) if operation == ERASE else "",
        asked=_asked(changed) if "service" in changed else None,
        no_list=changed.get("reason"),
        attempt=int(data.get("attempt") or 0),
    )


def _rate(data: dict[str, Any]) -> int | None:
    rate = data.get("limitRate")
    if rate is not None and (type(rate) is not int or rate <= 0):
        raise TypeError("limitRate must be bytes a second")
    return rate


def _asked(changed: Any) -> Asked:
    service, snapshot, base = changed["service"], changed["snapshot"], changed["base"]
    asked = Asked(
        address=service["address"],
        ca=service["caCert"],
        token=changed["tokenPath"],
        namespace=snapshot["namespace"],
        target=snapshot["name"],
        base=base["handle"],
        parent=base["backupId"],
    )
    if not all(isinstance(value, str) and value for value in astuple(asked)):
        raise TypeError("changedBlocks must say everything as text")
    return asked


def _with_secrets(access: Access, folder: str) -> Access:
    """The keys are files, as a mounted Secret shows them; without them, the pod's own identity counts."""
    try:
        location = SecretFiles(folder).applied(access.location)
    except OSError as error:
        raise BadRequest(f"{error.filename}: {error.strerror}") from error
    if location.credentials or location.ca_bundle:
        # They may be exchanged while this runs.
        location = replace(location, secrets_folder=folder)
    return replace(
        access, location=location, key=_read(folder, VAULT_KEY), previous_key=_read(folder, PREVIOUS_KEY)
    )


def _read(folder: str, name: str) -> bytes | None:
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadRequest(f"{os.path.join(folder, name)}: {error.strerror}") from error
