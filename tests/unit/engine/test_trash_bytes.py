"""How many bytes the trash holds: only what no living backup needs, also where backups go there during a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockvault.engine import BackupResult, ChangedList
from tests.unit.engine.support import MemoryStore, backup, check_usage, noise, opened, state_of

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096


@pytest.fixture
def first(store: MemoryStore, tmp_path: Path) -> BackupResult:
    (tmp_path / "source").write_bytes(noise(40))
    return backup(store, tmp_path / "source")


def change(source: Path) -> None:
    with open(source, "r+b") as file:
        file.seek(3 * BLOCK)
        file.write(b"changed")


def check(store: MemoryStore) -> None:
    check_usage(store)
    (usage,) = opened(store).usage()
    assert usage["inTrash"] == 1
    assert usage["trashBytes"] < 2 * BLOCK < usage["usedBytes"], "the living backup needs nearly all of it"


def test_the_parent_goes_to_the_trash_during_a_run(
    store: MemoryStore, tmp_path: Path, first: BackupResult
) -> None:
    change(tmp_path / "source")
    hooked = store.view()

    def before(number: int, kind: str, key: str) -> None:
        if kind == "put" and "/roots/" in key:
            assert opened(store).delete("v", first.backup_id, keep_seconds=1000)

    hooked.before = before
    assert backup(hooked, tmp_path / "source").type == "incremental"
    check(store)


@pytest.mark.parametrize("how", ["compared", "listed", "unchanged"])
def test_a_parent_that_is_in_the_trash(
    store: MemoryStore, tmp_path: Path, first: BackupResult, how: str
) -> None:
    opened(store).delete("v", first.backup_id, keep_seconds=1000)
    if how != "unchanged":
        change(tmp_path / "source")
    ranges = [(3 * BLOCK, 10)] if how == "listed" else []
    changed = None if how == "compared" else ChangedList(ranges, first.backup_id)
    commits = state_of(store).number
    backup(store, tmp_path / "source", parent=first.backup_id, changed=changed)
    assert state_of(store).number - commits == (1 if how == "unchanged" else 2)
    check(store)
