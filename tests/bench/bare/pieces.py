"""What the bare loops share: the image in pieces of 4 MiB, blocks of 256 KiB, and two threads."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

PIECE, BLOCK, THREADS = 4 << 20, 256 << 10, 2


def data_pieces(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of each piece that is not all hole. Devices have no holes."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only holes from here on
                return
            start = position  # a file system or device that knows no holes
        position = start - start % PIECE
        yield position, min(PIECE, size - position)
        position += PIECE


def in_threads(work: Callable[[], None]) -> None:
    """Run the same work in two threads; the first failure is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work) for _ in range(THREADS)]:
            done.result()


class Queue:
    """Hands out what an iterator gives, to several threads."""

    def __init__(self, source: Iterator[tuple[int, ...]]) -> None:
        self._source, self._lock = source, threading.Lock()

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        while True:
            with self._lock:
                item = next(self._source, None)
            if item is None:
                return
            yield item
