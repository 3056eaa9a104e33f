"""Reading volumes: block devices and regular files."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress

from blockvault.engine.errors import SourceChanged, SourceNotFound, SourceUnreadable

_SECTOR = 4096


class Source:
    """A volume to read. Safe to use from several threads, each with a buffer of its own."""

    def __init__(self, path: str, batch_size: int, *, skip_unreadable: bool = False) -> None:
        self.path = path
        self._skip_unreadable = skip_unreadable
        self._unreadable: set[int] = set()
        self._local = threading.local()
        self._batch_size = batch_size
        try:
            mode = os.stat(path).st_mode
            if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
                raise SourceNotFound(f"{path}: neither a block device nor a regular file")
            self._regular = stat.S_ISREG(mode)
            self._fd = self._open(path)
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
        except FileNotFoundError as error:
            raise SourceNotFound(f"{path}: does not exist") from error
        except OSError as error:
            raise SourceUnreadable(f"{path}: {error.strerror}") from error

    def _open(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC
        if not self._regular:
            # Past the page cache: a backup must not push out what applications have there.
            with suppress(OSError):
                return os.open(path, flags | os.O_DIRECT)
        return os.open(path, flags)

    def close(self) -> None:
        """Close the volume."""
        os.close(self._fd)

    def head(self, length: int) -> bytes:
        """The first bytes (fewer if the volume is smaller). At most one batch."""
        wanted = min(self._batch_size, -(-length // 4096) * 4096)
        return bytes(self.read(0, wanted)[: min(length, self.size)])

    def is_hole(self, offset: int, length: int) -> bool:
        """True when the file system knows that the range is all zero. Block devices never know."""
        if not self._regular:
            return False
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA) >= offset + length
        except OSError as error:
            return error.errno == errno.ENXIO

    def data_ranges(self, near: int) -> Iterator[tuple[int, int]]:
        """Ranges [start, end) in bytes that may hold something else than zeros; all of it for a device.

        Ranges less than `near` bytes apart come as one.
        """
        if not self._regular:
            yield 0, self.size
            return
        start = end = 0
        while end < self.size:
            try:
                data = os.lseek(self._fd, end, os.SEEK_DATA)
                hole = os.lseek(self._fd, data, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break  # nothing but a hole up to the end
                yield start, self.size  # a file system that does not tell
                return
            if data - end >= near or start == end:
                if end > start:
                    yield start, end
                start = data
            end = hole
        if end > start:
            yield start, min(end, self.size)

    def read(self, offset: int, length: int) -> memoryview:
        """`length` bytes from `offset`, zeros past the end; valid until this thread's next call.

        Raises SourceUnreadable. What cannot be read is never replaced by zeros.
        """
        buffer: mmap.mmap | None = getattr(self._local, "buffer", None)
        if buffer is None:
            # Anonymous memory begins on a page, as direct reads demand.
            buffer = self._local.buffer = mmap.mmap(-1, self._batch_size)
        view = memoryview(buffer)[:length]
        wanted = max(0, min(length, self.size - offset))
        try:
            self._fill(view, offset, wanted)
        except SourceUnreadable:
            if not self._skip_unreadable:
                raise
            self._salvage(view, offset, wanted)
        if wanted < length:
            view[wanted:] = bytes(length - wanted)
        if self._regular:
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)
        return view

    @property
    def unreadable(self) -> list[list[int]]:
        """Ranges [offset, length] that could not be read and are given as zeros."""
        ranges: list[list[int]] = []
        for start in sorted(self._unreadable):
            if ranges and sum(ranges[-1]) == start:
                ranges[-1][1] += _SECTOR
            else:
                ranges.append([start, _SECTOR])
        return ranges

    def _salvage(self, view: memoryview, offset: int, wanted: int) -> None:
        """Read sector by sector; zeros, and a note, where a sector cannot be read."""
        for start in range(0, wanted, _SECTOR):
            part = view[start : min(start + _SECTOR, wanted)]
            try:
                self._fill(part, offset + start, len(part))
            except SourceUnreadable:
                part[:] = bytes(len(part))
                self._unreadable.add(offset + start)

    def _fill(self, view: memoryview, offset: int, wanted: int) -> None:
        done = 0
        while done < wanted:
            try:
                # Up to the end of the buffer: a direct read's length must be whole sectors, the end may not
                # be.
                count = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as error:
                raise SourceUnreadable(
                    f"{self.path}: reading at {offset + done}: {error.strerror}"
                ) from error
            if count == 0:
                raise SourceChanged(f"{self.path}: ends at {offset + done}, not at {self.size} as it said")
            done += count
