"""Rows of backups of volumes in which nothing has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bench import images, process
from tests.bench.full import BV, PEER_SETTINGS, REQUESTS
from tests.bench.images import GIB
from tests.bench.loop import loop_device
from tests.bench.process import MIB, drop_cache, measured, run, used
from tests.bench.programs import Blockvault, Kopia, Program, Restic, read_bare, result
from tests.bench.rows import Bench, Chart, Goal, Outcome, Row, WorkFailed
from tests.bench.series import STORED, WALL, Series, figures, in_turn

TIB = 1 << 40
RATE = "MiB/s"


def listed(bench: Bench) -> Outcome:
    """An empty list of changes, on volumes of several sizes."""
    sizes = {"64 GiB": 64 * GIB, "1 TiB": TIB, "15 TiB": 15 * TIB}
    writes = bench.size(4096, 512)
    with bench.folder() as folder:
        nothing = folder / "nothing.jsonl"
        nothing.write_text("")
        steps: dict[str, Callable[[], Mapping[str, float]]] = {}
        for name, size in sizes.items():
            image = folder / f"{name}.img"
            images.scattered(image, size, writes)
            place = folder / name
            place.mkdir()
            program = Blockvault(place)
            program.prepare()
            run(program.backup(image), program.environment)
            command = program.backup(image, "--changed", str(nothing), "--parent", "latest")
            steps[name] = lambda program=program, command=command, image=image: _listed(
                program, command, image
            )
        found = in_turn(bench, steps)
    outcome = found.outcome("volume")
    for name in sizes:
        outcome.goals += [
            Goal(f"{name}: seconds", found.median(name, WALL), 1),
            Goal(f"{name}: requests", found.median(name, REQUESTS), 10),
        ]
    outcome.notes += [
        f"Sparse volumes that hold {writes} writes of 64 KiB at random places; the list of changes is empty.",
        f"Directory store. {process.cache_note()} The seconds are those of the whole command, start of Python included.",
        "restic and kopia take no list: what they do is in the next table.",
    ]
    outcome.charts.append(found.chart("Nothing changed, as a list says: time", WALL))
    return outcome


def _listed(program: Blockvault, command: list[str], image: Path) -> dict[str, float]:
    drop_cache([image, program.repository])
    before = used(program.repository)
    took = measured(command, program.environment)
    said = result(took)
    if said["bytesChanged"] or said["fallbackReason"]:
        raise WorkFailed(f"the empty list was not believed: {took.output}")
    stored = (used(program.repository) - before) / MIB
    return figures(took, **{STORED: stored, REQUESTS: said["requests"]})


def compared(bench: Bench) -> Outcome:
    """No list: all of the volume is read and compared."""
    image = images.ordinary(bench)
    with bench.folder() as folder, loop_device(image.path, read_only=True) as device:
        steps: dict[str, Callable[[], Mapping[str, float]]] = {
            "bare read, file": lambda: _read(image.path, image.data),
            "bare read, device": lambda: _read(device, image.path.stat().st_size),
        }

        def add(name: str, source: Path, size: int, make: Callable[[Path], Program]) -> None:
            place = folder / name
            place.mkdir()
            program = make(place)
            program.prepare()
            run(program.backup(source), program.environment)
            command = program.backup(source)
            steps[name] = lambda: _compared(program, command, source, size)

        add(f"{BV}, file", image.path, image.data, Blockvault)
        add(f"{BV}, device", device, image.path.stat().st_size, Blockvault)
        add(f"{BV}, encrypted, file", image.path, image.data, lambda place: Blockvault(place, encrypted=True))
        add("restic, file", image.path, image.data, Restic)
        add("kopia, file", image.path, image.data, Kopia)
        found = in_turn(bench, steps)
    outcome = found.outcome()
    for kind in ("file", "device"):
        share = found.ratio(RATE, f"{BV}, {kind}", f"bare read, {kind}")
        outcome.goals.append(Goal(f"{kind}: throughput, bare read = 1", share, 0.8, at_least=True))
    outcome.notes += [*image.notes, process.cache_note(), PEER_SETTINGS]
    outcome.notes += [
        "The device is a loop device over the same file; it has no holes, so the whole volume is read. MiB/s counts what "
        "is not a hole. The bare read is one thread with 4 MiB at a time, past the page cache.",
        "restic and kopia are told to read the file again (--force, --force-hash=100).",
    ]
    outcome.charts.append(_rates(found))
    return outcome


def _rates(found: Series) -> Chart:
    return found.chart("Nothing changed, no list: throughput", RATE)


def _read(source: Path, size: int) -> dict[str, float]:
    drop_cache([source])
    took = measured(read_bare(source))
    return figures(took, **{RATE: size / MIB / took.wall})


def _compared(program: Program, command: list[str], source: Path, size: int) -> dict[str, float]:
    drop_cache([source, program.repository])
    before = used(program.repository)
    took = measured(command, program.environment)
    stored = (used(program.repository) - before) / MIB
    return figures(took, **{RATE: size / MIB / took.wall, STORED: stored})


ROWS = (
    Row("unchanged-listed", "Nothing changed, as a list says", listed),
    Row("unchanged-compared", "Nothing changed, no list", compared),
)
