"""A directory store where the machine sets limits: full and broken disks, descriptors, rights."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository
from blockvault.engine.exitcodes import exit_code
from blockvault.exitcodes import DATA, REFUSED
from blockvault.stores import DirectoryStore, ObjectUnreadable, StoreFull

MIB = 1 << 20


class SmallDisk:
    """An ext4 file system in a file."""

    def __init__(self, tmp_path: Path) -> None:
        self.image, self.place = tmp_path / "image", tmp_path / "mounted"
        self.place.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(16 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(self.image)], check=True)

    def mount(self) -> None:
        done = subprocess.run(["mount", "-o", "loop", self.image, self.place], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"this machine does not let us mount a file system in a file: {done.stderr.strip()}")

    def unmount(self) -> None:
        """A thread that a failed test left behind may hold it for a moment; then it goes without its files."""
        for options in ([], [], [], ["-l"]):
            if subprocess.run(["umount", *options, self.place], capture_output=True).returncode == 0:
                return
            time.sleep(0.5)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("only root mounts a file system in a file")
    disk = SmallDisk(tmp_path)
    disk.mount()
    yield disk
    disk.unmount()


def test_a_full_disk_keeps_what_is_there(small_disk: SmallDisk, tmp_path: Path) -> None:
    """A backup that does not fit fails with a cause; the former one restores, and after making room it goes on."""
    store = DirectoryStore(str(small_disk.place))
    repository = Repository.init(store)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(2 * MIB))
    first = repository.backup(BackupRequest(str(source), "v"))
    content = source.read_bytes()
    ballast = small_disk.place / "ballast"
    ballast.write_bytes(bytes(8 * MIB))
    source.write_bytes(os.urandom(12 * MIB))
    with pytest.raises(StoreFull) as caught:
        repository.backup(BackupRequest(str(source), "v"))
    assert "No space left" in str(caught.value)
    assert exit_code(caught.value) == REFUSED
    # Uploads that were under way beside the one that failed come to their own ends.
    deadline = time.monotonic() + 30
    while list((small_disk.place / ".tmp").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [entry["backupId"] for entry in repository.list()] == [first.backup_id]
    repository.restore("v", str(target), first.backup_id)
    assert target.read_bytes() == content
    ballast.unlink()
    source.write_bytes(os.urandom(3 * MIB))
    second = repository.backup(BackupRequest(str(source), "v"))
    target.unlink()
    repository.restore("v", str(target), second.backup_id)
    assert target.read_bytes() == source.read_bytes()


def test_an_object_that_the_disk_has_lost_is_named(small_disk: SmallDisk) -> None:
    """EIO for real: the file behind the disk ends where it did not before."""
    store = DirectoryStore(str(small_disk.place))
    for number in range(8):
        store.put(f"o/{number}", bytes([number]) * MIB)
    small_disk.unmount()
    small_disk.mount()
    os.truncate(small_disk.image, 12 * MIB)
    broken, whole = [], []
    for number in range(8):
        try:
            assert store.get(f"o/{number}") == bytes([number]) * MIB
            whole.append(number)
        except ObjectUnreadable as error:
            broken.append((number, error))
    os.truncate(small_disk.image, 16 * MIB)
    assert broken
    assert whole
    assert all(f"o/{number}" in str(error) and exit_code(error) == DATA for number, error in broken)


def run_inside(code: str, store: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, str(store)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


REPORT = """
import os, resource, sys
from blockvault.stores import *
store = DirectoryStore(sys.argv[1])
store.put("a/b", b"before")
{limit}
for call in (lambda: store.get("a/b"), lambda: store.put("c", b"1"), lambda: store.create("d", b"1"),
             lambda: list(store.list("a/")), lambda: store.delete(["a/b"])):
    try:
        call()
        print("passed")
    except BlockvaultError as error:
        print(type(error).__name__, error.remedy)
"""


def test_too_few_descriptors(tmp_path: Path) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 64))"
    said = run_inside(REPORT.format(limit=limit), tmp_path).splitlines()
    assert [line.split()[0] for line in said] == ["TooManyOpenFiles"] * 5
    assert "ulimit -n" in said[0]


def test_rights_that_are_missing() -> None:
    """As another user, who may look at the store and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as store:
        os.chmod(store, 0o755)
        said = run_inside(
            REPORT.format(limit="os.setgroups([]); os.setegid(65534); os.seteuid(65534)"), Path(store)
        ).splitlines()
    # Reading is refused by the directory a (0750) as well.
    assert [line.split()[0] for line in said] == ["AccessDenied"] * 5
    assert "right to read, write and delete" in said[0]
