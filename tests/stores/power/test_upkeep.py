"""Deleting, collecting, compacting and rotating on a directory store after a loss of power at any moment."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, KeyRing, Repository, StoredDataDamaged, VaultKey, rotation
from blockvault.engine.rotation import Rotation
from blockvault.stores import DirectoryStore
from tests.stores.power.conftest import RECORDED, Record
from tests.stores.power.disk import Disk, Note
from tests.unit.engine.support import noise, shrink_scale

BLOCK = 4096
OLD, NEW = VaultKey(b"o" * 32), VaultKey(b"n" * 32)
RING = KeyRing(NEW, OLD)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_scale(monkeypatch)
    monkeypatch.setattr(rotation, "QUIET_SECONDS", 0.0)


def contents() -> dict[str, bytes]:
    """What the backups a to d hold: each has other blocks in most places, and patches."""
    chance = random.Random(2)
    image, made = bytearray(noise(40)), {}
    for number, name in enumerate("abcd"):
        for block in range(number, 30):
            if block % 4 != number:
                image[block * BLOCK : (block + 1) * BLOCK] = chance.randbytes(BLOCK)
        image[35 * BLOCK + 64 : 36 * BLOCK - 64] = chance.randbytes(BLOCK - 128)
        image[37 * BLOCK + 64 : 37 * BLOCK + 900] = chance.randbytes(836)
        made[name] = bytes(image)
    return made


@pytest.fixture
def recorded(tmp_path: Path, scratch: Path, record: Record) -> tuple[Path, list[Note], dict[str, bytes]]:
    """All that is done to a store that holds four backups, and the backups that must be there throughout."""
    root, source = tmp_path / "store", scratch / "source"
    root.mkdir()
    recorder = record(root)
    opened = Repository.init(DirectoryStore(str(root)), KeyRing(OLD))
    ids = {}
    for name, content in contents().items():
        source.write_bytes(content)
        ids[name] = opened.backup(BackupRequest(str(source), "v", threads=1)).backup_id
    recorder.mark("begun")
    done, moved = [], 0
    for name in "ab":
        opened.delete("v", ids[name])
        moved += opened.compact("v").copied_bytes
        done += opened.collect()
        done += opened.collect()
        opened.heal("v")
    assert sum(one.deleted_objects for one in done)
    assert moved
    Rotation(DirectoryStore(str(root)), RING).run()
    recorder.mark("rotated")
    opened = Repository.open(DirectoryStore(str(root)), KeyRing(NEW))
    opened.collect()
    return root, recorder.notes, {ids[name]: contents()[name] for name in "cd"}


def check(place: Path, kept: dict[str, bytes], scratch: Path, *, rotated: bool) -> None:
    """What was to be kept restores; all of it goes on: upkeep to its end, and the next backup."""
    target, source = scratch / "target", scratch / "next"
    repository = Repository.open(DirectoryStore(str(place)), KeyRing(NEW) if rotated else RING)
    for _ in range(2):
        assert set(kept) <= {entry["backupId"] for entry in repository.list("v")}
        for backup_id, content in kept.items():
            target.unlink(missing_ok=True)
            repository.restore("v", str(target), backup_id)
            assert target.read_bytes() == content
        assert repository.verify()["damaged"] == []
        Rotation(DirectoryStore(str(place)), RING).run()
        repository = Repository.open(DirectoryStore(str(place)), KeyRing(NEW))
        repository.compact("v")
        repository.heal("v")
        repository.collect()
        repository.collect()
    source.write_bytes(contents()["a"])
    made = repository.backup(BackupRequest(str(source), "v", threads=1))
    target.unlink(missing_ok=True)
    repository.restore("v", str(target), made.backup_id)
    assert target.read_bytes() == contents()["a"]


def losses(
    root: Path, notes: list[Note], kept: dict[str, bytes], scratch: Path, moments: int | None, most: int
) -> int:
    """Check the states after some prefixes (all if None); returns how many there were."""
    disk, chance, count, rotated = Disk(str(root)), random.Random(1), 0, False
    begun = next(n for n, note in enumerate(notes) if note.data == "begun")
    telling = [
        n for n, note in enumerate(notes) if n > begun and note.what in ("enter", "remove", "sync-dir")
    ]
    chosen = set(telling if moments is None else chance.sample(telling, min(moments, len(telling))))
    for number, note in enumerate(notes):
        disk.apply(note)
        rotated = rotated or note.data == "rotated"
        for state in disk.states(most, chance) if number in chosen else ():
            place = scratch / "place"
            place.mkdir()
            disk.lay_out(state, place, chance)
            check(place, kept, scratch, rotated=rotated)
            shutil.rmtree(place)
            count += 1
    return count


def stop_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in RECORDED:
        monkeypatch.setattr(module, "os", os)


def test_upkeep_survives_a_loss_of_power(
    recorded: tuple[Path, list[Note], dict[str, bytes]], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_recording(monkeypatch)
    assert losses(*recorded, scratch, moments=12, most=2) >= 12


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_upkeep_survives_every_loss_of_power(
    recorded: tuple[Path, list[Note], dict[str, bytes]], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_recording(monkeypatch)
    assert losses(*recorded, scratch, moments=None, most=4) > 100


def test_an_object_that_is_lost_is_noticed(
    recorded: tuple[Path, list[Note], dict[str, bytes]], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_recording(monkeypatch)
    root, _, kept = recorded
    max((root / "lineages").glob("*/segments/*"), key=lambda path: path.stat().st_size).unlink()
    with pytest.raises(StoredDataDamaged, match="segment is missing"):
        check(root, kept, scratch, rotated=True)
