"""Loop devices under the work of benchmarks."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.rows import WorkFailed
from tests.disks import loop


@contextlib.contextmanager
def loop_device(file: Path, *, read_only: bool = False) -> Iterator[Path]:
    """A block device over a file. Raises WorkFailed where none can be made: that needs root."""
    with contextlib.ExitStack() as stack:
        try:
            device = stack.enter_context(loop(file, *(["--read-only"] if read_only else [])))
        except subprocess.CalledProcessError as error:
            raise WorkFailed(f"this row needs a loop device: {error.stderr.strip()}") from error
        yield Path(device)
