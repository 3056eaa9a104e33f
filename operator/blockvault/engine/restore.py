"""One restore: every block is fetched, decoded, checked against its hash, and only then written.

What the target holds already is neither fetched nor written: it may be an interrupted restore of the same backup, a
former state of the volume, or a backup that it is told to hold (`have`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from heapq import merge
from itertools import tee
from typing import NoReturn

from blockvault.engine import runtime
from blockvault.engine.blockreader import THREADS, BlockReader
from blockvault.engine.changes import block_ranges
from blockvault.engine.compare import Held, Wanted
from blockvault.engine.difference import differing
from blockvault.engine.errors import BadRequest, StoredDataDamaged, TargetNotEmpty
from blockvault.engine.hashing import ZERO
from blockvault.engine.leaf import Leaf
from blockvault.engine.markers import Marker
from blockvault.engine.newroot import peak_memory
from blockvault.engine.pages import BLOCK_SIZE, FANOUT, blocks_in
from blockvault.engine.progress import WRITING, Progress, Report, RestoreResult, quiet
from blockvault.engine.root import Root, Roots
from blockvault.engine.samples import Samples
from blockvault.engine.state import RootEntry
from blockvault.engine.target import Target
from blockvault.engine.tree import TreeReader
from blockvault.engine.volumes import Volume
from blockvault.engine.writeback import Writeback
from blockvault.stores import ObjectStore


@dataclass
class RestoreRequest:
    """How to restore to `target`, the path of a device or file.

    `have`: id of a backup of the same volume that the target holds, but for the `changed` ranges (offset, length).
    `resume`: leave what is right there already. `force`: overwrite a target that is not empty. `salvage`: go on past
    damage, with zeros in its place. `threads`: how many fetch.
    """

    target: str
    have: str | None = None
    changed: list[tuple[int, int]] | None = None
    resume: bool = True
    force: bool = False
    salvage: bool = False
    threads: int | None = None
    report: Report = quiet


@dataclass
class _Base:
    """A backup that the target holds. `known`: how many of its blocks; `changed`: those that may differ by now."""

    reader: TreeReader
    known: int
    changed: list[tuple[int, int]]

    def unknown(self, block: int) -> bool:
        """Whether the target may hold something else than the backup has."""
        return block >= self.known or any(first <= block < end for first, end in self.changed)


class RestoreRun:
    """The state of one run. Use once."""

    def __init__(self, store: ObjectStore, volume: Volume, entry: RootEntry, request: RestoreRequest) -> None:
        if request.changed is not None and request.have is None:
            raise BadRequest(
                "ranges that changed mean nothing without the backup that the target holds (have)"
            )
        self._store = store
        self._lineage = volume.lineage
        self._state = volume.state
        self._entry = entry
        self._request = request
        self._roots = Roots(store, volume.lineage)
        self._progress = Progress(phase=WRITING, bytes_total=entry.size)

    def run(self) -> RestoreResult:
        """Restore, and make it durable."""
        started = runtime.monotonic()
        requests = self._store.traffic.total_requests
        fetched = self._store.traffic.bytes_down
        root = self._roots.read(self._entry)
        had = self._had()
        target = Target(self._request.target, root.size)
        try:
            held = Held(target, self._lineage)
            changed = block_ranges(self._request.changed or [], root.size)
            marker = Marker(target, self._entry.id, self._told(changed))
            empty = target.is_empty()
            base = None if marker.another else self._base(target, marker, held, root, had, changed)
            resumed = marker.ours and (empty or base is not None or self._begun(root, held))
            if base is None and not (self._request.force or resumed or empty):
                self._refuse(target, marker)
            compare = self._request.resume and (resumed or not empty)
            if base is None and compare:
                held.look(root.samples)
            elif base is not None:
                # Blocks that differ from the base are there already only if somebody wrote them.
                compare = self._request.resume and (resumed or bool(base.changed))
                held.always = True
            marker.put()
            target.begin()
            sparing = self._request.resume and (compare or base is not None)
            written = Writeback(target, self._progress, salvage=self._request.salvage, sparing=sparing)
            self._write(root, base, held if compare else None, written)
            target.finish()
            marker.remove()
        finally:
            target.close()
        self._progress.bytes_scanned = root.size
        self._request.report(self._progress)
        return RestoreResult(
            backup_id=self._entry.id,
            volume=self._state.volume,
            bytes_written=self._progress.bytes_written,
            bytes_read=self._store.traffic.bytes_down - fetched,
            seconds=round(runtime.monotonic() - started, 3),
            size=root.size,
            file_system=root.facts.get("fileSystem"),
            requests=self._store.traffic.total_requests - requests,
            peak_memory_bytes=peak_memory(),
            bytes_kept=held.bytes_kept,
            resumed=resumed,
            have=None if base is None else self._request.have,
            unreadable=root.facts["unreadable"],
            lost=written.lost,
        )

    def _had(self) -> Root | None:
        """The root of the backup that the target holds."""
        if self._request.have is None:
            return None
        entry = self._state.root(self._request.have)
        if entry is None:
            raise BadRequest(
                f"volume {self._state.volume} has no backup {self._request.have} that the target could hold",
                remedy="Leave --have out, or name a backup that `blockvault list` shows.",
            )
        return self._roots.read(entry)

    def _told(self, changed: list[tuple[int, int]]) -> str | None:
        """A digest of what is said about the target; None if nothing is."""
        if self._request.have is None:
            return None
        return blake2b(json.dumps([self._request.have, changed]).encode(), digest_size=16).hexdigest()

    def _refuse(self, target: Target, marker: Marker) -> NoReturn:
        why = "" if self._request.have is None else f", and not backup {self._request.have} as it was said"
        if marker.another:
            why = f", and {marker.path} tells of a restore of something else to it, which was interrupted"
        elif marker.ours:
            why = ", which is not what the interrupted restore of this backup has left there"
        raise TargetNotEmpty(f"{target.path} holds something{why}")

    def _begun(self, root: Root, held: Held) -> bool:
        """Whether the target holds the beginning of the backup, as an interrupted restore leaves it."""
        leaves = range(-(-blocks_in(root.size) // FANOUT))
        return held.begun(self._tree(root).leaves_or_damage(leaves))

    def _tree(self, root: Root) -> TreeReader:
        return TreeReader(self._store, self._lineage, root.top, root.levels)

    def _base(
        self,
        target: Target,
        marker: Marker,
        held: Held,
        root: Root,
        had: Root | None,
        changed: list[tuple[int, int]],
    ) -> _Base | None:
        """The backup that the target holds, if it really does."""
        if had is None or target.fresh:
            return None
        # The last block of another size ends elsewhere: what the target holds behind it is not known.
        known = blocks_in(had.size) if had.size == root.size else had.size // BLOCK_SIZE
        base = _Base(self._tree(had), known, changed)
        # Of a target that is cut where the smaller backup ends, blocks beyond are not read.
        end = blocks_in(root.size) if had.size == root.size else root.size // BLOCK_SIZE
        samples = {b: digest for b, digest in had.samples.items() if b < end and not base.unknown(b)}
        there, missed = held.sample(samples)
        if not there:
            return None
        # An interrupted restore has written blocks that are others in its backup, and no others.
        return base if not missed or (marker.ours and self._others(root, samples, missed)) else None

    def _others(self, root: Root, samples: Samples, blocks: list[int]) -> bool:
        """Whether the backup that is restored has other blocks than the `samples` in all these places."""
        numbers = sorted({block // FANOUT for block in blocks})
        for number, leaf in self._tree(root).leaves_or_damage(numbers):
            if isinstance(leaf, StoredDataDamaged):
                return False
            if any(_hash(leaf, b % FANOUT) == samples[b] for b in blocks if b // FANOUT == number):
                return False
        return True

    def _write(self, root: Root, base: _Base | None, held: Held | None, written: Writeback) -> None:
        reader = self._tree(root)
        blocks = BlockReader(
            self._store, self._lineage, written.write, written.damaged, self._request.threads or THREADS
        )
        wanted = self._wanted(reader, base, written, blocks_in(root.size))
        if held is not None:
            wanted = held.missing(wanted)
        for number in blocks.run(wanted):
            self._progress.bytes_scanned = min(root.size, (number + 1) * FANOUT * BLOCK_SIZE)
            self._request.report(self._progress)
        written.flush()
        self._request.report(self._progress)

    def _wanted(
        self, reader: TreeReader, base: _Base | None, written: Writeback, blocks: int
    ) -> Iterator[Wanted]:
        """Leaves with the stored blocks to write; zero blocks are zeroed on the way."""
        numbers: Iterable[int] = range(-(-blocks // FANOUT))
        olds: Iterator[tuple[int, Leaf | StoredDataDamaged | None]] | None = None
        if base is not None:
            numbers, again = tee(_numbers(reader, base, blocks))
            olds = base.reader.leaves_or_damage(again)
        for number, leaf in reader.leaves_or_damage(numbers):
            first, count = number * FANOUT, min(FANOUT, blocks - number * FANOUT)
            old = None if olds is None else next(olds)[1]
            if isinstance(leaf, StoredDataDamaged):
                written.page_damaged(first, first + count, leaf)
                continue
            if leaf is None and base is None:
                written.zero(first, first + count)
                continue
            slots: Iterable[int] = range(count)
            if base is not None and not isinstance(old, StoredDataDamaged):
                slots = [s for s in slots if _hash(leaf, s) != _hash(old, s) or base.unknown(first + s)]
            stored = []
            for slot in slots:
                if leaf is not None and leaf.stored(slot):
                    stored.append(slot)
                else:
                    written.zero(first + slot, first + slot + 1)
            if leaf is not None and stored:
                yield number, leaf, stored


def _numbers(reader: TreeReader, base: _Base, blocks: int) -> Iterator[int]:
    """Leaves in which something may have to be written, ascending."""
    leaves = -(-blocks // FANOUT)
    unknown = [*base.changed, (base.known, blocks)]
    named = (
        number
        for first, end in unknown
        if first < end
        for number in range(first // FANOUT, (end - 1) // FANOUT + 1)
    )
    last = -1
    for number in merge(differing(reader, base.reader, leaves), sorted(set(named))):
        if number > last:
            yield number
            last = number


def _hash(leaf: Leaf | None, slot: int) -> bytes:
    return ZERO if leaf is None else leaf.hash_of(slot)
