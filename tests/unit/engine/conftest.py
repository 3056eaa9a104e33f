from __future__ import annotations

import pytest

from blockvault.engine import Repository, rotation
from tests.unit.engine.support import MemoryStore, shrink_scale


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotation waits between its listings for stores whose listings lag; ours do not."""
    monkeypatch.setattr(rotation, "QUIET_SECONDS", 0.0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_scale(monkeypatch)


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    Repository.init(made)
    made.traffic.requests.clear()
    made.calls = 0
    return made
