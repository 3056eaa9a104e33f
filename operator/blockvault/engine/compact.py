"""Compaction: what is still needed of segments that are mostly dead goes into new ones, as a new generation.

Nothing is moved in place. Live items of the victims are copied and read back; pages that point to them are written
anew, and with them a next revision of each root concerned, with the same content hash; one commit then puts the
new revisions in the place of those that still stand as they were read. The victims are left to collect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from blockvault.engine import envelope, items, runtime, summary
from blockvault.engine import root as roots
from blockvault.engine.attempts import begin_compaction, finish_compaction, give_up
from blockvault.engine.codec import CodecError
from blockvault.engine.commits import Commits, refuse_unwritable
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import AttemptFenced, StoredDataDamaged
from blockvault.engine.fetching import get, get_whole
from blockvault.engine.leaf import Leaf, Piece
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import NameSource, ObjectName
from blockvault.engine.packs import Entry, PackWriter, Uploads, open_directory, page_writer, segment_writer
from blockvault.engine.pages import FANOUT, blocks_in
from blockvault.engine.root import Root, Roots
from blockvault.engine.state import RootEntry, State
from blockvault.engine.summary import MAX_DEPTH, Changes, Summary
from blockvault.engine.tree import TreeReader
from blockvault.engine.treewriter import Memo, TreeWriter
from blockvault.stores import ObjectNotFound, ObjectStore

# A segment is rewritten when less than this share of it is alive.
ALIVE_SHARE = 0.5
# Of the stored bytes, at most this share is rewritten by one compaction.
BUDGET_SHARE = 0.1
DIRECTORY_READ = 32 * 1024

Place = tuple[ObjectName, int]


@dataclass(frozen=True)
class Rewritten:
    """What a compaction did; sizes in bytes. `freed`: of the victims, once collected."""

    segments: int = 0
    copied_bytes: int = 0
    freed_bytes: int = 0
    roots: int = 0


@dataclass
class _Plan:
    """Victims with their sizes, which of their items are alive, and the leaves that point to them."""

    sizes: dict[ObjectName, int] = field(default_factory=dict)
    alive: dict[ObjectName, set[int]] = field(default_factory=dict)
    leaves: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Revision:
    """A root written again: its key and bytes, its entry, its summary and how many lie below that."""

    key: str
    data: bytes
    entry: RootEntry
    summary: Summary
    depth: int


class Compaction:
    """One compaction of a lineage. Use once."""

    def __init__(self, store: ObjectStore, lineage: Lineage) -> None:
        self._store = store
        self._lineage = lineage
        self._commits = Commits(store, lineage)
        self._roots = Roots(store, lineage)
        self._attempt = runtime.random_id()

    def run(self, state: State, *, alive_share: float = ALIVE_SHARE, budget: int | None = None) -> Rewritten:
        """Compact what is worth it in `state`, within `budget` bytes to copy. Raises StoredDataDamaged."""
        refuse_unwritable(state)
        if budget is None:
            budget = int(state.used_bytes * BUDGET_SHARE)
        try:
            plan = self._choose(state, alive_share, budget)
        except StoredDataDamaged:
            if self._overtaken(state):
                return Rewritten()
            raise
        if not plan.sizes:
            return Rewritten()
        state = self._commits.update(lambda current: begin_compaction(current, self._attempt), state)
        attempt = state.attempt(self._attempt)
        if attempt is None:
            raise AttemptFenced(f"volume {state.volume}: the compaction was given up")
        try:
            return self._rewrite(state, plan, NameSource(attempt.epoch))
        except StoredDataDamaged:
            newest = self._commits.newest(at_least=state.number)
            if newest is None or newest.attempt(self._attempt) is None:
                raise AttemptFenced(f"volume {state.volume}: the compaction was given up") from None
            self._commits.update(lambda current: give_up(current, self._attempt), newest)
            if self._overtaken(state):
                return Rewritten()
            raise

    def _overtaken(self, state: State) -> bool:
        """Whether a backup that was read has gone since: then its data may be gone too, and that is no damage."""
        newest = self._commits.newest(at_least=state.number)
        left = {entry.object for entry in newest.roots} if newest is not None else set()
        return any(entry.object not in left for entry in state.roots)

    def _choose(self, state: State, alive_share: float, budget: int) -> _Plan:
        """Segments of which no root needs more than the share, then those of which all together do not."""
        most: dict[ObjectName, int] = {}
        sizes: dict[ObjectName, int] = {}
        for entry in state.roots:
            for name, usage in self._roots.summary(ObjectName.parse(entry.object)).items():
                if usage.kind == Kind.SEGMENT:
                    most[name] = max(most.get(name, 0), usage.live)
                    sizes[name] = usage.size
        candidates = {name for name, live in most.items() if live < alive_share * sizes[name]}
        if not candidates:
            return _Plan()
        found = _Plan(leaves=self._leaves_of(candidates, sizes))
        alive = self._alive(state, candidates, found.leaves)
        # The deadest first: they give most for what they cost.
        shares = sorted((sum(alive[name].values()) / sizes[name], name) for name in candidates)
        for share, name in shares:
            cost = sum(alive[name].values())
            if share >= alive_share or cost > budget:
                continue
            budget -= cost
            found.sizes[name] = sizes[name]
            found.alive[name] = set(alive[name])
        return found

    def _leaves_of(self, segments: set[ObjectName], sizes: dict[ObjectName, int]) -> set[int]:
        """Numbers of the leaves that may point into these segments, from the segments' directories."""
        return {
            entry.head.number // FANOUT for name in segments for entry in self._directory(name, sizes[name])
        }

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

    def _alive(
        self, state: State, segments: set[ObjectName], numbers: set[int]
    ) -> dict[ObjectName, dict[int, int]]:
        """Of each segment, offsets and lengths of the items that some root reaches."""
        alive: dict[ObjectName, dict[int, int]] = {name: {} for name in segments}
        seen: set[bytes] = set()
        for entry in state.roots:
            root = self._roots.read(entry)
            for _, leaf in self._read(root, numbers):
                if leaf.origin is None or leaf.origin.ref.tobytes() in seen:
                    continue
                seen.add(leaf.origin.ref.tobytes())
                for piece in _pieces(leaf):
                    if piece.name in alive:
                        alive[piece.name][piece.offset] = piece.length
        return alive

    def _read(self, root: Root, numbers: set[int]) -> Iterator[tuple[int, Leaf]]:
        """The leaves of those numbers that a root has."""
        reader = TreeReader(self._store, self._lineage, root.top, root.levels)
        leaves = -(-blocks_in(root.size) // FANOUT)
        for number, leaf in reader.leaves(sorted(number for number in numbers if number < leaves)):
            if leaf is not None:
                yield number, leaf

    def _rewrite(self, state: State, plan: _Plan, names: NameSource) -> Rewritten:
        uploads = Uploads(self._store)
        try:
            segments = segment_writer(self._lineage, names, uploads)
            moved = self._copy(plan, segments)
            segments.flush()
            uploads.finish()
            self._prove(segments.sizes)
            pages = page_writer(self._lineage, names, uploads)
            made = self._revisions(state, plan, moved, segments, pages, names)
            pages.flush()
            uploads.finish()
            for revision in made:
                self._store.put(revision.key, revision.data)
        finally:
            uploads.close()
        entries = {revision.entry.id: revision.entry for revision in made}
        self._commits.update(
            lambda current: finish_compaction(current, self._attempt, entries, self._roots), state
        )
        copied = sum(segments.sizes.values())
        return Rewritten(len(plan.sizes), copied, sum(plan.sizes.values()), len(made))

    def _copy(self, plan: _Plan, segments: PackWriter) -> dict[Place, Piece]:
        """Copy the live items of the victims, each victim checked as a whole before. Where each lies now."""
        moved: dict[Place, Piece] = {}
        for name, size in sorted(plan.sizes.items()):
            key = self._lineage.paths.segment(name)
            try:
                data = get_whole(self._store, key, expected=True)
            except ObjectNotFound as error:
                raise StoredDataDamaged(f"{key}: segment is missing") from error
            envelope.split(Kind.SEGMENT, key, data)
            for entry in self._directory(name, size):
                if entry.offset not in plan.alive[name]:
                    continue
                stored = memoryview(data)[entry.offset : entry.offset + entry.length]
                try:
                    packed = items.open_stored(self._lineage, name, entry.offset, entry.head, stored)
                except CodecError as error:
                    raise StoredDataDamaged(f"{key}: item at {entry.offset}: {error}") from error
                target, offset, length = segments.add(entry.head, packed, entry.digest)
                moved[name, entry.offset] = Piece(
                    target, offset, length, entry.head.codec, entry.head.mask, None
                )
        return moved

    def _prove(self, sizes: dict[ObjectName, int]) -> None:
        """Read the copies back, before anything is told to rely on them."""
        for name, size in sizes.items():
            key = self._lineage.paths.segment(name)
            try:
                data = get_whole(self._store, key, expected=True)
            except ObjectNotFound as error:
                raise StoredDataDamaged(f"{key}: a copy just made is missing") from error
            envelope.split(Kind.SEGMENT, key, data)
            if len(data) != size:
                raise StoredDataDamaged(f"{key}: a copy just made has {len(data)} bytes instead of {size}")

    def _revisions(
        self,
        state: State,
        plan: _Plan,
        moved: dict[Place, Piece],
        segments: PackWriter,
        pages: PackWriter,
        names: NameSource,
    ) -> list[_Revision]:
        """The next revision of every root that points into a victim."""
        memo: Memo = {}
        drafts: list[tuple[RootEntry, Root, np.void, Changes]] = []
        for entry in state.roots:
            root = self._roots.read(entry)
            changes = Changes()
            reader = TreeReader(self._store, self._lineage, root.top, root.levels)
            writer = TreeWriter(reader, root.levels, self._lineage, pages, changes, memo)
            touched = False
            for number, leaf in self._read(root, plan.leaves):
                fresh = _moved(leaf, moved, changes)
                if fresh is not None:
                    writer.put_leaf(number, fresh)
                    touched = True
            if touched:
                drafts.append((entry, root, writer.finish(), changes))
        # Sizes of page objects are known only when all are closed.
        pages.flush()
        made: list[_Revision] = []
        for entry, root, top, changes in drafts:
            changes.set_sizes_of({**segments.sizes, **pages.sizes})
            made.append(self._revision(entry, root, top, changes, names, made[-1] if made else None))
        return made

    def _revision(
        self,
        entry: RootEntry,
        root: Root,
        top: np.void,
        changes: Changes,
        names: NameSource,
        before: _Revision | None,
    ) -> _Revision:
        content = roots.content_hash(self._lineage.keys, root.size, top)
        if content != entry.content_hash:
            raise StoredDataDamaged(f"backup {entry.id}: rewritten, its content hash would be another")
        whole = changes.apply(self._roots.summary(ObjectName.parse(entry.object)))
        base, depth, records = None, 0, whole.records
        if before is not None and before.depth + 1 < MAX_DEPTH:
            # Written as changes to the revision made just before, as neighbours have most in common.
            base = {"object": before.entry.object, "bytes": before.entry.object_bytes}
            depth, records = before.depth + 1, summary.difference(before.summary, whole)
        facts = {
            **root.facts,
            "revision": entry.revision + 1,
            "tree": roots.tree_facts(root.size, top),
            "summary": {"base": base, "depth": depth},
        }
        name = names.fresh()
        key = self._lineage.paths.root(name)
        data = roots.encode(key, name, facts, records, root.samples, self._lineage.cipher)
        made = RootEntry.from_json(entry.to_json())
        made.object, made.object_bytes, made.revision = str(name), len(data), entry.revision + 1
        made.object_checksum = roots.checksum_of(data)
        return _Revision(key, data, made, whole, depth)


def _pieces(leaf: Leaf) -> Iterator[Piece]:
    for slot in leaf.stored_slots():
        yield from leaf.pieces(slot)


def _moved(leaf: Leaf, moved: dict[Place, Piece], changes: Changes) -> Leaf | None:
    """The leaf with every piece that was copied pointing to its copy; None when it has none of them."""
    fresh: Leaf | None = None
    for slot in leaf.stored_slots():
        pieces = leaf.pieces(slot)
        copies = [moved.get((piece.name, piece.offset)) for piece in pieces]
        if not any(copies):
            continue
        if fresh is None:
            fresh = leaf.copy()
        now = []
        for piece, copy in zip(pieces, copies, strict=True):
            if copy is None:
                now.append(piece)
                continue
            changes.add(Kind.SEGMENT, piece.name, -piece.length)
            changes.add(Kind.SEGMENT, copy.name, copy.length)
            now.append(copy._replace(digests=piece.digests))
        digest = leaf.hash_of(slot)
        fresh.set_base(slot, now[0], digest)
        if len(now) > 1:
            fresh.set_patches(slot, now[1:], digest)
    return fresh
