"""Notes about runs that have not ended, so that the same command, run again, goes on with what they have sent.

A note is a hint. It lies with the user's other state, and is locked by the run that made it: another run of the same
command at the same time neither takes it over nor waits. What it names is checked in the store before it is used.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from blockvault.cli.output import warn
from blockvault.engine import runtime


@dataclass(frozen=True)
class What:
    """What a run backs up and where to, as far as another run must do the same to go on with it."""

    store: str
    volume: str
    path: str

    @property
    def facts(self) -> dict[str, str]:
        """As it stands in the note."""
        return {"store": self.store, "volume": self.volume, "path": self.path}


def state_folder() -> str:
    """Where what we note for this user is."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "blockvault")


def folder() -> str:
    """Where notes of runs are."""
    return os.path.join(state_folder(), "unfinished")


class Note:
    """The note of one run. `former`: what a run that died has noted, {operationId, startedAt}."""

    def __init__(self, what: What) -> None:
        self._what = what
        name = hashlib.sha256(json.dumps(what.facts, sort_keys=True).encode()).hexdigest()[:32]
        self._path = os.path.join(folder(), name)
        self._fd: int | None = None
        self.former: dict[str, Any] | None = None
        try:
            os.makedirs(folder(), mode=0o700, exist_ok=True)
            self._fd = self._lock()
        except OSError as error:
            self._warn(error)
        if self._fd is not None:
            self.former = self._read(self._fd)

    def write(self, operation_id: str) -> None:
        """Note the operation, durably: from here on a run that dies is found again."""
        if self._fd is None:
            return
        facts = {**self._what.facts, "operationId": operation_id, "startedAt": runtime.now()}
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(facts).encode(), 0)
            os.fsync(self._fd)
        except OSError as error:
            self._warn(error)

    def close(self, *, keep: bool) -> None:
        """End the run; without `keep` there is nothing to go on with."""
        if self._fd is None:
            return
        if not keep:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        os.close(self._fd)
        self._fd = None

    def _warn(self, error: OSError) -> None:
        warn(f"{self._path}: {error.strerror}: should this run die, only its --operation-id goes on with it")

    def _lock(self) -> int | None:
        """The note's file, locked; None while another run has it."""
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The run before us may have ended, and removed the file, between the two calls.
                if os.path.exists(self._path) and os.path.samestat(os.fstat(fd), os.stat(self._path)):
                    return fd
            except BlockingIOError:
                os.close(fd)
                return None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _read(self, fd: int) -> dict[str, Any] | None:
        try:
            facts = json.loads(os.pread(fd, 65536, 0))
        except (OSError, ValueError):
            return None  # new, or cut short by a crash: nothing is known
        known = isinstance(facts, dict) and all(facts.get(k) == v for k, v in self._what.facts.items())
        return facts if known and isinstance(facts.get("operationId"), str) else None
