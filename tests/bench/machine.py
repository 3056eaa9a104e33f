"""The row of the machine's limits: what reading, hashing, compressing and sending take by themselves."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from tests.bench import images, process
from tests.bench.process import MIB, drop_cache, measured
from tests.bench.programs import BARE, read_bare
from tests.bench.rows import Bench, Outcome, Row
from tests.bench.series import in_turn

RATE = "MiB/s"


def limits(bench: Bench) -> Outcome:
    """Rates of the bare steps."""
    image = images.ordinary(bench)
    sample = images.sample(bench, image, bench.size(1024, 256) * MIB)

    def read() -> Mapping[str, float]:
        drop_cache([image.path])
        took = measured(read_bare(image.path))
        return {RATE: int(took.output) / MIB / took.wall}

    def compute(kind: str, threads: int) -> Mapping[str, float]:
        took = measured([sys.executable, str(BARE / "compute.py"), kind, str(sample), str(threads)])
        size, seconds = took.output.split()
        return {RATE: int(size) / MIB / float(seconds)}

    def loopback(which: int) -> Mapping[str, float]:
        took = measured([sys.executable, str(BARE / "loopback.py"), str(bench.size(2048, 512))])
        words = took.output.split()
        return {RATE: int(words[0]) / MIB / float(words[which])}

    found = in_turn(
        bench,
        {
            "raw read of the volume": read,
            "BLAKE3, one thread": lambda: compute("blake3", 1),
            "BLAKE3, two threads": lambda: compute("blake3", 2),
            "zstd 1, one thread": lambda: compute("zstd", 1),
            "zstd 1, two threads": lambda: compute("zstd", 2),
            "zstd 1 decompression, one thread": lambda: compute("decompress", 1),
            "zstd 1 decompression, two threads": lambda: compute("decompress", 2),
            "HTTP PUT on loopback": lambda: loopback(1),
            "HTTP GET on loopback": lambda: loopback(2),
        },
    )
    outcome = found.outcome("step")
    outcome.notes += [*image.notes, process.cache_note()]
    outcome.notes.append(
        "The read goes past the page cache, by 4 MiB. Hash and compression work on pieces of the volume in memory, by "
        "blocks of 256 KiB. HTTP sends bodies of 32 MiB over one plain socket, which takes both cores."
    )
    outcome.charts.append(found.chart("The machine's limits", RATE))
    return outcome


ROWS = (Row("limits", "The machine's limits", limits),)
