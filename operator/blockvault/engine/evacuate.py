"""Evacuation: what backups need of objects that are damaged around it is copied into new ones.

Where the header, the directory or bytes that no backup needs are damaged, the blocks are sound, but the object itself
can no longer tell what it holds. The trees can: they are walked through, and every piece is copied only after the block
that it belongs to gave its hash. Copies are read back, then the roots are written again (see relocate.py). Pages in
such an object are written whole elsewhere. The objects are left to collect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from blockvault.engine import codec, items, sectors
from blockvault.engine.codec import CodecError
from blockvault.engine.commits import Commits, refuse_unwritable
from blockvault.engine.damage import Place
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.former import head_of_digests
from blockvault.engine.leaf import Leaf, Piece, Spot, shown
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import NameSource, ObjectName
from blockvault.engine.packs import PackWriter, Uploads, page_writer, segment_writer
from blockvault.engine.pages import FANOUT, Inner, name_of
from blockvault.engine.pieces import PieceReader, Version, head_of, tasks, versions
from blockvault.engine.relocate import Relocation, replace_pieces
from blockvault.engine.state import RootEntry, State
from blockvault.engine.summary import Changes
from blockvault.engine.volumes import Volume
from blockvault.engine.walk import Walk
from blockvault.stores import ObjectStore

# Objects that are evacuated together, as it is remembered where each of their pieces went: sector digests are many.
AT_ONCE = 8


@dataclass
class Evacuated:
    """How many objects no backup needs any more, and how many roots were written again; `left`: others, and why."""

    objects: int = 0
    roots: int = 0
    left: dict[str, str] = field(default_factory=dict)


@dataclass
class _Above:
    """An inner page to be written anew, and the roots (bit n for root n) that still lack a leaf below it for that."""

    level: int
    index: int
    roots: int


def evacuate(store: ObjectStore, volume: Volume, keys: Iterable[str], actor: str | None) -> Evacuated:
    """Evacuate the segments and page objects of a volume that are among `keys`. Raises StoredDataDamaged."""
    names: set[ObjectName] = set()
    for key in keys:
        with suppress(ValueError):
            kind, name = volume.lineage.paths.parse(key)
            if kind in (Kind.SEGMENT, Kind.PAGES):
                names.add(name)
    waiting, state, done = sorted(names), volume.state, Evacuated()
    for first in range(0, len(waiting), AT_ONCE):
        victims = set(waiting[first : first + AT_ONCE])
        part = Evacuation(store, volume.lineage, victims, actor).run(state)
        done.objects += part.objects
        done.roots += part.roots
        done.left.update(part.left)
        state = Commits(store, volume.lineage).newest(at_least=state.number) or state
    return done


class Evacuation:
    """Moves what is needed out of some objects of one lineage. Use once. `victims`: segments and page objects."""

    def __init__(
        self, store: ObjectStore, lineage: Lineage, victims: set[ObjectName], actor: str | None
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._relocation = Relocation(store, lineage, actor)
        self._reader = PieceReader(store, lineage, {})
        self._victims = set(victims)
        self._left: dict[str, str] = {}
        self._pieces: dict[Place, Piece] = {}
        self._digests: dict[Place, Spot] = {}
        # Leaves to be written again; those of them that are, whether or not a piece of theirs has moved.
        self._leaves: set[int] = set()
        self._anew: set[int] = set()
        self._above: list[_Above] = []

    def run(self, state: State) -> Evacuated:
        """Evacuate the victims, as `state` has them. Raises StoredDataDamaged when more damage is in the way."""
        refuse_unwritable(state)
        try:
            concerned = self._concerned(state)
        except StoredDataDamaged:
            if self._relocation.overtaken(state):
                return Evacuated()
            raise
        if not concerned:
            return Evacuated()
        entered, names = self._relocation.begin(state)
        try:
            return self._evacuate(entered, names)
        except StoredDataDamaged:
            self._relocation.give_up(entered)
            # What was read was not pinned.
            if self._relocation.overtaken(entered):
                return Evacuated()
            raise

    def _concerned(self, state: State) -> list[RootEntry]:
        """The roots that need one of the victims."""
        nonces = [name.nonce for name in self._victims]
        found = []
        for entry in state.roots:
            records = self._relocation.roots.summary(ObjectName.parse(entry.object)).records
            if np.isin(records["nonce"], np.array(nonces, np.uint64)).any():
                found.append(entry)
        return found

    def _evacuate(self, state: State, names: NameSource) -> Evacuated:
        entries = self._concerned(state)
        uploads = Uploads(self._store)
        try:
            segments = segment_writer(self._lineage, names, uploads)
            pages = page_writer(self._lineage, names, uploads)
            for task in self._walk(entries):
                self._copy(task, segments, pages)
            segments.flush()
            pages.flush()
            uploads.finish()
        finally:
            uploads.close()
        if not self._victims:
            self._relocation.give_up(state)
            return Evacuated(left=self._left)
        self._prove(entries)
        sizes = {**segments.sizes, **pages.sizes}
        made = self._relocation.finish(
            state, entries, names, self._leaves, self._move, sizes, avoid=frozenset(self._victims)
        )
        return Evacuated(len(self._victims) if made else 0, made, self._left)

    def _walk(self, entries: list[RootEntry]) -> Iterator[list[Version]]:
        """All blocks of which something lies in a victim. Notes the leaves that are to be written again."""
        roots = [self._relocation.roots.read(entry) for entry in entries]
        walk = Walk(self._store, self._lineage, roots, self._met)
        for number, leaves in walk.leaves():
            self._anew_above(number, leaves)
            found = versions(number, range(FANOUT), leaves, number * FANOUT)
            touched = [version for version in found if self._touches(version)]
            if touched:
                self._leaves.add(number)
            yield from tasks(touched)
        if walk.damaged:
            # Nobody knows what lies below a page that cannot be read.
            raise walk.damaged[0].error

    def _met(self, level: int, index: int, page: Leaf | Inner, roots: int) -> None:
        assert page.origin is not None
        if not self._victims & {name_of(page.origin.ref), name_of(page.origin.base)}:
            return
        if level == 0:
            self._anew.add(index)
            self._leaves.add(index)
        else:
            self._above.append(_Above(level, index, roots))

    def _anew_above(self, number: int, leaves: list[tuple[Leaf, int]]) -> None:
        """Let a leaf be written again where a page above it has to be: those on the way to a leaf are then, too."""
        roots = 0
        for _, bits in leaves:
            roots |= bits
        for above in self._above:
            if number // FANOUT**above.level == above.index and above.roots & roots:
                above.roots &= ~roots
                self._anew.add(number)
                self._leaves.add(number)
        self._above = [above for above in self._above if above.roots]

    def _touches(self, version: Version) -> bool:
        return any(name in self._victims for name, _ in version.places)

    def _copy(self, task: list[Version], segments: PackWriter, pages: PackWriter) -> None:
        """Copy what lies in victims, where the blocks that it belongs to give their hashes."""
        packed = self._reader.packed(task)
        # Sectors of each piece that a block which gives its hash shows: what a patch covers may be anything.
        proven: dict[Piece, int] = {}
        failed: list[Version] = []
        for version in task:
            found = self._composed(version, packed)
            if found is None:
                # Once more before it counts as damage: the way from the store may have been at fault.
                again = self._reader.packed([version])
                found = self._composed(version, again)
                packed.update(again)
            if found is None:
                failed.append(version)
                continue
            for piece, plain, digest in found:
                if piece not in proven:
                    self._copy_piece(version.block, piece, packed[piece], plain, digest, segments, pages)
            for piece, mask in shown(version.pieces):
                proven[piece] = proven.get(piece, 0) | mask
        paths = self._lineage.paths
        for version in failed:
            for piece, mask in shown(version.pieces):
                if piece in proven and not mask & ~proven[piece]:
                    continue
                self._leave(piece.name, paths.segment(piece.name), version.block)
                if piece.digests is not None:
                    self._leave(piece.digests.name, paths.pages(piece.digests.name), version.block)

    def _composed(
        self, version: Version, packed: dict[Piece, bytes | str]
    ) -> list[tuple[Piece, bytes, bytes]] | None:
        """Each piece with its bytes and the hash of the block as it was with it; None if that is not the version's."""
        found: list[tuple[Piece, bytes, bytes]] = []
        block = bytearray()
        for piece in version.pieces:
            stored = packed[piece]
            head = head_of(piece, version.block)
            if isinstance(stored, str):
                return None
            try:
                plain = codec.decompress(piece.codec, stored, head.plain)
            except CodecError:
                return None
            if piece.mask:
                sectors.lay(block, piece.mask, plain)
            else:
                block = bytearray(plain)
            found.append((piece, plain, self._lineage.keys.block(block)))
        return found if found[-1][2] == version.digest else None

    def _copy_piece(
        self,
        block: int,
        piece: Piece,
        packed: bytes | str,
        plain: bytes,
        digest: bytes,
        segments: PackWriter,
        pages: PackWriter,
    ) -> None:
        assert not isinstance(packed, str)
        if piece.name in self._victims:
            target, offset, length = segments.add(head_of(piece, block), packed, digest)
            self._pieces[piece.name, piece.offset] = piece._replace(name=target, offset=offset, length=length)
        spot = piece.digests
        if spot is not None and spot.name in self._victims and spot not in self._digests:
            # Made anew instead of copied: in a store without encryption nothing vouches for them but the data.
            values = sectors.pack(sectors.digests(self._lineage.keys, plain))
            target, offset, _ = pages.add(head_of_digests(block, piece.mask), values)
            self._digests[spot] = Spot(target, offset)

    def _leave(self, name: ObjectName, key: str, block: int) -> None:
        """A victim with something in it that cannot be proven stays: a fresh checksum would hide the damage."""
        if name not in self._victims:
            return
        self._victims.remove(name)
        self._left[key] = f"block {block}, of which a part lies in it, is damaged as well"
        self._pieces = {place: piece for place, piece in self._pieces.items() if place[0] != name}
        self._digests = {place: spot for place, spot in self._digests.items() if place[0] != name}

    def _now(self, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        """Where pieces lie from now on."""
        found = []
        for piece in pieces:
            digests = piece.digests and self._digests.get(piece.digests, piece.digests)
            moved = self._pieces.get((piece.name, piece.offset), piece)
            found.append(moved._replace(digests=digests))
        return tuple(found)

    def _prove(self, entries: list[RootEntry]) -> None:
        """Read the copies back as the blocks that they are to make, before anything is told to rely on them."""
        copies = {(piece.name, piece.offset) for piece in self._pieces.values()} | set(self._digests.values())
        seen: set[bytes] = set()
        for entry in entries:
            for number, leaf in self._relocation.leaves(self._relocation.roots.read(entry), self._leaves):
                assert leaf.origin is not None
                raw = leaf.origin.ref.tobytes()
                if raw in seen:
                    continue
                seen.add(raw)
                moved = [
                    Version(version.block, self._now(version.pieces), version.digest, 1)
                    for version in versions(number, range(FANOUT), [(leaf, 1)], number * FANOUT)
                    if self._now(version.pieces) != version.pieces
                ]
                for bad in [bad for task in tasks(moved) for bad in self._reader.check(task).bad]:
                    if (bad.name, bad.offset) in copies:
                        raise StoredDataDamaged(f"{bad.key}: a copy just made: {bad.cause}")

    def _move(self, number: int, leaf: Leaf, changes: Changes) -> Leaf | None:
        fresh: Leaf | None = leaf.copy() if number in self._anew else None
        for slot in leaf.stored_slots():
            pieces = tuple(leaf.pieces(slot))
            now = self._now(pieces)
            if now != pieces:
                fresh = fresh or leaf.copy()
                replace_pieces(fresh, slot, list(now), changes, items.overhead(self._lineage))
        return fresh
