"""Finding what a target holds already, so that it is neither fetched nor written."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice

from blockvault.engine import runtime
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.hashing import ZERO
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.pages import BLOCK_SIZE, FANOUT
from blockvault.engine.samples import Samples
from blockvault.engine.scan import is_zero
from blockvault.engine.target import Target

Wanted = tuple[int, Leaf, list[int]]

# Blocks looked at by chance, and blocks (64 MiB) without one that fits after which comparing does not pay.
SAMPLED = 64
PATIENCE = 256

THREADS = 2
# A restore writes from the beginning on. What was under way when it died, and in parts when the power went, lay within
# so many stored blocks (64 MiB).
FIRST = 256
# Leaves that are compared ahead of those that are fetched.
AHEAD = 2


class Held:
    """What a target of a restore holds. `always`: comparing goes on even if it finds nothing for long."""

    def __init__(self, target: Target, lineage: Lineage) -> None:
        self._target = target
        self._key = lineage.keys
        self.always = False
        self._misses = 0
        self.bytes_kept = 0

    def has(self, block: int, digest: bytes) -> bool:
        """Whether the block is there, whole and as its hash says."""
        offset = block * BLOCK_SIZE
        length = min(BLOCK_SIZE, self._target.size - offset)
        data = self._target.read(offset, length)
        if len(data) < length:
            return False
        if length < BLOCK_SIZE:
            data += bytes(BLOCK_SIZE - length)
        if digest == ZERO:
            return is_zero(memoryview(data))
        return self._key.block(data) == digest

    def sample(self, samples: Samples) -> tuple[list[int], list[int]]:
        """Some blocks, chosen by chance among `samples`: (those that the target holds, those that it does not)."""
        chance = random.Random(runtime.random(8))  # noqa: S311 - guards against mistakes, not attackers
        found: tuple[list[int], list[int]] = ([], [])
        for block in chance.sample(sorted(samples), min(SAMPLED, len(samples))):
            found[not self.has(block, samples[block])].append(block)
        return found

    def look(self, samples: Samples) -> None:
        """Look at some stored blocks by chance: one that fits makes comparing worth while for all of them."""
        held, _ = self.sample({block: digest for block, digest in samples.items() if digest != ZERO})
        self.always = bool(held)

    def begun(self, leaves: Iterable[tuple[int, Leaf | StoredDataDamaged | None]]) -> bool:
        """Whether a restore of these, ascending from the first, has begun here: one of the first blocks is there."""
        first = (
            (number * FANOUT + slot, leaf.hash_of(slot))
            for number, leaf in leaves
            if isinstance(leaf, Leaf)
            for slot in leaf.stored_slots()
        )
        return any(self.has(block, digest) for block, digest in islice(first, FIRST))

    def missing(self, wanted: Iterable[Wanted]) -> Iterator[Wanted]:
        """What of this the target does not hold. Stops looking when that has not paid for long."""
        pool = runtime.executor(THREADS, "compare")
        waiting: deque[tuple[int, Leaf, list[int], Future[list[int]]]] = deque()
        try:
            for number, leaf, slots in wanted:
                if self._misses >= PATIENCE and not self.always:
                    yield from (self._result(*waiting.popleft()) for _ in range(len(waiting)))
                    yield number, leaf, slots
                    continue
                waiting.append((number, leaf, slots, pool.submit(self._lacking, number, leaf, slots)))
                if len(waiting) > AHEAD:
                    yield self._result(*waiting.popleft())
            while waiting:
                yield self._result(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _lacking(self, number: int, leaf: Leaf, slots: list[int]) -> list[int]:
        return [slot for slot in slots if not self.has(number * FANOUT + slot, leaf.hash_of(slot))]

    def _result(self, number: int, leaf: Leaf, slots: list[int], future: Future[list[int]]) -> Wanted:
        lacking = future.result()
        self._misses = self._misses + len(slots) if len(lacking) == len(slots) else 0
        self.bytes_kept += (len(slots) - len(lacking)) * BLOCK_SIZE
        return number, leaf, lacking
