"""Block devices that are really there: loop devices over files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_loops = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root, for loop devices"
)


def sh(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def loop(path: Path, sector: int = 512) -> Iterator[str]:
    """A device that shows the file, whose logical sectors have so many bytes."""
    device = sh("losetup", "--find", "--show", "--sector-size", str(sector), str(path))
    try:
        sh("blockdev", "--setrw", device)  # what somebody had set for that number before stays
        yield device
    finally:
        sh("losetup", "--detach", device)
