"""All cases: a scenario, a request that it makes at one of its steps, a fault. Each has an id, by which it is run alone.

`reached.json` has the requests that each scenario makes without faults, in their order; it is written by
`python -m tests.embedded.reach`, and a test fails when it is not so any more.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from blockvault.core.reasons import REASONS
from tests.scenario.environment import Object

from . import detours, scenarios
from .checks import check
from .director import Director, Once, Point, Verdict
from .faults import BY_NAME, Fault
from .scenarios import Scenario
from .world import World

TABLE = Path(__file__).with_name("reached.json")
SCENARIOS: dict[str, type[Scenario]] = {s.name: s for s in (*scenarios.ALL, *detours.ALL)}


Rule = Callable[[Point], Verdict]


@dataclass(frozen=True)
class Case:
    """One cell of the matrix. `step` is a request, as `Backup.BindContent#1`."""

    scenario: str
    step: str
    fault: str

    @property
    def id(self) -> str:
        """As `incremental/Backup.BindContent#1/operator-dies-after`."""
        return f"{self.scenario}/{self.step}/{self.fault}"


def case_of(text: str) -> Case:
    """The case of an id. Raises ValueError."""
    scenario, step, fault = text.split("/")
    return Case(scenario, step, fault)


def reached() -> dict[str, list[str]]:
    """The requests of each scenario, in the order in which it comes to them first."""
    found: dict[str, list[str]] = json.loads(TABLE.read_text())
    return found


def cases(
    everywhere: Iterable[Fault],
    at_steps: Iterable[tuple[Fault, ...]],
    steps: Iterable[str],
    *,
    full: bool = False,
) -> list[Case]:
    """The cells: the faults `everywhere` at each request of each scenario, and those `at_steps` once at each of the steps.

    A step is taken in the first scenario that comes to it: what it does there it does elsewhere. Of each row of
    faults one is made at each step, another at the next one; with `full` all are.
    """
    found: list[Case] = []
    wanted, rows, known = set(steps), [*at_steps], 0
    for scenario, requests in reached().items():
        for request in requests:
            found += [Case(scenario, request, fault.name) for fault in everywhere]
            step = request.partition("#")[0]
            if step not in wanted:
                continue
            wanted.remove(step)
            for row in rows:
                picked = row if full else (row[known % len(row)],)
                found += [Case(scenario, request, fault.name) for fault in picked]
            known += 1
    return found


def chosen(found: list[Case], number: int) -> list[Case]:
    """Those named in BLOCKVAULT_CASES, ids with commas between; else so many by BLOCKVAULT_SEED, or by the commit."""
    named = os.environ.get("BLOCKVAULT_CASES")
    if named:
        return [case_of(text.strip()) for text in named.split(",")]
    word = os.environ.get("BLOCKVAULT_SEED") or _commit()
    return sample(found, number, word)


def sample(found: list[Case], number: int, word: str) -> list[Case]:
    """So many cases, the same for the same word, of as many faults as there can be; all of them over many words."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    order = random.Random(seed).sample(found, len(found))
    by_fault: dict[str, list[Case]] = {}
    for case in order:
        by_fault.setdefault(case.fault, []).append(case)
    turns = itertools.chain(*itertools.zip_longest(*by_fault.values()))
    return sorted(itertools.islice(filter(None, turns), number), key=lambda case: case.id)


def _commit() -> str:
    head = ["git", "rev-parse", "HEAD"]
    return subprocess.run(head, capture_output=True, text=True, check=False, cwd=TABLE.parent).stdout.strip()


def run(world: World, director: Director, case: Case, prefix: str) -> Scenario:
    """Run one case and check everything. Raises AssertionError, or TimeoutError with the story."""
    scenario = SCENARIOS[case.scenario](world, prefix)
    fault = BY_NAME[case.fault]
    step, _, call = case.step.rpartition("#")
    rule = fault.at(step, int(call), scenario)
    found = play(world, director, scenario, rule)
    assert rule.struck is not None, f"{case.step} was not reached"
    settle(world, scenario, found, may_fail=fault.may_fail, orphans=fault.orphans)
    return scenario


def play(world: World, director: Director, scenario: Scenario, rule: Rule) -> Object | None:
    """Prepare a scenario, and let it go its way under a rule; returns its subject when it has ended."""
    scenario.prepare()
    rules, own = [rule], f"{world.namespace}/"
    if scenario.detour is not None:
        key, name = scenario.detour
        act = BY_NAME[name].do
        assert act is not None
        rules.insert(0, Once(key, "go", lambda _: act(scenario)))

    def only_here(point: Point) -> Verdict:
        if not point.object.startswith(own):
            return "go"
        return next((found for rule in rules if (found := rule(point)) != "go"), "go")

    director.rule = only_here
    try:
        scenario.act()
        return scenario.wait()
    finally:
        director.rule = None
        if director.errors:
            raise director.errors[0]


def settle(
    world: World, scenario: Scenario, found: Object | None, *, may_fail: bool = False, orphans: bool = False
) -> None:
    """Judge how it ended; what has failed for a reason is asked for once more, and succeeds then."""
    for timer in scenario.timers:
        timer.join()
    if not scenario.ends_gone:
        status = (found or {}).get("status") or {}
        failed = found is None or status["phase"] == "Error"
        assert not failed or may_fail or scenario.detour, f"it ended as {status or 'nothing'}"
        if failed:
            if found is not None:
                assert status["reason"] in REASONS, status
            scenario.digests.pop(scenario.subject, None)
            found = scenario.again()
            assert found is not None, "the second one is gone"
            assert found["status"]["phase"] != "Error", f"the second one ended as {found['status']}"
    scenario.after()
    check(scenario, orphans=orphans)


def parametrize_all(metafunc: pytest.Metafunc, cases: list[Case]) -> None:
    """All cases for a test of the soak: thousands, which are not collected for a run that leaves the soak out."""
    found = cases[:1] if "not soak" in metafunc.config.option.markexpr else cases
    metafunc.parametrize("case", found, ids=[case.id for case in found])
