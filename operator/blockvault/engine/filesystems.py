"""Which file system a volume holds, by the magic numbers of its superblock."""

from __future__ import annotations

import struct

PROBE_SIZE = 2048

_XFS_MAGIC = b"XFSB"
_EXT_SUPERBLOCK = 1024
_EXT_MAGIC = 0xEF53


def detect(head: bytes) -> str | None:
    """`xfs`, `ext4` (the driver of that name mounts ext2 and ext3 as well) or None, from the first 2 KiB."""
    if head[:4] == _XFS_MAGIC:
        return "xfs"
    if len(head) >= _EXT_SUPERBLOCK + 58:
        (magic,) = struct.unpack_from("<H", head, _EXT_SUPERBLOCK + 56)
        if magic == _EXT_MAGIC:
            return "ext4"
    return None
