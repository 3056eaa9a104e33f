"""`fetch.py DATA INDEX TARGET`: read, decompress, hash and write what store.py stored: the limit for a restore.

TARGET is a device that holds zeros, or a file that does not exist yet.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator

import zstandard
from blake3 import blake3
from pieces import PIECE, Queue, in_threads
from store import ENTRY


def runs(entries: list[tuple[int, int, int, int, bytes]]) -> Iterator[tuple[int, int]]:
    """Ranges of entries that lie one after another in the data, of about a piece each."""
    first = 0
    for number in range(1, len(entries) + 1):
        if number == len(entries):
            yield first, number
            return
        begin, last = entries[first], entries[number]
        ends = entries[number - 1][1] + entries[number - 1][2]
        if last[1] != ends or last[1] + last[2] - begin[1] > PIECE:
            yield first, number
            first = number


def main(data: str, index: str, target: str) -> None:
    """Do it. Raises ValueError at a block that is not what was stored."""
    with open(index, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        entries = sorted(ENTRY.iter_unpack(file.read()), key=lambda entry: entry[1])
    source = os.open(data, os.O_RDONLY)
    if os.path.exists(target):
        sink = os.open(target, os.O_WRONLY)
    else:
        sink = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.ftruncate(sink, size)
    work_list = Queue(runs(entries))

    def work() -> None:
        decompressor = zstandard.ZstdDecompressor()
        for first, end in work_list:
            begin, last = entries[first][1], entries[end - 1][1] + entries[end - 1][2]
            piece = memoryview(os.pread(source, last - begin, begin))
            parts: list[bytes | memoryview] = []
            start = expected = entries[first][0]
            for offset, position, stored, plain, digest in entries[first:end]:
                block: bytes | memoryview = piece[position - begin : position - begin + stored]
                if stored != plain:
                    block = decompressor.decompress(block, max_output_size=plain)
                if blake3(block).digest() != digest:
                    raise ValueError(f"block at {offset} is damaged")
                if offset != expected:
                    os.pwritev(sink, parts, start)
                    parts, start = [], offset
                parts.append(block)
                expected = offset + plain
            os.pwritev(sink, parts, start)

    in_threads(work)
    os.fsync(sink)


if __name__ == "__main__":
    main(*sys.argv[1:])
