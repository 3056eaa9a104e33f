"""A real PostgreSQL under pgbench: what an increment sends, by what is known of the changes, and what a restore reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.apart import MIB, listed, verb
from tests.bench.database import Changed, database, follow, hash_of
from tests.bench.rows import Bench, Cell, Goal, Outcome, Row

GIB = 1 << 30
FINE, COARSE, NONE = "list of 4 KiB", "list of 4 MiB", "no list"
MODES = (FINE, COARSE, NONE)
COLUMNS = [
    "increments",
    "knowledge",
    "changed sectors MiB",
    "sent MiB",
    "of the changed sectors, zstd 1",
    "of whole blocks, zstd 1",
    "seconds each",
    "peak MiB",
    "restore reads MiB",
    "of a fresh full's",
]


@dataclass
class _Mode:
    """What was measured of one way of knowing, by increment."""

    sent: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


class _Run:
    def __init__(self, bench: Bench) -> None:
        self.scratch = bench.scratch
        self.url = f"file://{bench.scratch / 'store'}"
        self.copy = bench.scratch / "copy"
        self.modes = {name: _Mode() for name in MODES}
        self.changes: list[Changed] = []
        self.hashes: dict[int, str] = {}
        verb(self.scratch, ["init", self.url])

    def _backup(self, volume: str, *more: str) -> tuple[str, int, float, float]:
        arguments = ["backup", str(self.copy), self.url, "--volume", volume, "--progress", "none", *more]
        done = verb(self.scratch, arguments)
        return done.result.printed["backupId"], done.result.sent, done.seconds, done.peak

    def base(self) -> None:
        """The first backups."""
        for name in MODES:
            self._backup(name)

    def increment(self, changed: Changed, *, keep_hash: bool) -> None:
        """One more of each."""
        self.changes.append(changed)
        if keep_hash:
            self.hashes[len(self.changes)] = hash_of(self.copy)
        for name, mode in self.modes.items():
            more = []
            if name != NONE:
                ranges = changed.fine if name == FINE else changed.coarse
                more = ["--parent", "latest", "--changed", listed(self.scratch / "list", ranges)]
            backup, sent, seconds, peak = self._backup(name, *more)
            mode.ids.append(backup)
            mode.sent.append(sent)
            mode.seconds.append(seconds)
            mode.peaks.append(peak)

    def fresh_full(self) -> int:
        """Bytes that a restore of a full backup, made now, reads."""
        backup, *_ = self._backup("fresh", "--full")
        return self.restore("fresh", backup, len(self.changes))

    def restore(self, volume: str, backup: str, number: int) -> int:
        """Restore, compare all bytes; bytes that it read. Raises AssertionError."""
        target: Path = self.scratch / "restored"
        arguments = ["restore", self.url, str(target), "--volume", volume, "--backup", backup]
        done = verb(self.scratch, [*arguments, "--progress", "none"])
        assert hash_of(target) == self.hashes[number], f"{volume}: increment {number} does not restore right"
        target.unlink()
        return int(done.result.printed["bytesRead"])


def measure(bench: Bench) -> Outcome:
    """The row."""
    scale, transactions = bench.size(150, 10), bench.size(8_000, 800)
    stops = [10, 30] if bench.full else [4]
    checked = {*stops, *(stop // 2 for stop in stops)}
    run, lines, goals = _Run(bench), [], []
    with database(bench.scratch / "image", bench.size(5, 2) * GIB, scale) as server:
        server.work(transactions)  # the first round touches what loading has left
        run.copy.touch()
        with run.copy.open("r+b") as file:
            file.truncate(server.image.stat().st_size)
        with server.still():
            follow(server.image, run.copy)
        run.base()
        for number in range(1, stops[-1] + 1):
            server.work(transactions)
            with server.still():
                changed = follow(server.image, run.copy)
            run.increment(changed, keep_hash=number in checked)
            if number in stops:
                _stop(run, number, lines, goals)
    for number in sorted(checked - set(stops)):
        for name, mode in run.modes.items():
            run.restore(name, mode.ids[number - 1], number)
    notes = [
        f"pgbench of scale {scale} on ext4, {transactions} transactions by four clients as fast as they go, a "
        "checkpoint, and the file system frozen, for each increment. The image compared with the one before gives the "
        "changed sectors. All sent bytes are counted, those of commits as well.",
        f"Restored and compared byte by byte, of each way: increments {', '.join(map(str, sorted(checked)))}.",
    ]
    samples = {f"{name}, sent bytes": [float(sent) for sent in mode.sent] for name, mode in run.modes.items()}
    samples["changed sectors, zstd 1, bytes"] = [float(each.packed) for each in run.changes]
    samples["whole blocks, zstd 1, bytes"] = [float(each.whole) for each in run.changes]
    return Outcome(COLUMNS, lines, goals, notes, samples)


def _stop(run: _Run, number: int, lines: list[list[Cell]], goals: list[Goal]) -> None:
    """The figures of all increments so far together."""
    packed, whole = sum(each.packed for each in run.changes), sum(each.whole for each in run.changes)
    fresh = run.fresh_full()
    for name, mode in run.modes.items():
        sent, read = sum(mode.sent), run.restore(name, mode.ids[-1], number)
        lines.append(
            [
                number,
                name,
                sum(each.sectors for each in run.changes) * 4096 / MIB,
                sent / MIB,
                sent / packed,
                sent / whole,
                sum(mode.seconds) / number,
                max(mode.peaks),
                read / MIB,
                read / fresh,
            ]
        )
        if number <= 10:
            goals.append(Goal(f"{name}: {number} increments, of the changed sectors", sent / packed, 1.25))
            goals.append(Goal(f"{name}: {number} increments, of whole blocks", sent / whole, 0.3))
            goals.append(Goal(f"{name}: restore after {number}, of a fresh full's bytes", read / fresh, 3))
        else:
            goals.append(Goal(f"{name}: {number} increments, of the changed sectors", sent / packed, 2))


ROWS = (Row("postgres", "A PostgreSQL under load", measure),)
