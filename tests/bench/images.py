"""The volumes that are backed up: a sparse ext4 image of ordinary files, scattered data, and changes to both."""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from tests.bench.process import MIB
from tests.bench.rows import Bench, WorkFailed, say

GIB = 1 << 30
LARGEST = 256 * MIB  # a single file beyond this would make the mix
PIECE = 4 * MIB
SOURCE = Path("/usr")


@dataclass(frozen=True)
class Image:
    """A file that holds a volume, and what to say of it."""

    path: Path
    notes: tuple[str, ...]

    @property
    def data(self) -> int:
        """Bytes that are not holes."""
        return self.path.stat().st_blocks * 512


@functools.cache
def ordinary(bench: Bench) -> Image:
    """A sparse ext4 file system of ordinary files, 4.5 GiB in 16 GiB (small: 1 in 4); made once a run."""
    size, wanted = bench.size(16 * GIB, 4 * GIB), bench.size(4 * GIB + 512 * MIB, GIB)
    folder = bench.scratch / "image"
    folder.mkdir()
    path = folder / "volume.img"
    return Image(path, file_system(bench, path, size, wanted))


def file_system(bench: Bench, path: Path, size: int, wanted: int) -> tuple[str, ...]:
    """Make a sparse ext4 file system of so many bytes, with so many bytes of ordinary files; gives what to say of it."""
    say(f"making an ext4 image of {size / GIB:g} GiB with {wanted / GIB:.2g} GiB of files")
    with bench.folder() as tree:
        found = _link_files(tree, wanted)
        made = _generate(tree / "generated", wanted - found)
        with path.open("wb") as file:
            file.truncate(size)
        command = ["mkfs.ext4", "-q", "-F", "-E", "root_owner=0:0", "-d", str(tree), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise WorkFailed(f"{' '.join(command)}: exit {done.returncode}: {done.stderr}")
    notes = [
        f"Volume: ext4 of {size / GIB:g} GiB, sparse, with {found / GIB:.2f} GiB of different files of {SOURCE}, "
        "chosen by the hash of their names."
    ]
    if made:
        notes.append(
            f"{made / GIB:.2f} GiB of it are generated, half text and half random, for want of more files."
        )
    return tuple(notes)


def _candidates() -> list[Path]:
    """Files in an order that mixes all kinds and does not depend on what else is installed."""
    found = []
    for folder, _, names in os.walk(SOURCE):
        found += [Path(folder, name) for name in names]
    return sorted(found, key=lambda path: blake3(os.fsencode(path)).digest())


def _link_files(tree: Path, wanted: int) -> int:
    """Fill a folder with files of SOURCE, no content twice: who deduplicates would gain by copies."""
    seen: set[bytes] = set()
    total = count = 0
    for path in _candidates():
        if total >= wanted:
            break
        try:
            status = path.lstat()
            if path.is_symlink() or not path.is_file() or not 0 < status.st_size <= LARGEST:
                continue
            digest = blake3(path.read_bytes()).digest()
        except OSError:
            continue
        if digest in seen:
            continue
        seen.add(digest)
        target = tree / f"{count % 256:02x}" / f"{count}-{path.name}"
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(path, target)  # no copy where it can be had
        except OSError:
            shutil.copyfile(path, target)
        total, count = total + status.st_size, count + 1
    return total


def _generate(folder: Path, wanted: int) -> int:
    """Top up with files of 1 MiB, half of them text and half random; returns the bytes made."""
    if wanted <= 0:
        return 0
    folder.mkdir()
    noise = random.Random(1)
    words = [f"{noise.randbytes(noise.randint(1, 5)).hex()} ".encode() for _ in range(5000)]
    count = -(-wanted // MIB)
    for number in range(count):
        content = noise.randbytes(MIB) if number % 2 else b"".join(noise.choices(words, k=150_000))[:MIB]
        (folder / str(number)).write_bytes(content)
    return count * MIB


def sample(bench: Bench, image: Image, size: int) -> Path:
    """A file with pieces of the image's data from all over it."""
    path = bench.scratch / f"sample-{size}"
    if not path.exists():
        pieces = [
            offset
            for offset, length in ranges(image.path)
            for offset in range(offset, offset + length, PIECE)
        ]
        step = max(1, len(pieces) * PIECE // size)
        with image.path.open("rb") as source, path.open("wb") as file:
            for offset in pieces[::step][: size // PIECE]:
                source.seek(offset)
                file.write(source.read(PIECE))
    return path


def ranges(path: Path) -> Iterator[tuple[int, int]]:
    """Offset and length of each range of a file that is not a hole."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        position, size = 0, os.lseek(descriptor, 0, os.SEEK_END)
        while position < size:
            try:
                start = os.lseek(descriptor, position, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                return
            position = os.lseek(descriptor, start, os.SEEK_HOLE)
            yield start, position - start
    finally:
        os.close(descriptor)


def change(path: Path, share: float, seed: int = 2, unit: int = 64 << 10) -> list[tuple[int, int]]:
    """Rewrite a share of a file's data at random places of one unit each; returns offset and length of each."""
    noise = random.Random(seed)
    places = [
        at
        for start, length in ranges(path)
        for at in range(-(-start // unit) * unit, start + length - unit + 1, unit)
    ]
    chosen = sorted(noise.sample(places, max(1, int(len(places) * share))))
    with path.open("r+b") as file:
        for offset in chosen:
            file.seek(offset)
            file.write(noise.randbytes(unit))
    return [(offset, unit) for offset in chosen]


def scattered(path: Path, size: int, count: int, unit: int = 64 << 10, seed: int = 3) -> None:
    """A sparse file with `count` writes of one unit at random places all over it."""
    noise = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        for _ in range(count):
            file.seek(noise.randrange(size // unit) * unit)
            file.write(noise.randbytes(unit))


def same(one: Path, other: Path) -> None:
    """Compare two files or devices byte by byte; raises WorkFailed where they differ. Holes of both are skipped."""
    with one.open("rb") as first, other.open("rb") as second:
        size = first.seek(0, os.SEEK_END)
        if second.seek(0, os.SEEK_END) != size:
            raise WorkFailed(f"{other} has another size than {one}")
        for start, length in _either(one, other):
            for offset in range(start, start + length, PIECE):
                first.seek(offset)
                second.seek(offset)
                take = min(PIECE, start + length - offset)
                if first.read(take) != second.read(take):
                    raise WorkFailed(f"{other} differs from {one} in the {take} bytes at {offset}")


def _either(one: Path, other: Path) -> list[tuple[int, int]]:
    """Ranges that are data in at least one of the two, merged."""
    merged: list[list[int]] = []
    for start, length in sorted([*ranges(one), *ranges(other)]):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], start + length)
        else:
            merged.append([start, start + length])
    return [(start, end - start) for start, end in merged]
