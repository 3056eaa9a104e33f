"""The next backup mends what was found damaged; what is remembered of damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import ChangedList
from blockvault.engine.backup import PARENT_DAMAGED
from blockvault.engine.damage import REMEMBERED, Found, merge
from blockvault.engine.names import ObjectName
from blockvault.engine.root import Roots
from tests.unit.engine.damaging import BLOCK, flip, ids, places
from tests.unit.engine.support import MemoryStore, backup, check_usage, opened, restored, state_of, volume_of

pytestmark = pytest.mark.usefixtures("small")


def mend(
    store: MemoryStore, source: Path, mode: str, change: Callable[[Path], list[tuple[int, int]]] | None = None
) -> Any:
    changed = change(source) if change else []
    options: dict[str, Any] = {"changed": ChangedList(changed)} if mode == "list" else {}
    return backup(store, source, **options)


@pytest.mark.parametrize("mode", ["list", "compare"])
@pytest.mark.parametrize("what", ["base", "patch", "digests", "leaf", "leaf base", "inner"])
def test_the_next_backup_mends(patched: MemoryStore, tmp_path: Path, mode: str, what: str) -> None:
    key, at = places(patched, 12)[what]
    flip(patched, key, at + 3)
    assert not opened(patched).verify()["ok"]
    result = mend(patched, tmp_path / "source", mode)
    assert (result.fallback_reason == PARENT_DAMAGED) == (what in ("leaf", "leaf base", "inner"))
    assert restored(patched, tmp_path, result.backup_id) == (tmp_path / "source").read_bytes()
    rows = opened(patched).verify()["damaged"]
    assert result.backup_id not in {row["backupId"] for row in rows}
    if what in ("base", "patch", "digests"):
        assert result.bytes_stored < 20_000
    # When the others have gone, so has the memory of the damage.
    assert state_of(patched).damaged
    for backup_id in ids(patched)[:-1]:
        opened(patched).delete("v", backup_id)
    assert opened(patched).verify()["ok"]
    assert state_of(patched).damaged == []
    check_usage(patched)


@pytest.mark.parametrize("mode", ["list", "compare"])
@pytest.mark.parametrize("what", ["leaf", "inner", "root"])
def test_a_parent_that_cannot_be_read_does_not_stop_a_backup(
    patched: MemoryStore, tmp_path: Path, mode: str, what: str
) -> None:
    """Nobody has verified; the backup meets the damage itself, and says so."""
    key, at = places(patched, 12)[what]
    flip(patched, key, at + 3)

    def change(source: Path) -> list[tuple[int, int]]:
        with open(source, "r+b") as file:
            file.seek(13 * BLOCK)
            file.write(b"changed")
        return [(13 * BLOCK, 7)]

    result = mend(patched, tmp_path / "source", mode, change)
    assert (result.type, result.fallback_reason) == ("full", PARENT_DAMAGED)
    assert restored(patched, tmp_path, result.backup_id) == (tmp_path / "source").read_bytes()


def test_a_damaged_root_that_was_found_is_not_built_upon(patched: MemoryStore, tmp_path: Path) -> None:
    """That of the parent of the parent, on which its summary builds: the parent itself reads well."""
    entry = state_of(patched).roots[-2]
    found = volume_of(patched)
    root = Roots(patched, found.lineage).read(found.state.roots[-1])
    assert root.base is not None
    assert str(root.base[0]) == entry.object
    flip(patched, found.lineage.paths.root(root.base[0]), 200)
    rows = opened(patched).verify()["damaged"]
    assert {row["backupId"] for row in rows} == set(ids(patched)[-2:])
    result = backup(patched, tmp_path / "source")
    assert result.fallback_reason == PARENT_DAMAGED
    assert result.backup_id not in {row["backupId"] for row in opened(patched).verify()["damaged"]}


def test_damage_that_has_gone_is_forgotten(patched: MemoryStore) -> None:
    key, at = places(patched, 12)["base"]
    flip(patched, key, at)
    opened(patched).verify()
    assert len(state_of(patched).damaged) == 1
    flip(patched, key, at)
    assert opened(patched).verify()["ok"]
    assert state_of(patched).damaged == []


def test_only_so_much_damage_is_remembered() -> None:
    def one(offset: int) -> Found:
        return Found("k", ObjectName(1, 1, 1), offset, 1, "", offset, offset + 1, 1)

    entries = merge([], [one(offset) for offset in range(REMEMBERED + 5)], [], "now")
    assert len(entries) == REMEMBERED
    again = merge(entries, [one(0)], [(ObjectName(1, 1, 1), 1)], "later")
    assert len(again) == REMEMBERED - 1
    assert again[0]["foundAt"] == "now"
