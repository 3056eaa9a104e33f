"""Run seeds of the simulation by hand: `python -m tests.simulation --seeds 1-500`, `--seed 17 -v`."""

from __future__ import annotations

import argparse
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
    options = parser.parse_args()
    if options.seed is not None:
        outcome = run(options.seed)
        if options.verbose:
            print("\n".join(outcome.log))
        print(outcome.error or "ended well", outcome.digest)
        return 1 if outcome.error else 0
    first, _, last = (options.seeds or "1-100").partition("-")
    return many(range(int(first), int(last or first) + 1), options.jobs, options.keep_going)


def many(seeds: range, jobs: int, keep_going: bool) -> int:
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
    print(f"{done} seeds in {seconds:.1f} s, {len(failed)} failed: {[o.seed for o in failed]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
