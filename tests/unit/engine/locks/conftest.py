from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.engine.locks.locking import Clock


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    with made.use():
        yield made
