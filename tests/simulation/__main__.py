"""Run seeds of the simulation by hand: `python -m tests.simulation --seeds 1-500`, `--seed 17 -v`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.simulate import Outcome, run


def main() -> int:
    """Exit code 0: every seed ended well."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", help="a range, A-B")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the whole log")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    parser.add_argument("--record", help="file to write a record of the run to, as Markdown")
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


def many(seeds: range, jobs: int, keep_going: bool, record: str | None) -> int:
    """Run them all and print a summary."""
    started = time.monotonic()
    counts: Counter[str] = Counter()
    failed: list[Outcome] = []
    done = 0
    with ProcessPoolExecutor(jobs) as pool:
        for outcome in pool.map(run, seeds, chunksize=4) if jobs > 1 else map(run, seeds):
            done += 1
            counts.update(outcome.counts)
            if outcome.error:
                failed.append(outcome)
                print(f"seed {outcome.seed}: {outcome.error.strip().splitlines()[-1]}", flush=True)
                if not keep_going:
                    print(outcome.report())
                    break
    for name, count in sorted(counts.items()):
        print(f"{count:8}  {name}")
    seconds = time.monotonic() - started
    ended = f"{done} seeds in {seconds:.1f} s, {len(failed)} failed: {[o.seed for o in failed]}"
    print(ended)
    if record:
        write_record(record, f"Seeds {seeds.start} to {seeds.stop - 1}: {ended}", counts)
    return 1 if failed else 0


def write_record(path: str, ended: str, counts: Counter[str]) -> None:
    """What docs/reliability.md says of a whole run."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    rows = "".join(f"| {name} | {count:,} |\n" for name, count in sorted(counts.items()))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d')}, commit {commit.stdout[:12]}. {ended}.\n\n")
        file.write(f"| fault or action | times |\n| --- | --- |\n{rows}")


if __name__ == "__main__":
    sys.exit(main())
