"""Rows of restores, with all that is read and written in memory, so that the disk's noise is out."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.bench import images, process
from tests.bench.full import BARE, BV, ENCRYPTION, PEER_SETTINGS, REQUESTS, SEALED
from tests.bench.images import GIB
from tests.bench.loop import loop_device
from tests.bench.process import MIB, Measured, drop_cache, measured, run
from tests.bench.programs import BareLoop, Blockvault, Kopia, Program, Restic, result
from tests.bench.rows import Bench, Goal, Outcome, Row, WorkFailed
from tests.bench.series import WALL, figures, in_turn

MEMORY = Path("/dev/shm")
BLOCK = 256 << 10
READ, WRITTEN = "read MiB", "written MiB"
IN_MEMORY = "The repository is on tmpfs, and so is the target: neither the disk nor its cache takes part."
CHECKED = "Each target was compared with the volume, byte by byte."


@contextlib.contextmanager
def _memory(needed: int) -> Iterator[Path]:
    """A folder on tmpfs with room for so many bytes. Raises WorkFailed where there is none."""
    if not os.access(MEMORY, os.W_OK):
        raise WorkFailed(f"this row needs a tmpfs at {MEMORY}")
    status = os.statvfs(MEMORY)
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = min(status.f_bavail * status.f_frsize, int(lines["MemAvailable"].split()[0]) * 1024 - 2 * GIB)
    if free < needed:
        raise WorkFailed(
            f"this row needs {needed / GIB:.1f} GiB on {MEMORY}, and {free / GIB:.1f} are to be had"
        )
    with tempfile.TemporaryDirectory(prefix="bv-bench-", dir=MEMORY) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _stored(folder: Path, image: Path, make: Callable[[Path], Program]) -> Iterator[Program]:
    """A program whose repository in this folder holds the image."""
    place = Path(tempfile.mkdtemp(dir=folder))
    program = make(place)
    program.prepare()
    run(program.backup(image), program.environment)
    yield program
    shutil.rmtree(place)


def _figures(program: Program, took: Measured) -> dict[str, float]:
    more = {REQUESTS: result(took)["requests"]} if isinstance(program, Blockvault) else {}
    return figures(took, **more)


def restore(bench: Bench) -> Outcome:
    """To a new file."""
    image = images.ordinary(bench)
    with _memory(2 * image.data) as memory:

        def once(make: Callable[[Path], Program]) -> Mapping[str, float]:
            with _stored(memory, image.path, make) as program:
                target = memory / "target"
                drop_cache([image.path], memory=bench.memory)
                took = measured(program.restore(target), program.environment)
                images.same(image.path, program.restored(target))
                target.unlink() if target.is_file() else shutil.rmtree(target)
                return _figures(program, took)

        found = in_turn(
            bench,
            {
                BV: lambda: once(Blockvault),
                SEALED: lambda: once(lambda folder: Blockvault(folder, encrypted=True)),
                "restic": lambda: once(Restic),
                "kopia": lambda: once(Kopia),
                BARE: lambda: once(BareLoop),
            },
        )
    outcome = found.outcome()
    outcome.goals += [
        Goal("times as quick as restic", found.ratio(WALL, "restic", BV), 2, at_least=True),
        Goal("times as quick as kopia", found.ratio(WALL, "kopia", BV), 6, at_least=True),
        Goal("speed, bare loop = 1", found.ratio(WALL, BARE, BV), 0.8, at_least=True),
    ]
    outcome.notes += [*image.notes, IN_MEMORY, process.TOUCHED, CHECKED, PEER_SETTINGS, ENCRYPTION]
    outcome.notes.append(
        "restic and kopia write sparse files (--sparse, --write-sparse-files), as the others always do."
    )
    outcome.charts.append(found.chart("Restore to a new file: time", WALL))
    return outcome


def restore_device(bench: Bench) -> Outcome:
    """To a new device."""
    image = images.ordinary(bench)
    with _memory(2 * image.data) as memory:

        def once(make: Callable[[Path], Program]) -> Mapping[str, float]:
            backing = memory / "backing"
            with backing.open("wb") as file:
                file.truncate(image.path.stat().st_size)
            with _stored(memory, image.path, make) as program, loop_device(backing) as device:
                drop_cache([image.path], memory=bench.memory)
                took = measured(program.restore(device), program.environment)
                images.same(image.path, device)
            backing.unlink()
            return _figures(program, took)

        found = in_turn(
            bench,
            {
                BV: lambda: once(Blockvault),
                SEALED: lambda: once(lambda folder: Blockvault(folder, encrypted=True)),
                BARE: lambda: once(BareLoop),
            },
        )
    outcome = found.outcome()
    outcome.goals.append(Goal("speed, bare loop = 1", found.ratio(WALL, BARE, BV), 0.8, at_least=True))
    outcome.notes += [*image.notes, IN_MEMORY, process.TOUCHED, CHECKED]
    outcome.notes.append(
        "The target is a loop device over a file on tmpfs that holds zeros. restic and kopia write no devices."
    )
    outcome.charts.append(found.chart("Restore to a new device: time", WALL))
    return outcome


def restore_changed(bench: Bench) -> Outcome:
    """Onto a target that differs by 1 %, told what it holds."""
    image = images.ordinary(bench)
    with _memory(3 * image.data) as memory:
        before, after = memory / "before.img", memory / "after.img"
        run(["cp", "--sparse=always", str(image.path), str(after)])
        with _stored(memory, after, Blockvault) as program:
            assert isinstance(program, Blockvault)
            first = program.newest()
            places = images.change(after, 0.01)
            changed = sum(length for _, length in places)
            blocks = len({offset // BLOCK for offset, _ in places}) * BLOCK
            run(program.backup(after), program.environment)

            def once(*options: str) -> Mapping[str, float]:
                run(["cp", "--sparse=always", str(image.path), str(before)])
                drop_cache([image.path], memory=bench.memory)
                took = measured(program.restore(before, *options), program.environment)
                images.same(after, before)
                before.unlink()
                said = result(took)
                moved = {READ: said["bytesRead"] / MIB, WRITTEN: said["bytesWritten"] / MIB}
                moved["passed to write calls MiB"] = took.written / MIB
                return {**_figures(program, took), **moved}

            told, untold = "told what it holds", "told nothing (--force)"
            found = in_turn(bench, {told: lambda: once("--have", first), untold: lambda: once("--force")})
    outcome = found.outcome("restore")
    outcome.goals += [
        Goal("written, blocks of 256 KiB that differ = 1", found.median(told, WRITTEN) * MIB / blocks, 1.05),
        Goal("written, bytes that differ = 1", found.median(told, WRITTEN) * MIB / changed, 1.05),
    ]
    outcome.notes += [*image.notes, IN_MEMORY, process.TOUCHED, CHECKED]
    outcome.notes.append(
        f"{changed / MIB:.1f} MiB of random bytes at random places of 64 KiB were written after the first backup, which lie "
        f"in {blocks / MIB:.1f} MiB of blocks. The target holds what the first backup holds, and is made to hold the second."
    )
    outcome.charts.append(found.chart("Restore onto a target that differs by 1 %: bytes written", WRITTEN))
    return outcome


ROWS = (
    Row("restore", "Restore to a new file", restore),
    Row("restore-device", "Restore to a new device", restore_device),
    Row("restore-changed", "Restore onto a target that differs by 1 %", restore_changed),
)
