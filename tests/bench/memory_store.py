"""A store in memory that keeps templates once, and one that has objects generated as they are read beside it."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import accumulate
from typing import Protocol

from blockvault.engine.pages import BLOCK_SIZE
from blockvault.stores import AlreadyExists, ObjectInfo, ObjectNotFound, StoreRefused, Traffic
from blockvault.stores.base import Data, ObjectStore
from tests.bench.templates import known

# Keys that one request lists, as with S3.
LISTED = 1000
HEADER = 128


class Rope:
    """Bytes as a row of parts, so that equal parts are in memory once."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, start: int, end: int) -> bytes:
        """The bytes [start, end)."""
        found = []
        number = bisect_right(self._ends, start)
        while start < end and number < len(self._parts):
            before = self._ends[number] - len(self._parts[number])
            found.append(self._parts[number][start - before : end - before])
            start, number = self._ends[number], number + 1
        return b"".join(found)


def folded(data: Data) -> Rope:
    """An object, with the templates that stand in it one after the other taken from where they are anyway."""
    view = memoryview(data)
    parts, at = [bytes(view[:HEADER])], HEADER
    while (block := known(view[at : at + BLOCK_SIZE])) is not None:
        parts.append(block)
        at += BLOCK_SIZE
    return Rope([*parts, bytes(view[at:])])


class MemoryStore:
    """An ObjectStore in memory. Listing counts as many requests as S3 would need."""

    def __init__(self) -> None:
        self.url = "memory:"
        self.traffic = Traffic()
        self._objects: dict[str, Rope] = {}
        self._lock = threading.Lock()

    def view(self) -> MemoryStore:
        """The same objects through another client, which counts by itself."""
        other = MemoryStore()
        other._objects, other._lock = self._objects, self._lock
        return other

    @property
    def stored(self) -> int:
        """Bytes of all objects."""
        with self._lock:
            return sum(map(len, self._objects.values()))

    @property
    def requests(self) -> dict[str, int]:
        """See ObjectStore."""
        return dict(self.traffic.requests)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ObjectStore."""
        self.traffic.count("get")
        found = self._objects.get(key)
        if found is None:
            raise ObjectNotFound(f"{key} does not exist")
        data = found.read(start, len(found) if length is None else min(len(found), start + length))
        self.traffic.count("", down=len(data))
        return data

    def put(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self.traffic.count("put", up=len(data))
        rope = folded(data)
        with self._lock:
            self._objects[key] = rope

    def create(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self.traffic.count("create", up=len(data))
        rope = folded(data)
        with self._lock:
            if key in self._objects:
                raise AlreadyExists(f"{key} exists")
            self._objects[key] = rope

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        with self._lock:
            found = sorted(key for key in self._objects if key.startswith(prefix))
            infos = [ObjectInfo(key, len(self._objects[key])) for key in found]
        return counted(self.traffic, iter(infos))

    def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore."""
        for number, key in enumerate(keys):
            if number % LISTED == 0:
                self.traffic.count("delete")
            with self._lock:
                self._objects.pop(key, None)

    def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        self.traffic.count("head")
        found = self._objects.get(key)
        if found is None:
            raise ObjectNotFound(f"{key} does not exist")
        return ObjectInfo(key, len(found))

    def lock_until(self, key: str) -> datetime | None:
        """See ObjectStore. There are no locks here."""
        return None

    def extend_lock(self, keys: Iterable[str], until: datetime) -> None:
        """See ObjectStore. There are no locks here."""
        raise StoreRefused("no locks in memory", remedy="None is needed.")


def counted(traffic: Traffic, infos: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
    """The same, with a request for each thousand."""
    traffic.count("list")
    for number, info in enumerate(infos, 1):
        if number % LISTED == 0:
            traffic.count("list")
        yield info


class Generated(Protocol):
    """Objects that are made as they are read."""

    def size(self, key: str) -> int | None:
        """Bytes of one; None when it is not there."""

    def read(self, key: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of one that is there."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Those whose keys begin so."""

    def delete(self, key: str) -> None:
        """Let one be gone."""


class LayeredStore:
    """Generated objects, and beside them a store for all that is written."""

    def __init__(self, generated: Generated, written: ObjectStore) -> None:
        self.url = written.url
        self.traffic = written.traffic
        self._generated = generated
        self._written = written

    @property
    def requests(self) -> dict[str, int]:
        """See ObjectStore."""
        return self._written.requests

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ObjectStore."""
        size = self._generated.size(key)
        if size is None:
            return self._written.get(key, start, length)
        data = self._generated.read(key, start, size if length is None else min(size, start + length))
        self.traffic.count("get", down=len(data))
        return data

    def put(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._written.put(key, data)

    def create(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._written.create(key, data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        yield from counted(self.traffic, self._generated.list(prefix))
        yield from self._written.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore."""
        left = []
        for key in keys:
            if self._generated.size(key) is None:
                left.append(key)
            else:
                self._generated.delete(key)
        self.traffic.count("delete")
        self._written.delete(left)

    def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        size = self._generated.size(key)
        if size is None:
            return self._written.stat(key)
        self.traffic.count("head")
        return ObjectInfo(key, size)

    def lock_until(self, key: str) -> datetime | None:
        """See ObjectStore. There are no locks here."""
        return None

    def extend_lock(self, keys: Iterable[str], until: datetime) -> None:
        """See ObjectStore. There are no locks here."""
        self._written.extend_lock(keys, until)
