from __future__ import annotations

import pytest

from blockvault.engine import Repository
from tests.unit.engine.support import MemoryStore, shrink_scale


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
