"""Volumes that file systems write, trim and fill again: each backup is the file system that it was, and passes its check."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, BackupResult, ChangedList, Repository
from blockvault.stores import DirectoryStore
from tests.disks import loop, root, sh
from tests.required import need

pytestmark = [root, pytest.mark.disk]

MIB = 1 << 20
# What a list of changed blocks counts in, in the coarser drivers.
GRAIN = 1 * MIB


@dataclass(frozen=True)
class Kind:
    """A file system: how it is made, mounted again beside its own copies, and checked; `size`: of the volume, in bytes."""

    package: str
    make: tuple[str, ...]
    options: str
    check: tuple[str, ...]
    size: int


KINDS = {
    "ext4": Kind("e2fsprogs", ("mkfs.ext4", "-q", "-F"), "rw", ("fsck.ext4", "-f", "-n"), 64 * MIB),
    "xfs": Kind("xfsprogs", ("mkfs.xfs", "-q", "-f"), "rw,nouuid", ("xfs_repair", "-n"), 300 * MIB),
    "btrfs": Kind(
        "btrfs-progs",
        ("mkfs.btrfs", "-q", "-f", "--mixed"),
        "rw,compress=no",
        ("btrfs", "check", "--readonly", "--check-data-csum"),
        128 * MIB,
    ),
}


@contextmanager
def mounted(kind: Kind, device: str, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    sh("mount", "-o", kind.options, device, str(folder))
    try:
        yield folder
    finally:
        sh("umount", str(folder))


def write(folder: Path, name: str, seed: int, size: int) -> None:
    """A file of noise and text, with a hole in its middle."""
    chance = random.Random(seed)
    with open(folder / name, "wb") as file:
        file.write(chance.randbytes(size // 2))
        file.seek(size // 4, os.SEEK_CUR)
        file.write(b"a line of text, again and again\n" * (size // 128))
        os.fsync(file.fileno())


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def differing(old: bytes, new: bytes) -> ChangedList:
    """As a driver tells it: whole grains."""
    starts = [at for at in range(0, len(new), GRAIN) if old[at : at + GRAIN] != new[at : at + GRAIN]]
    return ChangedList([(at, min(GRAIN, len(new) - at)) for at in starts])


class Disk:
    """The sparse file behind a loop device: what is trimmed on that becomes a hole."""

    def __init__(self, image: Path) -> None:
        self.image = image
        self.snapshots: list[bytes] = []
        self.files: list[dict[str, str]] = []

    def snapshot(self, folder: Path) -> Path:
        """The bytes while it is mounted and frozen, as CSI drivers take them."""
        self.files.append(digests(folder))
        sh("fsfreeze", "--freeze", str(folder))
        try:
            taken = self.image.with_name(f"snapshot-{len(self.snapshots)}")
            sh("cp", "--sparse=always", str(self.image), str(taken))
        finally:
            sh("fsfreeze", "--unfreeze", str(folder))
        self.snapshots.append(taken.read_bytes())
        return taken


@pytest.mark.parametrize("how", ["compare", "list"])
@pytest.mark.parametrize("name", KINDS)
def test_trimmed_and_filled_again(tmp_path: Path, name: str, how: str) -> None:
    """F1: written, deleted and trimmed, filled with the same files again; each state restores over any other."""
    kind = KINDS[name]
    need(name, f"{name} needs: apt-get install {kind.package}", kind.make[0])
    (tmp_path / "store").mkdir()
    repository = Repository.init(DirectoryStore(str(tmp_path / "store")))
    image, folder = tmp_path / "image", tmp_path / "mounted"
    with open(image, "wb") as file:
        file.truncate(kind.size)
    made: list[BackupResult] = []
    with loop(image) as device:
        disk = Disk(image)
        sh(*kind.make, device)

        def fill(names: str, seed: int, size: int) -> None:
            for number in range(4):
                write(folder, f"{names}-{number}", seed + number, size)

        def back_up() -> BackupResult:
            taken = disk.snapshot(folder)
            former = disk.snapshots[-2:-1]
            changed = differing(former[0], disk.snapshots[-1]) if former and how == "list" else None
            made.append(repository.backup(BackupRequest(str(taken), "v", changed=changed)))
            assert made[-1].changed_block_source == ("Full" if not former else how.capitalize())
            taken.unlink()
            return made[-1]

        with mounted(kind, device, folder):
            fill("stays", 0, MIB)
            back_up()
        with mounted(kind, device, folder):
            fill("goes", 10, 2 * MIB)
            full = back_up()
            for number in range(4):
                (folder / f"goes-{number}").unlink()
        # Mounted again: what was deleted is free by then, also where a file system frees it in its own time (xfs).
        with mounted(kind, device, folder):
            sh("fstrim", str(folder))
            trimmed = back_up()
            # What was noise and text reads as zeros now: that is nothing to store.
            assert trimmed.bytes_changed > 7 * MIB
            assert trimmed.bytes_stored < full.bytes_stored / 4
            fill("goes", 10, 2 * MIB)
            back_up()
    assert disk.files[1] == disk.files[3] != disk.files[2]
    target = tmp_path / "target"
    for number in (1, 2, 3, 0):
        repository.restore("v", str(target), made[number].backup_id, force=True)
        assert target.read_bytes() == disk.snapshots[number]
        with loop(target) as device:
            with mounted(kind, device, folder):
                assert digests(folder) == disk.files[number]
            sh(*kind.check, device)
