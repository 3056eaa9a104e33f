"""`make bench`: each row measures one kind of work, beside other programs and the machine's limit.

Ratios are shown, not asserted: whatever they are, the exit code is 0. It is 1 when the work itself failed, or was not right.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.bench import plots, record, render
from tests.bench.registry import IN_THE_CLUSTER, ROWS
from tests.bench.rows import Bench, Row, say


def options(rows: tuple[Row, ...], rounds: int) -> argparse.Namespace:
    """The command line. `rows`: those to choose from; `rounds`: how many there are by default."""
    names = ", ".join(row.name for row in rows)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", help=f"names with commas between them; all by default: {names}")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"how often each measurement is made ({rounds})"
    )
    parser.add_argument("--small", action="store_true", help="small sizes, which show that the rows work")
    parser.add_argument(
        "--directory", type=Path, help="where to work; the system's temporary directory by default"
    )
    parser.add_argument("--json", type=Path, help="merge the results into this file")
    parser.add_argument(
        "--record",
        type=Path,
        metavar="DOCUMENT",
        help="write the results into this document, with results.json and plots in a folder of its name beside it",
    )
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    chosen.rows = rows if chosen.rows is None else pick(chosen.rows.split(","), rows)
    if isinstance(chosen.rows, str):
        parser.error(f"no row is named {chosen.rows}; there are {names}")
    return chosen


def pick(wanted: list[str], rows: tuple[Row, ...]) -> tuple[Row, ...] | str:
    """The rows of these names, in their order; or a name that is none."""
    known = {row.name: row for row in rows}
    unknown = [name for name in wanted if name not in known]
    return unknown[0] if unknown else tuple(known[name] for name in wanted)


def main(rows: tuple[Row, ...] | None = None, rounds: int = 3) -> int:
    """Run the rows one after another; one that fails does not keep the others from running."""
    chosen = options(rows or ROWS, rounds)
    order = [row.name for row in (*ROWS, *IN_THE_CLUSTER)]
    files = [chosen.json] if chosen.json else []
    if chosen.record:
        files.append(chosen.record.with_suffix("") / "results.json")
    failed: list[str] = []
    commit = record.current_commit()  # now: somebody may commit while this runs
    with tempfile.TemporaryDirectory(prefix="bv-bench-", dir=chosen.directory) as scratch:
        bench = Bench(Path(scratch), not chosen.small, chosen.rounds)
        for row in chosen.rows:
            say(f"== {row.name}: {row.title}")
            start = time.monotonic()
            try:
                outcome = row.run(bench)
            except Exception:  # noqa: BLE001 - whatever it is, it is shown, and the other rows still say something
                traceback.print_exc()
                failed.append(row.name)
                continue
            new = {row.name: record.entry(row, bench, outcome, time.monotonic() - start, commit)}
            print(render.section(row.name, new[row.name], []) + "\n", flush=True)
            for file in files:  # after each row, so that a run that is broken off has not been for nothing
                record.write(file, record.merged(record.read(file), new, order))
    if chosen.record:
        write_document(chosen.record)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def write_document(path: Path) -> None:
    """Render the record that lies beside a document into it."""
    folder = path.with_suffix("")
    found = record.read(folder / "results.json")
    pictures: dict[str, list[str]] = {}
    try:
        pictures = plots.draw(found, folder)
    except ImportError:
        say("no plots: matplotlib is not installed (requirements-bench.lock)")
    render.document(
        path, found, {row: [f"{folder.name}/{n}" for n in names] for row, names in pictures.items()}
    )


if __name__ == "__main__":
    sys.exit(main())
