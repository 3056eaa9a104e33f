"""Files that hold a vault's key. The key itself is never on the command line, in the environment or in a message."""

from __future__ import annotations

import base64
import errno
import os
import stat
from contextlib import suppress

from blockvault.cli.output import warn
from blockvault.engine import BadKey, BadRequest, KeyRing, VaultKey, runtime
from blockvault.stores import durable

# Room for base64 with line ends and not for a wrong, large file.
_MOST = 4096
_KEY_BYTES = 32


def read(path: str) -> VaultKey:
    """The key in a file. Warns when others may read it. Raises BadKey, which shows nothing of it."""
    try:
        with open(path, "rb") as file:
            facts = os.fstat(file.fileno())
            data = file.read(_MOST)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # no fault of the file's
        raise BadKey(
            f"key file {path}: {error.strerror}",
            remedy="Name a file that you can read; `blockvault key generate FILE` makes a new key.",
        ) from error
    if stat.S_ISREG(facts.st_mode) and facts.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"key file {path} can be read by others: `chmod 600 {path}`")
    try:
        return VaultKey.parse(data)
    except BadKey as error:
        raise BadKey(f"key file {path}: {error.message}") from error


def ring(key_file: str | None, previous_key_file: str | None) -> KeyRing:
    """The keys that the options name. Raises BadKey, BadRequest."""
    if previous_key_file is not None and key_file is None:
        raise BadRequest(
            "--previous-key-file was given without --key-file",
            remedy="Give the vault's present key with --key-file; the previous one only helps beside it.",
        )
    return KeyRing(
        None if key_file is None else read(key_file),
        None if previous_key_file is None else read(previous_key_file),
    )


def generate(path: str) -> VaultKey:
    """Write a new random key, readable by its owner only, durable when this returns. Never overwrites."""
    raw = runtime.random(_KEY_BYTES)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise BadRequest(
            f"{path} exists already, and is left as it is",
            remedy="Name a new file: a key that is overwritten takes all that it encrypts with it.",
        ) from error
    except OSError as error:
        raise BadKey(
            f"key file {path}: {error.strerror}", remedy="Name a file in a folder of yours."
        ) from error
    try:
        try:
            durable.write(fd, base64.b64encode(raw) + b"\n")
        finally:
            os.close(fd)
        # Without it a loss of power could take the name away, and with it all that the key has encrypted since.
        durable.sync_folder(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        with suppress(OSError):
            os.unlink(path)  # half a key would stand in the way of a whole one
        raise BadKey(
            f"key file {path}: {error.strerror}; no key was made",
            remedy="Free space, or name a file elsewhere.",
        ) from error
    return VaultKey(raw)
