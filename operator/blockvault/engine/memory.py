"""How the process holds memory: what the C library keeps for later is memory that others on the node cannot have."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

MIB = 1024 * 1024

# malloc.h of glibc; sizes in bytes. Freed blocks of 256 KiB raise glibc's own limits, until it keeps tens of MiB.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_little() -> None:
    """Let freed memory go back to the system early: at the beginning of a process that moves data."""
    _keep(MIB, larger=MIB)


def keep_reads() -> None:
    """Keep what one read from the store takes, for the next one: before a restore.

    It has memory to spare beside a backup, and fresh memory for each read would be a tenth of its processor time.
    """
    _keep(16 * MIB, larger=8 * MIB)


def give_back() -> None:
    """What hangs together in rings goes at once, and what the C library keeps goes back to the system."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _keep(most: int, *, larger: int) -> None:
    """Keep so many freed bytes in each thread's heap; blocks from `larger` on are never of a heap."""
    with suppress(AttributeError):  # only glibc has it
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, larger)
        libc.mallopt(_M_TRIM_THRESHOLD, most)
