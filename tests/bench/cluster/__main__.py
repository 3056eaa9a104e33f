"""`make bench-cluster`: see tests.bench; here the rows that need a cluster."""

from __future__ import annotations

import sys

from tests.bench.__main__ import main
from tests.bench.registry import IN_THE_CLUSTER

if __name__ == "__main__":
    sys.exit(main(IN_THE_CLUSTER, rounds=1))
