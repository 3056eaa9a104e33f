"""`compute.py zstd|blake3|decompress FILE THREADS`: one kind of work on a file's bytes in memory, by blocks of 256 KiB.

Prints the bytes and the seconds; reading the file is not in them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import zstandard
from blake3 import blake3
from pieces import BLOCK


def worker(kind: str, blocks: list[memoryview]) -> Callable[[], None]:
    """The work of one thread on its own blocks; what it needs is made beforehand."""
    compressor, decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
    frames = [compressor.compress(block) for block in blocks] if kind == "decompress" else []

    def hashing() -> None:
        for block in blocks:
            blake3(block).digest()

    def compressing() -> None:
        for block in blocks:
            compressor.compress(block)

    def decompressing() -> None:
        for frame in frames:
            decompressor.decompress(frame)

    return {"blake3": hashing, "zstd": compressing, "decompress": decompressing}[kind]


def main(kind: str, path: str, threads: str) -> None:
    """Do it."""
    with open(path, "rb") as file:
        data = memoryview(file.read())
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    count = int(threads)
    team = [threading.Thread(target=worker(kind, blocks[n::count])) for n in range(count)]
    start = time.perf_counter()
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    print(len(data), time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
