"""What both command lines share of a terminal: figures for people, tables, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

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
    """A table on stdout. Cells are words, or rich's Text where they have a colour."""
    cells = [[cell if isinstance(cell, Text) else str(cell) for cell in row] for row in rows]
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
