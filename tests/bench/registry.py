"""All rows, in the order of docs/performance.md."""

from __future__ import annotations

from tests.bench import (
    deletion,
    full,
    machine,
    memory,
    postgres,
    puts,
    random_sectors,
    restoring,
    scattered,
    unchanged,
    years,
)
from tests.bench.cluster import rows as cluster
from tests.bench.rows import Row

ROWS: tuple[Row, ...] = (
    *machine.ROWS,
    *full.ROWS,
    *unchanged.ROWS,
    *scattered.ROWS,
    *postgres.ROWS,
    *random_sectors.ROWS,
    *restoring.ROWS,
    *deletion.ROWS,
    *memory.ROWS,
    *puts.ROWS,
    *years.ROWS,
)
# Those of `make bench-cluster`, which `make bench` leaves as they are.
IN_THE_CLUSTER = cluster.ROWS
