"""Backups and volumes as people name them: by the beginning of an id, and with slips."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from blockvault.engine import LATEST, BackupNotFound, BadRequest, Repository, VolumeNotFound

# Fewer characters of an id than this are a slip rather than a choice.
SHORTEST = 6
_WHOLE = re.compile(r"[0-9a-f]{32}")
_SHOWN = 5


def backup_id(
    repository: Repository, volume: str, given: str, *, newest: bool = False, commit: int | None = None
) -> str:
    """The id that is meant by an id, its beginning, or `latest`; with `newest` also what `latest` is now.

    `commit`: among the backups that this one had. Raises BackupNotFound, which suggests others, and BadRequest when
    several begin like this.
    """
    if given == LATEST and newest:
        return str(repository.show(volume, commit=commit)["backupId"])
    if given == LATEST or _WHOLE.fullmatch(given):
        return given
    backups = {str(b["backupId"]): str(b["createdAt"]) for b in repository.list(volume, commit=commit)}
    fitting = [each for each in backups if each.startswith(given.lower())] if len(given) >= SHORTEST else []
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadRequest(
            f"{given} could be {', '.join(f'{each} of {backups[each]}' for each in fitting[:_SHOWN])}",
            remedy="Give more characters of the id.",
        )
    raise _unknown(volume, given, backups)


@contextmanager
def suggesting(repository: Repository, volume: str) -> Iterator[None]:
    """Lets errors about names that are not there say which ones are near."""
    try:
        yield
    except VolumeNotFound as error:
        # What else is damaged in the store is no answer to what was asked for.
        names = repository.volumes(failed=lambda key, error: None)
        near = difflib.get_close_matches(volume, names, n=3, cutoff=0.6)
        if near:
            words = " or ".join(repr(name) for name in near)
            raise VolumeNotFound(error.message, remedy=f"Did you mean {words}? {error.remedy}") from error
        raise


def _unknown(volume: str, given: str, backups: dict[str, str]) -> BackupNotFound:
    near = difflib.get_close_matches(given.lower(), [each[: len(given)] for each in backups], n=3, cutoff=0.7)
    shown = [each for each in backups if each[: len(given)] in near]
    remedy = BackupNotFound.remedy
    if len(given) < SHORTEST and any(each.startswith(given.lower()) for each in backups):
        remedy = f"Give at least {SHORTEST} characters of an id. {remedy}"
    elif shown:
        remedy = f"Did you mean {' or '.join(shown[:_SHOWN])}? {remedy}"
    return BackupNotFound(f"volume {volume!r} has no backup {given}", remedy=remedy)
