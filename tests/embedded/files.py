"""Volumes and snapshots as sparse files: what a storage system would keep."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

_CHUNK = 8 << 20


class Files:
    """The files of one cluster. A handle is a CSI volume or snapshot id."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.origins: dict[str, str] = {}
        """The volume that each snapshot was cut from, by their handles."""
        for sort in ("volumes", "snapshots"):
            (directory / sort).mkdir(parents=True, exist_ok=True)

    def volume(self, handle: str) -> Path:
        """Where a volume's bytes are."""
        return self._directory / "volumes" / f"{handle}.img"

    def snapshot(self, handle: str) -> Path:
        """Where a snapshot's bytes are."""
        return self._directory / "snapshots" / f"{handle}.img"

    def handles(self, sort: str) -> set[str]:
        """All handles of a sort (`volumes` or `snapshots`) that take up space."""
        return {path.stem for path in (self._directory / sort).glob("*.img")}


def make(path: Path, size: int) -> None:
    """A file of that size, all holes."""
    with path.open("wb") as file:
        file.truncate(size)


def clone(source: Path, target: Path, size: int | None = None) -> None:
    """Copy a sparse file by the kernel; the copy may be larger, and appears when it is whole."""
    part = target.with_suffix(".part")
    with source.open("rb") as a, part.open("wb") as b:
        length = os.fstat(a.fileno()).st_size
        b.truncate(max(length, size or 0))
        for start, end in _extents(a.fileno(), length):
            while start < end:
                start += os.copy_file_range(a.fileno(), b.fileno(), min(end - start, _CHUNK), start, start)
    part.rename(target)


def digest(path: Path, length: int | None = None) -> str:
    """SHA-256 of a file, or of its first bytes."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size if length is None else length
        while left > 0 and (data := file.read(min(_CHUNK, left))):
            total.update(data)
            left -= len(data)
    return total.hexdigest()


def _extents(fd: int, length: int) -> list[tuple[int, int]]:
    """Where a file has data."""
    found, end = [], 0
    while end < length:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only holes from here on
                break
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, end))
    return found
