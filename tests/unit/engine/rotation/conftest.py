from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository
from tests.unit.engine.rotation.rotating import OLD, VOLUMES, save
from tests.unit.engine.support import MemoryStore


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(bytes(range(1, 251)) * 100)
    return tmp_path / "source"


@pytest.fixture
def objects(source: Path) -> dict[str, bytes]:
    """An encrypted store with three volumes."""
    store = MemoryStore()
    Repository.init(store, KeyRing(OLD))
    for volume in VOLUMES:
        save(store, source, volume, OLD)
    return store.objects
