"""What nothing needs any more but is still locked: it waits, noted in the state, until its lock has ended.

Locks are asked for one by one, but not at each collect: of every epoch the state notes when the first of its waiting
objects can go, and until then the whole epoch is left alone. Locks are only ever moved together, so most of them are
asked for two or three times in all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from blockvault.engine import runtime
from blockvault.engine.lineage import Lineage
from blockvault.engine.objects import Objects
from blockvault.engine.state import Outcome, State
from blockvault.stores import ObjectNotFound, ObjectStore

# In a state: {"epochs": {epoch: time}, "objects", "bytes"} of what the last collect found locked.
WAITING = "waiting"

THREADS = 8
# Locks that are asked for before the next ones are looked at.
TOGETHER = 1000


class Waiting:
    """What waits in one lineage. `objects`, `bytes`: how much; `until`: when the first of it can go."""

    def __init__(self, store: ObjectStore, lineage: Lineage) -> None:
        self._store = store
        self._paths = lineage.paths
        self.objects = self.bytes = 0
        self.until: str | None = None
        self._epochs: dict[int, float] = {}

    def unlocked(self, state: State, candidates: Objects) -> Objects:
        """Those of the candidates that can be deleted now."""
        now = runtime.wall()
        known = {
            int(epoch): runtime.seconds_of(until)
            for epoch, until in state.extra.get(WAITING, {}).get("epochs", {}).items()
        }
        later = [epoch for epoch, until in known.items() if until > now]
        waits = np.isin(candidates.epochs, later)
        asked = candidates.where(~waits)
        ends = np.fromiter(self._ends(asked), np.float64, len(asked))
        self._epochs = {epoch: known[epoch] for epoch in later if (candidates.epochs == epoch).any()}
        for epoch, end in zip(asked.epochs.tolist(), ends.tolist(), strict=True):
            if end > now:
                self._epochs[epoch] = min(end, self._epochs.get(epoch, end))
        free: npt.NDArray[np.bool_] = ends <= now
        self.objects = len(candidates) - int(free.sum())
        self.bytes = candidates.total - asked.where(free).total
        self.until = runtime.time_of(min(self._epochs.values())) if self._epochs else None
        return asked.where(free)

    def note(self, state: State) -> tuple[State, Outcome] | None:
        """Write down what waits. None when it is written down already."""
        fresh = {
            "epochs": {str(epoch): runtime.time_of(until) for epoch, until in sorted(self._epochs.items())},
            "objects": self.objects,
            "bytes": self.bytes,
        }
        if fresh == state.extra.get(WAITING, {"epochs": {}, "objects": 0, "bytes": 0}):
            return None
        state.extra[WAITING] = fresh
        return state, Outcome("", "wait")

    def locked(self, key: str) -> bool:
        """Whether an object's lock has not ended."""
        return self._end(key) > runtime.wall()

    def _ends(self, asked: Objects) -> Iterator[float]:
        with runtime.executor(THREADS, "locks") as pool:
            for first in range(0, len(asked), TOGETHER):
                batch = Objects(asked.records[first : first + TOGETHER])
                yield from pool.map(self._end, batch.keys(self._paths))

    def _end(self, key: str) -> float:
        try:
            until = self._store.lock_until(key)
        except ObjectNotFound:
            return 0.0  # another collect was faster
        return 0.0 if until is None else until.timestamp()
