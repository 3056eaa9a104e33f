"""Files of a directory store before they have their names, all in one folder, and what is left of them by crashes.

The writer holds a lock on its file for as long as it uses it, and the kernel lets go of it when the process
dies in any way. What is old and not locked has no writer any more. Should a lock not be seen (some file servers
keep locks to themselves), a writer whose file was removed finds it missing when it gives it its name, and
writes it again: nothing is lost by a removal too early.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote, unquote

from blockvault.stores import durable
from blockvault.stores.base import Data

# Nothing that begins so is an object.
PREFIX = ".tmp"
FOLDER = PREFIX
# Seconds, by the file system's own clock.
OLD = 3600
# Most bytes that a file's name may have.
LONGEST = 255


class Temporary:
    """A temporary file that holds all its bytes, synced.

    `kept`: it has another name by now, of which nobody knows whether it is durable, so this one must stay.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.kept = False


@contextmanager
def written(root: str, key: str, data: Data) -> Iterator[Temporary]:
    """A temporary file that holds `data`; it is gone afterwards unless it is to be kept."""
    # The key in it tells later which directory holds the other name.
    own = f"{secrets.token_hex(8)}~{quote(key, safe='')}"
    name = os.path.join(root, FOLDER, own if len(own) <= LONGEST else own.partition("~")[0])
    fd = _open(name)
    made = Temporary(name)
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        durable.write(fd, data)
        yield made
    finally:
        if not made.kept:
            with suppress(OSError):  # renamed, or what failed before is what matters
                os.unlink(name)
        os.close(fd)


def _open(name: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o640)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(name), 0o750)
        return os.open(name, flags, 0o640)


def tidy(root: str) -> None:
    """Remove what dead writers have left. Failing to is no failure: the next one tries again."""
    folder = os.path.join(root, FOLDER)
    with suppress(OSError):
        names = os.listdir(folder)
        if not names:
            return
        now = _now(folder)
        for name in names:
            with suppress(OSError):
                _remove_if_dead(root, os.path.join(folder, name), now)


def _now(folder: str) -> float:
    """The time by the file system's clock: this machine's may differ from a file server's."""
    name = os.path.join(folder, secrets.token_hex(8))
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
    try:
        return os.stat(name).st_mtime
    finally:
        os.unlink(name)


def _remove_if_dead(root: str, path: str, now: float) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while the writer lives
        found = os.fstat(fd)
        if now - found.st_mtime < OLD:
            return
        if found.st_nlink > 1:
            # The object has its name, but nobody knows whether it is durable: after this, nobody would ask.
            key = unquote(os.path.basename(path).partition("~")[2])
            if not key:
                return
            durable.sync_folder(os.path.dirname(os.path.join(root, key)))
        os.unlink(path)
    finally:
        os.close(fd)
