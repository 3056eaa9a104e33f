"""Run one seed from its beginning to its end."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.cast import cast
from tests.simulation.checks import check, collect_all, finish
from tests.simulation.rotting import rot
from tests.simulation.world import world


@dataclass
class Outcome:
    """How a run ended. `counts`: faults and actions by kind. `digest`: of the whole log."""

    seed: int
    digest: str
    counts: Counter[str] = field(repr=False)
    log: list[str] = field(repr=False)
    error: str | None = None

    def report(self) -> str:
        """What somebody needs who looks for the cause."""
        lines = self.log[-400:]
        return "\n".join([*lines, self.error or "", f"python -m tests.simulation --seed {self.seed} -v"])


def run(seed: int) -> Outcome:
    """One seed. Never raises: what went wrong is in the outcome."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None  # in memory: restores sync what they write
    folder = tempfile.mkdtemp(prefix="simulation-", dir=place)
    try:
        with world(seed, folder) as made:
            error = None
            try:
                cast(made)
                made.scheduler.run()
                finish(made)
                collect_all(made)
                check(made)
                rot(made)
            except Exception:  # noqa: BLE001 - whatever it is, it belongs to this seed
                error = traceback.format_exc()
            return Outcome(seed, made.server.digest(), made.server.counts, made.server.log, error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
