"""Scattered writes in sparse volumes of three sizes, given as a list: the cost must not grow with the volume."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zstandard
from blake3 import blake3

from tests.bench.apart import MIB, Apart, Verb, listed, verb
from tests.bench.rows import Bench, Cell, Goal, Outcome, Row

BLOCK = 256 * 1024
WRITE = 64 * 1024
GIB = 1 << 30
VOLUMES = {"64 GiB": 64 * GIB, "1 TiB": 1024 * GIB, "15 TiB": 15 * 1024 * GIB}
INCREMENTS = 3

COLUMNS = [
    "volume",
    "increment",
    "seconds",
    "bare loop, seconds",
    "sent MiB",
    "of the touched blocks, zstd 1",
    "metadata MiB",
    "requests",
    "of these GET",
    "read MiB",
    "peak MiB",
]


def write(path: Path, size: int, count: int, seed: int) -> list[tuple[int, int]]:
    """`count` writes of noise at places of their own. Gives the ranges."""
    chance = random.Random(seed)
    noise = chance.randbytes(4 * MIB)
    places = sorted(chance.sample(range(size // WRITE), count))
    fd = os.open(path, os.O_RDWR)
    try:
        for place in places:
            start = chance.randrange(len(noise) - WRITE)
            os.pwrite(fd, noise[start : start + WRITE], place * WRITE)
        os.fsync(fd)
    finally:
        os.close(fd)
    return [(place * WRITE, WRITE) for place in places]


def forget(path: Path) -> None:
    """Let the machine's memory hold nothing of a file, as after another machine wrote it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def touched(ranges: Iterable[tuple[int, int]]) -> list[int]:
    """The blocks that the ranges touch, ascending."""
    return sorted({offset // BLOCK for offset, _ in ranges})


def bare_loop(path: Path, out: Path, blocks: list[int]) -> tuple[float, int]:
    """Read, hash and compress these blocks with two threads, and write what comes of them. (seconds, bytes)."""
    started = time.perf_counter()
    fd = os.open(path, os.O_RDONLY)

    def work(block: int) -> bytes:
        data = os.pread(fd, BLOCK, block * BLOCK)
        blake3(data).digest()
        return zstandard.ZstdCompressor(level=1).compress(data)

    def some(numbers: list[int]) -> list[bytes]:
        return [work(number) for number in numbers]

    sent = 0
    with out.open("wb") as file, ThreadPoolExecutor(2) as pool:
        for packed in pool.map(some, [blocks[at : at + 16] for at in range(0, len(blocks), 16)]):
            file.writelines(packed)
            sent += sum(map(len, packed))
        file.flush()
        os.fsync(file.fileno())
    os.close(fd)
    out.unlink()
    return time.perf_counter() - started, sent


def metadata(store: Path) -> int:
    """Bytes of all that is not a segment."""
    files = (path for path in store.rglob("*") if path.is_file() and path.parent.name != "segments")
    return sum(path.stat().st_size for path in files)


def increments(bench: Bench, size: int, count: int, seed: int) -> list[tuple[Apart[Verb], float, int, int]]:
    """Of each increment: the verb, the bare loop's seconds and bytes, and bytes of metadata."""
    source, store = bench.scratch / "volume", bench.scratch / "store"
    with source.open("wb") as file:
        file.truncate(size)
    write(source, size, count // 16, seed)
    url = f"file://{store}"
    verb(bench.scratch, ["init", url])
    backup = ["backup", str(source), url, "--volume", "v", "--progress", "none"]
    verb(bench.scratch, backup)
    found = []
    for number in range(INCREMENTS):
        ranges = write(source, size, count, seed + 1 + number)
        blocks = touched(ranges)
        forget(source)
        seconds, packed = bare_loop(source, bench.scratch / "out", blocks)
        forget(source)
        before = metadata(store)
        done = verb(
            bench.scratch,
            [*backup, "--parent", "latest", "--changed", listed(bench.scratch / "list", ranges)],
        )
        assert done.result.printed["changedBlockSource"] == "List", done.result.printed
        found.append((done, seconds, packed, metadata(store) - before))
    for path in (store, source):
        _remove(path)
    return found


def _remove(path: Path) -> None:
    if path.is_dir():
        for below in path.iterdir():
            _remove(below)
        path.rmdir()
    else:
        path.unlink()


def measure(bench: Bench) -> Outcome:
    """The row."""
    count = bench.size(16_384, 512)
    lines: list[list[Cell]] = []
    samples: dict[str, list[float]] = {}
    ratios, metadata_sizes = [], []
    for name, size in VOLUMES.items():
        rounds = [increments(bench, size, count, 100 * number) for number in range(bench.rounds)]
        for number in range(INCREMENTS):
            runs = [each[number] for each in rounds]
            seconds = [done.seconds for done, _, _, _ in runs]
            samples[f"{name}, increment {number + 1}, seconds"] = seconds
            samples[f"{name}, increment {number + 1}, bare loop, seconds"] = [loop for _, loop, _, _ in runs]
            done, _, packed, more = runs[-1]
            sent = done.result.sent
            ratios.append(sent / packed)
            metadata_sizes.append(more / MIB)
            lines.append(
                [
                    name,
                    number + 1,
                    statistics.median(seconds),
                    statistics.median(loop for _, loop, _, _ in runs),
                    sent / MIB,
                    sent / packed,
                    more / MIB,
                    done.result.total,
                    done.result.requests.get("get", 0),
                    done.result.received / MIB,
                    max(each.peak for each, _, _, _ in runs),
                ]
            )
    goals = [
        Goal("bytes sent, of the touched blocks by zstd 1 (the worst)", max(ratios), 1.1),
        Goal("metadata of an increment, MiB (the worst)", max(metadata_sizes), 16),
    ]
    small, _, large = VOLUMES
    for number in range(1, INCREMENTS + 1):
        times = [
            statistics.median(samples[f"{name}, increment {number}, seconds"]) for name in (small, large)
        ]
        goals.append(
            Goal(f"increment {number}: time at {large}, of that at {small}", times[1] / times[0], 1.4)
        )
    notes = [
        f"{count} writes of 64 KiB of noise at random places, then a backup with their list, three times; before "
        f"the first, {count // 16} such writes and a full backup. The command line on a directory, each verb a "
        "process; seconds are without the start of Python.",
        "The bare loop reads, hashes and compresses the same blocks with two threads and writes one file.",
    ]
    return Outcome(COLUMNS, lines, goals, notes, samples)


ROWS = (Row("scattered", "Scattered writes in sparse volumes, given as a list", measure),)
