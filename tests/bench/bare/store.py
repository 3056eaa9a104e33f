"""`store.py IMAGE DATA INDEX`: read, hash, compress and write an image to one file: the machine's limit for a backup.

Like the programs that it is compared with it has its bytes on the disk when it ends.
"""

from __future__ import annotations

import os
import struct
import sys
import threading

import zstandard
from blake3 import blake3
from pieces import BLOCK, Queue, data_pieces, in_threads

ENTRY = struct.Struct("<QQLL32s")  # offset in the image, offset in the data, bytes stored, bytes, hash
ZEROS = bytes(BLOCK)
SYNC_EVERY = 128 << 20  # bytes after which writing back begins, so that the disk works beside the processor


class Writer:
    """One file that several threads append to."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._end = self._synced = 0
        self._lock, self._syncing = threading.Lock(), threading.Lock()

    def append(self, parts: list[bytes]) -> int:
        """Write the parts one after another; returns where they begin."""
        length = sum(map(len, parts))
        with self._lock:
            position, self._end = self._end, self._end + length
            due = self._end - self._synced > SYNC_EVERY
            if due:
                self._synced = self._end
        if os.pwritev(self.descriptor, parts, position) != length:
            raise OSError("written less than asked for")
        if due:
            threading.Thread(target=self.sync).start()
        return position

    def sync(self) -> None:
        """Have on the disk what was written; one at a time."""
        with self._syncing:
            os.fdatasync(self.descriptor)


def main(image: str, data: str, index: str) -> None:
    """Do it."""
    source = os.open(image, os.O_RDONLY)
    size = os.lseek(source, 0, os.SEEK_END)
    pieces, writer, entries = Queue(data_pieces(source, size)), Writer(data), []

    def work() -> None:
        compressor = zstandard.ZstdCompressor(level=1)
        for offset, length in pieces:
            piece = os.pread(source, length, offset)
            view, parts, found = memoryview(piece), [], []
            for start in range(0, length, BLOCK):
                block = view[start : start + BLOCK]
                if block[:64] == ZEROS[:64] and bytes(block) == ZEROS[: len(block)]:
                    continue
                digest, stored = blake3(block).digest(), compressor.compress(block)
                if len(stored) >= len(block):
                    stored = bytes(block)
                parts.append(stored)
                found.append((offset + start, len(stored), len(block), digest))
            if parts:
                position = writer.append(parts)
                for place, stored_length, plain, digest in found:
                    entries.append(ENTRY.pack(place, position, stored_length, plain, digest))
                    position += stored_length

    in_threads(work)
    with open(index, "wb") as file:
        file.write(struct.pack("<Q", size))
        file.writelines(sorted(entries))
        file.flush()
        os.fsync(file.fileno())
    writer.sync()


if __name__ == "__main__":
    main(*sys.argv[1:])
