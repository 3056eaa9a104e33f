"""Faults at every step of the plans, in the emulated cluster: where they can be made exactly, and all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.steps.director import Director, Everywhere, Verdict, When
from tests.steps.faults import HELD, MOVER_DIES, REMOVED, REQUEST, USERS
from tests.steps.matrix import (
    SCENARIOS,
    Case,
    cases,
    chosen,
    parametrize_all,
    play,
    reached,
    run,
    sample,
    settle,
)
from tests.steps.plans import actions, states

from .cluster import EmbeddedCluster
from .reach import requests_of
from .stepping import SteppedWorld

# How a request goes wrong: the operator dies, or the request is refused or its answer lost.
WAYS: dict[str, tuple[Verdict, When]] = {
    "dies-before": ("die", "before"),
    "dies-after": ("die", "after"),
    "refused": ("fail", "before"),
    "answer-lost": ("fail", "after"),
}


@pytest.fixture
def world() -> Iterator[SteppedWorld]:
    """A cluster whose operator asks at each step."""
    with EmbeddedCluster(namespace="shop") as cluster, Director() as director:
        made = SteppedWorld(cluster, director)
        made.start()
        yield made
        assert not director.errors, director.errors


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("way", WAYS)
def test_everywhere_once(world: SteppedWorld, name: str, way: str) -> None:
    """At every request of an operation once: it ends well all the same."""
    scenario = SCENARIOS[name](world, "s")
    rule = Everywhere(*WAYS[way])
    found = play(world, world.director, scenario, rule)
    settle(world, scenario, found)
    print(f"{name}: {way} at {len(rule.struck)} points, {world.deaths} deaths")


CASES = cases(REQUEST, [(fault,) for fault in (MOVER_DIES, *USERS, *REMOVED, *HELD)], [*actions(), *states()])
# In each run so many, others with each commit; in a soak all.
CHOSEN = chosen(cases(REQUEST, (), ()), 8)


@pytest.mark.soak  # until whole runs have shown that each is steady
@pytest.mark.parametrize("case", CHOSEN, ids=[case.id for case in CHOSEN])
def test_chosen_cases(world: SteppedWorld, case: Case) -> None:
    """One fault at one request; BLOCKVAULT_SEED or BLOCKVAULT_CASES chooses them."""
    run(world, world.director, case, "s")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_all_cases:
        parametrize_all(metafunc, CASES)


@pytest.mark.soak
def test_all_cases(world: SteppedWorld, case: Case) -> None:
    """Each fault at each request of each operation, alone."""
    run(world, world.director, case, "s")


# Steps that no scenario comes to, and why.
UNREACHED = {
    "Backup.AwaitGone": "it has no effect",
    "Upkeep.DeleteJob": "a mover that has not begun for a quarter of an hour",
    **dict.fromkeys(
        (
            "Backup.DeleteGivenUp",
            "Restore.DeleteGivenUp",
            "Backup:NodeLost",
            "Restore:NodeLost",
            "Backup:NodeNotReady",
            "Restore:NodeNotReady",
        ),
        "a lost node: tests/embedded/test_lost_nodes.py",
    ),
    "Restore:Binding": "the emulated cluster binds at once",
    "Restore:Detaching": "the emulated cluster detaches at once",
}


def test_every_step_is_reached() -> None:
    """A step that no scenario comes to is a step whose faults nobody has tried."""
    known = {request.rpartition("#")[0] for requests in reached().values() for request in requests}
    assert {*actions(), *states()} - known == set(UNREACHED)


def test_a_word_chooses_cases_and_many_words_all_of_them() -> None:
    """What a commit has tried can be tried again."""
    assert sample(CASES, 12, "a") == sample(CASES, 12, "a") != sample(CASES, 12, "b")
    few = CASES[:60]
    assert {case for word in range(100) for case in sample(few, 6, str(word))} == set(few)
    assert len({case.fault for case in sample(CASES, 12, "a")}) == 12


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_table_is_as_things_are(name: str) -> None:
    """`python -m tests.embedded.reach` writes it anew."""
    assert set(requests_of(name)) == set(reached()[name])
