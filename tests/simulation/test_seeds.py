"""Some hundred seeds in every run, other ones with every commit; and those that once found something."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation import faults
from tests.simulation.__main__ import many
from tests.simulation.actors import ACTIONS
from tests.simulation.simulate import Outcome, run

# Each found a defect once, with the cast of its time; what it met then may be met elsewhere now.
FOUND = [58, 162, 316, 31230, 32390, 32818, 40147, 42896, 42917, 44916]

# The same in every run: in these, everything that may happen does happen.
FIXED = range(1, 301)
# Other ones with every commit, to find what the fixed ones do not.
ROTATING = 100
TOGETHER = 50
SOAK = 10_000

# Of the fixed seeds that have run, what happened.
seen: dict[int, Counter[str]] = {}


def first_seed() -> int:
    """Where this commit's seeds begin."""
    named = os.environ.get("BLOCKVAULT_SEED")
    if named:
        return int(named)
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return int(done.stdout[:7] or "0", 16) * 10


def proved(outcome: Outcome) -> None:
    if outcome.error:
        pytest.fail(outcome.report(), pytrace=False)


def happened(seed: int) -> Counter[str]:
    """What happened in a fixed seed. Each is run once, whichever test asks first."""
    if seed not in seen:
        outcome = run(seed)
        proved(outcome)
        seen[seed] = outcome.counts
    return seen[seed]


@pytest.mark.parametrize("first", FIXED[::TOGETHER])
def test_fixed_seeds(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        happened(seed)


@pytest.mark.parametrize("group", range(ROTATING // TOGETHER))
def test_rotating_seeds(group: int, capsys: pytest.CaptureFixture[str]) -> None:
    first = first_seed() + group * TOGETHER
    with capsys.disabled():
        print(f" seeds {first} to {first + TOGETHER - 1}", end="", flush=True)
    for seed in range(first, first + TOGETHER):
        proved(run(seed))


def test_everything_that_may_happen_has_happened() -> None:
    """What never happened proves nothing."""
    counts: Counter[str] = sum((happened(seed) for seed in FIXED), Counter())
    assert [kind for kind in (*faults.ALL, *ACTIONS) if not counts[kind]] == []


@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_found_something(seed: int) -> None:
    proved(run(seed))


@pytest.mark.parametrize("seed", [3, 16])
def test_a_seed_repeats_exactly(seed: int) -> None:
    """In other processes too, whatever the order of their sets."""
    here = run(seed)
    assert run(seed).digest == here.digest
    for order in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", str(seed)],
            env={**os.environ, "PYTHONHASHSEED": order},
            capture_output=True,
            text=True,
            check=True,
        )
        assert here.digest in done.stdout
    assert run(seed + 1).digest != here.digest


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """On all processors, telling how far it is. docs/reliability.md has the record of one such run."""
    with capsys.disabled():
        print()
        assert many(range(SOAK), jobs=os.cpu_count() or 1, keep_going=True) == 0
