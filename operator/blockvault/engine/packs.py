"""Segments and page objects: many items in one object, with a directory at its end; and their uploads."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from blockvault.engine import envelope, runtime
from blockvault.engine.hashing import ObjectChecksum
from blockvault.engine.names import LineagePaths, NameSource, ObjectName
from blockvault.stores import ObjectStore

SEGMENT_SIZE = 32 * 1024 * 1024
PAGES_SIZE = 8 * 1024 * 1024
UPLOADS_IN_FLIGHT = 4

# number (of the block, or of the page in its level), offset, stored length, plain length, codec, kind, level,
# mask of sectors (patches only), hash
_ITEM = struct.Struct("<QIIIBBBxQ32s")
_TRAILER = struct.Struct("<QII")
assert _ITEM.size == 64


@dataclass(frozen=True)
class Item:
    """What the directory says of one item."""

    number: int
    kind: int
    level: int
    codec: int
    plain: int
    digest: bytes


class Uploads:
    """Sends finished objects from a few threads; the first failure is raised to whoever comes next."""

    def __init__(self, store: ObjectStore, in_flight: int = UPLOADS_IN_FLIGHT) -> None:
        self._store = store
        self._pool = runtime.executor(in_flight, "upload")
        # One more object may be under construction for each kind; those that wait hold their memory.
        self._slots = threading.Semaphore(in_flight)
        self._futures: list[Future[None]] = []
        self.bytes_sent = 0
        self._lock = threading.Lock()

    def send(self, key: str, data: bytearray) -> None:
        """Queue one object; waits while as many as allowed are on their way."""
        self._slots.acquire()
        self._raise_first()
        self._futures.append(self._pool.submit(self._send, key, data))

    def _send(self, key: str, data: bytearray) -> None:
        try:
            self._store.put(key, data)
            with self._lock:
                self.bytes_sent += len(data)
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
        names: NameSource,
        key_of: Callable[[ObjectName], str],
        uploads: Uploads,
        target: int,
    ) -> None:
        self._kind = kind
        self._names = names
        self._key_of = key_of
        self._uploads = uploads
        self._target = target
        self.sizes: dict[ObjectName, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._name: ObjectName | None = None
        self._data = bytearray(envelope.HEADER_SIZE)
        self._directory = bytearray()
        self._checksum = ObjectChecksum()

    def add(self, item: Item, stored: bytes) -> tuple[ObjectName, int]:
        """Append; (object, offset in it)."""
        if self._name is None:
            self._name = self._names.fresh()
        name, offset = self._name, len(self._data)
        self._data += stored
        self._checksum.update(stored)
        self._directory += _ITEM.pack(
            item.number, offset, len(stored), item.plain, item.codec, item.kind, item.level, 0, item.digest
        )
        if len(self._data) >= self._target:
            self.flush()
        return name, offset

    def flush(self) -> None:
        """Close and send the object under construction, if there is one."""
        if self._name is None:
            return
        data, key = self._data, self._key_of(self._name)
        tail = bytes(self._directory) + _TRAILER.pack(len(data), len(self._directory) // _ITEM.size, 0)
        data += tail
        self._checksum.update(tail)
        body = len(data) - envelope.HEADER_SIZE
        head = envelope.header(self._kind, self._name.pack(), codec_id=0, clear=0, stored=body, plain=body)
        data[: envelope.HEADER_SIZE] = head + self._checksum.finish(head, key)
        self.sizes[self._name] = len(data)
        self._begin()
        self._uploads.send(key, data)


def segment_writer(names: NameSource, paths: LineagePaths, uploads: Uploads) -> PackWriter:
    """For blocks."""
    return PackWriter(envelope.Kind.SEGMENT, names, paths.segment, uploads, SEGMENT_SIZE)


def page_writer(names: NameSource, paths: LineagePaths, uploads: Uploads) -> PackWriter:
    """For pages."""
    return PackWriter(envelope.Kind.PAGES, names, paths.pages, uploads, PAGES_SIZE)
