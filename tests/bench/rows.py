"""What a benchmark row is: a piece of work that is measured, and the goals that its figures are held against."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Cell = str | int | float | None


class WorkFailed(Exception):
    """A measured program failed, or did not do what it should: what it took says nothing then."""


@dataclass(frozen=True)
class Goal:
    """One figure and what it should be: at most the limit, or at least it. Units are in the text."""

    text: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is as good as the limit or better."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True)
class Chart:
    """What a plot shows: bars (the median; each measurement is a dot), or lines of (x, y) points."""

    title: str
    unit: str  # of the figures: the y axis of lines
    bars: dict[str, list[float]] = field(default_factory=dict)
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    x: str = ""  # what the x axis of lines is


@dataclass
class Outcome:
    """What a row found: a table (medians), its goals, and what a reader must know of how it was measured.

    `samples` holds every single measurement, by name, in the order it was taken.
    """

    columns: list[str]
    lines: list[list[Cell]]
    goals: list[Goal]
    notes: list[str] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    charts: list[Chart] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain values, with whether each goal was met."""
        goals = [{**asdict(goal), "met": goal.met} for goal in self.goals]
        return {**asdict(self), "goals": goals}


@dataclass(frozen=True)
class Bench:
    """One run: where it may write, how large the work is, how often each measurement is made."""

    scratch: Path
    full: bool  # the sizes of docs/performance.md; otherwise small ones that show that the row works
    rounds: int

    def size(self, full: int, small: int) -> int:
        """The number for this run's scale."""
        return full if self.full else small

    @property
    def memory(self) -> int:
        """Bytes that a program takes beside its own, at most: the page cache, or files that lie in memory."""
        return self.size(8 << 30, 16 << 20)

    @contextmanager
    def folder(self, inside: Path | None = None) -> Iterator[Path]:
        """An empty folder in the scratch space (or inside another), gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="bv-bench-", dir=inside or self.scratch) as made:
            yield Path(made)


@dataclass(frozen=True)
class Row:
    """A benchmark of its own; rows do not depend on each other."""

    name: str  # for --rows, stable
    title: str  # a heading in docs/performance.md
    run: Callable[[Bench], Outcome]


def say(text: str) -> None:
    """Tell the person who waits how far it is."""
    print(text, file=sys.stderr, flush=True)
