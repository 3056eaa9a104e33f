"""The note of an interrupted restore: it opens the way to the target that it tells of, and to no other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blockvault.engine import TargetNotEmpty, identity
from blockvault.engine import target as targets
from tests.unit.engine.support import (
    MemoryStore,
    backup,
    interrupted,
    marker,
    noise,
    restore,
    stand_in_ioctl,
)

pytestmark = pytest.mark.disk

BLOCK = 4096
Kept = tuple[MemoryStore, bytes, str]


# ---- devices


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Files pass for disks; the function says as which one the next is known."""

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(fcntl, "ioctl", stand_in_ioctl)
    monkeypatch.setattr(targets.stat, "S_ISBLK", lambda mode: True)

    def known_as(name: str | None) -> None:
        monkeypatch.setattr(identity, "of_device", lambda number: name)

    return known_as


def disk(tmp_path: Path, content: bytes = bytes(70 * BLOCK)) -> Path:
    """A disk as it is found at /dev/sdb, so to say."""
    path = tmp_path / "sdb"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("names", [("serial 1", "serial 2"), (None, None), ("serial 0", "serial 0")])
def test_another_disk_under_the_same_path(
    kept: Kept, tmp_path: Path, disks: Callable[[str | None], None], names: tuple[str | None, str | None]
) -> None:
    """After a restart, of the same size: known by its own name, or, where it has none, by what it holds."""
    store, content, backup_id = kept
    disks(names[0])
    interrupted(store, disk(tmp_path), backup_id, 4)
    disks(names[1])
    precious = noise(70, 9)
    other = disk(tmp_path, precious)
    with pytest.raises(TargetNotEmpty):
        restore(store, other, backup_id)
    assert other.read_bytes() == precious
    assert not restore(store, other, backup_id, force=True).resumed
    assert other.read_bytes() == content + precious[len(content) :]


@pytest.mark.parametrize("name", ["serial 1", None])
def test_the_same_disk_goes_on(
    kept: Kept, tmp_path: Path, disks: Callable[[str | None], None], name: str | None
) -> None:
    """Under another path too, where it has a name of its own."""
    store, content, backup_id = kept
    disks(name)
    first = disk(tmp_path)
    interrupted(store, first, backup_id, 4)
    moved = first.rename(tmp_path / "sdc") if name else first
    result = restore(store, moved, backup_id)
    assert result.resumed
    assert result.bytes_kept
    assert moved.read_bytes()[: len(content)] == content
    assert not list((tmp_path / "state" / "blockvault").iterdir())


def test_a_disk_that_was_hardly_begun(
    kept: Kept, tmp_path: Path, disks: Callable[[str | None], None]
) -> None:
    """Nothing is there yet, or just the first block."""
    store, content, backup_id = kept
    disks(None)
    for writes in (0, 1):
        target = disk(tmp_path)
        interrupted(store, target, backup_id, writes)
        assert restore(store, target, backup_id).resumed
        assert target.read_bytes()[: len(content)] == content


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"vdb/serial": "42\n"}, "serial 42 start  loop/offset "),
        ({"vdb/serial": "42\n", "vdb/dm/uuid": "LVM-x\n"}, "dm/uuid LVM-x start  loop/offset "),
        ({"vdb/wwid": "eui.1\n", "vdb/serial": "42\n"}, "wwid eui.1 start  loop/offset "),
        ({"vdb/loop/backing_file": "/a/b\n", "vdb/loop/offset": "0\n"},
         "loop/backing_file /a/b start  loop/offset 0"),
        ({"vdb/serial": "\n"}, None),
        ({"vdb/size": "1\n"}, None),
    ],
)  # fmt: skip
def test_what_the_kernel_says_of_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: str | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(identity, "DEVICES", str(tmp_path))
    (tmp_path / "254:16").symlink_to("vdb")
    assert identity.of_device(os.makedev(254, 16)) == expected


def test_parts_of_a_disk_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vdb").mkdir()
    (tmp_path / "vdb/serial").write_text("42\n")
    for number in (1, 2):
        part = tmp_path / f"vdb/vdb{number}"
        part.mkdir()
        (part / "partition").write_text(f"{number}\n")
        (part / "start").write_text(f"{number * 2048}\n")
        (tmp_path / f"254:{16 + number}").symlink_to(part)
    (tmp_path / "254:16").symlink_to("vdb")
    monkeypatch.setattr(identity, "DEVICES", str(tmp_path))
    found = {identity.of_device(os.makedev(254, minor)) for minor in (16, 17, 18)}
    assert len(found) == 3
    assert all(name is not None and name.startswith("serial 42 ") for name in found)


# ---- files


def test_a_file_that_was_written_anew_in_place(kept: Kept, tmp_path: Path) -> None:
    """The same inode, but nothing of the backup is in it any more."""
    store, _, backup_id = kept
    target = tmp_path / "target"
    interrupted(store, target, backup_id, 4)
    target.write_bytes(noise(60, 9))
    with pytest.raises(TargetNotEmpty, match="not what the interrupted restore"):
        restore(store, target, backup_id)
    assert target.read_bytes() == noise(60, 9)


def test_a_file_that_was_removed_and_made_anew(kept: Kept, tmp_path: Path) -> None:
    """Its inode may have the same number as the former one; a former state of the volume even has the same blocks."""
    store, content, backup_id = kept
    target = tmp_path / "target"
    interrupted(store, target, backup_id, 4)
    former = content[: 30 * BLOCK] + noise(30, 9)
    target.unlink()
    target.write_bytes(former)
    with pytest.raises(TargetNotEmpty, match="blockvault-partial tells of a restore of something else"):
        restore(store, target, backup_id)
    assert target.read_bytes() == former


# ---- what the target was said to hold


@pytest.fixture
def drifted(kept: Kept, tmp_path: Path) -> tuple[MemoryStore, str, str, bytes, Path]:
    """(store, older, newer, what the newer holds, target): it holds the older, but for block 50."""
    store, content, older = kept
    (tmp_path / "source").write_bytes(noise(10, 8) + content[10 * BLOCK :])
    newer = backup(store, tmp_path / "source").backup_id
    target = tmp_path / "target"
    target.write_bytes(content[: 50 * BLOCK] + noise(1, 77) + content[51 * BLOCK :])
    return store, older, newer, (tmp_path / "source").read_bytes(), target


CHANGED = [(50 * BLOCK, BLOCK)]


@pytest.mark.parametrize("changed", [None, [], [(20 * BLOCK, BLOCK)]])
@pytest.mark.parametrize("have", ["older", None])
def test_told_something_else_than_the_interrupted_restore(
    drifted: tuple[MemoryStore, str, str, bytes, Path],
    monkeypatch: pytest.MonkeyPatch,
    have: str | None,
    changed: list[tuple[int, int]] | None,
) -> None:
    """Nothing is believed then: all is compared, as the samples may miss what only the first list has named."""
    store, older, newer, content, target = drifted
    monkeypatch.setattr("blockvault.engine.compare.SAMPLED", 2)
    how = {} if have is None else {"have": older, "changed": changed}
    interrupted(store, target, newer, 3, have=older, changed=CHANGED, force=True)
    with pytest.raises(TargetNotEmpty, match="tells of a restore of something else"):
        restore(store, target, newer, **how)
    assert restore(store, target, newer, force=True, **how).have is None
    assert target.read_bytes() == content


def test_told_the_same_as_the_interrupted_restore(
    drifted: tuple[MemoryStore, str, str, bytes, Path],
) -> None:
    store, older, newer, content, target = drifted
    interrupted(store, target, newer, 3, have=older, changed=CHANGED, force=True)
    result = restore(store, target, newer, have=older, changed=[(50 * BLOCK, 7), (50 * BLOCK + 7, BLOCK - 7)])
    assert (result.resumed, result.have) == (True, older)
    assert target.read_bytes() == content


def test_a_note_of_another_backup_is_no_reason_to_believe(
    drifted: tuple[MemoryStore, str, str, bytes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is a mixture of two backups; a few samples look like the one that it is said to hold."""
    store, older, newer, content, target = drifted
    monkeypatch.setattr("blockvault.engine.compare.SAMPLED", 2)
    interrupted(store, target, older, 0, force=True)
    assert restore(store, target, newer, have=older, force=True).have is None
    assert target.read_bytes() == content
    assert not marker(target).exists()


def test_what_is_the_same_in_both_backups_must_be_there_when_it_goes_on(
    drifted: tuple[MemoryStore, str, str, bytes, Path],
) -> None:
    """Somebody wrote to the target after the restore was interrupted."""
    store, older, newer, content, target = drifted
    interrupted(store, target, newer, 3, have=older, changed=CHANGED, force=True)
    with open(target, "r+b") as file:
        file.seek(42 * BLOCK)
        file.write(noise(15, 5))
    assert restore(store, target, newer, have=older, changed=CHANGED, force=True).have is None
    assert target.read_bytes() == content
