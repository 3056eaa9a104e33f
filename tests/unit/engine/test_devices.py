"""Reading volumes and writing targets that held something else before."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from blockvault.engine import (
    SourceChanged,
    SourceNotFound,
    SourceUnreadable,
    TargetNotFound,
    TargetTooSmall,
    TargetUnwritable,
)
from blockvault.engine import target as targets
from blockvault.engine.devices import Source
from blockvault.engine.filesystems import detect
from blockvault.engine.target import Target
from tests.unit.engine.support import MemoryStore, backup, restored

pytestmark = pytest.mark.disk

KIB = 1024


def test_zeroing_a_device_uses_the_right_request() -> None:
    """_IO(0x12, 127) of linux/fs.h; 0x127b, next to it, succeeds and zeroes nothing."""
    assert targets.BLKZEROOUT == 0x12 << 8 | 127
    assert targets.BLKROGET == 0x12 << 8 | 94


@pytest.mark.parametrize("kernel", ["works", "unsupported"])
def test_zeros_reach_a_dirty_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    path = tmp_path / "target"
    path.write_bytes(b"\xff" * 1000 * KIB)
    if kernel == "unsupported":
        monkeypatch.setattr(Target, "_punch", lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "")))
    target = Target(str(path), 1000 * KIB)
    target.zero(100 * KIB, 500 * KIB)
    target.finish()
    target.close()
    assert path.read_bytes() == b"\xff" * 100 * KIB + bytes(500 * KIB) + b"\xff" * 400 * KIB


def test_a_device_without_holes_is_zeroed_by_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A regular file stands in for the device; the request is recorded and carried out here."""
    tried = []

    def no_holes(target: Target, offset: int, length: int) -> None:
        tried.append(offset)
        raise OSError(errno.EOPNOTSUPP, "")

    monkeypatch.setattr(Target, "_punch", no_holes)
    path = tmp_path / "device"
    path.write_bytes(b"\xff" * 64 * KIB)
    asked: list[tuple[int, int, int]] = []

    def ioctl(fd: int, request: int, argument: bytes | bytearray) -> int:
        if request == targets.BLKROGET:
            return 0  # it may be written
        offset, length = struct.unpack("<QQ", argument)
        asked.append((request, offset, length))
        os.pwrite(fd, bytes(length), offset)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(targets.stat, "S_ISBLK", lambda mode: True)
    target = Target(str(path), 32 * KIB)
    target.zero(0, 8 * KIB)
    target.zero(8 * KIB, 8 * KIB)
    target.close()
    assert tried == [0]
    assert asked == [(0x127F, 0, 8 * KIB), (0x127F, 8 * KIB, 8 * KIB)]
    assert path.read_bytes() == bytes(16 * KIB) + b"\xff" * 48 * KIB


def test_restore_over_other_data(store: MemoryStore, tmp_path: Path) -> None:
    """D6: into a target that is larger and dirty; what lies after the backup's end stays."""
    source = tmp_path / "source"
    content = bytes(300 * KIB) + b"data" * 100 * KIB + bytes(2000 * KIB) + b"end"
    source.write_bytes(content)
    made = backup(store, source)
    target = tmp_path / "restored"
    target.write_bytes(b"\xff" * (len(content) + 500))
    from blockvault.engine import Repository

    Repository.open(store).restore("v", str(target), made.backup_id, force=True)
    assert target.read_bytes() == content + b"\xff" * 500


def test_a_fresh_file_stays_sparse(store: MemoryStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with open(source, "wb") as file:
        file.truncate(100 * KIB * KIB)
        file.write(b"start")
    made = backup(store, source)
    assert restored(store, tmp_path, made.backup_id)[:5] == b"start"
    assert (tmp_path / "restored").stat().st_blocks * 512 < 2 * KIB * KIB


def test_a_target_that_is_too_small_is_not_touched(store: MemoryStore, tmp_path: Path) -> None:
    from blockvault.engine import Repository

    source = tmp_path / "source"
    source.write_bytes(b"x" * 1001)
    made = backup(store, source)
    target = tmp_path / "target"
    target.write_bytes(b"y" * 1000)
    with pytest.raises(TargetTooSmall, match="1000 bytes, the backup 1001"):
        Repository.open(store).restore("v", str(target), made.backup_id)
    assert target.read_bytes() == b"y" * 1000


def test_targets_and_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="does not exist"):
        Source(str(tmp_path / "absent"), 4096)
    with pytest.raises(SourceNotFound, match="neither"):
        Source(str(tmp_path), 4096)
    with pytest.raises(TargetNotFound):
        Target(str(tmp_path / "absent" / "x"), 4096)
    with pytest.raises(TargetNotFound, match="neither"):
        Target(str(tmp_path), 4096)


def test_a_read_error_fails_the_backup(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be read is never stored as zeros; the attempt is taken back."""
    from blockvault.engine import Repository

    source = tmp_path / "source"
    source.write_bytes(b"x" * 3000 * KIB)
    good = backup(store, source)
    preadv = os.preadv

    def failing(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset == 0 and len(buffers[0]) > 4096:
            raise OSError(errno.EIO, "Input/output error")
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(SourceUnreadable, match="reading at 0: Input/output error"):
        backup(store, source)
    found = Repository.open(store)._volumes.find("v")
    assert found is not None
    assert [root.id for root in found.state.roots] == [good.backup_id]
    assert found.state.attempts == []


def test_past_the_end_there_are_zeros(tmp_path: Path) -> None:
    """Not what the buffer held before: a block's hash must not depend on it."""
    path = tmp_path / "source"
    path.write_bytes(b"x" * 8192 + b"y" * 100)
    source = Source(str(path), 8192)
    assert bytes(source.read(0, 8192)) == b"x" * 8192
    assert bytes(source.read(8192, 8192)) == b"y" * 100 + bytes(8092)


def test_a_source_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"x" * 8192)
    source = Source(str(path), 8192)
    os.truncate(path, 4096)
    with pytest.raises(SourceChanged, match="ends at 4096"):
        source.read(0, 8192)


def test_a_full_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target(str(tmp_path / "t"), 10)
    monkeypatch.setattr(
        os, "pwritev", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left"))
    )
    with pytest.raises(TargetUnwritable, match="No space left"):
        target.write(0, [b"x"])


def test_file_systems_are_recognised() -> None:
    """D10 needs to know XFS."""
    ext = bytearray(2048)
    ext[1024 + 56 : 1024 + 58] = b"\x53\xef"
    assert detect(b"XFSB" + bytes(2044)) == "xfs"
    assert detect(bytes(ext)) == "ext4"
    assert detect(bytes(2048)) is None
    assert detect(b"XF") is None


def test_a_smaller_volume_begins_anew(store: MemoryStore, tmp_path: Path) -> None:
    """Claims never shrink: a smaller one of the same name is another volume."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 600 * KIB)
    backup(store, source)
    source.write_bytes(b"x" * 500 * KIB)
    result = backup(store, source)
    assert (result.type, result.changed_block_source) == ("full", "Full")
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()


@pytest.mark.parametrize("written", [False, True])
def test_growth_past_what_the_tree_reaches(store: MemoryStore, tmp_path: Path, written: bool) -> None:
    """D6: by nothing but zeros as well; one leaf becomes two levels, whatever changed."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 600 * KIB)
    backup(store, source)
    with open(source, "r+b") as file:
        file.truncate(40 * 1024 * KIB)
        if written:
            file.seek(39 * 1024 * KIB)
            file.write(b"grown")
    result = backup(store, source)
    assert result.type == "incremental"
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
