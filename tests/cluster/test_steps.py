"""Faults at every step of the plans, in the real cluster: what the emulated one cannot break (tests/steps, tests/embedded)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster
from tests.cluster.stepping import ClusterWorld, Gateway, listener, stepped_operator
from tests.steps.director import Director
from tests.steps.faults import DIES, HELD, MOVER_DIES, REAL, REMOVED, USERS
from tests.steps.matrix import Case, cases, chosen, parametrize_all, run
from tests.steps.plans import actions

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROWS = [(DIES,), (MOVER_DIES,), USERS, REMOVED, HELD, *REAL]
CASES = cases((), ROWS, actions())
# So many in each run, others with each commit.
CHOSEN = chosen(cases((), ROWS, actions(), full=True), 12)


@pytest.fixture(scope="module")
def director(cluster: Cluster, installed_operator: Operator) -> Iterator[Director]:
    """The operator asks it at each step."""
    with Director(listener(cluster)) as made, stepped_operator(cluster, installed_operator, made):
        yield made


@pytest.fixture(scope="module")
def gateway(cluster: Cluster) -> Iterator[Gateway]:
    """The way to the store."""
    made = Gateway(cluster)
    yield made
    made.close()


@pytest.fixture
def world(
    cluster: Cluster, namespace: Kube, installed_operator: Operator, director: Director, gateway: Gateway
) -> Iterator[ClusterWorld]:
    """A namespace; no fault outlives its test."""
    yield ClusterWorld(cluster, namespace, installed_operator, gateway)
    cluster.set_faults({})


@pytest.mark.soak  # until whole runs beside the other files have shown it to be steady
@pytest.mark.parametrize("case", CHOSEN, ids=[case.id for case in CHOSEN])
def test_chosen_cases(world: ClusterWorld, director: Director, case: Case) -> None:
    """One fault at one step; BLOCKVAULT_SEED or BLOCKVAULT_CASES chooses them."""
    run(world, director, case, f"s{world.namespace[-4:]}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_all_cases:
        parametrize_all(metafunc, CASES)


@pytest.mark.soak
def test_all_cases(world: ClusterWorld, director: Director, case: Case) -> None:
    """Each fault at each step of each operation, alone."""
    run(world, director, case, f"s{world.namespace[-4:]}")
