"""Reading back stored pieces of blocks, and telling which of them is at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from blockvault.engine import items, sectors
from blockvault.engine.codec import CodecError
from blockvault.engine.damage import NO_RESTORE_NEEDS_THEM, Place
from blockvault.engine.edges import check_whole
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import get, runs
from blockvault.engine.former import head_of_digests
from blockvault.engine.items import BLOCK, BLOCK_PATCH, Head
from blockvault.engine.leaf import Leaf, Piece, shown
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import BLOCK_SIZE, FANOUT
from blockvault.engine.sectors import Digests
from blockvault.stores import ObjectNotFound, ObjectStore

GAP = 512 * 1024
LARGEST_READ = 4 * 1024 * 1024
# Bytes of stored pieces that one task reads.
TASK_BYTES = 8 * 1024 * 1024

COMPOSED = "the hash of the block does not match"
DIGESTS = f"its sector digests do not match {NO_RESTORE_NEEDS_THEM}"
HIDDEN = f"it differs from its sector digests where later patches lie on it {NO_RESTORE_NEEDS_THEM}"
MISSING = "is missing"


@dataclass(frozen=True)
class Version:
    """A block as some roots have it (bit n for root n)."""

    block: int
    pieces: tuple[Piece, ...]
    digest: bytes
    roots: int

    @property
    def places(self) -> set[Place]:
        """Where its pieces and their sector digests lie."""
        spots = [spot for piece in self.pieces for spot in (piece, piece.digests) if spot is not None]
        return {(spot.name, spot.offset) for spot in spots}


@dataclass(frozen=True)
class BadPiece:
    """A piece, or its sector digests, that cannot be had. `name`, `offset`, `length`: where in the store."""

    key: str
    name: ObjectName
    offset: int
    length: int
    cause: str
    block: int
    roots: int


@dataclass
class Checked:
    """What was read back. `good`: places that are what they should be."""

    bad: list[BadPiece] = field(default_factory=list)
    good: set[tuple[ObjectName, int]] = field(default_factory=set)
    blocks: dict[int, int] = field(default_factory=dict)
    bytes: int = 0


def versions(number: int, slots: Iterable[int], leaves: list[tuple[Leaf, int]], first: int) -> list[Version]:
    """All that the versions of a leaf have in these slots, each once."""
    found: dict[tuple[int, tuple[Piece, ...], bytes], int] = {}
    wanted = list(slots)
    for leaf, roots in leaves:
        for slot in wanted:
            if leaf.stored(slot):
                key = (first + slot, tuple(leaf.pieces(slot)), leaf.hash_of(slot))
                found[key] = found.get(key, 0) | roots
    return [Version(*key, roots) for key, roots in found.items()]


def tasks(wanted: list[Version]) -> Iterator[list[Version]]:
    """All versions of a block together, some blocks at a time."""
    blocks: dict[int, list[Version]] = {}
    for version in wanted:
        blocks.setdefault(version.block, []).append(version)
    task: list[Version] = []
    size = 0
    for members in blocks.values():
        task += members
        size += sum(piece.length for piece in {p for version in members for p in version.pieces})
        if size >= TASK_BYTES or len(task) >= FANOUT // 4:
            yield task
            task, size = [], 0
    if task:
        yield task


def head_of(piece: Piece, block: int) -> Head:
    """What must be known of a piece of that block before it is opened."""
    kind, plain = (BLOCK_PATCH, piece.plain) if piece.mask else (BLOCK, BLOCK_SIZE)
    return Head(block, kind, 0, piece.codec, plain, piece.mask)


class PieceReader:
    """Reads back pieces of one lineage. Objects in `absent` are known to be missing or cut, and why."""

    def __init__(self, store: ObjectStore, lineage: Lineage, absent: dict[str, str]) -> None:
        self._store = store
        self._lineage = lineage
        self._absent = absent

    def check(self, wanted: list[Version]) -> Checked:
        """Read all pieces of these blocks, each once, and compare. Raises StoreError; that is no damage."""
        done = Checked()
        owners: dict[Piece, tuple[int, int]] = {}
        for version in wanted:
            for piece in version.pieces:
                owners[piece] = (version.block, owners.get(piece, (0, 0))[1] | version.roots)
        plain = self._read(owners, self._lineage.paths.segment, _spot, self._open)
        digests = self._read(
            {piece: owner for piece, owner in owners.items() if piece.digests is not None},
            self._lineage.paths.pages,
            self._digest_spot,
            self._open_digests,
        )
        done.bytes = sum(piece.length for piece in owners)
        suspects = self._compose(wanted, plain)
        if suspects:
            # Once more before it counts as damage: the way from the store may have been at fault.
            again = {piece: owners[piece] for version in suspects for piece in version.pieces}
            plain.update({piece: self._alone(piece, block) for piece, (block, _) in again.items()})
        broken = {id(version) for version in self._compose(suspects, plain)}
        unfit = self._unfit(owners, plain, digests)
        for version in wanted:
            for bit in _bits(version.roots):
                done.blocks[bit] = done.blocks.get(bit, 0) + 1
        blamed = self._blame([v for v in wanted if id(v) in broken], plain, unfit)
        fitting = [version for version in wanted if id(version) not in broken]
        blamed.update(self._hidden([p for p in unfit if p not in blamed], fitting, plain, digests))
        for piece, (block, roots) in owners.items():
            cause = blamed.get(piece)
            if cause is not None:
                key = self._lineage.paths.segment(piece.name)
                done.bad.append(BadPiece(key, piece.name, piece.offset, piece.length, cause, block, roots))
            else:
                done.good.add((piece.name, piece.offset))
            if piece.digests is not None:
                name, offset, length = self._digest_spot(piece)
                if cause is None and piece in unfit:
                    key = self._lineage.paths.pages(name)
                    done.bad.append(BadPiece(key, name, offset, length, unfit[piece], block, roots))
                else:
                    done.good.add((name, offset))
        return done

    def packed(self, wanted: list[Version]) -> dict[Piece, bytes | str]:
        """All pieces of these blocks as the codec made them, or the cause why one cannot be had. Raises StoreError."""
        owners = {piece: (version.block, 0) for version in wanted for piece in version.pieces}
        found = self._read(owners, self._lineage.paths.segment, _spot, self._open_stored)
        return {piece: data if isinstance(data, bytes) else str(data) for piece, data in found.items()}

    def _read(
        self,
        owners: dict[Piece, tuple[int, int]],
        key_of: Callable[[ObjectName], str],
        place: Callable[[Piece], tuple[ObjectName, int, int]],
        decode: Callable[[Piece, int, bytes], object],
    ) -> dict[Piece, object]:
        """Each piece decoded, or the cause why it cannot be, as a string."""
        result: dict[Piece, object] = {}
        present = []
        for piece in owners:
            cause = self._absent.get(key_of(place(piece)[0]))
            if cause is None:
                present.append(piece)
            else:
                result[piece] = cause
        for run in runs(present, place, gap=GAP, largest=LARGEST_READ):
            name, start, _ = place(run[0])
            _, last, length = place(run[-1])
            try:
                data = get(self._store, key_of(name), start, last + length - start)
            except ObjectNotFound:
                result.update(dict.fromkeys(run, MISSING))
                continue
            for piece in run:
                _, offset, length = place(piece)
                block = owners[piece][0]
                try:
                    result[piece] = decode(piece, block, data[offset - start : offset - start + length])
                except CodecError:
                    result[piece] = self._second(key_of(name), offset, length, piece, block, decode)
        return result

    def _second(
        self,
        key: str,
        offset: int,
        length: int,
        piece: Piece,
        block: int,
        decode: Callable[[Piece, int, bytes], object],
    ) -> object:
        try:
            return decode(piece, block, get(self._store, key, offset, length))
        except ObjectNotFound:
            return MISSING
        except CodecError as error:
            return str(error)

    def _alone(self, piece: Piece, block: int) -> object:
        key = self._lineage.paths.segment(piece.name)
        if key in self._absent:
            return self._absent[key]
        return self._second(key, piece.offset, piece.length, piece, block, self._open)

    def _open(self, piece: Piece, block: int, stored: bytes) -> object:
        return items.unpack(self._lineage, piece.name, piece.offset, head_of(piece, block), stored)

    def _open_stored(self, piece: Piece, block: int, stored: bytes) -> object:
        return bytes(
            items.open_stored(self._lineage, piece.name, piece.offset, head_of(piece, block), stored)
        )

    def _digest_spot(self, piece: Piece) -> tuple[ObjectName, int, int]:
        assert piece.digests is not None
        length = sectors.digest_bytes(piece.mask) + items.overhead(self._lineage)
        return piece.digests.name, piece.digests.offset, length

    def _open_digests(self, piece: Piece, block: int, stored: bytes) -> object:
        name, offset, _ = self._digest_spot(piece)
        return sectors.unpack(
            items.unpack(self._lineage, name, offset, head_of_digests(block, piece.mask), stored)
        )

    def _compose(self, wanted: list[Version], plain: dict[Piece, object]) -> list[Version]:
        """Those whose pieces do not make the block that their hash says."""
        return [version for version in wanted if not self._fits(version, plain)]

    def _fits(self, version: Version, plain: dict[Piece, object]) -> bool:
        parts = [plain[piece] for piece in version.pieces]
        whole = [part for part in parts if isinstance(part, bytes)]
        if len(whole) < len(parts):
            return False
        if len(whole) == 1:
            return self._lineage.keys.block(whole[0]) == version.digest
        block = bytearray(whole[0])
        for piece, part in zip(version.pieces[1:], whole[1:], strict=True):
            sectors.lay(block, piece.mask, part)
        return self._lineage.keys.block(block) == version.digest

    def _unfit(
        self,
        owners: dict[Piece, tuple[int, int]],
        plain: dict[Piece, object],
        digests: dict[Piece, object],
    ) -> dict[Piece, str]:
        """Pieces whose sector digests cannot be had, or say something else."""
        found = {}
        for piece, values in digests.items():
            data = plain[piece]
            if not isinstance(values, np.ndarray):
                found[piece] = f"sector digests: {values} {NO_RESTORE_NEEDS_THEM}"
            elif isinstance(data, bytes) and not self._same(values, data):
                name, offset, length = self._digest_spot(piece)
                key = self._lineage.paths.pages(name)
                block = owners[piece][0]
                again = self._second(key, offset, length, piece, block, self._open_digests)
                if not isinstance(again, np.ndarray) or not self._same(again, data):
                    found[piece] = DIGESTS
        return found

    def _same(self, values: Digests, data: bytes) -> bool:
        return np.array_equal(values, sectors.digests(self._lineage.keys, data))

    def _blame(
        self, broken: list[Version], plain: dict[Piece, object], unfit: dict[Piece, str]
    ) -> dict[Piece, str]:
        """The pieces at fault: those that cannot be had, else those that their digests contradict, else the last."""
        blamed: dict[Piece, str] = {}
        for version in broken:
            lost = {p: str(plain[p]) for p in version.pieces if not isinstance(plain[p], bytes)}
            if not lost and len(version.pieces) > 1:
                lost = {p: COMPOSED for p in version.pieces if p in unfit}
            blamed.update(lost or {version.pieces[-1]: COMPOSED})
        return blamed

    def _hidden(
        self,
        unfit: list[Piece],
        fitting: list[Version],
        plain: dict[Piece, object],
        digests: dict[Piece, object],
    ) -> dict[Piece, str]:
        """Pieces at fault although their blocks fit: where they differ from their digests later patches lie on them.

        It may be the digests as well; they are not, where the object that holds them is whole.
        """
        if not unfit:
            return {}
        found: dict[Piece, str] = {}
        whole: dict[ObjectName, bool] = {}
        seen: dict[Piece, int] = {}
        for version in fitting:
            for piece, mask in shown(version.pieces):
                seen[piece] = seen.get(piece, 0) | mask
        for piece in unfit:
            differ = self._differing(piece, plain[piece], digests[piece])
            if not differ or differ & seen.get(piece, 0):
                continue  # what a block that fits shows of it is right
            name, _, _ = self._digest_spot(piece)
            if name not in whole:
                whole[name] = self._is_whole(name)
            if whole[name]:
                found[piece] = HIDDEN
        return found

    def _differing(self, piece: Piece, data: object, values: object) -> int:
        """The sectors of a piece that its digests contradict, as a mask; 0 where one of them cannot be had."""
        if not isinstance(data, bytes) or not isinstance(values, np.ndarray):
            return 0
        wrong = np.flatnonzero(values != sectors.digests(self._lineage.keys, data))
        own = sectors.numbers(piece.sectors)
        return sum(1 << int(own[place]) for place in wrong)

    def _is_whole(self, name: ObjectName) -> bool:
        if self._lineage.paths.pages(name) in self._absent:
            return False
        try:
            check_whole(self._store, self._lineage, Kind.PAGES, name)
        except (StoredDataDamaged, ObjectNotFound):
            return False
        return True


def _spot(piece: Piece) -> tuple[ObjectName, int, int]:
    return piece.name, piece.offset, piece.length


def _bits(roots: int) -> list[int]:
    return [number for number in range(roots.bit_length()) if roots >> number & 1]
