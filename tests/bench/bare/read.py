"""`read.py SOURCE`: read what is not a hole, by 4 MiB into one buffer past the page cache: a bare read."""

from __future__ import annotations

import mmap
import os
import sys

from pieces import PIECE, data_pieces


def main(path: str) -> None:
    """Do it; prints the bytes read."""
    buffer = mmap.mmap(-1, PIECE)  # at a page's edge, as O_DIRECT asks
    try:
        source = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:  # tmpfs: there is nothing to go past
        source = os.open(path, os.O_RDONLY)
    size, total = os.lseek(source, 0, os.SEEK_END), 0
    for offset, _ in data_pieces(source, size):
        total += os.preadv(source, [buffer], offset)
    print(total)


if __name__ == "__main__":
    main(*sys.argv[1:])
