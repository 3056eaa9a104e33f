"""Compaction: what is still needed of segments that are mostly dead goes into new ones, as a new generation.

Nothing is moved in place. Live items of the victims are copied and read back, and only then the roots that need them
are written again (see relocate.py). The victims are left to collect.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from blockvault.engine import envelope, items, runtime, summary
from blockvault.engine.codec import CodecError
from blockvault.engine.commits import refuse_unwritable
from blockvault.engine.damage import Place
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import get, get_whole
from blockvault.engine.hashing import Buffer
from blockvault.engine.leaf import Leaf, Piece
from blockvault.engine.lineage import Lineage
from blockvault.engine.lockrule import DAY, LockRule
from blockvault.engine.names import NameSource, ObjectName
from blockvault.engine.packs import Entry, PackWriter, Uploads, open_directory, segment_writer
from blockvault.engine.pages import FANOUT
from blockvault.engine.relocate import Relocation, replace_pieces
from blockvault.engine.state import State
from blockvault.engine.summary import Changes
from blockvault.engine.unresolved import explained
from blockvault.stores import ObjectLock, ObjectNotFound, ObjectStore

# A segment is rewritten when less than this share of it is alive, and nearly all of that belongs to the newest backup:
# what only older ones need goes by itself when they go, and copying it would be in vain. What they keep for ever must
# not hold the rest, so at two thirds of the share a segment is rewritten whatever needs it.
# docs/decisions/0026.
ALIVE_SHARE = 0.6
PASSING_SHARE = 0.2
WHATEVER = 2 / 3
# Of the stored bytes, at most this share is rewritten by one compaction.
BUDGET_SHARE = 0.1
DIRECTORY_READ = 32 * 1024

# A segment and its size in bytes.
Sized = tuple[ObjectName, int]


@dataclass(frozen=True)
class Rewritten:
    """What a compaction did; sizes in bytes. `freed`: of the victims, once collected.

    `left`: keys of segments that were to be rewritten and are damaged, and how.
    """

    segments: int = 0
    copied_bytes: int = 0
    freed_bytes: int = 0
    roots: int = 0
    left: dict[str, str] = field(default_factory=dict)


@dataclass
class _Alive:
    """Of a segment, offsets and lengths of the items that some root reaches. `passing`: those the newest does not."""

    lengths: dict[int, int] = field(default_factory=dict)
    passing: set[int] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(self.lengths.values())

    def worth(self, size: int, alive_share: float) -> bool:
        """Whether a segment of so many bytes is worth rewriting."""
        alive, passing = self.size, sum(self.lengths[offset] for offset in self.passing)
        few = alive < alive_share * size and passing <= PASSING_SHARE * alive
        return few or alive < WHATEVER * alive_share * size


@dataclass
class _Plan:
    """Victims with their sizes, what of them is alive, and the leaves that point to them."""

    sizes: dict[ObjectName, int] = field(default_factory=dict)
    alive: dict[ObjectName, _Alive] = field(default_factory=dict)
    leaves: set[int] = field(default_factory=set)


class Compaction:
    """One compaction of a lineage. Use once."""

    def __init__(
        self,
        store: ObjectStore,
        lineage: Lineage,
        actor: str | None = None,
        lock: ObjectLock | None = None,
    ) -> None:
        self._store = store
        self._rule = None if lock is None else LockRule(lock)
        self._lineage = lineage
        self._relocation = Relocation(store, lineage, actor)
        self._roots = self._relocation.roots
        self._left: dict[str, str] = {}

    def run(self, state: State, *, alive_share: float = ALIVE_SHARE, budget: int | None = None) -> Rewritten:
        """Compact what is worth it in `state`, within `budget` bytes to copy.

        What is known to be damaged is left alone, and so is a segment that turns out to be: both are in nobody's way.
        Raises StoredDataDamaged for pages and roots, as then nobody knows what is alive, and for copies.
        """
        refuse_unwritable(state)
        if budget is None:
            budget = int(state.used_bytes * BUDGET_SHARE)
        try:
            plan = self._choose(state, alive_share, budget)
        except StoredDataDamaged as error:
            if self._relocation.overtaken(state):
                return Rewritten()
            raise explained(state, self._roots, error) from error
        if not plan.sizes:
            self._forgive(state)
            return Rewritten(left=self._left)
        entered, names = self._relocation.begin(state)
        try:
            moved, sizes = self._copies(plan, names)
            if self._forgive(state) or not plan.sizes:
                self._relocation.give_up(entered)
                return Rewritten(left=self._left)
            return self._rewrite(entered, plan, names, moved, sizes)
        except StoredDataDamaged:
            self._relocation.give_up(entered)
            # Neither what the choice was made by was pinned, nor what has been rewritten since.
            if self._relocation.overtaken(state) or self._relocation.overtaken(entered):
                return Rewritten()
            raise

    def _forgive(self, state: State) -> bool:
        """Whether something was left because of a state that was overtaken: it may have been collected."""
        if not self._left or not self._relocation.overtaken(state):
            return False
        self._left.clear()
        return True

    def _leave(self, damage: StoredDataDamaged) -> None:
        key, cause = damage.parts
        self._left[key] = cause

    def _choose(self, state: State, alive_share: float, budget: int) -> _Plan:
        """Segments of which no root needs more than the share, then those that are worth it by all together."""
        found = _Plan()
        leaves = self._sound(state, self._mostly_dead(state, alive_share))
        if not leaves:
            return found
        alive = self._alive(state, leaves)
        # The deadest first: they give most for what they cost.
        for name, size in sorted(leaves, key=lambda each: (alive[each[0]].size / each[1], each)):
            cost = alive[name].size
            if cost > budget or not alive[name].worth(size, alive_share):
                continue
            budget -= cost
            found.sizes[name] = size
            found.alive[name] = alive[name]
            found.leaves |= leaves[name, size]
        return found

    def _mostly_dead(self, state: State, alive_share: float) -> list[Sized]:
        """The segments of which no root by itself needs so much."""
        most = summary.empty()
        for entry in state.roots:
            records = self._roots.summary(ObjectName.parse(entry.object)).records
            records = records[records["kind"] == Kind.SEGMENT]
            found, places = summary.found_in(summary.keys_of(most), summary.keys_of(records))
            known = places[found]
            most["live"][known] = np.maximum(most["live"][known], records["live"][found])
            most = np.insert(most, places[~found], records[~found])
        chosen = most[most["live"] < alive_share * most["size"]]
        return [(summary.name_of(record), int(record["size"])) for record in chosen]

    def _sound(self, state: State, candidates: list[Sized]) -> dict[Sized, set[int]]:
        """Those of which no damage is known, and the numbers of the leaves that may point into each."""
        damaged = {item["object"] for item in state.damaged}
        lost = [item["page"] for item in state.damaged if item.get("page")]
        sound = {}
        for name, size in candidates:
            if str(name) in damaged or self._locked_for_long(name):
                continue
            try:
                leaves = {entry.head.number // FANOUT for entry in self._directory(name, size)}
            except StoredDataDamaged as error:
                self._leave(error)
                continue
            if not any(first // FANOUT <= leaf < -(-end // FANOUT) for first, end in lost for leaf in leaves):
                sound[name, size] = leaves
        return sound

    def _locked_for_long(self, name: ObjectName) -> bool:
        """Whether a segment would stay for nearly as long as its copy must: then it had better wait.

        Left alone, its lock would be moved once more, soon after; so it is compacted in the second half of its margin.
        """
        if self._rule is None:
            return False
        until = self._store.lock_until(self._lineage.paths.segment(name))
        half = (self._rule.lock.days + self._rule.margin / 2) * DAY
        return until is not None and until.timestamp() > runtime.wall() + half

    def _directory(self, name: ObjectName, size: int) -> list[Entry]:
        key = self._lineage.paths.segment(name)
        try:
            try:
                return self._read_directory(key, name, size)
            except CodecError:
                # Once more before it counts as damage: the way from the store may have been at fault.
                return self._read_directory(key, name, size)
        except (ObjectNotFound, CodecError) as error:
            raise StoredDataDamaged(f"{key}: {error}") from error

    def _read_directory(self, key: str, name: ObjectName, size: int) -> list[Entry]:
        start = max(0, size - DIRECTORY_READ)
        tail = get(self._store, key, start, size - start)
        needed, entries = open_directory(self._lineage, name, tail, size)
        if needed > len(tail):
            tail = get(self._store, key, size - needed, needed)
            _, entries = open_directory(self._lineage, name, tail, size)
        return entries

    def _alive(self, state: State, leaves: dict[Sized, set[int]]) -> dict[ObjectName, _Alive]:
        alive = {name: _Alive() for name, _ in leaves}
        numbers: set[int] = set().union(*leaves.values())
        seen: set[bytes] = set()
        # The newest first: a leaf that older roots share with it is looked at once.
        for older, entry in enumerate(reversed(state.roots)):
            for _, leaf in self._relocation.leaves(self._roots.read(entry), numbers):
                if leaf.origin is None or leaf.origin.ref.tobytes() in seen:
                    continue
                seen.add(leaf.origin.ref.tobytes())
                for slot in leaf.slots_in(alive):
                    for piece in leaf.pieces(slot):
                        found = alive.get(piece.name)
                        if found is None or piece.offset in found.lengths:
                            continue
                        found.lengths[piece.offset] = piece.length
                        if older:
                            found.passing.add(piece.offset)
        return alive

    def _rewrite(
        self,
        state: State,
        plan: _Plan,
        names: NameSource,
        moved: dict[Place, Piece],
        sizes: dict[ObjectName, int],
    ) -> Rewritten:
        self._prove(sizes)
        overhead = items.overhead(self._lineage)
        victims = {name for name, _ in moved}

        def move(number: int, leaf: Leaf, changes: Changes) -> Leaf | None:
            return _moved(leaf, victims, moved, changes, overhead)

        made = self._relocation.finish(state, state.roots, names, plan.leaves, move, sizes)
        freed = sum(plan.sizes.values())
        return Rewritten(len(plan.sizes), sum(sizes.values()), freed, made, self._left)

    def _copies(self, plan: _Plan, names: NameSource) -> tuple[dict[Place, Piece], dict[ObjectName, int]]:
        """Where each live item of the victims lies now, and the sizes of the new segments.

        The room in which segments are made, some 130 MiB, is free again before the roots are written.
        """
        uploads = Uploads(self._store)
        try:
            staying = segment_writer(self._lineage, names, uploads)
            passing = segment_writer(self._lineage, names, uploads)
            moved = self._copy(plan, staying, passing)
            staying.flush()
            passing.flush()
            uploads.finish()
        finally:
            uploads.close()
        return moved, staying.sizes | passing.sizes

    def _copy(self, plan: _Plan, staying: PackWriter, passing: PackWriter) -> dict[Place, Piece]:
        """Copy the live items of the victims, each victim checked as a whole before. Where each lies now.

        What the newest backup does not need goes into segments of its own, which go as a whole. A victim that is
        damaged stays as it is, and out of the plan: its copy would give the damage a fresh checksum.
        """
        moved: dict[Place, Piece] = {}
        for name, size in sorted(plan.sizes.items()):
            try:
                live = self._live(name, size, plan.alive[name].lengths)
            except StoredDataDamaged as error:
                self._leave(error)
                del plan.sizes[name]
                continue
            for entry, packed in live:
                writer = passing if entry.offset in plan.alive[name].passing else staying
                target, offset, length = writer.add(entry.head, packed, entry.digest)
                moved[name, entry.offset] = Piece(
                    target, offset, length, entry.head.codec, entry.head.mask, None
                )
        return moved

    def _live(self, name: ObjectName, size: int, alive: dict[int, int]) -> list[tuple[Entry, Buffer]]:
        """The items of a segment at those offsets, as the codec made them. Raises StoredDataDamaged."""
        key = self._lineage.paths.segment(name)
        data = self._whole(key, "segment")
        found: list[tuple[Entry, Buffer]] = []
        for entry in self._directory(name, size):
            if entry.offset not in alive:
                continue
            stored = memoryview(data)[entry.offset : entry.offset + entry.length]
            try:
                packed = items.open_stored(self._lineage, name, entry.offset, entry.head, stored)
            except CodecError as error:
                raise StoredDataDamaged(f"{key}: item at {entry.offset}: {error}") from error
            found.append((entry, packed))
        return found

    def _whole(self, key: str, what: str) -> bytes:
        """All bytes of a segment, its checksum looked at. Raises StoredDataDamaged."""
        try:
            data = get_whole(self._store, key, expected=True)
        except ObjectNotFound as error:
            raise StoredDataDamaged(f"{key}: {what} is missing") from error
        envelope.split(Kind.SEGMENT, key, data)
        return data

    def _prove(self, sizes: dict[ObjectName, int]) -> None:
        """Read the copies back, before anything is told to rely on them."""
        for name, size in sizes.items():
            key = self._lineage.paths.segment(name)
            data = self._whole(key, "a copy just made")
            if len(data) != size:
                raise StoredDataDamaged(f"{key}: a copy just made has {len(data)} bytes instead of {size}")


def _moved(
    leaf: Leaf, victims: set[ObjectName], moved: dict[Place, Piece], changes: Changes, overhead: int
) -> Leaf | None:
    """The leaf with every piece that was copied pointing to its copy; None when it has none of them."""
    fresh: Leaf | None = None
    for slot in leaf.slots_in(victims):
        pieces = leaf.pieces(slot)
        copies = [moved.get((piece.name, piece.offset)) for piece in pieces]
        if any(copies):
            fresh = fresh or leaf.copy()
            now = [
                piece if copy is None else copy._replace(digests=piece.digests)
                for piece, copy in zip(pieces, copies, strict=True)
            ]
            replace_pieces(fresh, slot, now, changes, overhead)
    return fresh
