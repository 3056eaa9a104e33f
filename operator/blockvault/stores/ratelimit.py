"""A limit on payload bytes per second, shared by all threads of one store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# What may go at once after a pause, in seconds of the rate.
BURST_SECONDS = 1.0


class RateLimit:
    """A token bucket that may go into debt: a body larger than the bucket passes, and the next ones wait.

    Over any time t at most `bytes_per_second * (t + 1)` bytes pass, plus one body for each thread that waits.
    """

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if bytes_per_second <= 0:
            raise ValueError("a rate is more than 0 bytes per second")
        self.bytes_per_second = float(bytes_per_second)
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = self.bytes_per_second * BURST_SECONDS
        self._filled = clock()

    def take(self, count: int) -> None:
        """Account for `count` bytes; returns once all that was taken so far is paid for, this included."""
        if count <= 0:
            return
        with self._lock:
            now = self._clock()
            full = self.bytes_per_second * BURST_SECONDS
            self._tokens = min(full, self._tokens + (now - self._filled) * self.bytes_per_second) - count
            self._filled = now
            debt = -self._tokens
        # Outside of the lock: others queue up behind this debt by adding to it, not by waiting for this thread.
        if debt > 0:
            self._sleep(debt / self.bytes_per_second)
