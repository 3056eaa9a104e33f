"""What a mover's time went into, told in its last words."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from typing import Any

LOADING = "Loading"
OPENING = "Opening"


class Stopwatch:
    """Counts the time in one step after the other; one that comes again goes on counting.

    The thread that works enters steps, and another one may ask at any moment: a run can be stopped.
    """

    def __init__(self, name: str, began: float) -> None:
        """`began`: seconds since 1970."""
        self._lock = threading.Lock()
        self._epoch = time.time() - time.monotonic()  # one clock for all: the calendar may be set meanwhile
        self._starts = {name: began}
        self._seconds = {name: 0.0}
        self._name, self._since = name, began - self._epoch

    def enter(self, name: str) -> None:
        """The step of this name begins, and the one before ends, unless it is the same."""
        with self._lock:
            if name != self._name:
                self._count()
                self._name = name
                self._starts.setdefault(name, self._epoch + self._since)
                self._seconds.setdefault(name, 0.0)

    def timings(self) -> list[dict[str, Any]]:
        """Name, startTime (the first time) and seconds of each step until now."""
        with self._lock:
            self._count()
            return [
                {
                    "name": name,
                    "startTime": datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                    "seconds": round(self._seconds[name], 3),
                }
                for name, start in self._starts.items()
            ]

    def _count(self) -> None:
        now = time.monotonic()
        self._seconds[self._name] += max(0.0, now - self._since)
        self._since = now


def process_start() -> float:
    """When this process began, in seconds since 1970; now, where the kernel does not say."""
    now = time.time()
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return now
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return now - max(0.0, age)
