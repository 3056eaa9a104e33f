"""A target of a restore after a loss of power at any moment: without a note it is whole, or as it was; else it goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import Repository, TargetNotEmpty, identity, writeback
from blockvault.engine.target import Target
from tests.stores.power.conftest import RECORDED, Record
from tests.stores.power.disk import Disk, Note
from tests.unit.engine.support import MemoryStore, backup, marker, noise, restore, shrink_scale

BLOCK = 4096


@dataclass
class Recorded:
    """What a restore did to the disk; what the target held before, and holds after."""

    store: MemoryStore
    folder: Path
    notes: list[Note]
    before: bytes
    content: bytes
    backup_id: str
    how: dict[str, Any]


def unsupported(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "zeros are written, so that they are recorded")


@pytest.fixture(params=["fresh", "ones", "have"])
def recorded(
    request: pytest.FixtureRequest, tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> Recorded:
    shrink_scale(monkeypatch)
    monkeypatch.setattr(writeback, "SYNC_EVERY", 6 * BLOCK)
    monkeypatch.setattr(Target, "_punch", unsupported)
    # The file is laid out anew for each state: here it is the same one by agreement.
    monkeypatch.setattr(identity, "of_file", lambda fd: "the target")
    store, source = MemoryStore(), tmp_path / "source"
    Repository.init(store)
    older = noise(12, 1) + bytes(8 * BLOCK) + noise(20, 2)
    source.write_bytes(older)
    have = backup(store, source).backup_id
    newer = noise(4, 3) + older[4 * BLOCK : 14 * BLOCK] + noise(3, 4) + bytes(6 * BLOCK) + older[23 * BLOCK :]
    source.write_bytes(newer)
    backup_id = backup(store, source).backup_id
    before = {"fresh": b"", "ones": b"\xff" * len(newer), "have": older}[request.param]
    folder = tmp_path / "disk"
    folder.mkdir()
    recorder = record(folder, None)
    target = folder / "target"
    if before:
        target.write_bytes(before)
        recorder.adopt(str(target))
    how = {"have": have} if request.param == "have" else {"force": request.param == "ones"}
    begun = len(recorder.notes)
    recorder.mark("begun")
    restore(store, target, backup_id, threads=1, **how)
    recorder.mark("done")
    assert target.read_bytes() == newer
    assert sum(note.what == "sync" for note in recorder.notes[begun:]) >= 3
    return Recorded(store, folder, recorder.notes, before, newer, backup_id, how)


def check(made: Recorded, place: Path, *, done: bool) -> bool:
    """One state of the disk. Whether the restore went on without force."""
    target = place / "target"
    held = target.read_bytes() if target.exists() else b""
    try:
        json.loads(marker(target).read_bytes())
    except (FileNotFoundError, ValueError):
        assert held == made.content or (held in (made.before, b"") and not done)
    if done:
        assert held == made.content
    try:
        went_on = restore(made.store, target, made.backup_id, **made.how | {"force": False}).resumed
    except TargetNotEmpty:
        went_on = False
        restore(made.store, target, made.backup_id, **made.how | {"force": True})
    assert target.read_bytes() == made.content
    assert not marker(target).exists()
    return went_on


def losses(made: Recorded, scratch: Path, most: int, first: int = 0) -> tuple[int, int]:
    """Every prefix from note `first` on, in up to so many states each: (how many, those where it went on without force)."""
    disk, chance, count, went_on, done, begun = Disk(str(made.folder)), random.Random(1), 0, 0, False, False
    for number, note in enumerate(made.notes):
        disk.apply(note)
        done, begun = done or note.data == "done", begun or note.data == "begun"
        if not begun or number < first:
            continue
        for _ in range(most):
            for state in disk.states(2, chance):
                place = scratch / "place"
                place.mkdir()
                disk.lay_out(state, place, chance)
                went_on += check(made, place, done=done)
                count += 1
                shutil.rmtree(place)
    return count, went_on


def stop_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else that the recorded restore was given stays."""
    for module in RECORDED:
        monkeypatch.setattr(module, "os", os)


def test_a_restore_survives_a_loss_of_power(
    recorded: Recorded, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_recording(monkeypatch)
    count, went_on = losses(recorded, scratch, most=2)
    assert count > 40
    assert went_on > count // 4


@pytest.mark.parametrize("recorded", ["ones"], indirect=True)
def test_a_note_that_goes_too_early_is_noticed(
    recorded: Recorded, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check fails where the last bytes are not synced before the note goes."""
    stop_recording(monkeypatch)
    syncs = [n for n, note in enumerate(recorded.notes) if note.what == "sync"]
    del recorded.notes[syncs[-1]]
    with pytest.raises(AssertionError):
        losses(recorded, scratch, most=8, first=syncs[-1])
