"""The operator in a cluster that has grown: what it asks, and what it holds in memory (1,000 finished Backups).

An API server of its own, without nodes: storage and movers are played (tests/bench/scale). Times are not asserted.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench.scale.measure import SMALL, Figures, run

# In the soak until whole runs on a quiet machine have shown it to be steady.
pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(1500)]

# Of all its processes together, and requests for one Backup from its creation to its end.
MOST_MEMORY, MOST_REQUESTS = 300, 190


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """What was measured, once for all tests."""
    folder: Path = tmp_path_factory.mktemp("scale")
    return asyncio.run(run(folder, SMALL, 65.0))


def test_memory_does_not_grow_with_what_has_ended(found: Figures) -> None:
    assert max(found.memory_steady, found.memory_peak, found.slot_memory) <= MOST_MEMORY, found


def test_nothing_polls_finished_backups(found: Figures) -> None:
    """Each Vault is looked at once a minute, and nothing else is: less than a request in a second."""
    assert found.idle_rate < 1, found.idle
    assert not [what for what in found.idle if "backups" in what and not what.startswith("watch")], found.idle


def test_a_start_writes_nothing_on_what_has_ended_and_asks_for_none_of_it_alone(found: Figures) -> None:
    """Terminal objects are never touched again: 1,000 Backups are listed by pages, and that is all."""
    asked = found.restart_requests
    assert asked.total() < SMALL.backups / 2, asked
    for what in ("get backups", "patch backups", "patch backups/status", "get restores", "patch tasks"):
        assert asked[what] == 0, asked


def test_a_backup_takes_so_many_requests_however_many_there_are(found: Figures) -> None:
    """Of a namespace with hundreds of Backups none but those of the same claim are asked for."""
    assert found.slot.total() / SMALL.claims <= MOST_REQUESTS, found.slot
