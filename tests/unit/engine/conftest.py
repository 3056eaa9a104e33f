from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository, VaultKey, fetching, rotation, verification
from tests.disks import in_memory
from tests.unit.engine import support
from tests.unit.engine.damaging import make_patched
from tests.unit.engine.support import SMALL, MemoryStore, backup, noise, shrink_scale


@pytest.fixture(autouse=True)
def no_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting is for stores whose listings and answers lag behind; ours do not. What is asked stays the same."""
    # `tmp_path` comes first, so that it is removed after what a test has made of `os` is undone.
    monkeypatch.setattr(rotation, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(fetching, "SECOND_LOOK", 0.0)
    monkeypatch.setattr(verification, "SECOND_LOOK", 0.0)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder in memory: these tests look at what is in files, and would wait for a disk most of their time.

    Those that are about what a disk or its file system does are marked with `disk`, and get a folder there.
    """
    if request.node.get_closest_marker("disk"):
        yield tmp_path
        return
    with in_memory() as folder:
        yield folder


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


@pytest.fixture(params=["clear", "encrypted"])
def patched(
    request: pytest.FixtureRequest, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MemoryStore:
    """A store whose blocks 10 to 12 have patches, as `damaging.make_patched` makes it of `source`."""
    if request.param == "encrypted":
        monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(range(32)))))
    store = MemoryStore()
    Repository.init(store, support.RING)
    make_patched(store, tmp_path / "source")
    return store
