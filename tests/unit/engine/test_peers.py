"""What lost data in other backup programs, played through with this one, by the names under which it became known."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import EngineError, Repository
from blockvault.stores import StoreError, StoreFull
from tests.unit.engine.support import (
    MemoryStore,
    backup,
    check_usage,
    noise,
    opened,
    restored,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096


def volume(folder: Path, changed: int = 0, blocks: int = 30) -> Path:
    """A volume of which so many blocks at the beginning differ from the first one's."""
    path = folder / "source"
    path.write_bytes(noise(changed, 7) + noise(blocks)[changed * BLOCK :])
    return path


def whole(store: MemoryStore, folder: Path, backup_id: str, content: bytes) -> None:
    assert restored(store, folder, backup_id) == content
    check_usage(store)
    assert opened(store.view()).verify()["ok"]


@pytest.mark.parametrize("collector", ["within", "around"])
def test_proxmox_psa_2025_00019_1(store: MemoryStore, tmp_path: Path, collector: str) -> None:
    """A backup builds on one that is pruned meanwhile, and the collector has listed the store before it ends."""
    first = backup(store, volume(tmp_path)).backup_id
    source = volume(tmp_path, changed=3)
    counting = MemoryStore(dict(store.objects))

    def prune(objects: dict[str, bytes]) -> None:
        opened(MemoryStore(objects)).delete("v", first)

    if collector == "within":
        backup(counting, source)
    else:
        prune(counting.objects)
        opened(counting).collect("v")
    for at in range(1, counting.calls + 1):
        racing = MemoryStore(dict(store.objects))
        made: list[str] = []

        def meanwhile(number: int, kind: str, key: str, racing=racing, made=made, at=at) -> None:  # type: ignore[no-untyped-def]
            if number != at:
                return
            if collector == "within":
                prune(racing.objects)
                opened(racing.view()).collect("v")
            else:
                made.append(backup(racing.view(), source).backup_id)

        racing.before = meanwhile
        if collector == "within":
            made.append(backup(racing, source).backup_id)
        else:
            prune(racing.objects)
            opened(racing).collect("v")
        for backup_id in made:
            whole(racing.view(), tmp_path, backup_id, source.read_bytes())


def test_duplicacy_377(store: MemoryStore, tmp_path: Path) -> None:
    """The first backup of a new volume runs, no backup names what it has sent, and all of the store is collected."""
    backup(store, volume(tmp_path), "other")
    source = volume(tmp_path, changed=30)
    counting = MemoryStore(dict(store.objects))
    backup(counting, source)
    for at in range(1, counting.calls + 1):
        racing = MemoryStore(dict(store.objects))

        def meanwhile(number: int, kind: str, key: str, racing: MemoryStore = racing, at: int = at) -> None:
            if number == at:
                opened(racing.view()).collect()

        racing.before = meanwhile
        whole(racing.view(), tmp_path, backup(racing, source).backup_id, source.read_bytes())


@pytest.mark.parametrize("skip_unreadable", [False, True])
def test_restic_1589_and_borg_fd05aa95c(tmp_path: Path, skip_unreadable: bool) -> None:
    """One upload fails and all others succeed: that is no backup, and no unreadable part of the source either."""
    source = volume(tmp_path)
    counting = MemoryStore()
    Repository.init(counting)
    begun = dict(counting.objects)
    keys: list[str] = []
    counting.before = lambda number, kind, key: keys.append(key) if kind == "put" else None
    backup(counting, source)
    assert len(keys) > 5
    for which in range(len(keys)):
        failing = MemoryStore(dict(begun))
        puts: list[str] = []

        def full(number: int, kind: str, key: str, puts: list[str] = puts, which: int = which) -> None:
            if kind == "put":
                puts.append(key)
                if len(puts) == which + 1:
                    raise StoreFull(f"{key}: no space left on device")

        failing.before = full
        with pytest.raises((StoreError, EngineError), match="no space left"):
            backup(failing, source, skip_unreadable=skip_unreadable)
        assert opened(failing.view()).list("v") == []
