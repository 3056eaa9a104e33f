"""What the command line shows: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from blockvault.engine import Progress
from blockvault.engine.progress import Report, camel, quiet

# Lines of `plain` and `json` progress come at most this often, in seconds.
INTERVAL = 2.0

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """Bytes for people: 1536 -> 1.5 KiB."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{int(count)} B"


def as_json(data: Any) -> None:
    """One object on stdout."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def as_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "BACKUP")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # What goes into a pipe or a file must not be folded at some terminal's width.
    Console(width=None if sys.stdout.isatty() else 250).print(table)


def complain(message: str, remedy: str) -> None:
    """An error on stderr: what and why, then what to do."""
    sys.stderr.write(f"blockvault: {message}\n  {remedy}\n")


@contextmanager
def reporting(mode: str, label: str) -> Iterator[Report]:
    """A place to report progress to: `auto` (bars on a terminal, else nothing), `none`, `plain` or `json`."""
    if mode == "auto" and sys.stderr.isatty():
        with _bars() as bars:
            yield _bar(bars, bars.add_task(label, total=None))
    elif mode in ("plain", "json"):
        yield _Lines(mode, label)
    else:
        yield quiet


def _bars() -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


def _bar(bars: Bars, task: TaskID) -> Report:
    bars.update(task, note="")

    def report(progress: Progress) -> None:
        note = f"{progress.phase.lower()}, {size(progress.bytes_stored or progress.bytes_written)} moved"
        bars.update(task, total=progress.bytes_total, completed=progress.bytes_scanned, note=note)

    return report


class _Lines:
    """Progress as lines on stderr."""

    def __init__(self, mode: str, label: str) -> None:
        self._mode = mode
        self._label = label
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        """Report now, unless it is too soon."""
        ended = progress.bytes_scanned >= progress.bytes_total
        if not ended and time.monotonic() - self._last < INTERVAL:
            return
        self._last = time.monotonic()
        if self._mode == "json":
            line = json.dumps({"progress": {"volume": self._label, **camel(progress)}})
        else:
            line = (
                f"{self._label}: {progress.phase.lower()} {size(progress.bytes_scanned)} of "
                f"{size(progress.bytes_total)}, {size(progress.bytes_stored or progress.bytes_written)} moved"
            )
        sys.stderr.write(line + "\n")
