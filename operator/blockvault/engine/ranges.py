"""Ranges [start, end) of anything that is counted: bytes, blocks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that ascend by their starts, as few as can be: what overlaps or touches is one."""
    found: list[tuple[int, int]] = []
    for start, end in ranges:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def of_flags(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The ranges in which flags are set, one [start, end) in each row, ascending."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False)).reshape(-1, 2)
