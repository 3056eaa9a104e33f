"""Mending old backups: where a later backup stored a damaged block anew, older ones that had the same bytes get it.

Nothing is copied. The entries of the older backups are pointed to what a later one has, where the hash of the block
is the same, after that was read back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from blockvault.engine import items
from blockvault.engine.blockreader import BlockReader, Damage
from blockvault.engine.commits import refuse_unwritable
from blockvault.engine.damage import Place, place_of
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.leaf import Leaf, Piece
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import FANOUT
from blockvault.engine.relocate import Relocation, replace_pieces
from blockvault.engine.state import RootEntry, State
from blockvault.engine.summary import Changes
from blockvault.stores import ObjectStore

# A block by its number and its hash.
Block = tuple[int, bytes]


@dataclass(frozen=True)
class Healed:
    """What was mended: how many blocks, counted in each backup, and of how many backups."""

    blocks: int = 0
    roots: int = 0


@dataclass
class _Search:
    """Blocks that are damaged somewhere; of those that were read back sound elsewhere, the backup and the pieces."""

    damaged: set[Block] = field(default_factory=set)
    sound: dict[Block, tuple[str, list[Piece]]] = field(default_factory=dict)


class Healing:
    """Mends the backups of one lineage. Use once."""

    def __init__(self, store: ObjectStore, lineage: Lineage, actor: str | None) -> None:
        self._store = store
        self._lineage = lineage
        self._relocation = Relocation(store, lineage, actor)
        self._roots = self._relocation.roots
        self._overhead = items.overhead(lineage)
        self._search = _Search()
        self._places: set[Place] = set()
        self._blocks = 0
        self._used: set[str] = set()
        self._left: set[Place] = set()
        self._entries: list[RootEntry] = []

    def run(self, state: State) -> Healed:
        """Mend what can be mended in `state`. Raises StoredDataDamaged when more damage is in the way."""
        refuse_unwritable(state)
        self._places = {place_of(item) for item in state.damaged if not item.get("page")}
        leaves = {int(block) // FANOUT for item in state.damaged for block in item["blocks"]}
        if not leaves:
            return Healed()
        # What a backup needs whose root is damaged cannot be told; it is in nobody's way.
        broken = self._roots.unresolved(state.roots)
        self._entries = [entry for entry in state.roots if entry not in broken]
        try:
            self._look(leaves)
        except StoredDataDamaged:
            if self._relocation.overtaken(state):
                return Healed()
            raise
        if not self._search.sound:
            return Healed()
        return self._write(state, leaves)

    def _write(self, state: State, leaves: set[int]) -> Healed:
        entered, names = self._relocation.begin(state)
        # What stands now as it was searched; others are left to the next time, but stay in the state.
        read = {entry.object for entry in self._entries}
        try:
            made = self._relocation.finish(
                entered,
                [entry for entry in entered.roots if entry.object in read],
                names,
                leaves,
                self._mend,
                self._sizes(),
                needs=lambda: frozenset(self._used),
                mended=lambda: frozenset(self._places - self._left),
            )
        except StoredDataDamaged:
            self._relocation.give_up(entered)
            if self._relocation.overtaken(state):
                return Healed()
            raise
        return Healed(self._blocks if made else 0, made)

    def _look(self, leaves: set[int]) -> None:
        """Find what is damaged, and the same blocks elsewhere: in the latest backups first."""
        for entry in self._entries:
            for number, leaf in self._relocation.leaves(self._roots.read(entry), leaves):
                for slot in leaf.stored_slots():
                    if self._touched(leaf, slot):
                        self._search.damaged.add((number * FANOUT + slot, leaf.hash_of(slot)))
        for entry in reversed(self._entries):
            self._look_in(entry, leaves)

    def _look_in(self, entry: RootEntry, leaves: set[int]) -> None:
        wanted: list[tuple[int, Leaf, list[int]]] = []
        missing = self._search.damaged - self._search.sound.keys()
        for number, leaf in self._relocation.leaves(self._roots.read(entry), leaves):
            slots = [
                slot
                for slot in leaf.stored_slots()
                if (number * FANOUT + slot, leaf.hash_of(slot)) in missing and not self._touched(leaf, slot)
            ]
            if slots:
                wanted.append((number, leaf, slots))
        bad: list[Damage] = []
        for _ in BlockReader(self._store, self._lineage, lambda blocks: None, bad.append).run(wanted):
            pass
        lost = {damage.block for damage in bad}
        for number, leaf, slots in wanted:
            for slot in slots:
                block = number * FANOUT + slot
                if block not in lost:
                    self._search.sound[block, leaf.hash_of(slot)] = (entry.id, leaf.pieces(slot))

    def _touched(self, leaf: Leaf, slot: int) -> set[Place]:
        """The damaged places that a block needs."""
        return {
            (spot.name, spot.offset)
            for piece in leaf.pieces(slot)
            for spot in (piece, piece.digests)
            if spot is not None and (spot.name, spot.offset) in self._places
        }

    def _sizes(self) -> dict[ObjectName, int]:
        """Sizes of the objects that mended backups name from now on."""
        owners = {owner for owner, _ in self._search.sound.values()}
        wanted = {
            spot.name
            for _, pieces in self._search.sound.values()
            for piece in pieces
            for spot in (piece, piece.digests)
            if spot is not None
        }
        return {
            name: usage.size
            for entry in self._entries
            if entry.id in owners
            for name, usage in self._roots.summary(ObjectName.parse(entry.object)).items()
            if name in wanted
        }

    def _mend(self, number: int, leaf: Leaf, changes: Changes) -> Leaf | None:
        fresh: Leaf | None = None
        for slot in leaf.stored_slots():
            touched = self._touched(leaf, slot)
            if not touched:
                continue
            found = self._search.sound.get((number * FANOUT + slot, leaf.hash_of(slot)))
            if found is None:
                self._left |= touched
                continue
            owner, pieces = found
            fresh = fresh or leaf.copy()
            replace_pieces(fresh, slot, pieces, changes, self._overhead)
            self._used.add(owner)
            self._blocks += 1
        return fresh
