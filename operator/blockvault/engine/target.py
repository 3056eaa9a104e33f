"""Writing volumes: block devices and regular files."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import os
import random
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress

from blockvault.engine import identity, runtime
from blockvault.engine.errors import TargetBusy, TargetNotFound, TargetTooSmall, TargetUnwritable
from blockvault.engine.hashing import Buffer
from blockvault.stores import TooManyOpenFiles

# linux/fs.h: _IO(0x12, 127). Its neighbours look alike and do something else (0x127b reads a sector size).
BLKZEROOUT = 0x127F
BLKROGET = 0x125E
# linux/falloc.h
_KEEP_SIZE, _PUNCH_HOLE = 0x01, 0x02
# Of each loop device in use: the file that it shows.
_LOOP_FILES = "/sys/block/loop*/loop/backing_file"

_WRITABLE = "Make it writable, or name another target."
_FULL = "Free space where the target is, or name another target, then restore again: it goes on with what is there."

# Errors that another way to zero meets as well.
_OF_THE_STORAGE = frozenset((errno.EIO, errno.ENOSPC, errno.EDQUOT))

_libc = ctypes.CDLL(None, use_errno=True)
_ZEROS = bytes(1024 * 1024)

# A device counts as empty when its first and last MiB and so many places of 4 KiB in between are zero.
_EDGE = 1024 * 1024
_PLACES = 256
_PLACE = 4096
# The most buffers of one write (IOV_MAX).
_MOST_BUFFERS = 1024


class Target:
    """A volume to write. Opening changes nothing, but that a file that was not there is there, empty.

    `fresh`: all of it is known to read as zeros. `identity`: what it is, whatever its path; None where that cannot be
    told. A device, and a file that is not empty, keeps its size and must hold `size` bytes; bytes after that stay.
    Raises TargetNotFound, TargetTooSmall, TargetBusy, TargetUnwritable.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        try:
            self._fd, self.regular = _open(path)
        except FileNotFoundError as error:
            raise TargetNotFound(f"{path}: its directory does not exist") from error
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise TargetBusy(f"{path} is in use: mounted, or claimed by another program") from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY):
                raise TargetUnwritable(
                    f"{path}: {error.strerror}; nothing was written", remedy=_WRITABLE
                ) from error
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise TooManyOpenFiles(f"{path}: {error.strerror}") from error
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _failed(path, error) from error
            raise TargetNotFound(f"{path}: {error.strerror}") from error
        try:
            self._inspect()
        except BaseException:
            os.close(self._fd)
            raise

    def _inspect(self) -> None:
        facts = os.fstat(self._fd)
        self.capacity = os.lseek(self._fd, 0, os.SEEK_END)
        self.identity = identity.of_file(self._fd) if self.regular else identity.of_device(facts.st_rdev)
        if self.regular:
            self._claim(facts)
        elif self._is_read_only():
            raise TargetUnwritable(
                f"{self.path}: the device is read-only; nothing was written",
                remedy=f"`blockdev --setrw {self.path}`, if it may be overwritten; or name another target.",
            )
        if self.capacity < self.size and not (self.regular and self.capacity == 0):
            raise TargetTooSmall(f"{self.path} has {self.capacity} bytes, the backup {self.size}")
        self.fresh = self.regular and self._all_hole()
        # Ways to zero a range, the best first. A hole in a device reads as zeros, is made at once, and takes no room of
        # a thin volume; BLKZEROOUT has the kernel write zeros where it must. docs/decisions/0027.
        self._ways = [self._punch] if self.regular else [self._punch, self._zero_out]

    def _claim(self, facts: os.stat_result) -> None:
        """Refuse a file that a loop device shows, or that another restore writes."""
        for name in glob.glob(_LOOP_FILES):
            with suppress(OSError):
                with open(name, encoding="utf-8", errors="surrogateescape") as file:
                    shown = os.stat(file.read().rstrip("\n"))
                if os.path.samestat(shown, facts):
                    raise TargetBusy(
                        f"{self.path} is in use: it is what /dev/{name.split('/')[3]} shows",
                        remedy="Unmount and detach the loop device (losetup -d), or restore to that device.",
                    )
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TargetBusy(f"{self.path} is in use: another restore writes it") from error
        except OSError:
            return  # a file system without locks

    def _is_read_only(self) -> bool:
        # Such a device can be opened for writing; only writes are refused.
        found = bytearray(4)
        with suppress(OSError):
            fcntl.ioctl(self._fd, BLKROGET, found)
        return any(found)

    def _all_hole(self) -> bool:
        if self.capacity == 0:
            return True
        try:
            os.lseek(self._fd, 0, os.SEEK_DATA)
        except OSError as error:
            return error.errno == errno.ENXIO
        return False

    def is_empty(self) -> bool:
        """Whether nothing is there to be lost: for a file exactly, for a device by its ends and many samples."""
        if self.regular:
            return self.fresh
        chance = random.Random(runtime.random(8))  # noqa: S311 - guards against mistakes, not attackers
        places = [(0, _EDGE), (max(0, self.capacity - _EDGE), _EDGE)]
        places += [(chance.randrange(self.capacity // _PLACE + 1) * _PLACE, _PLACE) for _ in range(_PLACES)]
        return not any(self.read(offset, length).strip(b"\0") for offset, length in places)

    def begin(self) -> None:
        """Give an empty file its size: the first change. Raises TargetUnwritable."""
        if self.regular and self.capacity == 0:
            try:
                os.ftruncate(self._fd, self.size)
            except OSError as error:
                raise _failed(self.path, error) from error

    def read(self, offset: int, length: int) -> bytes:
        """What is there now; fewer bytes at the end. Raises TargetUnwritable: what cannot be read is not fit."""
        try:
            data = os.pread(self._fd, length, offset)
        except OSError as error:
            raise TargetUnwritable(f"{self.path}: reading at {offset}: {error.strerror}") from error
        return data

    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write these one after the other. Raises TargetUnwritable."""
        waiting = [memoryview(buffer) for buffer in buffers if len(buffer)]
        try:
            while waiting:
                count = os.pwritev(self._fd, waiting[:_MOST_BUFFERS], offset)
                offset += count
                while waiting and count >= len(waiting[0]):
                    count -= len(waiting.pop(0))
                if count:
                    waiting[0] = waiting[0][count:]
        except OSError as error:
            raise _failed(f"{self.path}: writing at {offset}", error) from error

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeros, whatever it held. Raises TargetUnwritable."""
        if self.fresh or length == 0:
            return
        while self._ways:
            try:
                self._ways[0](offset, length)
                return
            except OSError as error:
                if error.errno in _OF_THE_STORAGE:
                    raise _failed(f"{self.path}: zeroing at {offset}", error) from error
                del self._ways[0]  # not supported here, or not such a range
        while length:
            step = min(length, len(_ZEROS))
            self.write(offset, [memoryview(_ZEROS)[:step]])
            offset, length = offset + step, length - step

    def _zero_out(self, offset: int, length: int) -> None:
        fcntl.ioctl(self._fd, BLKZEROOUT, struct.pack("<QQ", offset, length))

    def _punch(self, offset: int, length: int) -> None:
        result = _libc.fallocate(
            self._fd, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_longlong(offset), ctypes.c_longlong(length)
        )
        if result != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def sync(self) -> None:
        """Make durable what was written so far, and leave none of it in the page cache. Raises TargetUnwritable."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise _failed(f"{self.path}: fdatasync", error) from error
        # Only what is durable can be dropped. What applications have there is worth more than a restore's bytes.
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def finish(self) -> None:
        """Make all of it durable. Raises TargetUnwritable."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise _failed(f"{self.path}: fsync", error) from error

    def close(self) -> None:
        """Close the volume."""
        os.close(self._fd)


def _failed(what: str, error: OSError) -> TargetUnwritable:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return TargetUnwritable(f"{what}: {error.strerror}", remedy=_FULL if full else None)


def _open(path: str) -> tuple[int, bool]:
    mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG
    if stat.S_ISBLK(mode):
        # O_EXCL on a device: refused while it is mounted or otherwise claimed.
        return os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC), False
    if not stat.S_ISREG(mode):
        raise TargetNotFound(f"{path}: neither a block device nor a regular file")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), True
