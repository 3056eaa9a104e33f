"""Backups on a directory store after a loss of power at any moment: what had returned restores, and it goes on."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository
from blockvault.engine.errors import NotAVault, StoredDataDamaged
from blockvault.stores import DirectoryStore
from tests.stores.power.conftest import Record
from tests.stores.power.disk import Disk, Note

BLOCK = 256 * 1024


@dataclass
class Promises:
    """What the engine has said so far."""

    made: bool = False
    backups: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    going_on: tuple[str, bytes] | None = None
    deleted: set[str] = field(default_factory=set)

    def take(self, what: str, *data: object) -> None:
        """One more thing was said, or begun."""
        if what == "made":
            self.made = True
        elif what == "begun":
            self.going_on = data  # type: ignore[assignment]
        elif what == "backup":
            assert self.going_on is not None
            self.backups[str(data[0])] = self.going_on
        elif what == "delete":
            self.deleted.add(str(data[0]))


def contents() -> list[bytes]:
    """A small volume as it changes: scattered sectors, whole blocks, holes, growth."""
    chance = random.Random(5)
    first = bytearray(chance.randbytes(3 * BLOCK) + bytes(2 * BLOCK) + b"text" * BLOCK)
    second = bytearray(first)
    for _ in range(6):
        at = chance.randrange(len(second) // 4096) * 4096
        second[at : at + 4096] = chance.randbytes(4096)
    third = second + chance.randbytes(BLOCK + 4096)
    third[:BLOCK] = bytes(BLOCK)
    return [bytes(first), bytes(second), bytes(third)]


@pytest.fixture
def recorded(tmp_path: Path, scratch: Path, record: Record) -> tuple[Path, list[Note]]:
    """All that two volumes' backups and a deletion do to the disk."""
    root = tmp_path / "store"
    root.mkdir()
    recorder = record(root, None)
    Repository.init(DirectoryStore(str(root)))
    recorder.mark(("made",))
    source = scratch / "source"
    ids = []
    for volume, content in [("v", c) for c in contents()] + [("w", contents()[0])]:
        source.write_bytes(content)
        recorder.mark(("begun", volume, content))
        result = Repository.open(DirectoryStore(str(root))).backup(BackupRequest(str(source), volume))
        recorder.mark(("backup", result.backup_id))
        ids.append(result.backup_id)
    recorder.mark(("delete", ids[0]))  # from its beginning on nothing is promised of it
    Repository.open(DirectoryStore(str(root))).delete("v", ids[0])
    return root, recorder.notes


def check(place: Path, promises: Promises, scratch: Path) -> None:
    """What was promised restores; what else is listed is the backup that was under way; the next one works."""
    store = DirectoryStore(str(place), retry_seconds=0.1)
    try:
        repository = Repository.open(store)
    except NotAVault:
        assert not promises.made
        repository = Repository.init(store)
    target = scratch / "target"
    listed = {entry["backupId"]: entry["volume"] for entry in repository.list()}
    assert set(promises.backups) - promises.deleted <= set(listed)
    for backup_id, volume in listed.items():
        if (told := promises.backups.get(backup_id, promises.going_on)) is not None:
            assert volume == told[0]
            target.unlink(missing_ok=True)
            repository.restore(volume, str(target), backup_id)
            assert target.read_bytes() == told[1]
    source = scratch / "next"
    source.write_bytes(contents()[1])
    for volume in ("v", "w"):
        result = repository.backup(BackupRequest(str(source), volume))
        target.unlink(missing_ok=True)
        Repository.open(DirectoryStore(str(place))).restore(volume, str(target), result.backup_id)
        assert target.read_bytes() == contents()[1]


def losses(root: Path, notes: list[Note], scratch: Path, moments: int | None, most: int) -> int:
    """Check the states after some prefixes (all if None); returns how many there were."""
    disk, promises, count = Disk(str(root)), Promises(), 0
    chance = random.Random(1)
    # Moments are after changes of entries: bytes alone change nothing that anybody sees.
    telling = [n for n, note in enumerate(notes) if note.what in ("enter", "remove", "sync-dir", "mark")]
    chosen = set(telling if moments is None else chance.sample(telling, min(moments, len(telling))))
    chosen.add(len(notes) - 1)
    for number, note in enumerate(notes):
        if note.what == "mark":
            promises.take(*note.data)
        disk.apply(note)
        if number not in chosen:
            continue
        for state in disk.states(most, chance):
            place = scratch / "place"
            place.mkdir()
            disk.lay_out(state, place, chance)
            check(place, promises, scratch)
            shutil.rmtree(place)
            count += 1
    return count


def test_backups_survive_a_loss_of_power(
    recorded: tuple[Path, list[Note]], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, notes = recorded
    monkeypatch.undo()
    assert losses(root, notes, scratch, moments=24, most=2) > 24


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_backups_survive_every_loss_of_power(
    recorded: tuple[Path, list[Note]], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, notes = recorded
    monkeypatch.undo()
    assert losses(root, notes, scratch, moments=None, most=32) > 150


def test_promises_that_are_broken_are_noticed(
    recorded: tuple[Path, list[Note]], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check fails where an object of a backup is lost."""
    root, notes = recorded
    monkeypatch.undo()
    promises = Promises()
    for note in notes:
        if note.what == "mark":
            promises.take(*note.data)
    next((root / "lineages").glob("*/segments/*")).unlink()
    with pytest.raises(StoredDataDamaged):
        check(root, promises, scratch)
