from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import Repository, rotation
from tests.unit.engine.support import SMALL, MemoryStore, backup, noise, shrink_scale


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


@pytest.fixture
def kept(small: None, store: MemoryStore, tmp_path: Path) -> tuple[MemoryStore, bytes, str]:
    """A store with a backup of 60 blocks, some zero; its content and id."""
    content = noise(20) + bytes(20 * SMALL["BLOCK_SIZE"]) + noise(19, 2) + b"tail"
    (tmp_path / "source").write_bytes(content)
    return store, content, backup(store, tmp_path / "source").backup_id
