"""Progress on stderr: bars on a terminal, lines elsewhere, or JSON events; of one run or of several at once."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from blockvault.cli.output import size, time_left
from blockvault.engine import Progress
from blockvault.engine.progress import Report, camel, quiet

# Lines of one run come at most this often, in seconds.
INTERVAL = 3.0
# The rate is that of the last so many seconds.
WINDOW = 30.0


class Pace:
    """Bytes per second of late, and the seconds that are left at this rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, done: int, total: int) -> tuple[float | None, float | None]:
        """(bytes per second, seconds left); None while it cannot be told."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        if now <= since or done <= before:
            return None, None
        rate = (done - before) / (now - since)
        return rate, max(0, total - done) / rate


class _Lines:
    """One run's progress as lines."""

    def __init__(self, label: str, *, as_json: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._as_json = as_json
        self._clock = clock
        self._pace = Pace(clock)
        self._last: float | None = None
        self._ended = False

    def __call__(self, progress: Progress) -> None:
        """Say it now, unless it is too soon or has been said."""
        now = self._clock()
        if self._last is None:
            self._last = now
            self._pace.note(progress.bytes_scanned, progress.bytes_total)
        ended = progress.bytes_scanned >= progress.bytes_total
        if self._ended or (not ended and now - self._last < INTERVAL):
            return
        self._ended = ended and progress.phase != "Reading"
        self._last = now
        rate, left = self._pace.note(progress.bytes_scanned, progress.bytes_total)
        sys.stderr.write((self._event if self._as_json else self._line)(progress, rate, left) + "\n")
        sys.stderr.flush()

    def _event(self, progress: Progress, rate: float | None, left: float | None) -> str:
        facts: dict[str, Any] = {"volume": self._label, **camel(progress)}
        facts["bytesPerSecond"] = None if rate is None else round(rate)
        facts["etaSeconds"] = None if left is None else round(left, 1)
        return json.dumps({"progress": facts})

    def _line(self, progress: Progress, rate: float | None, left: float | None) -> str:
        words = [f"{progress.phase.lower()} {size(progress.bytes_scanned)} of {size(progress.bytes_total)}"]
        if rate is not None:
            words.append(f"{size(rate)}/s")
        if left:
            words.append(f"{time_left(left)} left")
        words.append(f"{size(progress.bytes_stored or progress.bytes_written)} moved")
        return f"{self._label}: {', '.join(words)}"


class _Rate(ProgressColumn):
    """Bytes per second, in the units of all other figures."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{size(speed)}/s", style="progress.data.speed", no_wrap=True)


class Display:
    """Where runs report to: `auto` (bars on a terminal, else lines), `none`, `plain` or `json`."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._bars: Bars | None = None
        self._lock = threading.Lock()
        if mode == "auto" and sys.stderr.isatty():
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(bar_width=12),
                DownloadColumn(binary_units=True, table_column=Column(no_wrap=True)),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True)),
                console=Console(stderr=True),
            )

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def of(self, label: str) -> Report:
        """Where one run reports to."""
        if self._mode == "none":
            return quiet
        if self._bars is not None:
            return self._bar(self._bars, self._bars.add_task(label, total=None, note=""))
        lines = _Lines(label, as_json=self._mode == "json")

        def report(progress: Progress) -> None:
            with self._lock:  # lines of several runs come whole
                lines(progress)

        return report

    @staticmethod
    def _bar(bars: Bars, task: TaskID) -> Report:
        def report(progress: Progress) -> None:
            moved = size(progress.bytes_stored or progress.bytes_written)
            words = f"{progress.phase.lower()}, {moved} moved"
            bars.update(task, total=progress.bytes_total, completed=progress.bytes_scanned, note=words)

        return report
