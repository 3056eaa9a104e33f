"""A PostgreSQL on a file system in an image, and what each round of work changes of the image."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zstandard
from blake3 import blake3

from tests.disks import loop

SECTOR = 4096
BLOCK = 256 * 1024
CHUNK = 4 * 1024 * 1024
# PostgreSQL refuses to run as root.
USER = "nobody"
CLIENTS = 4


class Database:
    """The running server and its client programs. `image` holds its file system."""

    def __init__(self, image: Path, mount: Path) -> None:
        self.image = image
        self._mount = mount
        user = pwd.getpwnam(USER)
        self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._data = mount / "data"
        self._server: subprocess.Popen[bytes] | None = None
        shutil.chown(mount, user.pw_uid, user.pw_gid)

    def start(self, scale: int) -> None:
        """Make the cluster and pgbench's tables."""
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres", "--no-instructions")
        # Nothing here survives the machine anyway, and what is written does not depend on when it is synced.
        options = ["-k", str(self._mount), "-h", "", "-c", "fsync=off"]
        command = [program("postgres"), "-D", str(self._data), *options]
        self._server = subprocess.Popen(
            command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._as
        )
        for _ in range(300):
            with suppress(subprocess.CalledProcessError):
                self._psql("SELECT 1")
                break
            time.sleep(0.2)
        self._run("pgbench", "-q", "-i", "-s", str(scale), *self._who())

    def work(self, transactions: int) -> None:
        """So many transactions of pgbench, then a checkpoint."""
        each = str(transactions // CLIENTS)
        self._run("pgbench", "-n", "-c", str(CLIENTS), "-j", "2", "-t", each, *self._who())
        self._psql("CHECKPOINT")

    def stop(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()

    @contextmanager
    def still(self) -> Iterator[None]:
        """The image as a snapshot has it: all written, nothing on its way."""
        subprocess.run(["fsfreeze", "--freeze", str(self._mount)], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", str(self._mount)], check=True)

    def _psql(self, words: str) -> None:
        self._run("psql", "-q", "-c", words, *self._who())

    def _who(self) -> list[str]:
        return ["-h", str(self._mount), "-U", "postgres", "postgres"]

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([program(name), *arguments], check=True, capture_output=True, cwd="/", **self._as)


def program(name: str) -> str:
    """Where a program of PostgreSQL lies: Debian keeps some off the path. Raises FileNotFoundError."""
    found = [*sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}")), shutil.which(name)]
    if found[0] is None:
        raise FileNotFoundError(f"{name} is not installed (Debian: apt-get install postgresql)")
    return found[0]


@contextmanager
def database(image: Path, size: int, scale: int) -> Iterator[Database]:
    """A server whose data lies in a new image of `size` bytes, until the end of the block. Needs root."""
    with image.open("wb") as file:
        file.truncate(size)
    # All at once: what the kernel would finish later is no change that the database made.
    eager = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", eager, str(image)], check=True)
    mount = Path(tempfile.mkdtemp(prefix="bench-database-"))
    mount.chmod(0o711)
    with loop(image) as device:
        subprocess.run(["mount", "-o", "noatime", device, str(mount)], check=True)
        try:
            server = Database(image, mount)
            try:
                server.start(scale)
                yield server
            finally:
                server.stop()
        finally:
            subprocess.run(["umount", str(mount)], check=True)
            mount.rmdir()


@dataclass
class Changed:
    """What differed: sectors as ranges (offset, length), pieces of 4 MiB as ranges; bytes, zstd 1 per block.

    `sectors`: how many; `packed`: their bytes, compressed block by block; `whole`: the touched blocks, compressed.
    """

    fine: list[tuple[int, int]] = field(default_factory=list)
    coarse: list[tuple[int, int]] = field(default_factory=list)
    sectors: int = 0
    packed: int = 0
    whole: int = 0


def follow(image: Path, copy: Path) -> Changed:
    """Make `copy` equal to the image. What that took."""
    found = Changed()
    compressor = zstandard.ZstdCompressor(level=1)
    source, target = os.open(image, os.O_RDONLY), os.open(copy, os.O_RDWR)
    try:
        size = os.fstat(source).st_size
        for offset in range(0, size, CHUNK):
            if _hole(source, offset) and _hole(target, offset):
                continue
            now, before = os.pread(source, CHUNK, offset), os.pread(target, CHUNK, offset)
            if now == before:
                continue
            sectors = np.frombuffer(now, np.uint8).reshape(-1, SECTOR)
            differs = (sectors != np.frombuffer(before, np.uint8).reshape(-1, SECTOR)).any(axis=1)
            found.coarse.append((offset, len(now)))
            for sector in np.flatnonzero(differs).tolist():
                at = offset + sector * SECTOR
                os.pwrite(target, sectors[sector], at)
                if found.fine and sum(found.fine[-1]) == at:
                    found.fine[-1] = (found.fine[-1][0], found.fine[-1][1] + SECTOR)
                else:
                    found.fine.append((at, SECTOR))
            found.sectors += int(differs.sum())
            many = BLOCK // SECTOR
            for first in range(0, len(sectors), many):
                chosen = differs[first : first + many]
                if chosen.any():
                    block = sectors[first : first + many]
                    found.packed += len(compressor.compress(block[chosen].tobytes()))
                    found.whole += len(compressor.compress(block.tobytes()))
    finally:
        os.close(source)
        os.close(target)
    return found


def _hole(fd: int, offset: int) -> bool:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) >= offset + CHUNK
    except OSError:
        return True


def hash_of(path: Path) -> str:
    """Of all bytes of a file."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
