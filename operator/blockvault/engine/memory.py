"""How the process holds memory: what the C library keeps for later is memory that others on the node cannot have."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

# malloc.h of glibc; sizes in bytes. Freed blocks of 256 KiB raise glibc's own limits, until it keeps tens of MiB.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 1024 * 1024


def keep_little() -> None:
    """Let freed memory go back to the system early: at the beginning of a process that moves data."""
    with suppress(AttributeError):  # only glibc has it
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)


def give_back() -> None:
    """What hangs together in rings goes at once, and what the C library keeps goes back to the system."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
