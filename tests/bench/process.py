"""One command as a whole process, measured from outside, with nothing of its files in the page cache."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.rows import WorkFailed

MIB = 1 << 20
_MEASURE = Path(__file__).with_name("measure.py")
_DROP = Path("/proc/sys/vm/drop_caches")
TOUCHED = (
    "Memory was touched before each measurement: how fast a host gives it to a virtual machine is not in it."
)


@dataclass(frozen=True)
class Measured:
    """What one process took: seconds on the clock and of all processors, bytes of memory at its peak.

    `read` and `written` are bytes passed through its read and write calls, whatever they went to; 0 if not known.
    """

    wall: float
    cpu: float
    peak: int
    read: int
    written: int
    output: str  # its stdout


def measured(command: list[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Run one command to its end. Raises WorkFailed with its words when it fails."""
    with tempfile.NamedTemporaryFile() as result:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_MEASURE), result.name, *command],
            env={**clean_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            words = f"{done.stdout[-2000:]}{done.stderr[-2000:]}".strip()
            raise WorkFailed(f"{' '.join(command)}: exit {done.returncode}: {words}")
        return Measured(**json.loads(result.read()), output=done.stdout)


def run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """Run what is not measured; returns its stdout. Raises WorkFailed with its words when it fails."""
    return measured(command, environment).output


def clean_environment() -> dict[str, str]:
    """This process' environment without what would change the programs: proxies and settings of their own.

    Python's bytecode is kept beside, as it is of an installed program; else each run would compile all of it anew.
    """
    prefixes = ("AWS_", "BLOCKVAULT_", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "KOPIA_", "PYTHON", "RESTIC_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(prefixes) and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "blockvault-bench-bytecode")}


def files(folder: Path) -> list[Path]:
    """All regular files below a folder, or the file itself."""
    if folder.is_file():
        return [folder]
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def used(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in files(folder))


def drop_cache(places: Iterable[Path], *, memory: int = 0) -> None:
    """Have what was written on the disk, and nothing in the page cache: of anything, or at least of these places.

    `memory`: so many bytes of free memory are at hand afterwards. The host of a virtual machine may take back what is
    free in it (free page reporting), and give it again page by page, as it is touched. On such a machine that took
    twice as long as a whole restore.
    """
    os.sync()
    if may_drop():
        _DROP.write_text("3")
    else:
        _give_up(places)
    if memory:
        mmap.mmap(-1, memory, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def _give_up(places: Iterable[Path]) -> None:
    for path in [path for place in places for path in files(place)]:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def may_drop() -> bool:
    """Whether the kernel drops its page cache for this user."""
    return os.access(_DROP, os.W_OK)


def cache_note() -> str:
    """How the page cache was emptied, for a row's notes."""
    how = (
        "dropped by the kernel"
        if may_drop()
        else "given up file by file (posix_fadvise), as far as the kernel follows"
    )
    return f"The page cache was {how} before each measurement."
