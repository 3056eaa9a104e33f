"""One restore: every block is fetched, decoded, checked against its hash, and only then written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from blockvault.engine import codec, runtime
from blockvault.engine.backup import peak_memory
from blockvault.engine.devices import Target
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.hashing import LineageKey
from blockvault.engine.names import LineagePaths, ObjectName
from blockvault.engine.pages import BLOCK_SIZE, FANOUT, Leaf, blocks_in
from blockvault.engine.progress import WRITING, Progress, Report, RestoreResult
from blockvault.engine.root import Roots
from blockvault.engine.state import RootEntry, State
from blockvault.engine.tree import TreeReader
from blockvault.stores import ObjectNotFound, ObjectStore

THREADS = 6
# Blocks this close in a segment come by one request: reading over the gap costs less than asking again.
GAP = 512 * 1024
LARGEST_READ = 4 * 1024 * 1024


@dataclass(frozen=True)
class Piece:
    """A block in a segment. `digest` is that of the whole block, 256 KiB."""

    block: int
    offset: int
    length: int
    codec: int
    digest: bytes


@dataclass(frozen=True)
class Fetch:
    """Blocks that come by one request."""

    segment: ObjectName
    pieces: list[Piece]


class RestoreRun:
    """The state of one run. Use once."""

    def __init__(
        self, store: ObjectStore, state: State, entry: RootEntry, target: str, report: Report
    ) -> None:
        self._store = store
        self._state = state
        self._entry = entry
        self._target_path = target
        self._report = report
        self._paths = LineagePaths(state.lineage)
        self._key = LineageKey(bytes.fromhex(state.key["key"]))
        self._progress = Progress(phase=WRITING, bytes_total=entry.size)

    def run(self) -> RestoreResult:
        """Restore, and make it durable."""
        started = runtime.monotonic()
        requests = self._store.traffic.total_requests
        fetched = self._store.traffic.bytes_down
        root = Roots(self._store, self._paths).read(self._entry)
        reader = TreeReader(self._store, self._paths, self._key, root.top, root.levels)
        target = Target(self._target_path, root.size)
        try:
            self._write(reader, target, root.size)
            target.finish()
        finally:
            target.close()
        self._progress.bytes_scanned = root.size
        self._report(self._progress)
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
        )

    def _write(self, reader: TreeReader, target: Target, size: int) -> None:
        pool = runtime.executor(THREADS, "restore")
        waiting: deque[Future[int]] = deque()
        zeros = _ZeroRun(target, size)
        leaves = -(-blocks_in(size) // FANOUT)
        try:
            for number, leaf in reader.leaves(range(leaves)):
                _zero(zeros, number, leaf, blocks_in(size))
                for fetch in _fetches(number, leaf):
                    waiting.append(pool.submit(self._fetch, fetch, target, size))
                    if len(waiting) > 2 * THREADS:
                        self._progress.bytes_written += waiting.popleft().result()
                self._progress.bytes_scanned = min(size, (number + 1) * FANOUT * BLOCK_SIZE)
                self._report(self._progress)
            zeros.flush()
            while waiting:
                self._progress.bytes_written += waiting.popleft().result()
                self._report(self._progress)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, fetch: Fetch, target: Target, size: int) -> int:
        start = fetch.pieces[0].offset
        data = self._read(fetch.segment, start, fetch.pieces[-1].offset + fetch.pieces[-1].length - start)
        written = 0
        for piece in fetch.pieces:
            stored = data[piece.offset - start : piece.offset - start + piece.length]
            try:
                plain = self._check(piece, stored)
            except codec.CodecError:
                # Once more before it counts as damage: the way from the store may have been at fault.
                try:
                    plain = self._check(piece, self._read(fetch.segment, piece.offset, piece.length))
                except codec.CodecError as error:
                    raise StoredDataDamaged(
                        f"{self._paths.segment(fetch.segment)}: {piece.length} bytes at {piece.offset} "
                        f"(volume offset {piece.block * BLOCK_SIZE}): {error}"
                    ) from error
            offset = piece.block * BLOCK_SIZE
            part = memoryview(plain)[: size - offset]
            target.write(offset, part)
            written += len(part)
        return written

    def _read(self, segment: ObjectName, start: int, length: int) -> bytes:
        key = self._paths.segment(segment)
        try:
            return self._store.get(key, start, length)
        except ObjectNotFound as error:
            raise StoredDataDamaged(f"{key}: segment is missing") from error

    def _check(self, piece: Piece, stored: bytes) -> bytes:
        plain = codec.decompress(piece.codec, stored, BLOCK_SIZE)
        if self._key.block(plain) != piece.digest:
            raise codec.CodecError("the hash does not match")
        return plain


class _ZeroRun:
    """Joins neighbouring zero blocks, so that the kernel zeroes long ranges at once."""

    def __init__(self, target: Target, size: int) -> None:
        self._target = target
        self._size = size
        self._first = self._end = 0

    def add(self, first: int, end: int) -> None:
        """Blocks [first, end) are zero."""
        if first != self._end:
            self.flush()
            self._first = first
        self._end = end

    def flush(self) -> None:
        """Zero what was collected."""
        offset = self._first * BLOCK_SIZE
        self._target.zero(offset, max(0, min(self._end * BLOCK_SIZE, self._size) - offset))
        self._first = self._end


def _zero(zeros: _ZeroRun, number: int, leaf: Leaf | None, blocks: int) -> None:
    base = number * FANOUT
    last = min(base + FANOUT, blocks)
    if leaf is None:
        zeros.add(base, last)
        return
    for slot in range(last - base):
        if leaf.place(slot) is None:
            zeros.add(base + slot, base + slot + 1)


def _fetches(number: int, leaf: Leaf | None) -> Iterator[Fetch]:
    """The stored blocks of a leaf, grouped so that each group is worth one request."""
    if leaf is None:
        return
    hashes = leaf.hashes()
    places = []
    for slot in range(FANOUT):
        place = leaf.place(slot)
        if place is not None:
            segment, offset, length, codec_id = place
            digest = hashes[slot * 32 : slot * 32 + 32]
            places.append((segment, Piece(number * FANOUT + slot, offset, length, codec_id, digest)))
    places.sort(key=lambda item: (item[0], item[1].offset))
    group: list[Piece] = []
    current: ObjectName | None = None
    for name, piece in places:
        if group and (
            name != current
            or piece.offset - (group[-1].offset + group[-1].length) > GAP
            or piece.offset + piece.length - group[0].offset > LARGEST_READ
        ):
            assert current is not None
            yield Fetch(current, group)
            group = []
        current = name
        group.append(piece)
    if group and current is not None:
        yield Fetch(current, group)
