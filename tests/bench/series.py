"""Measurements of several programs over several rounds, and the tables that they make."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping

from tests.bench.process import MIB, Measured
from tests.bench.rows import Bench, Cell, Chart, Outcome, say

WALL, CPU, PEAK, STORED = "wall s", "CPU s", "peak MiB", "stored MiB"


def figures(measured: Measured, **more: float) -> dict[str, float]:
    """Seconds and MiB of a process, by the name that the table's column has."""
    return {WALL: measured.wall, CPU: measured.cpu, PEAK: measured.peak / MIB, **more}


class Series:
    """Every measurement, by program and figure."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[str, list[float]]] = {}

    def add(self, program: str, found: Mapping[str, float]) -> None:
        """Note one measurement of a program."""
        for figure, value in found.items():
            self._samples.setdefault(program, {}).setdefault(figure, []).append(value)

    def median(self, program: str, figure: str) -> float:
        """The median of a figure; KeyError if it was never measured."""
        return statistics.median(self._samples[program][figure])

    def ratio(self, figure: str, of: str, to: str) -> float:
        """The median of one program's figure in the median of another's."""
        return self.median(of, figure) / self.median(to, figure)

    def chart(self, title: str, figure: str, programs: Iterable[str] | None = None) -> Chart:
        """Bars of one figure, for the programs that have it."""
        names = programs if programs is not None else self._samples
        return Chart(
            title, figure, bars={n: self._samples[n][figure] for n in names if figure in self._samples[n]}
        )

    def outcome(self, first: str = "program") -> Outcome:
        """A table with a line for each program and a column for each figure; goals and notes are for the row to add."""
        columns = list(dict.fromkeys(figure for found in self._samples.values() for figure in found))
        lines: list[list[Cell]] = []
        for name, found in self._samples.items():
            lines.append([name, *(statistics.median(found[c]) if c in found else None for c in columns)])
        samples = {
            f"{name}: {c}": values for name, found in self._samples.items() for c, values in found.items()
        }
        return Outcome([first, *columns], lines, [], samples=samples)


def in_turn(bench: Bench, programs: Mapping[str, Callable[[], Mapping[str, float]]]) -> Series:
    """Measure each program once a round, in an order that is turned round from one round to the next.

    What slowly changes on the machine so falls on all alike.
    """
    series = Series()
    for name in programs:  # so that the table has them in the order given
        series.add(name, {})
    for number in range(bench.rounds):
        names = list(programs) if number % 2 == 0 else list(reversed(programs))
        for name in names:
            found = programs[name]()
            series.add(name, found)
            say(f"  round {number + 1}, {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()))
    return series
