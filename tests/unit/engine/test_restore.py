"""Restores that go on, and that know what the target holds."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockvault.engine import BadRequest, Repository, TargetNotEmpty, writeback
from blockvault.engine import restore as restores
from blockvault.engine.compare import Held
from blockvault.engine.target import Target
from tests.unit.engine.support import MemoryStore, backup, interrupted, marker, noise, restore, shrink_scale

BLOCK, SECTOR = 4096, 64
MIB = 1024 * 1024


class Watched(Target):
    """Notes what is written."""

    written: ClassVar[Counter[int]] = Counter()
    sectors: ClassVar[Counter[int]] = Counter()
    zeroed: ClassVar[Counter[int]] = Counter()

    def write(self, offset: int, buffers: Any) -> None:
        super().write(offset, buffers)
        sizes = sum(len(buffer) for buffer in buffers)
        self.written.update(range(offset // BLOCK, -(-(offset + sizes) // BLOCK)))
        self.sectors.update(range(offset // SECTOR, -(-(offset + sizes) // SECTOR)))

    def zero(self, offset: int, length: int) -> None:
        super().zero(offset, length)
        if length and not self.fresh:
            self.zeroed.update(range(offset // BLOCK, -(-(offset + length) // BLOCK)))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    monkeypatch.setattr(restores, "Target", Watched)
    for notes in ("written", "sectors", "zeroed"):
        monkeypatch.setattr(Watched, notes, Counter())
    return Watched


def test_a_target_that_holds_something_is_refused(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path
) -> None:
    store, content, backup_id = kept
    target = tmp_path / "target"
    target.write_bytes(noise(70, 3))
    with pytest.raises(TargetNotEmpty, match="target holds something"):
        restore(store, target, backup_id)
    assert target.read_bytes() == noise(70, 3)
    assert not marker(target).exists()
    restore(store, target, backup_id, force=True)
    assert target.read_bytes() == content + noise(70, 3)[len(content) :]


def test_a_file_of_holes_is_empty(kept: tuple[MemoryStore, bytes, str], tmp_path: Path) -> None:
    store, content, backup_id = kept
    target = tmp_path / "target"
    target.touch()
    os.truncate(target, 100 * BLOCK)
    restore(store, target, backup_id)
    assert target.read_bytes() == content + bytes(100 * BLOCK - len(content))


def test_an_interrupted_restore_goes_on(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, watched: type[Watched]
) -> None:
    store, content, backup_id = kept
    target = tmp_path / "target"
    interrupted(store, target, backup_id, 4)
    before = set(watched.written)
    assert marker(target).exists()
    watched.written.clear()
    result = restore(store, target, backup_id)
    assert result.resumed
    assert target.read_bytes() == content
    assert not marker(target).exists()
    assert len(before) > 3
    assert not before & set(watched.written)
    assert result.bytes_kept == len(before) * BLOCK


def test_an_interrupted_restore_is_not_taken_for_another_backup(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path
) -> None:
    store, _, backup_id = kept
    other = backup(store, tmp_path / "source", full=True).backup_id
    target = tmp_path / "target"
    interrupted(store, target, backup_id, 4)
    with pytest.raises(TargetNotEmpty):
        restore(store, target, other)
    # Nor is a file that took its place.
    target.rename(tmp_path / "away")
    target.write_bytes(noise(60, 9))
    with pytest.raises(TargetNotEmpty):
        restore(store, target, backup_id)


def test_the_note_is_durable_before_the_first_write_and_goes_after_the_last_sync(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, backup_id = kept
    target = tmp_path / "target"
    steps: list[str] = []
    for name in ("fsync", "rename", "ftruncate", "unlink"):
        original = getattr(os, name)

        def noted(*args: Any, name: str = name, original: Any = original) -> Any:
            steps.append(name)
            return original(*args)

        monkeypatch.setattr(os, name, noted)
    original_write = Target.write
    monkeypatch.setattr(Target, "write", lambda *args: (steps.append("write"), original_write(*args))[1])
    restore(store, target, backup_id)
    first = steps.index("write")
    assert steps[:first] == ["fsync", "rename", "fsync", "ftruncate"]
    assert steps[-3:] == ["fsync", "unlink", "fsync"]


def test_comparing_stops_where_it_does_not_pay(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, content, backup_id = kept
    monkeypatch.setattr("blockvault.engine.compare.PATIENCE", 8)
    monkeypatch.setattr("blockvault.engine.compare.SAMPLED", 4)
    # Writing reads as well, to spare sectors, as often as it is quicker than comparing: only what is compared counts.
    compared: list[int] = []
    original = Held.has
    monkeypatch.setattr(Held, "has", lambda *args: (compared.append(args[1]), original(*args))[1])
    target = tmp_path / "target"
    target.write_bytes(noise(60, 5))
    restore(store, target, backup_id, force=True)
    assert target.read_bytes()[: len(content)] == content
    assert 4 + 8 <= len(compared) <= 4 + 24
    # Where one block in a sample fits, all are compared.
    monkeypatch.setattr("blockvault.engine.compare.SAMPLED", 64)
    compared.clear()
    target.write_bytes(noise(30, 5) + content[30 * BLOCK :])
    result = restore(store, target, backup_id, force=True)
    assert target.read_bytes() == content
    assert result.bytes_kept == 20 * BLOCK
    assert len(compared) >= 40


def test_of_a_block_only_the_sectors_that_differ_are_written(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, watched: type[Watched]
) -> None:
    """A former state of the volume, of which nobody says what it is: here and there a sector is another."""
    store, content, backup_id = kept
    target = tmp_path / "target"
    drifted = bytearray(content)
    wrong = [5 * BLOCK, 5 * BLOCK + SECTOR, 9 * BLOCK + 3 * SECTOR, 10 * BLOCK - SECTOR, 41 * BLOCK + 7]
    for at in wrong:
        drifted[at] ^= 1
    target.write_bytes(drifted)
    result = restore(store, target, backup_id, force=True)
    assert target.read_bytes() == content
    assert dict(watched.sectors) == dict.fromkeys([at // SECTOR for at in wrong], 1)
    assert result.bytes_written == len(wrong) * SECTOR


def test_reading_what_is_there_stops_where_it_spares_nothing(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, content, backup_id = kept
    read: Counter[int] = Counter()
    original = Target.read
    monkeypatch.setattr(Target, "read", lambda *args: (read.update([args[1]]), original(*args))[1])
    target = tmp_path / "target"
    # One block in forty is there, so all are compared; of the others nothing is.
    target.write_bytes(noise(59, 5) + content[59 * BLOCK :])
    monkeypatch.setattr("blockvault.engine.compare.SAMPLED", 0)
    result = restore(store, target, backup_id, force=True)
    assert target.read_bytes() == content
    assert result.bytes_kept == BLOCK
    twice = sum(count > 1 for count in read.values())
    assert 8 <= twice < 30


def test_without_resume_everything_is_written_anew(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, watched: type[Watched]
) -> None:
    store, content, backup_id = kept
    target = tmp_path / "target"
    target.write_bytes(content)
    restore(store, target, backup_id, force=True)
    assert not watched.written
    result = restore(store, target, backup_id, force=True, resume=False)
    assert set(watched.written) == {*range(20), *range(40, 60)}
    assert result.bytes_kept == 0


# ---- have


@given(data=st.data())
@settings(
    max_examples=int(os.environ.get("BLOCKVAULT_MODEL_EXAMPLES") or 60),
    deadline=None,
    derandomize="BLOCKVAULT_MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
def test_a_restore_onto_another_backup_writes_only_what_differs(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any pair of backups, with drift that a list names, interrupted or not: the right bytes, nothing needless."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_scale(patch)
        patch.setattr(restores, "Target", Watched)
        patch.setattr(writeback, "SPARED_AFTER", MIB)
        for notes in ("written", "sectors", "zeroed"):
            patch.setattr(Watched, notes, Counter())
        folder = tmp_path_factory.mktemp("have")
        store = MemoryStore()
        Repository.init(store)
        size = data.draw(st.integers(1, 90 * BLOCK))
        image = bytearray(size)
        images = []
        for seed in range(data.draw(st.integers(2, 4))):
            if data.draw(st.booleans()) and seed:
                size += data.draw(st.integers(0, 70 * BLOCK))
                image.extend(bytes(size - len(image)))
            scribble(data, image, seed)
            (folder / "source").write_bytes(image)
            images.append((backup(store, folder / "source").backup_id, bytes(image)))
        (old, before), (new, after) = (
            data.draw(st.sampled_from(images)),
            data.draw(st.sampled_from(images)),
        )
        # The target is as large as the larger of both, and drifted at places that a list names.
        held = bytearray(before + bytes(max(0, len(after) - len(before))))
        changed = scribble(data, held, 77) if data.draw(st.booleans()) else []
        changed = [(o, n) for o, n in changed if o + n <= len(after)]
        if not all(held[i] == before[i] for i in range(len(before)) if not inside(i, changed)):
            held = bytearray(before + bytes(max(0, len(after) - len(before))))
            changed = []
        target = folder / "target"
        target.write_bytes(held)
        known = len(before) // BLOCK if len(before) != len(after) else -(-len(after) // BLOCK)
        differ = {
            block
            for block in range(-(-len(after) // BLOCK))
            if block >= known or cut(held, block, len(after)) != cut(after, block, len(after))
        }
        result = restore(store, target, new, have=old, changed=changed, force=True)
        assert target.read_bytes() == after + bytes(held[len(after) :])
        if result.have == old and any(before):
            named = {b for o, n in changed if n for b in range(o // BLOCK, -(-(o + n) // BLOCK))}
            assert set(Watched.written) <= differ
            assert set(Watched.zeroed) <= differ | named
            there = bytes(held[: len(after)])
            assert set(Watched.sectors) <= {
                at // SECTOR
                for at in range(0, len(after), SECTOR)
                if there[at : at + SECTOR] != after[at : at + SECTOR]
            }


def scribble(data: st.DataObject, image: bytearray, seed: int) -> list[tuple[int, int]]:
    ranges = []
    for place in data.draw(st.lists(st.floats(0, 0.999), max_size=4)):
        offset = int(place * len(image))
        length = min(data.draw(st.integers(1, 6 * BLOCK)), len(image) - offset)
        fill = data.draw(st.sampled_from(["noise", "zero", "byte"]))
        noisy = random.Random(seed + offset).randbytes(length)
        image[offset : offset + length] = {"noise": noisy, "zero": bytes(length), "byte": b"7" * length}[fill]
        ranges.append((offset, length))
    return ranges


def inside(at: int, ranges: list[tuple[int, int]]) -> bool:
    return any(o <= at < o + n for o, n in ranges)


def cut(image: bytes | bytearray, block: int, size: int) -> bytes:
    return bytes(image[block * BLOCK : min((block + 1) * BLOCK, size)])


def test_what_differs_is_found_by_descending_where_content_differs(
    small: None, store: MemoryStore, tmp_path: Path
) -> None:
    """Cost follows the difference: of 64 leaves, only pages above the changed one are read."""
    source = tmp_path / "source"
    source.write_bytes(noise(256))
    first = backup(store, source).backup_id
    with open(source, "r+b") as file:
        file.seek(100 * BLOCK)
        file.write(b"changed")
    second = backup(store, source).backup_id
    (tmp_path / "target").write_bytes(noise(256))
    reads = store.view()
    result = restore(reads, tmp_path / "target", second, have=first)
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert result.bytes_written == SECTOR
    pages = reads.traffic.requests["get"]
    (tmp_path / "target").unlink()
    whole = store.view()
    restore(whole, tmp_path / "target", second)
    assert pages < whole.traffic.requests["get"] / 2


def test_a_target_that_does_not_hold_what_was_said(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path
) -> None:
    store, content, backup_id = kept
    (tmp_path / "source").write_bytes(noise(60, 8))
    other = backup(store, tmp_path / "source").backup_id
    target = tmp_path / "target"
    target.write_bytes(noise(60, 5))
    with pytest.raises(TargetNotEmpty, match=f"not backup {other}"):
        restore(store, target, backup_id, have=other)
    result = restore(store, target, backup_id, have=other, force=True)
    assert result.have is None
    assert target.read_bytes()[: len(content)] == content
    with pytest.raises(BadRequest, match="no backup nothing"):
        restore(store, target, backup_id, have="nothing")
    with pytest.raises(BadRequest, match="ranges that changed"):
        restore(store, target, backup_id, changed=[(0, 1)])


def test_an_interrupted_restore_onto_a_backup_goes_on(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, watched: type[Watched]
) -> None:
    store, content, backup_id = kept
    (tmp_path / "source").write_bytes(noise(30, 8) + content[30 * BLOCK :])
    new = backup(store, tmp_path / "source").backup_id
    target = tmp_path / "target"
    target.write_bytes(content)
    interrupted(store, target, new, 3, have=backup_id)
    before = set(watched.written)
    watched.written.clear()
    result = restore(store, target, new, have=backup_id)
    assert target.read_bytes() == (tmp_path / "source").read_bytes()
    assert (result.resumed, result.have) == (True, backup_id)
    assert before
    assert not before & set(watched.written)
    assert set(watched.written) | before == set(range(30))
