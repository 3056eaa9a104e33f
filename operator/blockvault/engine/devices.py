"""Reading volumes: block devices and regular files."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress

from blockvault.engine.errors import SourceChanged, SourceGone, SourceNotFound, SourceUnreadable
from blockvault.engine.ranges import merged
from blockvault.stores import TooManyOpenFiles

_SECTOR = 4096

# Errors that tell of the place that was read, so that other places may be whole.
_OF_A_PLACE = frozenset(
    (errno.EIO, errno.ENODATA, errno.EILSEQ, errno.EBADMSG, errno.EUCLEAN, errno.EREMOTEIO)
)
# Errors that tell of the whole volume: no place of it can be read now.
_GONE = frozenset(
    (
        errno.ENXIO,
        errno.ENODEV,
        errno.ENOMEDIUM,
        errno.ESTALE,
        errno.ENOLINK,
        errno.ETIMEDOUT,
        errno.ESHUTDOWN,
    )
)


_OTHERWISE = "Check the device and the kernel's log; the backup was not made."
_OPENING = "Give this user the right to read it (devices: root, or the group that owns them)."


class _BadSector(SourceUnreadable):
    """A place that cannot be read; others may be."""


class Source:
    """A volume to read. Safe to use from several threads, each with a buffer of its own.

    A file that is unlinked while it is read is read to its end: what is open stays whole. A device of 0 bytes is
    none: a drive without a medium, a loop device that shows nothing.
    """

    def __init__(self, path: str, batch_size: int, *, skip_unreadable: bool = False) -> None:
        self.path = path
        self._skip_unreadable = skip_unreadable
        self._unreadable: set[tuple[int, int]] = set()
        self._local = threading.local()
        self._batch_size = batch_size
        try:
            mode = os.stat(path).st_mode
            if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
                raise SourceNotFound(f"{path}: neither a block device nor a regular file")
            self._regular = stat.S_ISREG(mode)
            self._device = 0 if self._regular else os.stat(path).st_rdev
            self._fd = self._open(path)
        except FileNotFoundError as error:
            raise SourceNotFound(f"{path}: does not exist") from error
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise TooManyOpenFiles(f"{path}: {error.strerror}") from error
            if error.errno in _GONE:
                raise self._no_device(error.strerror) from error
            raise SourceUnreadable(f"{path}: {error.strerror}", remedy=_OPENING) from error
        self.size = os.lseek(self._fd, 0, os.SEEK_END)
        if not self._regular and self.size == 0:
            os.close(self._fd)
            raise self._no_device("it has 0 bytes")

    def _no_device(self, why: str | None) -> SourceNotFound:
        return SourceNotFound(
            f"{self.path}: a device with nothing behind it ({why})",
            remedy="Attach the device, or insert its medium; `lsblk` shows what is there.",
        )

    def _open(self, path: str) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC
        if not self._regular:
            # Past the page cache: a backup must not push out what applications have there. Files are read through it,
            # and dropped from it again: direct reads, which nothing reads ahead, made a backup a sixth slower.
            with suppress(OSError):
                return os.open(path, flags | os.O_DIRECT)
        return os.open(path, flags)

    def close(self) -> None:
        """Close the volume."""
        os.close(self._fd)

    def head(self, length: int) -> bytes:
        """The first bytes (fewer if the volume is smaller, none if they may be skipped). At most one batch."""
        wanted = min(self._batch_size, -(-length // 4096) * 4096)
        view = self.peek(0, wanted)
        return b"" if view is None else bytes(view[: min(length, self.size)])

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

        Raises SourceUnreadable, SourceChanged, SourceGone. What cannot be read is never replaced by zeros, unless it
        may be skipped; then it is noted in `unreadable`.
        """
        view, lost = self._look(offset, length)
        self._unreadable.update(lost)
        return view

    def peek(self, offset: int, length: int) -> memoryview | None:
        """The same for what is only looked at and not stored; None where something may be skipped, and is not noted."""
        view, lost = self._look(offset, length)
        return None if lost else view

    def _look(self, offset: int, length: int) -> tuple[memoryview, list[tuple[int, int]]]:
        buffer: mmap.mmap | None = getattr(self._local, "buffer", None)
        if buffer is None:
            # Anonymous memory begins on a page, as direct reads demand.
            buffer = self._local.buffer = mmap.mmap(-1, self._batch_size)
        view = memoryview(buffer)[:length]
        wanted = max(0, min(length, self.size - offset))
        lost: list[tuple[int, int]] = []
        try:
            self._fill(view, offset, wanted)
        except _BadSector:
            if not self._skip_unreadable:
                raise
            lost = self._salvage(view, offset, wanted)
        if wanted < length:
            view[wanted:] = bytes(length - wanted)
        if self._regular:
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)
        return view, lost

    @property
    def unreadable(self) -> list[list[int]]:
        """Ranges [offset, length] that could not be read and are given as zeros."""
        return [[start, end - start] for start, end in merged(sorted(self._unreadable))]

    def _salvage(self, view: memoryview, offset: int, wanted: int) -> list[tuple[int, int]]:
        """Read sector by sector; zeros where one cannot be read. Gives those ranges, [start, end)."""
        lost = []
        for start in range(0, wanted, _SECTOR):
            part = view[start : min(start + _SECTOR, wanted)]
            try:
                self._fill(part, offset + start, len(part))
            except _BadSector:
                part[:] = bytes(len(part))
                lost.append((offset + start, offset + start + len(part)))
        return merged(lost)

    def _fill(self, view: memoryview, offset: int, wanted: int) -> None:
        done = 0
        while done < wanted:
            at = f"{self.path}: reading at {offset + done}"
            try:
                # Up to the end of the buffer: a direct read's length must be whole sectors, the end may not
                # be.
                count = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as error:
                if error.errno in _GONE or self._has_left():
                    raise SourceGone(f"{at}: {error.strerror}, the volume has gone") from error
                if error.errno in _OF_A_PLACE:
                    raise _BadSector(f"{at}: {error.strerror}") from error
                raise SourceUnreadable(f"{at}: {error.strerror}", remedy=_OTHERWISE) from error
            if count == 0:
                if self._has_left():
                    raise SourceGone(f"{at}: the device has gone")
                raise SourceChanged(f"{self.path}: ends at {offset + done}, not at {self.size} as it said")
            done += count

    def _has_left(self) -> bool:
        """Whether the device is no longer there, so that what fails is not a place of it.

        A driver may answer EIO, or the end, for each place of a device that was pulled out.
        """
        if self._regular:
            return False
        try:
            if os.lseek(self._fd, 0, os.SEEK_END) == 0:
                return True
            return os.stat(self.path).st_rdev != self._device
        except OSError:
            return True
