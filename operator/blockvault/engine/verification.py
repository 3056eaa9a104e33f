"""Reading back what is stored: all of it, a sample by chance, or as much as a budget allows, day after day.

The structure is always looked at whole: roots, summaries, every page, and that each object is listed with its size. A
store that cannot be read now raises its own errors and is never taken for a damaged one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from blockvault.engine import runtime
from blockvault.engine.commits import Commits
from blockvault.engine.damage import (
    ROOT_LOST,
    SET_BACK,
    SUMMARY_LOST,
    SUMMARY_WRONG,
    Found,
    Place,
    damage_row,
    merge,
    place_of,
    rows_of,
)
from blockvault.engine.edges import check_edges, check_whole
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import EngineError, FormatUnsupported, StoredDataDamaged
from blockvault.engine.fetching import SECOND_LOOK
from blockvault.engine.leaf import Leaf
from blockvault.engine.names import ObjectName
from blockvault.engine.objects import Objects
from blockvault.engine.pages import FANOUT, blocks_in, name_of
from blockvault.engine.pieces import Checked, PieceReader, Version, tasks, versions
from blockvault.engine.progress import Progress, Report
from blockvault.engine.root import Root, Roots
from blockvault.engine.state import ACTIVE, Outcome, RootEntry, State
from blockvault.engine.volumes import Volume
from blockvault.engine.walk import Walk
from blockvault.stores import ObjectNotFound, ObjectStore, StoreError

FULL = "Full"
SAMPLE = "Sample"
BUDGET = "Budget"

THREADS = 4
# Where a state keeps how far runs with a budget have come.
CURSOR = "verification"


@dataclass
class Verified:
    """What was found in one volume. Sizes in bytes; `next_leaf`: where the next run with a budget goes on."""

    volume: str
    mode: str
    blocks: int = 0
    bytes: int = 0
    damaged: list[dict[str, Any]] = field(default_factory=list)
    backups: list[dict[str, Any]] = field(default_factory=list)
    next_leaf: int = 0
    kept: bool = True


class Verification:
    """Looks at one volume. Use once. `backup_id`: only that backup; `sample`: a share; `budget`: bytes to read.

    `every_byte`: of each object that a backup needs, also what none needs; that reads all of it a second time.
    """

    def __init__(
        self,
        store: ObjectStore,
        volume: Volume,
        *,
        backup_id: str | None = None,
        sample: float | None = None,
        budget: int | None = None,
        every_byte: bool = False,
        progress: Progress,
        report: Report,
    ) -> None:
        self._store = store
        self._lineage = volume.lineage
        self._state = volume.state
        self._roots = Roots(store, volume.lineage)
        self._chance = random.Random(runtime.random(8))  # noqa: S311 - guards against mistakes, not attackers
        self._sample = sample
        self._budget = budget
        self._every_byte = every_byte
        self._mode = BUDGET if budget is not None else FULL if sample is None or sample >= 1 else SAMPLE
        self._entries = [entry for entry in volume.state.roots if backup_id in (None, entry.id)]
        self._whole = backup_id is None
        self._found: list[Found] = []
        self._absent: dict[str, str] = {}
        self._known = {place_of(entry) for entry in volume.state.damaged}
        self._good: set[Place] = set()
        self._seen: set[Place] = set()
        self._blocks: dict[int, int] = {}
        self._checked = 0
        self._next = 0
        self._progress = progress
        self._report = report

    def run(self) -> Verified:
        """Look, and keep what was found. Raises StoreError, then nothing is kept."""
        readable: list[tuple[int, Root]] = []
        summarised: set[int] = set()
        for number, entry in enumerate(self._entries):
            root = self._root(number, entry)
            if root is not None:
                readable.append((number, root))
                if self._summary(number, entry):
                    summarised.add(number)
        self._objects([self._entries[number] for number in sorted(summarised)])
        walk = Walk(self._store, self._lineage, [root for _, root in readable])
        bits = [number for number, _ in readable]
        self._pieces(walk, bits)
        for page in walk.damaged:
            key, cause = page.error.parts
            name = name_of(page.ref)
            self._found.append(
                Found(
                    key, name, int(page.ref["offset"]), int(page.ref["length"]), cause, page.first, page.end,
                    _mapped(page.roots, bits), page=True,
                )
            )  # fmt: skip
        unread = 0
        for page in walk.damaged:
            unread |= page.roots
        for place, (number, _) in enumerate(readable):
            if number in summarised and not unread >> place & 1:
                self._compare(walk, place, number)
        self._around(summarised)
        return self._keep()

    def _root(self, number: int, entry: RootEntry) -> Root | None:
        try:
            return self._roots.read(entry)
        except (StoredDataDamaged, FormatUnsupported) as error:
            self._root_damaged(number, entry, error, ROOT_LOST)
            return None

    def _summary(self, number: int, entry: RootEntry) -> bool:
        try:
            self._roots.objects([ObjectName.parse(entry.object)])
        except (StoredDataDamaged, FormatUnsupported) as error:
            self._root_damaged(number, entry, error, SUMMARY_LOST)
            return False
        return True

    def _root_damaged(self, number: int, entry: RootEntry, error: EngineError, remedy: str) -> None:
        key, _, cause = error.message.partition(": ")
        # Its own, or that of a root that its summary builds on.
        name = ObjectName.parse(key.rpartition("/")[2])
        self._found.append(
            Found(
                key,
                name,
                0,
                entry.object_bytes,
                cause,
                0,
                blocks_in(entry.size),
                1 << number,
                page=True,
                remedy=remedy,
            )
        )

    def _objects(self, entries: list[RootEntry]) -> None:
        """Every object that a backup needs is there, with its size. What is not, is asked for twice."""
        paths = self._lineage.paths
        listed = Objects.of(self._listed())
        self._listed_objects = listed
        needed = self._roots.objects(ObjectName.parse(entry.object) for entry in entries)
        lacking = needed.lacking(listed)
        for kind, name, size in lacking:
            key = paths.object(kind, name)
            cause = self._cause(key, size)
            if cause is None:
                continue
            self._absent[key] = cause
        self._needed = needed

    def _listed(self) -> Iterator[tuple[Kind, ObjectName, int]]:
        for kind, folder in self._lineage.paths.folders.items():
            for info in self._store.list(folder):
                with suppress(ValueError):
                    yield kind, ObjectName.parse(info.key[len(folder) :]), info.size

    def _cause(self, key: str, size: int) -> str | None:
        """Why an object that is not listed as it should be is damaged; None when it is there after all."""
        for last in (False, True):
            try:
                found = self._store.stat(key).size
            except ObjectNotFound:
                cause = "is missing"
            else:
                if found == size:
                    return None
                cause = f"has {found} bytes instead of {size}"
            if not last:
                runtime.sleep(SECOND_LOOK)
        return cause

    def _pieces(self, walk: Walk, bits: list[int]) -> None:
        """Walk the trees, and read back what is to be read."""
        reader = PieceReader(self._store, self._lineage, self._absent)
        start = int(self._state.extra.get(CURSOR, {}).get("nextLeaf", 0)) if self._mode == BUDGET else 0
        pool = runtime.executor(THREADS, "verify")
        waiting: deque[Future[Checked]] = deque()
        spent, wrapped = 0, True
        try:
            for number, leaves in walk.leaves():
                reads = number >= start and (self._budget is None or spent < self._budget)
                if number >= start and not reads and wrapped:
                    self._next, wrapped = number, False
                wanted = self._wanted(number, leaves, reads)
                for task in tasks(wanted):
                    spent += sum(piece.length for version in task for piece in version.pieces)
                    waiting.append(pool.submit(reader.check, task))
                    if len(waiting) > 2 * THREADS:
                        self._take(waiting.popleft().result(), bits)
                self._report(self._progress)
            while waiting:
                self._take(waiting.popleft().result(), bits)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _wanted(self, number: int, leaves: list[tuple[Leaf, int]], reads: bool) -> list[Version]:
        """The blocks of a leaf to read back: those to check, and those of objects known to be damaged."""
        share = self._sample if reads and self._sample is not None else 0.0
        slots: Iterable[int] = range(FANOUT)
        if not (self._known or self._absent or (reads and self._mode != SAMPLE)):
            # Nothing but the choice needs the others, and there may be millions of them for each that is chosen.
            slots, share = [slot for slot in slots if self._chance.random() < share], 1.0
        found = versions(number, slots, leaves, number * FANOUT)
        if self._known:
            for version in found:
                self._seen.update(self._known & version.places)
            self._seen.update(self._known & {_page_place(leaf) for leaf, _ in leaves})
            self._good.update(self._known & {_page_place(leaf) for leaf, _ in leaves})
        if reads and self._mode != SAMPLE:
            return found
        chosen = {block for block in {v.block for v in found} if self._chance.random() < share}
        return [v for v in found if v.block in chosen or (self._absent and self._touches(v))]

    def _touches(self, version: Version) -> bool:
        paths = self._lineage.paths
        return any(
            paths.segment(piece.name) in self._absent
            or (piece.digests is not None and paths.pages(piece.digests.name) in self._absent)
            for piece in version.pieces
        )

    def _take(self, done: Checked, bits: list[int]) -> None:
        for number, count in done.blocks.items():
            self._blocks[bits[number]] = self._blocks.get(bits[number], 0) + count
            self._checked += count
        self._progress.bytes_scanned += done.bytes
        self._good |= self._known & done.good
        self._found += [
            Found(
                bad.key, bad.name, bad.offset, bad.length, bad.cause, bad.block, bad.block + 1,
                _mapped(bad.roots, bits),
            )
            for bad in done.bad
        ]  # fmt: skip

    def _compare(self, walk: Walk, place: int, number: int) -> None:
        entry = self._entries[number]
        name = ObjectName.parse(entry.object)
        if not walk.fits(place, self._roots.summary(name).records):
            cause = "its summary names other objects than its pages reach"
            key = self._lineage.paths.root(name)
            self._found.append(
                Found(key, None, 0, entry.object_bytes, cause, 0, 0, 1 << number, remedy=SUMMARY_WRONG)
            )

    def _around(self, summarised: set[int]) -> None:
        """What lies around pages and blocks: headers, directories, and whether there is more or less of an object."""
        known = {found.key for found in self._found}
        for kind, name, size in self._needed:
            key = self._lineage.paths.object(kind, name)
            if kind == Kind.ROOT or key in known:
                continue
            cause = self._absent.get(key)
            if cause is None and self._mode == FULL:
                cause = self._edges(kind, name, size)
            if cause is not None:
                roots = sum(1 << number for number in summarised if self._needs(number, name))
                cause += " (no block that a backup needs is touched)"
                self._found.append(Found(key, None, 0, size, cause, 0, 0, roots))

    def _edges(self, kind: Kind, name: ObjectName, size: int) -> str | None:
        try:
            check_edges(self._store, self._lineage, kind, name, size)
            if self._every_byte:
                check_whole(self._store, self._lineage, kind, name)
        except ObjectNotFound:
            return "is missing"
        except StoredDataDamaged as error:
            return error.parts[1]
        return None

    def _needs(self, number: int, name: ObjectName) -> bool:
        return any(
            used == name for used in self._roots.summary(ObjectName.parse(self._entries[number].object))
        )

    def _keep(self) -> Verified:
        """Commit what was found. What has been deleted or rewritten since it was read is not damaged."""
        now = runtime.now()
        commits = Commits(self._store, self._lineage)
        newest = commits.newest(at_least=self._state.number) or self._state
        objects = {entry.object for entry in newest.roots}
        still = {n for n, entry in enumerate(self._entries) if entry.object in objects}
        mask = sum(1 << number for number in still)
        self._found = [found for found in self._found if found.roots & mask]
        gone = set(self._good) - {found.place for found in self._found}
        result = Verified(self._state.volume, self._mode, self._checked, self._progress.bytes_scanned)
        result.next_leaf = self._next
        touched = [(number, self._entries[number]) for number in sorted(still)]
        result.damaged = rows_of(self._found, touched, self._state.volume) + self._set_back(newest)
        labels = {
            self._entries[number].object: {
                "at": now,
                "mode": self._mode,
                "blocks": self._blocks.get(number, 0),
                "damaged": sum(1 for found in self._found if found.roots >> number & 1),
            }
            for number in still
        }
        result.backups = [
            {"backupId": entry.id, "volume": self._state.volume, **labels[entry.object]}
            for number, entry in enumerate(self._entries)
            if number in still
        ]
        read = {entry.object for entry in self._entries}

        def decide(state: State) -> tuple[State, Outcome] | None:
            if state.status != ACTIVE:
                return None
            for entry in state.roots:
                if entry.object in labels:
                    entry.labels["verified"] = labels[entry.object]
            forget = set(gone)
            if self._whole and {entry.object for entry in state.roots} <= read:
                # All that any backup needs has been walked through: what was not met is needed by none.
                met = self._seen | {found.place for found in self._found}
                forget |= {place_of(item) for item in state.damaged} - met
            state.damaged = merge(state.damaged, self._found, forget, now)
            if self._mode == BUDGET and self._checked:
                state.extra[CURSOR] = {"nextLeaf": self._next, "at": now}
            return state, Outcome("", "verify")

        try:
            commits.update(decide, newest)
        except StoreError as error:
            if error.retryable:
                raise
            result.kept = False  # credentials that may only read: the result is worth having all the same
        return result

    def _set_back(self, newest: State) -> list[dict[str, Any]]:
        """Objects of a later run than the newest commit knows of: commits were deleted, or replaced by older ones."""
        paths = self._lineage.paths
        if newest.rollback is not None:
            cause = (
                f"{newest.rollback['reason']} (noticed {newest.rollback['since']}): the volume was set back"
            )
            return [damage_row(None, self._state.volume, paths.commits, cause, remedy=SET_BACK)]
        ahead = self._listed_objects.later_than(newest.epoch)
        if not len(ahead):
            return []
        cause = f"does not know of {ahead.keys(paths)[0]}, which a later run made: the volume was set back"
        return [damage_row(None, self._state.volume, paths.commit(newest.number), cause, remedy=SET_BACK)]


def _page_place(leaf: Leaf) -> Place | None:
    return None if leaf.origin is None else (name_of(leaf.origin.ref), int(leaf.origin.ref["offset"]))


def _mapped(roots: int, bits: list[int]) -> int:
    """Bits of the roots that were walked through, as bits of all."""
    return sum(1 << number for place, number in enumerate(bits) if roots >> place & 1)
