"""What a mover is asked to do: `request.json`, with the store's credentials as files beside it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import Any

from blockvault.engine import LATEST, BadRequest
from blockvault.stores import Credentials, StoreLocation

DEFAULT_PATH = "/var/run/blockvault/request.json"
VERSION = 1

BACKUP = "backup"
RESTORE = "restore"


@dataclass(frozen=True)
class Request:
    """One piece of work. `backup_id` for a restore, `full` and `meta` for a backup."""

    operation: str
    operation_id: str
    volume: str
    device: str
    location: StoreLocation
    full: bool = False
    meta: dict[str, Any] = field(default_factory=dict)
    backup_id: str = LATEST


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
    return replace(request, location=_with_secrets(request.location, os.path.dirname(path)))


def _parse(data: Any) -> Request:
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise TypeError(f"only requests of version {VERSION} are understood")
    operation = data["operation"]
    if operation not in (BACKUP, RESTORE):
        raise TypeError(f"operation {operation!r} is neither {BACKUP} nor {RESTORE}")
    for key in ("operationId", "volume", "device"):
        if not isinstance(data[key], str) or not data[key]:
            raise TypeError(f"{key} must be text")
    if not isinstance(data["store"], dict):
        raise TypeError("store must be an object")
    compare_with = data.get("compareWith", LATEST)
    if compare_with not in (LATEST, None):
        raise TypeError(f"compareWith must be {LATEST!r} or null")
    return Request(
        operation=operation,
        operation_id=data["operationId"],
        volume=data["volume"],
        device=data["device"],
        location=StoreLocation.from_dict(data["store"]),
        full=bool(data.get("full")) or compare_with is None,
        meta=data.get("meta") or {},
        backup_id=data["backupId"] if operation == RESTORE else LATEST,
    )


def _with_secrets(location: StoreLocation, folder: str) -> StoreLocation:
    """The keys are files, as a mounted Secret shows them; without them, the pod's own identity counts."""
    access = _read(folder, "AWS_ACCESS_KEY_ID")
    secret = _read(folder, "AWS_SECRET_ACCESS_KEY")
    credentials = None
    if access and secret:
        credentials = Credentials(access, secret, _read(folder, "AWS_SESSION_TOKEN"))
    return replace(location, credentials=credentials, ca_bundle=_read(folder, "ca.crt"))


def _read(folder: str, name: str) -> str | None:
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadRequest(f"{os.path.join(folder, name)}: {error.strerror}") from error
