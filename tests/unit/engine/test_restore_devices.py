"""Restores to real block devices: whatever they held, with small and large sectors, killed and again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository, TargetNotEmpty
from blockvault.stores import DirectoryStore
from tests.disks import loop, root, sh
from tests.unit.engine.support import MemoryStore, interrupted

pytestmark = [root, pytest.mark.disk]

MIB = 1 << 20
# No multiple of the block, and one of them none of the larger sectors either.
SIZES = (9 * MIB + 4096 * 5, 9 * MIB + 512 * 3)
DIRT = {
    "ones": lambda size: b"\xff" * size,
    "noise": lambda size: random.Random(9).randbytes(size),
}


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def volume(size: int) -> bytes:
    """Noise, text, and zeros in between: more than a block of them, and parts of blocks."""
    chance = random.Random(size)
    parts = [chance.randbytes(2 * MIB), bytes(3 * MIB), b"text" * (MIB // 4), bytes(700 * 1024)]
    return b"".join(parts) + chance.randbytes(size - sum(len(part) for part in parts))


def read_back(device: str, size: int) -> bytes:
    """What is on the device itself, not in a cache of it."""
    sh("blockdev", "--flushbufs", device)
    with open(device, "rb") as file:
        return file.read(size)


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dirt", DIRT)
def test_over_what_was_there(tmp_path: Path, dirt: str, size: int, sector: int) -> None:
    """From file and from device; what lies behind the volume stays."""
    content, capacity = volume(size), 10 * MIB
    (tmp_path / "source").write_bytes(content)
    store = MemoryStore()
    repository = Repository.init(store)
    backup_id = repository.backup(BackupRequest(str(tmp_path / "source"), "v")).backup_id
    held = DIRT[dirt](capacity)
    (tmp_path / "disk").write_bytes(held)
    with loop(tmp_path / "disk", "--sector-size", str(sector)) as device:
        assert sh("blockdev", "--getss", device) == str(sector)
        with pytest.raises(TargetNotEmpty):
            repository.restore("v", device, backup_id)
        repository.restore("v", device, backup_id, force=True)
        assert read_back(device, capacity) == content + held[size:]
        again = repository.backup(BackupRequest(device, "device"))
        assert again.size == capacity
        assert repository.restore("v", device, backup_id, force=True).bytes_written == 0
    assert (tmp_path / "disk").read_bytes() == content + held[size:]


def test_a_thin_volume_stays_thin(tmp_path: Path) -> None:
    """What is zero in the backup takes no room, and gives back what it took before."""
    (tmp_path / "source").write_bytes(volume(SIZES[0]))
    store = MemoryStore()
    repository = Repository.init(store)
    backup_id = repository.backup(BackupRequest(str(tmp_path / "source"), "v")).backup_id
    (tmp_path / "disk").write_bytes(DIRT["ones"](10 * MIB))
    with loop(tmp_path / "disk") as device:
        repository.restore("v", device, backup_id, force=True)
        assert read_back(device, SIZES[0]) == volume(SIZES[0])
    sh("sync", str(tmp_path / "disk"))
    assert (tmp_path / "disk").stat().st_blocks * 512 <= 7.5 * MIB


def test_another_disk_of_the_same_size_at_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart, when /dev/sdb is the disk that was /dev/sdc before."""
    (tmp_path / "source").write_bytes(volume(SIZES[0]))
    store = MemoryStore()
    made = Repository.init(store).backup(BackupRequest(str(tmp_path / "source"), "v"))
    (tmp_path / "first").write_bytes(bytes(10 * MIB))
    precious = random.Random(1).randbytes(10 * MIB)
    (tmp_path / "second").write_bytes(precious)
    with loop(tmp_path / "first") as device:
        interrupted(store, Path(device), made.backup_id, 1)
    repository = Repository.open(store)
    with loop(tmp_path / "second") as device:
        with pytest.raises(TargetNotEmpty):
            repository.restore("v", device, made.backup_id)
        assert read_back(device, 10 * MIB) == precious
    with loop(tmp_path / "first") as device:
        result = repository.restore("v", device, made.backup_id)
        assert result.resumed
        assert read_back(device, SIZES[0]) == volume(SIZES[0])


PROGRAM = """
import os, sys, time
from blockvault.engine import Repository
from blockvault.engine.target import Target
from blockvault.stores import DirectoryStore
original = Target.write
def write(self, offset, buffers):
    original(self, offset, buffers)
    os.write(1, b'.')
    time.sleep(0.05)
Target.write = write
repository = Repository.open(DirectoryStore(sys.argv[1]))
result = repository.restore('v', sys.argv[2], sys.argv[3], force='force' in sys.argv[4:])
print(result.bytes_kept)
"""


@pytest.mark.parametrize("sector", [512, 4096])
def test_killed_in_the_middle_and_again(tmp_path: Path, sector: int) -> None:
    """kill -9 of a real process; the same command without force goes on, as the beginning is there."""
    size = 48 * MIB + 4096 * 7
    content = random.Random(5).randbytes(size)
    (tmp_path / "source").write_bytes(content)
    made = Repository.init(DirectoryStore(str(tmp_path / "store"), make=True)).backup(
        BackupRequest(str(tmp_path / "source"), "v")
    )
    (tmp_path / "disk").write_bytes(b"\xff" * size)
    with loop(tmp_path / "disk", "--sector-size", str(sector)) as device:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), device, made.backup_id]
        run = subprocess.Popen([*command, "force"], stdout=subprocess.PIPE)
        assert run.stdout is not None
        assert run.stdout.read(3) == b"..."  # so many writes
        run.send_signal(signal.SIGKILL)
        run.wait()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.strip(".")) >= 3 * 262144
        assert read_back(device, size) == content
