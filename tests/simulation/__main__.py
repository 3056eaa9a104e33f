"""Run seeds of the simulation by hand: `python -m tests.simulation --seeds 1-500`, `--seed 17 -v`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool

from tests.simulation.simulate import Outcome, run

# Where a page holds the record of a run.
BEGIN, END = "<!-- record -->", "<!-- end of record -->"
# Seeds after which it is told how far a run is.
PROGRESS = 250
# A process is then replaced by a fresh one.
SEEDS_OF_A_PROCESS = 500


def main() -> int:
    """Exit code 0: every seed ended well."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", help="a range, A-B")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the whole log")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    parser.add_argument("--record", help="a page to write the record of the run into, between its marks")
    options = parser.parse_args()
    if options.seed is not None:
        outcome = run(options.seed)
        if options.verbose:
            print("\n".join(outcome.log))
        print(outcome.error or "ended well", outcome.digest)
        return 1 if outcome.error else 0
    first, _, last = (options.seeds or "1-100").partition("-")
    seeds = range(int(first), int(last or first) + 1)
    return many(seeds, options.jobs, options.keep_going, options.record)


def many(seeds: range, jobs: int, keep_going: bool, record: str | None = None) -> int:
    """Run them all, telling how far it is, and print a summary. Returns 1 when one failed."""
    started = time.monotonic()
    counts: Counter[str] = Counter()
    failed: list[int] = []
    done = 0
    for outcome in outcomes(seeds, jobs):
        done += 1
        counts.update(outcome.counts)
        if outcome.error:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed}: {outcome.error.strip().splitlines()[-1]}", flush=True)
            print(f"  again: python -m tests.simulation --seed {outcome.seed} -v", flush=True)
            if not keep_going:
                print(outcome.report())
                break
        if done % PROGRESS == 0:
            print(f"{done} of {len(seeds)} seeds, {time.monotonic() - started:.0f} s", flush=True)
    for name, count in sorted(counts.items()):
        print(f"{count:8}  {name}")
    seconds = time.monotonic() - started
    print(f"{done} seeds in {seconds:.1f} s, {len(failed)} failed: {failed}")
    if record:
        write_record(record, done, seconds, jobs, failed, counts)
    return 1 if failed else 0


def outcomes(seeds: range, jobs: int) -> Iterator[Outcome]:
    """How each ended, in their order. Logs stay where they were made, as those of thousands fill the memory."""
    if jobs == 1:
        yield from map(run, seeds)
        return
    with Pool(jobs, maxtasksperchild=SEEDS_OF_A_PROCESS) as pool:
        yield from pool.imap(brief, seeds, chunksize=1)


def brief(seed: int) -> Outcome:
    """One seed; the log only when it failed."""
    outcome = run(seed)
    if not outcome.error:
        outcome.log = []
    return outcome


def write_record(
    path: str, done: int, seconds: float, jobs: int, failed: list[int], counts: Counter[str]
) -> None:
    """Put the record of a run where the last one stands in a page."""
    head = ["git", "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    processes = "one process" if jobs == 1 else f"{jobs} processes"
    ended = f"{len(failed)} failed ({', '.join(map(str, failed))})" if failed else "none failed"
    lines = [
        f"{time.strftime('%Y-%m-%d')}, commit {commit}: {done:,} seeds in {seconds / 60:.0f} minutes with {processes}, {ended}.",
        "",
        "| what happened | times |",
        "| --- | ---: |",
        *(f"| {name} | {count:,} |" for name, count in sorted(counts.items())),
    ]
    with open(path, encoding="utf-8") as file:
        before, begin, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} lacks the marks {BEGIN} and {END}")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([before + begin, "", *lines, "", end + after]))


if __name__ == "__main__":
    sys.exit(main())
