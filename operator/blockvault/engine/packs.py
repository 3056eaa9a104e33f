"""Segments and page objects: many items in one object, with a directory at its end; and their uploads."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future

from blockvault.engine import envelope, items, runtime
from blockvault.engine.codec import CodecError
from blockvault.engine.hashing import Buffer, ObjectChecksum
from blockvault.engine.items import DIGESTS, Head
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import NameSource, ObjectName
from blockvault.stores import ObjectStore

SEGMENT_SIZE = 32 * 1024 * 1024
PAGES_SIZE = 8 * 1024 * 1024
# What is on its way when a run dies has to be sent again: two segments are the 64 MiB that a resumed run may lose.
UPLOADS_IN_FLIGHT = 2

# Bytes that room for an object begins with; it grows by doubling, but by no more than so many at a time.
_FIRST_ROOM = 64 * 1024
_MOST_GROWTH = 1024 * 1024

# Bytes that go into the checksum at once: each time, other threads may run first.
CHECKED_TOGETHER = 1024 * 1024

# number (of the block, or of the page in its level), offset, stored length, plain length, codec, kind, level,
# mask of sectors (patches only), hash
_ITEM = struct.Struct("<QIIIBBBxQ32s")
# offset of the directory, number of entries, hash of the directory
_TRAILER = struct.Struct("<QI4x32s")
ITEM_SIZE, TRAILER_SIZE = _ITEM.size, _TRAILER.size
assert (ITEM_SIZE, TRAILER_SIZE) == (64, 48)
# Of an object's end: the bytes of the trailer that readers do not look at.
TRAILER_ZEROS = slice(-36, -32)
_DIRECTORY_BOUND = b"directory"


class Entry:
    """One line of a directory."""

    __slots__ = ("digest", "head", "length", "offset")

    def __init__(self, head: Head, offset: int, length: int, digest: bytes) -> None:
        self.head = head
        self.offset = offset
        self.length = length
        self.digest = digest


class _Room:
    """Bytes of an object under construction. Used again for the next object: fresh memory costs more than a copy."""

    def __init__(self, target: int) -> None:
        self._data = bytearray(_FIRST_ROOM)
        self.target = target
        self.used = 0

    def append(self, part: Buffer) -> None:
        """Add at the end."""
        end = self.used + len(part)
        if end > len(self._data):
            more = max(end - len(self._data), min(len(self._data), _MOST_GROWTH))
            self._data.extend(bytes(more))
        self._data[self.used : end] = part
        self.used = end

    def content(self) -> memoryview:
        """All that was added."""
        return memoryview(self._data)[: self.used]


class Uploads:
    """Sends finished objects from a few threads; the first failure is raised to whoever comes next."""

    def __init__(self, store: ObjectStore, in_flight: int = UPLOADS_IN_FLIGHT) -> None:
        self._store = store
        self._pool = runtime.executor(in_flight, "upload")
        # One more object may be under construction for each kind; those that wait hold their memory.
        self._slots = threading.Semaphore(in_flight)
        self._futures: list[Future[None]] = []
        self._rooms: dict[int, list[_Room]] = {}
        self.bytes_sent = 0
        self._lock = threading.Lock()

    def room(self, target: int) -> _Room:
        """Room for an object of about so many bytes, empty. Small ones are not kept in the room of large ones."""
        with self._lock:
            rooms = self._rooms.setdefault(target, [])
            room = rooms.pop() if rooms else _Room(target)
        room.used = 0
        return room

    def send(self, key: str, room: _Room) -> None:
        """Queue one object; waits while as many as allowed are on their way."""
        self._slots.acquire()
        self._raise_first()
        self._futures.append(self._pool.submit(self._send, key, room))

    def _send(self, key: str, room: _Room) -> None:
        try:
            self._store.put(key, room.content())
            with self._lock:
                self.bytes_sent += room.used
                self._rooms[room.target].append(room)
        finally:
            self._slots.release()

    def _raise_first(self) -> None:
        pending = []
        for future in self._futures:
            if future.done():
                future.result()
            else:
                pending.append(future)
        self._futures = pending

    def finish(self) -> None:
        """Wait until everything that was sent has arrived. Raises the first failure."""
        for future in self._futures:
            future.result()
        self._futures = []

    def close(self) -> None:
        """Give up what has not begun; does not raise."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class PackWriter:
    """Collects items into objects of about `target` bytes. Names are fixed before the bytes are complete."""

    def __init__(
        self,
        kind: envelope.Kind,
        lineage: Lineage,
        names: NameSource,
        key_of: Callable[[ObjectName], str],
        uploads: Uploads,
        target: int,
    ) -> None:
        self._kind = kind
        self._lineage = lineage
        self._names = names
        self._key_of = key_of
        self._uploads = uploads
        self._target = target
        self.sizes: dict[ObjectName, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._name: ObjectName | None = None
        self._room = self._uploads.room(self._target)
        self._room.append(bytes(envelope.HEADER_SIZE))
        self._directory = bytearray()
        self._checksum = ObjectChecksum()
        self._checked = self._room.used

    def add(self, head: Head, data: Buffer, digest: bytes = b"") -> tuple[ObjectName, int, int]:
        """Append what the codec made of an item; (object, offset in it, length as stored).

        Sector digests have no line in the directory: it is there to find blocks and pages again.
        """
        if self._name is None:
            self._name = self._names.fresh()
        name, offset = self._name, self._room.used
        stored = items.pack(self._lineage, name, offset, head, data)
        self._room.append(stored)
        self._check(CHECKED_TOGETHER)
        if head.kind != DIGESTS:
            self._directory += _ITEM.pack(
                head.number,
                offset,
                len(stored),
                head.plain,
                head.codec,
                head.kind,
                head.level,
                head.mask,
                digest,
            )
        if self._room.used >= self._target:
            self.flush()
        return name, offset, len(stored)

    def _check(self, least: int) -> None:
        """Take what was added into the checksum, when it is so much."""
        if self._room.used - self._checked >= least:
            self._checksum.update(self._room.content()[self._checked :])
            self._checked = self._room.used

    def flush(self) -> None:
        """Close and send the object under construction, if there is one."""
        if self._name is None:
            return
        room, key = self._room, self._key_of(self._name)
        tail = seal_directory(self._lineage, self._name, room.used, bytes(self._directory))
        room.append(tail)
        self._check(1)
        body = room.used - envelope.HEADER_SIZE
        head = envelope.header(
            self._kind,
            self._name.pack(),
            codec_id=0,
            clear=0,
            stored=body,
            plain=body,
            encrypted=self._lineage.cipher is not None,
        )
        room.content()[: envelope.HEADER_SIZE] = head + self._checksum.finish(head, key)
        self.sizes[self._name] = room.used
        self._uploads.send(key, room)
        self._begin()


def seal_directory(lineage: Lineage, name: ObjectName, offset: int, directory: bytes) -> bytes:
    """The directory as it stands at `offset`, and the trailer after it."""
    count, digest = len(directory) // ITEM_SIZE, lineage.keys.directory(directory)
    if lineage.cipher is not None:
        directory = lineage.cipher.of_object(name.pack()).seal(offset, directory, _DIRECTORY_BOUND)
    return directory + _TRAILER.pack(offset, count, digest)


def open_directory(lineage: Lineage, name: ObjectName, tail: bytes, size: int) -> tuple[int, list[Entry]]:
    """(bytes of the end that hold it, entries) from the end of an object of `size` bytes.

    No entries when `tail` is shorter than needed. Raises CodecError when it is not what was written.
    """
    if len(tail) < TRAILER_SIZE:
        raise CodecError("cut short")
    offset, count, digest = _TRAILER.unpack_from(tail, len(tail) - TRAILER_SIZE)
    length = count * ITEM_SIZE + items.overhead(lineage)
    needed = length + TRAILER_SIZE
    if offset + needed != size:
        raise CodecError("its directory is not at its end")
    if len(tail) < needed:
        return needed, []
    directory = tail[len(tail) - needed : len(tail) - TRAILER_SIZE]
    if lineage.cipher is not None:
        directory = lineage.cipher.of_object(name.pack()).open(offset, directory, _DIRECTORY_BOUND)
    if lineage.keys.directory(directory) != digest:
        raise CodecError("the hash of its directory does not match")
    return needed, [
        Entry(Head(number, kind, level, codec_id, plain, mask), at, length, digest_)
        for number, at, length, plain, codec_id, kind, level, mask, digest_ in _ITEM.iter_unpack(directory)
    ]


def segment_writer(lineage: Lineage, names: NameSource, uploads: Uploads) -> PackWriter:
    """For blocks and block patches."""
    return PackWriter(envelope.Kind.SEGMENT, lineage, names, lineage.paths.segment, uploads, SEGMENT_SIZE)


def page_writer(lineage: Lineage, names: NameSource, uploads: Uploads) -> PackWriter:
    """For pages, page patches and sector digests."""
    return PackWriter(envelope.Kind.PAGES, lineage, names, lineage.paths.pages, uploads, PAGES_SIZE)
