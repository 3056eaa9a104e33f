"""`python -m tests.bench.alone MODULE [--full] [--rounds N] [--directory D]`: one module's rows, alone."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.rows import Bench


def main() -> int:
    """Print each row's table and goals; exit 1 where one is missed."""
    parser = argparse.ArgumentParser(prog="alone", description=__doc__)
    parser.add_argument("module")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    missed = 0
    for row in importlib.import_module(f"tests.bench.{options.module}").ROWS:
        with tempfile.TemporaryDirectory(dir=options.directory) as folder:
            started = time.perf_counter()
            outcome = row.run(Bench(Path(folder), options.full, options.rounds))
        print(f"\n## {row.name}: {row.title} ({time.perf_counter() - started:.0f} s)")
        for line in [outcome.columns, *outcome.lines]:
            print("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in line) + " |")
        for goal in outcome.goals:
            sign = ">=" if goal.at_least else "<="
            print(f"{'met   ' if goal.met else 'MISSED'} {goal.text}: {goal.value:.3f} {sign} {goal.limit}")
            missed += not goal.met
        for note in outcome.notes:
            print("note:", note)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
