"""Roots written again with some of their blocks elsewhere: for compaction, evacuation, and to mend old backups.

Nothing is changed in place. New leaf pages point to where the same blocks lie now, and with them a next revision of
each root concerned is written, with the same content hash; one commit then puts the new revisions in the place of those
that still stand as they were read. What they named before is left to collect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from blockvault.engine import root as roots
from blockvault.engine import runtime, summary, trash
from blockvault.engine.attempts import Rewrite, begin_compaction, finish_compaction, give_up
from blockvault.engine.commits import Commits
from blockvault.engine.damage import Place
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import AttemptFenced, StoredDataDamaged
from blockvault.engine.leaf import Leaf, Piece
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import NameSource, ObjectName
from blockvault.engine.packs import PackWriter, Uploads, page_writer
from blockvault.engine.pages import FANOUT, blocks_in
from blockvault.engine.rollback import suspect
from blockvault.engine.root import Root, Roots
from blockvault.engine.sectors import digest_bytes
from blockvault.engine.state import Outcome, RootEntry, State
from blockvault.engine.summary import MAX_DEPTH, Changes, Summary
from blockvault.engine.tree import TreeReader
from blockvault.engine.treewriter import Memo, TreeWriter
from blockvault.stores import ObjectStore

# Gives the leaf with other pieces, and counts what changed; None where it is to stay. Block hashes stay.
Move = Callable[[int, Leaf, Changes], Leaf | None]


@dataclass(frozen=True)
class _Revision:
    """A root written again: its key and bytes, its entry, its summary and how many lie below that."""

    key: str
    data: bytes
    entry: RootEntry
    summary: Summary
    depth: int


class Relocation:
    """One attempt to write roots again. Use once."""

    def __init__(self, store: ObjectStore, lineage: Lineage, actor: str | None) -> None:
        self.store = store
        self.lineage = lineage
        self.commits = Commits(store, lineage)
        self.roots = Roots(store, lineage)
        self._actor = actor
        self._attempt = runtime.random_id()

    def begin(self, state: State) -> tuple[State, NameSource]:
        """Enter the attempt; names for what it writes."""
        paths = self.lineage.paths

        def decide(current: State) -> tuple[State, Outcome] | None:
            return begin_compaction(suspect(self.store, paths, current), self._attempt)

        state = self.commits.update(trash.owned(decide, self._actor), state)
        attempt = state.attempt(self._attempt)
        if attempt is None:
            raise AttemptFenced(f"volume {state.volume}: the compaction was given up")
        return state, NameSource(attempt.epoch)

    def give_up(self, state: State) -> None:
        """After damage was met: take the attempt out. Raises AttemptFenced when it was given up already."""
        newest = self.commits.newest(at_least=state.number)
        if newest is None or newest.attempt(self._attempt) is None:
            raise AttemptFenced(f"volume {state.volume}: the compaction was given up") from None
        self.commits.update(lambda current: give_up(current, self._attempt), newest)

    def overtaken(self, state: State) -> bool:
        """Whether a backup that was read has gone since: then its data may be gone too, and that is no damage."""
        newest = self.commits.newest(at_least=state.number)
        left = {entry.object for entry in newest.roots} if newest is not None else set()
        return any(entry.object not in left for entry in state.roots)

    def leaves(self, root: Root, numbers: Iterable[int]) -> Iterator[tuple[int, Leaf]]:
        """The leaves of those numbers that a root has."""
        reader = TreeReader(self.store, self.lineage, root.top, root.levels)
        count = -(-blocks_in(root.size) // FANOUT)
        for number, leaf in reader.leaves(sorted(number for number in numbers if number < count)):
            if leaf is not None:
                yield number, leaf

    def finish(
        self,
        state: State,
        entries: list[RootEntry],
        names: NameSource,
        numbers: set[int],
        move: Move,
        sizes: dict[ObjectName, int],
        needs: Callable[[], frozenset[str]] = frozenset,
        mended: Callable[[], frozenset[Place]] = frozenset,
        avoid: frozenset[ObjectName] = frozenset(),
    ) -> int:
        """Write the next revision of those roots of which `move` changes a leaf, and commit. How many there are then.

        `state`: what the commit follows, if nobody else commits. `entries`: the roots of it that are looked at.
        `sizes`: of objects that `move` points to and a root may not have named yet, which all must be there by now.
        `needs`, `mended`: as in Rewrite, asked for when all leaves were moved. `avoid`: as in TreeWriter.
        """
        uploads = Uploads(self.store)
        try:
            pages = page_writer(self.lineage, names, uploads)
            made = self._revisions(entries, numbers, move, sizes, pages, names, avoid)
            uploads.finish()
            for revision in made:
                self.store.put(revision.key, revision.data)
        finally:
            uploads.close()
        return self._commit(state, made, entries, needs(), mended())[1]

    def resummarise(
        self, state: State, entries: list[RootEntry], names: NameSource, summaries: dict[str, Summary]
    ) -> tuple[State, int]:
        """Write the next revision of roots with the same trees and these summaries, by root object, and commit.

        Gives the state that counts, and how many were written.
        """
        made: list[_Revision] = []
        for entry in entries:
            root = self.roots.read(entry)
            whole = summaries[entry.object]
            made.append(self._revision(entry, root, root.top, whole, names, made[-1] if made else None))
        for revision in made:
            self.store.put(revision.key, revision.data)
        return self._commit(state, made, entries)

    def _commit(
        self,
        state: State,
        made: list[_Revision],
        entries: list[RootEntry],
        needs: frozenset[str] = frozenset(),
        mended: frozenset[Place] = frozenset(),
    ) -> tuple[State, int]:
        rewrite = Rewrite(
            {revision.entry.id: revision.entry for revision in made},
            {entry.id: entry.object for entry in entries},
            needs,
            mended,
        )
        decide = trash.owned(
            lambda current: finish_compaction(current, self._attempt, rewrite, self.roots), self._actor
        )
        final = self.commits.update(decide, state)
        objects = {revision.entry.object for revision in made}
        return final, sum(entry.object in objects for entry in final.roots)

    def _revisions(
        self,
        entries: list[RootEntry],
        numbers: set[int],
        move: Move,
        sizes: dict[ObjectName, int],
        pages: PackWriter,
        names: NameSource,
        avoid: frozenset[ObjectName],
    ) -> list[_Revision]:
        memo: Memo = {}
        drafts: list[tuple[RootEntry, Root, np.void, Changes]] = []
        for entry in entries:
            root = self.roots.read(entry)
            changes = Changes()
            reader = TreeReader(self.store, self.lineage, root.top, root.levels)
            writer = TreeWriter(reader, root.levels, self.lineage, pages, changes, memo, avoid)
            touched = False
            for number, leaf in self.leaves(root, numbers):
                fresh = move(number, leaf, changes)
                if fresh is not None:
                    writer.put_leaf(number, fresh)
                    touched = True
            if touched:
                drafts.append((entry, root, writer.finish(), changes))
        # Sizes of page objects are known only when all are closed.
        pages.flush()
        made: list[_Revision] = []
        for entry, root, top, changes in drafts:
            changes.set_sizes_of({**sizes, **pages.sizes})
            whole = changes.apply(self.roots.summary(ObjectName.parse(entry.object)))
            made.append(self._revision(entry, root, top, whole, names, made[-1] if made else None))
        return made

    def _revision(
        self,
        entry: RootEntry,
        root: Root,
        top: np.void,
        whole: Summary,
        names: NameSource,
        before: _Revision | None,
    ) -> _Revision:
        content = roots.content_hash(self.lineage.keys, root.size, top)
        if content != entry.content_hash:
            raise StoredDataDamaged(f"backup {entry.id}: rewritten, its content hash would be another")
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
        key = self.lineage.paths.root(name)
        data = roots.encode(key, name, facts, records, root.samples, self.lineage.cipher)
        made = RootEntry.from_json(entry.to_json())
        made.object, made.object_bytes, made.revision = str(name), len(data), entry.revision + 1
        made.object_checksum = roots.checksum_of(data)
        return _Revision(key, data, made, whole, depth)


def replace_pieces(leaf: Leaf, slot: int, fresh: list[Piece], changes: Changes, overhead: int) -> None:
    """Let a slot have other pieces that give the same bytes, and count what is reached now."""
    for pieces, sign in ((leaf.pieces(slot), -1), (fresh, 1)):
        for piece in pieces:
            changes.add(Kind.SEGMENT, piece.name, sign * piece.length)
            if piece.digests is not None:
                changes.add(Kind.PAGES, piece.digests.name, sign * (digest_bytes(piece.mask) + overhead))
    digest = leaf.hash_of(slot)
    leaf.set_base(slot, fresh[0], digest)
    if len(fresh) > 1:
        leaf.set_patches(slot, fresh[1:], digest)
