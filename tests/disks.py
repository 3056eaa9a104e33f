"""Loop devices and small file systems, for tests and benchmarks that root runs; and folders in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for loop devices and mounts")

_MEMORY = "/dev/shm"
# Bytes that must be free there: containers often have 64 MiB, and several processes of tests share it.
_ROOM = 1 << 30


def sh(*words: str) -> str:
    """What a program says."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def memory() -> str | None:
    """Where files lie in memory; None, which means the usual place to tempfile, where there is no room for them."""
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM
    return _MEMORY if roomy else None


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder that costs no waiting for a disk, where the machine has such; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bv-", dir=memory()) as made:
        yield Path(made)


@contextmanager
def loop(path: Path, *options: str) -> Iterator[str]:
    """A loop device that shows the file. That one is read-only stays with its number, unless it is set back."""
    device = sh("losetup", *options, "--find", "--show", str(path))
    try:
        if "--read-only" not in options:
            sh("blockdev", "--setrw", device)
        yield device
    finally:
        sh("blockdev", "--setrw", device)
        sh("losetup", "--detach", device)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A small file system of its own."""
    folder.mkdir()
    sh("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        sh("umount", str(folder))


def fill(folder: Path) -> Path:
    """Take all the room that there is; gives the file that took it."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return ballast
    raise AssertionError("it cannot be filled")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The file system mounted there cannot be written meanwhile."""
    sh("mount", "-o", "remount,ro", str(folder))
    try:
        yield
    finally:
        sh("mount", "-o", "remount,rw", str(folder))
