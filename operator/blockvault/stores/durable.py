"""What a loss of power may not take: the bytes of a file, and the names in a folder."""

from __future__ import annotations

import os

from blockvault.stores.base import Data


def write(fd: int, data: Data) -> None:
    """Write all of it to an open file, durably. The file's name is another matter: see `sync_folder`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fsync(fd)


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable: those that came, and that others went."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
