"""Sectors that cannot be read, what the next backup makes of those that were skipped, and volumes that go away."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from blockvault.engine import (
    BackupResult,
    ChangedList,
    SourceChanged,
    SourceGone,
    SourceNotFound,
    SourceUnreadable,
    devices,
)
from blockvault.engine.devices import Source
from blockvault.engine.exitcodes import exit_code
from blockvault.engine.root import Roots
from blockvault.exitcodes import IO, REFUSED, TEMPORARY
from blockvault.stores import TooManyOpenFiles
from tests.unit.engine.support import MemoryStore, backup, opened, restored, volume_of

BLOCK = 262144
SECTOR = 4096
# In the third block: the 2nd and 3rd sector.
BAD = (2 * BLOCK + SECTOR, 2 * SECTOR)


class Disk:
    """A volume of 12 blocks and a half sector, of which ranges cannot be read."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.size = 12 * BLOCK + SECTOR // 2
        self.data = bytearray(random.Random(4).randbytes(self.size))
        path.write_bytes(self.data)
        self.bad: list[tuple[int, int]] = []
        self.error = errno.EIO
        self._preadv = os.preadv
        monkeypatch.setattr(os, "preadv", self._read)

    def _read(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        end = offset + sum(len(each) for each in buffers)
        if any(offset < start + length and start < end for start, length in self.bad):
            raise OSError(self.error, os.strerror(self.error))
        return self._preadv(fd, buffers, offset)

    @property
    def with_zeros(self) -> bytes:
        """What it holds, with zeros where it cannot be read."""
        found = bytearray(self.data)
        for start, length in self.bad:
            found[start : start + length] = bytes(len(found[start : start + length]))
        return bytes(found)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path / "source", monkeypatch)


def skipping(store: MemoryStore, disk: Disk, **options: object) -> BackupResult:
    return backup(store, disk.path, skip_unreadable=True, **options)


def bad(disk: Disk, *ranges: tuple[int, int]) -> list[list[int]]:
    """Make these ranges bad, and give them as results have them."""
    disk.bad = list(ranges)
    return [list(each) for each in ranges]


@pytest.mark.parametrize("changes", [None, ChangedList([]), ChangedList([(9 * BLOCK, 1)])])
def test_what_was_skipped_is_looked_at_again_whatever_a_list_says(
    store: MemoryStore, disk: Disk, tmp_path: Path, changes: ChangedList | None
) -> None:
    """What is stored is not what the list calls unchanged; and the list is no lie for that."""
    ranges = bad(disk, BAD, (12 * BLOCK, SECTOR // 2))
    first = skipping(store, disk)
    assert first.unreadable == ranges
    assert restored(store, tmp_path, first.backup_id) == disk.with_zeros
    bad(disk)
    second = backup(store, disk.path, changed=changes)
    assert second.changed_block_source == ("Compare" if changes is None else "List")
    assert (second.fallback_reason, second.unreadable) == (None, [])
    assert second.bytes_changed <= 2 * BLOCK
    assert restored(store, tmp_path, second.backup_id) == bytes(disk.data)
    third = backup(store, disk.path, changed=ChangedList([]))
    assert (third.changed_block_source, third.bytes_scanned) == ("List", 0)


def test_what_still_cannot_be_read_is_told_again(store: MemoryStore, disk: Disk, tmp_path: Path) -> None:
    ranges = bad(disk, BAD)
    skipping(store, disk)
    again = skipping(store, disk, changed=ChangedList([]))
    assert (again.unreadable, again.changed_block_source) == (ranges, "List")
    assert restored(store, tmp_path, again.backup_id) == disk.with_zeros
    with pytest.raises(SourceUnreadable, match=f"reading at {2 * BLOCK}"):
        backup(store, disk.path, changed=ChangedList([]))
    assert len(opened(store).list("v")) == 2


def test_sectors_that_went_bad_where_nothing_changed_are_neither_lost_nor_a_lie(
    store: MemoryStore, disk: Disk, tmp_path: Path
) -> None:
    """The parent has them; probes of a list, and of the file system, note nothing that is not stored."""
    backup(store, disk.path)
    bad(disk, *((block * BLOCK, SECTOR) for block in range(12)))
    made = skipping(store, disk, changed=ChangedList([(5 * BLOCK, 10)]))
    assert (made.changed_block_source, made.fallback_reason) == ("List", None)
    assert made.unreadable == [[5 * BLOCK, SECTOR]]
    disk.bad = [(5 * BLOCK, SECTOR)]
    assert restored(store, tmp_path, made.backup_id) == disk.with_zeros


def test_a_range_noted_up_to_the_end_of_its_sector_is_understood(store: MemoryStore, disk: Disk) -> None:
    """As former versions have noted the last sector of a volume that ends within it."""
    backup(store, disk.path)
    found = volume_of(store)
    root = Roots(store, found.lineage).read(found.state.roots[-1])
    root.facts["unreadable"] = [[BLOCK, SECTOR], [12 * BLOCK, SECTOR]]
    assert root.unreadable == [(BLOCK, SECTOR), (12 * BLOCK, SECTOR // 2)]


@pytest.mark.parametrize("number", [errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("skip", [False, True])
def test_a_volume_that_goes_away_is_never_stored_as_zeros(
    store: MemoryStore, disk: Disk, tmp_path: Path, number: int, skip: bool
) -> None:
    disk.error = number
    bad(disk, (BLOCK, 11 * BLOCK))
    with pytest.raises(SourceGone, match=f"source: reading at 0: {os.strerror(number)}") as caught:
        backup(store, disk.path, skip_unreadable=skip, operation_id="x")
    assert exit_code(caught.value) == TEMPORARY
    assert "attach it again" in caught.value.remedy
    bad(disk)
    made = backup(store, disk.path, skip_unreadable=skip, operation_id="x")
    assert restored(store, tmp_path, made.backup_id) == bytes(disk.data)


def test_an_error_that_tells_of_no_place_is_not_skipped(store: MemoryStore, disk: Disk) -> None:
    disk.error = errno.ENOMEM
    bad(disk, BAD)
    with pytest.raises(SourceUnreadable, match="Cannot allocate memory") as caught:
        skipping(store, disk)
    assert exit_code(caught.value) == IO
    assert "--skip-unreadable" not in caught.value.remedy


def unlinked(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("leave", [unlinked, emptied])
@pytest.mark.parametrize("skip", [False, True])
def test_a_device_that_left_shows_by_its_name_or_size(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Path], None], skip: bool
) -> None:
    """Drivers may answer EIO, or the end, for each place of it. A file stands in for the device."""
    monkeypatch.setattr(devices.stat, "S_ISREG", lambda mode: False)
    monkeypatch.setattr(devices.stat, "S_ISBLK", lambda mode: True)
    source = Source(str(disk.path), BLOCK, skip_unreadable=skip)
    source.read(0, BLOCK)
    if leave is unlinked:
        bad(disk, (BLOCK, 11 * BLOCK))
    leave(disk.path)
    with pytest.raises(SourceGone, match=f"reading at {BLOCK}: .*gone"):
        source.read(BLOCK, BLOCK)
    source.close()


def test_a_file_that_is_unlinked_is_read_to_its_end(
    store: MemoryStore, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open stays whole: the backup is what the file held."""
    look = Source.read

    def unlinking(self: Source, offset: int, length: int) -> memoryview:
        disk.path.unlink(missing_ok=True)
        return look(self, offset, length)

    monkeypatch.setattr(Source, "read", unlinking)
    made = backup(store, disk.path)
    assert not disk.path.exists()
    assert restored(store, tmp_path, made.backup_id) == bytes(disk.data)
    with pytest.raises(SourceNotFound, match="does not exist"):
        backup(store, disk.path)


def test_a_file_that_shrinks_is_not_taken_for_a_device_that_left(disk: Disk) -> None:
    source = Source(str(disk.path), BLOCK, skip_unreadable=True)
    os.truncate(disk.path, 0)
    with pytest.raises(SourceChanged, match=f"ends at 0, not at {disk.size}"):
        source.read(0, BLOCK)
    source.close()


@pytest.mark.parametrize(
    ("number", "kind", "code", "remedy"),
    [
        (errno.EACCES, SourceUnreadable, IO, "right to read"),
        (errno.ENXIO, SourceNotFound, 66, "Attach the device"),
        (errno.ENOMEDIUM, SourceNotFound, 66, "Attach the device"),
        (errno.EMFILE, TooManyOpenFiles, REFUSED, "ulimit -n"),
    ],
)
def test_a_volume_that_cannot_be_opened(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], code: int, remedy: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind) as caught:
        Source(str(disk.path), BLOCK)
    assert str(disk.path) in str(caught.value)
    assert exit_code(caught.value) == code
    assert remedy in caught.value.remedy  # type: ignore[attr-defined]
