"""What tells one file or disk from another one that may be found under the same path later."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress

# linux/fs.h: _IOR('v', 1, long). Inode numbers are given out again; each time with another generation.
_FS_IOC_GETVERSION = 0x80087601

# Where the kernel shows each block device by its number.
DEVICES = "/sys/dev/block"
# Of a disk, what says which one it is, the best first: a volume of LVM or another mapping, an array, the World Wide
# Name, the serial number; of a loop device the file that it shows.
_NAMES = ("dm/uuid", "md/uuid", "loop/backing_file", "wwid", "device/wwid", "serial", "device/serial")
# Of a part of a disk, which one it is.
_PARTS = ("start", "loop/offset")


def of_file(fd: int) -> str:
    """Of a regular file: it stays when the file is renamed, and no other file in its file system has it."""
    generation = bytearray(8)
    with suppress(OSError):  # not every file system has generations
        fcntl.ioctl(fd, _FS_IOC_GETVERSION, generation)
    # The kernel fills 4 of the 8 bytes that the request announces.
    return f"inode {os.fstat(fd).st_ino} generation {struct.unpack_from('<I', generation)[0]}"


def of_device(number: int) -> str | None:
    """Of the block device with that number, whatever its path or number is next time; None where it has nothing.

    Virtual disks of one machine may share a serial number, so it never proves by itself that a disk is the same.
    """
    device = os.path.realpath(f"{DEVICES}/{os.major(number)}:{os.minor(number)}")
    # The folder of a partition lies in that of its disk.
    whole = os.path.dirname(device) if os.path.exists(f"{device}/partition") else device
    for name in _NAMES:
        if own := _read(f"{whole}/{name}"):
            return " ".join([name, own, *(f"{part} {_read(f'{device}/{part}')}" for part in _PARTS)])
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""
