"""Fetching stored blocks: with few requests, in parallel, each checked against its hash before anybody sees it.

What is damaged is told apart from its neighbours: one bad piece costs one block.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from blockvault.engine import envelope, items, runtime, sectors
from blockvault.engine.codec import CodecError
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import get, get_whole, runs
from blockvault.engine.hashing import Buffer
from blockvault.engine.leaf import Leaf, Piece
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import BLOCK_SIZE, FANOUT
from blockvault.engine.pieces import head_of
from blockvault.stores import ObjectNotFound, ObjectStore

THREADS = 6
# Blocks this close in a segment come by one request: reading over the gap costs less than asking again.
GAP = 512 * 1024
LARGEST_READ = 4 * 1024 * 1024
# Blocks decoded by one task: what compresses well must not take more memory than what does not.
MOST_PIECES = 32
# Pieces among which neighbours are looked for, of as many leaves as have so many: of a large volume of which little is
# wanted, a leaf has few.
TOGETHER = 64


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


@dataclass
class _Leaf:
    """A leaf whose blocks are being fetched. `parts` holds pieces of blocks that are not complete yet."""

    first: int
    leaf: Leaf
    parts: dict[int, dict[int, bytes]] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Wanted(NamedTuple):
    state: _Leaf
    slot: int
    position: int
    piece: Piece

    @property
    def block(self) -> int:
        return self.state.first + self.slot


class _Fetched(NamedTuple):
    run: list[_Wanted]
    data: memoryview | None


# Takes blocks with their numbers, ascending.
Sink = Callable[[list[tuple[int, Buffer]]], None]
OnDamage = Callable[[Damage], None]


class BlockReader:
    """Blocks of one lineage. `sink` gets some at a time, `on_damage` what cannot be had.

    Both are called from several threads. Handing over, locking and waiting are done once for many blocks.
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
        # Fetching waits for the store. Of those that decode, one more than there are processors: a file is written by
        # one at a time, and who waits for that has a processor to spare.
        decoders = min(self._threads, (os.cpu_count() or 1) + 1)
        fetch = runtime.executor(self._threads, "fetch")
        decode = runtime.executor(decoders, "decode")
        fetching: deque[Future[_Fetched]] = deque()
        decoding: deque[Future[None]] = deque()

        def pass_on(most: int) -> None:
            while len(fetching) > most:
                decoding.append(decode.submit(self._decode, fetching.popleft().result()))
                if len(decoding) > 2 * decoders:
                    decoding.popleft().result()

        def fetch_all(pieces: list[_Wanted]) -> None:
            for run in runs(pieces, _place, gap=GAP, largest=LARGEST_READ):
                for start in range(0, len(run), MOST_PIECES):
                    fetching.append(fetch.submit(self._fetch, run[start : start + MOST_PIECES]))
                    pass_on(self._threads)

        try:
            waiting: list[_Wanted] = []
            for number, leaf, slots in wanted:
                waiting += self._pieces(number, leaf, slots)
                if len(waiting) >= TOGETHER:
                    fetch_all(waiting)
                    waiting = []
                yield number
            fetch_all(waiting)
            pass_on(0)
            while decoding:
                decoding.popleft().result()
        finally:
            for pool in (fetch, decode):
                pool.shutdown(wait=True, cancel_futures=True)

    def _pieces(self, number: int, leaf: Leaf, slots: list[int]) -> list[_Wanted]:
        state = _Leaf(number * FANOUT, leaf)
        return [
            _Wanted(state, slot, position, piece)
            for slot in slots
            for position, piece in enumerate(leaf.pieces(slot))
        ]

    def _fetch(self, run: list[_Wanted]) -> _Fetched:
        name, start, _ = _place(run[0])
        _, last, length = _place(run[-1])
        try:
            data = get(self._store, self._lineage.paths.segment(name), start, last + length - start)
        except ObjectNotFound:
            return _Fetched(run, None)
        return _Fetched(run, memoryview(data))

    def _decode(self, fetched: _Fetched) -> None:
        run, data = fetched
        if data is None:
            for wanted in run:
                self._fail(wanted, "segment is missing")
            return
        done: list[tuple[int, Buffer]] = []
        start = run[0].piece.offset
        for wanted in run:
            offset = wanted.piece.offset - start
            block = self._piece(wanted, data[offset : offset + wanted.piece.length])
            if block is not None:
                done.append((wanted.block, block))
        if done:
            done.sort(key=lambda item: item[0])
            self._sink(done)

    def _piece(self, wanted: _Wanted, stored: Buffer) -> Buffer | None:
        """The block that this piece completes; None where others are awaited, or something is damaged."""
        try:
            plain = self._open(wanted, stored)
        except CodecError:
            # Once more before it counts as damage: the way from the store may have been at fault.
            again = self._again(wanted)
            if again is None:
                return None
            plain = again
        state = wanted.state
        if not state.leaf.patches(wanted.slot):
            return plain
        with state.lock:
            parts = state.parts.setdefault(wanted.slot, {})
            parts[wanted.position] = plain
            if len(parts) < 1 + len(state.leaf.patches(wanted.slot)):
                return None
            del state.parts[wanted.slot]
        return self._whole(wanted, parts)

    def _again(self, wanted: _Wanted) -> bytes | None:
        """A piece, fetched by itself; None when it is damaged."""
        piece = wanted.piece
        try:
            stored = get(self._store, self._lineage.paths.segment(piece.name), piece.offset, piece.length)
            return self._open(wanted, stored)
        except ObjectNotFound:
            self._fail(wanted, "segment is missing")
        except CodecError as error:
            self._fail(wanted, str(error))
        return None

    def _open(self, wanted: _Wanted, stored: Buffer) -> bytes:
        """The plain bytes of a piece; of a block without patches, checked against its hash."""
        piece = wanted.piece
        head = head_of(piece, wanted.block)
        data = items.unpack(self._lineage, piece.name, piece.offset, head, stored)
        leaf = wanted.state.leaf
        if not leaf.patches(wanted.slot) and self._lineage.keys.block(data) != leaf.hash_of(wanted.slot):
            raise CodecError("the hash does not match")
        return data

    def _whole(self, wanted: _Wanted, parts: dict[int, bytes]) -> Buffer | None:
        """The block that base and patches make; None when it is damaged."""
        state, slot = wanted.state, wanted.slot
        block = self._laid(state, slot, parts)
        if block is None:
            # A piece by itself has no hash where nothing is encrypted, so all are fetched once more.
            for position, piece in enumerate(state.leaf.pieces(slot)):
                plain = self._again(_Wanted(state, slot, position, piece))
                if plain is None:
                    return None
                parts[position] = plain
            block = self._laid(state, slot, parts)
        if block is None:
            cause = "the hash of base and patches together does not match"
            self._fail(self._blamed(wanted), cause)
        return block

    def _laid(self, state: _Leaf, slot: int, parts: dict[int, bytes]) -> Buffer | None:
        """The patches laid on the base; None when that has not the block's hash."""
        block = bytearray(parts[0])
        for position, patch in enumerate(state.leaf.patches(slot), 1):
            sectors.lay(block, patch.mask, parts[position])
        return block if self._lineage.keys.block(block) == state.leaf.hash_of(slot) else None

    def _blamed(self, wanted: _Wanted) -> _Wanted:
        """The piece of a block that is at fault: that whose object as a whole does not check."""
        for position, piece in enumerate(wanted.state.leaf.pieces(wanted.slot)):
            key = self._lineage.paths.segment(piece.name)
            try:
                envelope.split(envelope.Kind.SEGMENT, key, get_whole(self._store, key, expected=True))
            except (ObjectNotFound, StoredDataDamaged):
                return wanted._replace(position=position, piece=piece)
        return wanted

    def _fail(self, wanted: _Wanted, cause: str) -> None:
        state = wanted.state
        with state.lock:
            first = wanted.slot not in state.failed
            state.failed.add(wanted.slot)
        if first:
            piece = wanted.piece
            key = self._lineage.paths.segment(piece.name)
            self._on_damage(Damage(wanted.block, key, piece.offset, piece.length, cause))


def _place(wanted: _Wanted) -> tuple[ObjectName, int, int]:
    return wanted.piece.name, wanted.piece.offset, wanted.piece.length
