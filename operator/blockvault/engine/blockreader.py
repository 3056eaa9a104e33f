"""Fetching stored blocks: with few requests, in parallel, each checked against its hash before anybody sees it.

What is damaged is told apart from its neighbours: one bad piece costs one block.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from blockvault.engine import envelope, items, runtime, sectors
from blockvault.engine.codec import CodecError
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import get, get_whole, runs
from blockvault.engine.hashing import Buffer
from blockvault.engine.items import BLOCK, BLOCK_PATCH, Head
from blockvault.engine.leaf import Leaf, Piece
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import BLOCK_SIZE, FANOUT
from blockvault.stores import ObjectNotFound, ObjectStore

THREADS = 6
# Blocks this close in a segment come by one request: reading over the gap costs less than asking again.
GAP = 512 * 1024
LARGEST_READ = 4 * 1024 * 1024


@dataclass(frozen=True)
class Damage:
    """A block that cannot be had. `key`, `offset`, `length`: the piece in the store that is at fault."""

    block: int
    key: str
    offset: int
    length: int
    cause: str

    def error(self) -> StoredDataDamaged:
        """As an error that names all of it."""
        return StoredDataDamaged(
            f"{self.key}: {self.length} bytes at {self.offset} (volume offset {self.block * BLOCK_SIZE}): {self.cause}"
        )


class _Wanted(NamedTuple):
    slot: int
    position: int
    piece: Piece


@dataclass
class _Leaf:
    """A leaf whose blocks are being fetched. `parts` holds pieces of blocks that are not complete yet."""

    first: int
    leaf: Leaf
    parts: dict[int, dict[int, bytes]] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


Sink = Callable[[int, Buffer], None]
OnDamage = Callable[[Damage], None]


class BlockReader:
    """Blocks of one lineage. `sink` gets (block number, its 256 KiB), `on_damage` what cannot be had instead.

    Both are called from several threads.
    """

    def __init__(
        self, store: ObjectStore, lineage: Lineage, sink: Sink, on_damage: OnDamage, threads: int = THREADS
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._sink = sink
        self._on_damage = on_damage
        self._threads = threads

    def run(self, wanted: Iterable[tuple[int, Leaf, list[int]]]) -> Iterator[int]:
        """Fetch the stored blocks of these (leaf number, leaf, slots). Yields leaf numbers as they are begun.

        Takes leaves only as fast as blocks arrive. Raises what `sink` and `on_damage` raise, and StoreError.
        """
        pool = runtime.executor(self._threads, "fetch")
        waiting: deque[Future[None]] = deque()
        try:
            for number, leaf, slots in wanted:
                state = _Leaf(number * FANOUT, leaf)
                for run in runs(self._pieces(leaf, slots), _place, gap=GAP, largest=LARGEST_READ):
                    waiting.append(pool.submit(self._fetch, state, run))
                    if len(waiting) > 2 * self._threads:
                        waiting.popleft().result()
                yield number
            while waiting:
                waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _pieces(self, leaf: Leaf, slots: list[int]) -> list[_Wanted]:
        return [
            _Wanted(slot, position, piece)
            for slot in slots
            for position, piece in enumerate(leaf.pieces(slot))
        ]

    def _fetch(self, state: _Leaf, run: list[_Wanted]) -> None:
        name, start, _ = _place(run[0])
        _, last, length = _place(run[-1])
        try:
            data: bytes | None = get(
                self._store, self._lineage.paths.segment(name), start, last + length - start
            )
        except ObjectNotFound:
            data = None
        for wanted in run:
            if data is None:
                self._fail(state, wanted, "segment is missing")
                continue
            offset = wanted.piece.offset - start
            self._piece(state, wanted, data[offset : offset + wanted.piece.length])

    def _piece(self, state: _Leaf, wanted: _Wanted, stored: bytes) -> None:
        try:
            plain = self._open(state, wanted, stored)
        except CodecError:
            # Once more before it counts as damage: the way from the store may have been at fault.
            try:
                piece = wanted.piece
                again = get(self._store, self._lineage.paths.segment(piece.name), piece.offset, piece.length)
                plain = self._open(state, wanted, again)
            except ObjectNotFound:
                self._fail(state, wanted, "segment is missing")
                return
            except CodecError as error:
                self._fail(state, wanted, str(error))
                return
        if not state.leaf.patches(wanted.slot):
            self._sink(state.first + wanted.slot, plain)
            return
        with state.lock:
            parts = state.parts.setdefault(wanted.slot, {})
            parts[wanted.position] = plain
            whole = len(parts) == 1 + len(state.leaf.patches(wanted.slot))
            if whole:
                del state.parts[wanted.slot]
        if whole:
            self._compose(state, wanted, parts)

    def _open(self, state: _Leaf, wanted: _Wanted, stored: bytes) -> bytes:
        """The plain bytes of a piece; of a block without patches, checked against its hash."""
        piece = wanted.piece
        kind, plain = (BLOCK_PATCH, piece.plain) if piece.mask else (BLOCK, BLOCK_SIZE)
        head = Head(state.first + wanted.slot, kind, 0, piece.codec, plain, piece.mask)
        data = items.unpack(self._lineage, piece.name, piece.offset, head, stored)
        if not state.leaf.patches(wanted.slot) and self._lineage.keys.block(data) != state.leaf.hash_of(
            wanted.slot
        ):
            raise CodecError("the hash does not match")
        return data

    def _compose(self, state: _Leaf, wanted: _Wanted, parts: dict[int, bytes]) -> None:
        block = self._laid(state, wanted.slot, parts)
        if block is None:
            # Once more before it counts as damage: without encryption, one piece alone does not show what is wrong.
            block = self._laid(state, wanted.slot, self._again(state, wanted.slot))
        if block is None:
            self._fail(
                state, self._blamed(state, wanted), "the hash of base and patches together does not match"
            )
            return
        self._sink(state.first + wanted.slot, block)

    def _laid(self, state: _Leaf, slot: int, parts: dict[int, bytes]) -> bytearray | None:
        """The block that base and patches make; None when that is not the right one."""
        patches = state.leaf.patches(slot)
        if len(parts) != 1 + len(patches):
            return None
        block = bytearray(parts[0])
        for position, patch in enumerate(patches, 1):
            sectors.lay(block, patch.mask, parts[position])
        return block if self._lineage.keys.block(block) == state.leaf.hash_of(slot) else None

    def _again(self, state: _Leaf, slot: int) -> dict[int, bytes]:
        """The pieces of a block, each read anew; without those that cannot be had."""
        parts = {}
        for wanted in self._pieces(state.leaf, [slot]):
            key = self._lineage.paths.segment(wanted.piece.name)
            with suppress(ObjectNotFound, CodecError):
                stored = get(self._store, key, wanted.piece.offset, wanted.piece.length)
                parts[wanted.position] = self._open(state, wanted, stored)
        return parts

    def _blamed(self, state: _Leaf, wanted: _Wanted) -> _Wanted:
        """The piece of a block that is at fault: that whose object as a whole does not check."""
        for position, piece in enumerate(state.leaf.pieces(wanted.slot)):
            key = self._lineage.paths.segment(piece.name)
            try:
                envelope.split(envelope.Kind.SEGMENT, key, get_whole(self._store, key, expected=True))
            except (ObjectNotFound, StoredDataDamaged):
                return _Wanted(wanted.slot, position, piece)
        return wanted

    def _fail(self, state: _Leaf, wanted: _Wanted, cause: str) -> None:
        with state.lock:
            first = wanted.slot not in state.failed
            state.failed.add(wanted.slot)
        if first:
            piece = wanted.piece
            key = self._lineage.paths.segment(piece.name)
            self._on_damage(Damage(state.first + wanted.slot, key, piece.offset, piece.length, cause))


def _place(wanted: _Wanted) -> tuple[ObjectName, int, int]:
    return wanted.piece.name, wanted.piece.offset, wanted.piece.length
