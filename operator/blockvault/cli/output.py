"""What the command line shows: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from blockvault.engine import exit_code
from blockvault.stores import BlockvaultError

# Columns wider than this are text, which may be folded; no id, time or figure is.
_FOLDED = 36

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: float) -> str:
    """Bytes for people: 1536 -> 1.5 KiB."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{int(count)} B"


def time_left(seconds: float) -> str:
    """A time for people: 3700 -> 1:01:40."""
    return str(timedelta(seconds=round(seconds)))


def as_json(data: Any) -> None:
    """One object on stdout."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def as_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout."""
    cells = [[str(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    least = 0
    for number, column in enumerate(columns):
        widest = max(len(each) for each in [column, *(row[number] for row in cells)])
        table.add_column(column, overflow="fold", no_wrap=widest <= _FOLDED)
        least += min(widest, _FOLDED) + 2
    for row in cells:
        table.add_row(*row)
    # What goes into a pipe or a file must not be folded at some terminal's width, and on a terminal that is too narrow
    # a row that goes on in the next line reads better than figures in pieces.
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, least) if sys.stdout.isatty() else 250
    console.print(table)


def complain(message: str, remedy: str) -> None:
    """An error on stderr: what and why, then what to do."""
    sys.stderr.write(f"blockvault: {message}\n  {remedy}\n")


def errors(failed: Sequence[tuple[str, BlockvaultError]]) -> list[dict[str, str]]:
    """Volumes and their errors, as JSON shows them."""
    return [{"volume": name, "reason": error.reason, "message": error.message} for name, error in failed]


def fail(failed: Sequence[tuple[str, BlockvaultError]]) -> None:
    """Say what went wrong with which volumes, and end with the exit code of the first; nothing without any."""
    for name, error in failed:
        complain(error.message if name in error.message else f"{name}: {error.message}", error.remedy)
    if failed:
        raise click.exceptions.Exit(exit_code(failed[0][1]))


def warn(message: str) -> None:
    """Something that does not stop the run and should be known, on stderr."""
    sys.stderr.write(f"blockvault: warning: {message}\n")


def note(message: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"blockvault: {message}\n")


def value(name: str, fact: Any) -> str:
    """One fact of a backup for people."""
    if fact is None or fact in ([], {}):
        return "-"
    if isinstance(fact, int) and (name.startswith("bytes") or name.endswith("Bytes") or name == "size"):
        return f"{size(fact)} ({fact})"
    if name == "unreadable":
        return ", ".join(f"{length} bytes at {offset}" for offset, length in fact)
    return fact if isinstance(fact, str) else json.dumps(fact)


def labels(entry: dict[str, Any]) -> str:
    """What is known of a backup besides itself, in words: trash, verification, any other label."""
    words = []
    for name, value in entry.get("labels", {}).items():
        facts = value if isinstance(value, dict) else {}
        if name == "trash":
            words.append(f"in the trash until {facts.get('until')}")
        elif name == "verified":
            damaged = facts.get("damaged")
            words.append(f"DAMAGED, seen {facts.get('at')}" if damaged else f"verified {facts.get('at')}")
        else:
            words.append(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    return ", ".join(words)
