"""Loop devices."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.rows import WorkFailed


@contextlib.contextmanager
def loop_device(file: Path, *, read_only: bool = False) -> Iterator[Path]:
    """A block device over a file. Raises WorkFailed where none can be made: that needs root."""
    command = ["losetup", "--find", "--show", *(["--read-only"] if read_only else []), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise WorkFailed(f"this row needs a loop device: {' '.join(command)}: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
