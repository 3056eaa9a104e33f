"""All rows, in the order of docs/performance.md."""

from __future__ import annotations

from tests.bench import full, machine, restoring, unchanged
from tests.bench.rows import Row

ROWS: tuple[Row, ...] = (*machine.ROWS, *full.ROWS, *unchanged.ROWS, *restoring.ROWS)
