"""What the demo backs up: an ext4 image with thousands of files, or else generated data."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from .files import clone

FILES = 4000
CHANGED_FILES = 40
_WORDS = b"block vault root page segment commit snapshot restore claim volume lineage epoch ".split()


@dataclass(frozen=True)
class Image:
    """A volume's content before and after the change. `files` is 0 for generated data."""

    before: Path
    after: Path
    size: int
    files: int
    changed_files: int
    sort: str


def make_images(directory: Path, size: int) -> Image:
    """Two images of `size` bytes that differ in about one percent of what they hold."""
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    before, after = directory / "before.img", directory / "after.img"
    if mkfs is None:
        _generated(before, after, size)
        return Image(before, after, size, 0, 0, "generated data (there is no mkfs.ext4 here)")
    tree = directory / "tree"
    _fill(tree, random.Random(1))
    identity = str(uuid.uuid4())
    _format(mkfs, tree, before, size, identity)
    _change(tree, random.Random(2))
    # The same identity, clock and order of files give the same layout: only the changed files differ.
    _format(mkfs, tree, after, size, identity)
    shutil.rmtree(tree)
    return Image(before, after, size, FILES, CHANGED_FILES, "an ext4 file system, made by mkfs.ext4")


def write_changes(image: Image, volume: Path) -> int:
    """Write to a volume what `after` has other than `before`; returns how many bytes that were."""
    written, step, sector = 0, 1 << 20, 4096
    with image.before.open("rb") as a, image.after.open("rb") as b, volume.open("r+b") as target:
        for start in range(0, image.size, step):
            old, new = a.read(step), b.read(step)
            for at in range(0, len(new), sector) if old != new else ():
                if old[at : at + sector] != new[at : at + sector]:
                    target.seek(start + at)
                    written += target.write(new[at : at + sector])
        target.flush()
        os.fsync(target.fileno())
    return written


def is_sound(path: Path) -> bool | None:
    """Whether e2fsck finds nothing to mend; None where there is no e2fsck."""
    e2fsck = shutil.which("e2fsck", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if e2fsck is None:
        return None
    return subprocess.run([e2fsck, "-f", "-n", path], capture_output=True).returncode == 0


def same_bytes(one: Path, other: Path, size: int) -> bool:
    """Whether the first `size` bytes of two files are the same, byte by byte."""
    step = 4 << 20
    with one.open("rb") as a, other.open("rb") as b:
        return all(a.read(min(step, size - o)) == b.read(min(step, size - o)) for o in range(0, size, step))


def _fill(tree: Path, source: random.Random) -> None:
    for number in range(FILES):
        folder = tree / f"{number // 100:02}"
        folder.mkdir(parents=True, exist_ok=True)
        length = source.randrange(2 << 10, 48 << 10)
        _write(folder / f"{number:04}.dat", _content(source, length))


def _change(tree: Path, source: random.Random) -> None:
    # Neighbours, as one application writes its own files; scattered ones would touch a block each.
    start = source.randrange(FILES - CHANGED_FILES)
    for number in range(start, start + CHANGED_FILES):
        path = tree / f"{number // 100:02}" / f"{number:04}.dat"
        _write(path, _content(source, path.stat().st_size))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    # The times go into the inodes. Read in the future, a file is not marked as read again by mkfs.
    os.utime(path, (4_000_000_000, 1_700_000_000))


def _content(source: random.Random, length: int) -> bytes:
    """Half words, half noise: about what files of applications compress to."""
    words = b" ".join(source.choices(_WORDS, k=length // 12))[: length // 2]
    return words + source.randbytes(length - len(words))


def _format(mkfs: str, tree: Path, image: Path, size: int, identity: str) -> None:
    with image.open("wb") as file:
        file.truncate(size)
    command = [
        mkfs,
        "-q",
        "-F",
        "-U",
        identity,
        "-E",
        f"hash_seed={identity},root_owner=0:0",
        "-d",
        str(tree),
        str(image),
    ]
    env = os.environ | {"E2FSPROGS_FAKE_TIME": "1700000000"}
    subprocess.run(command, check=True, capture_output=True, env=env)


def _generated(before: Path, after: Path, size: int) -> None:
    source = random.Random(3)
    with before.open("wb") as file:
        file.truncate(size)
        for offset in range(0, size // 2, 1 << 20):
            file.seek(offset)
            file.write(_content(source, 1 << 20))
    clone(before, after)
    with after.open("r+b") as file:
        file.seek(size // 8)
        file.write(_content(source, size // 200))
