"""The peak of memory of every verb on a volume of 15 TiB: sparse files, and a lineage that is full to the last block."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import blockvault.engine.backup
from blockvault.stores import DirectoryStore, ObjectStore
from tests.bench.apart import MIB, Apart, Verb, apart, listed, verb
from tests.bench.memory_store import LayeredStore
from tests.bench.metadata import VOLUME, Metadata, sampled, write_base
from tests.bench.rows import Bench, Cell, Goal, Outcome, Row
from tests.bench.scattered import write
from tests.bench.templates import BLOCKS, COUNT, TemplateSource

BLOCK = 256 * 1024
LEAF = 128
MOST = 300
# Leaves of which more than half of the blocks change, so that there is something to compact.
WORN, WORN_BLOCKS = 8, 80
COLUMNS = ["on", "verb", "peak MiB", "seconds", "requests", "read MiB", "sent MiB"]


@dataclass(frozen=True)
class Opener:
    """Opens the generated lineage in whatever process it is called in, and gives backups their volume to read."""

    folder: str
    lineage_id: str
    secret: bytes
    leaves: int
    touched: tuple[int, ...] = ()

    def __call__(self) -> ObjectStore:
        """The store."""
        source = TemplateSource(self.leaves * LEAF * BLOCK)
        source.touch(list(self.touched))
        blockvault.engine.backup.Source = lambda *_, **__: source  # type: ignore[assignment,misc]
        generated = Metadata(self.lineage_id, self.secret, self.leaves, Path(self.folder) / "gone")
        return LayeredStore(generated, DirectoryStore(str(Path(self.folder) / "store"), make=True))


def make(folder: str, size: int) -> Opener:
    """Write the lineage."""
    store = DirectoryStore(str(Path(folder) / "store"), make=True)
    made = write_base(store, size, Path(folder) / "gone")
    return Opener(folder, made.lineage_id, made.secret, made.leaves)


class _Table:
    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.lines: list[list[Cell]] = []
        self.peaks: dict[str, float] = {}

    def run(self, on: str, name: str, arguments: list[str], opened: Opener | None = None) -> Apart[Verb]:
        """One verb, one line."""
        done = verb(self.scratch, arguments, opened)
        found = done.result
        self.lines.append(
            [on, name, done.peak, done.seconds, found.total, found.received / MIB, found.sent / MIB]
        )
        self.peaks[f"{name}, {on}"] = done.peak
        return done


def _sparse(bench: Bench, table: _Table, size: int) -> None:
    """Verbs that read or write a whole volume, which only a sparse one allows here."""
    source, target, url = (
        bench.scratch / "volume",
        bench.scratch / "restored",
        f"file://{bench.scratch}/sparse",
    )
    with source.open("wb") as file:
        file.truncate(size)
    count = bench.size(4_096, 256)
    write(source, size, count, 11)
    backup = ["backup", str(source), url, "--volume", VOLUME, "--progress", "none"]
    on = "a sparse file"
    table.run(on, "init", ["init", url])
    table.run(on, "backup, full", backup)
    changed = listed(bench.scratch / "list", write(source, size, count, 12))
    table.run(on, "backup, listed", [*backup, "--parent", "latest", "--changed", changed])
    write(source, size, count, 13)
    table.run(on, "backup, compared", backup)
    restore = ["restore", url, str(target), "--volume", VOLUME, "--progress", "none"]
    table.run(on, "restore", restore)
    table.run(on, "restore, compared", [*restore, "--force"])
    table.run(on, "verify", ["verify", url, "--progress", "none"])
    source.unlink()
    target.unlink()


def _held(made: Opener, path: Path) -> None:
    """A target that holds what of the first backup is looked at, in order to be believed."""
    with path.open("wb") as file:
        file.truncate(made.leaves * LEAF * BLOCK)
        for block in sampled(made.leaves * LEAF):
            os.pwrite(file.fileno(), BLOCKS[block % COUNT], block * BLOCK)


def _generated(bench: Bench, table: _Table, size: int) -> None:
    """Verbs on a lineage in which every block is stored."""
    on, url = "a full volume", f"file://{bench.scratch}/store"
    made = apart(make, str(bench.scratch), size).result
    chance = random.Random(14)
    worn = [leaf * LEAF + slot for leaf in range(WORN) for slot in range(WORN_BLOCKS)]
    anywhere = chance.sample(range(WORN * LEAF, made.leaves * LEAF), bench.size(2_048, 256))
    touched = tuple(sorted([*worn, *anywhere]))
    given = Opener(made.folder, made.lineage_id, made.secret, made.leaves, touched)
    ranges = [(block * BLOCK, BLOCK) for block in touched]
    of_it = [url, "--volume", VOLUME]
    base = table.run(on, "list", ["list", url], given).result.printed
    first = base[0]["backupId"] if isinstance(base, list) else base["backups"][0]["backupId"]
    backup = ["backup", "/simulated", *of_it, "--progress", "none", "--parent", "latest", "--changed"]
    table.run(on, "backup, listed", [*backup, listed(bench.scratch / "list", ranges)], given)
    table.run(on, "backup, nothing listed", [*backup, listed(bench.scratch / "none", [])], given)
    table.run(on, "show", ["show", *of_it], given)
    table.run(on, "usage", ["usage", url], given)
    table.run(on, "doctor", ["doctor", url], given)
    target = bench.scratch / "held"
    _held(made, target)
    restore = ["restore", url, str(target), "--volume", VOLUME, "--have", first, "--progress", "none"]
    table.run(on, "restore, what differs", restore, given)
    target.unlink()
    table.run(on, "verify, a sample", ["verify", *of_it, "--sample", "0.001%", "--progress", "none"], given)
    table.run(on, "delete", ["delete", *of_it, "--backup", first], given)
    table.run(on, "undelete", ["undelete", *of_it, "--backup", first], given)
    table.run(on, "delete for good", ["delete", *of_it, "--backup", first, "--now"], given)
    table.run(on, "collect", ["collect", url], given)
    table.run(on, "collect, compacting", ["collect", url, "--compact", "1G"], given)
    table.run(on, "list, at the end", ["list", url], given)


def measure(bench: Bench) -> Outcome:
    """The row."""
    size = bench.size(15 << 40, 64 << 30)
    table = _Table(bench.scratch)
    _sparse(bench, table, size)
    _generated(bench, table, size)
    worst = max(table.peaks, key=lambda name: table.peaks[name])
    goals = [Goal(f"peak of memory, MiB (the worst: {worst})", table.peaks[worst], MOST)]
    notes = [
        f"A volume of {size >> 30} GiB. Each verb is the command line in a process of its own; the peak is the kernel's "
        "(VmHWM). The full volume's first backup is written from metadata, one segment of 32 MiB to each leaf, which the "
        "process generates as they are read; that takes about 30 MiB of each peak.",
    ]
    return Outcome(COLUMNS, table.lines, goals, notes)


ROWS = (Row("memory-15tib", "Memory of every verb at 15 TiB", measure),)
