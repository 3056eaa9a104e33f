"""Reading parts of objects with few requests, and believing in a loss only at the second look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

from blockvault.engine import envelope, runtime
from blockvault.engine.names import ObjectName
from blockvault.stores import ObjectNotFound, ObjectStore

T = TypeVar("T")
R = TypeVar("R")

# Seconds before an object that seems to be missing is asked for again.
SECOND_LOOK = 0.2


def get(store: ObjectStore, key: str, start: int = 0, length: int | None = None) -> bytes:
    """The bytes of an object that must be there; asked for twice. Raises ObjectNotFound."""
    try:
        return store.get(key, start, length)
    except ObjectNotFound:
        runtime.sleep(SECOND_LOOK)
        return store.get(key, start, length)


class Together:
    """Calls that wait for the store, made side by side."""

    def __init__(self, threads: int = 8) -> None:
        self._threads = threads
        self._pool: Executor | None = None

    def map(self, work: Callable[[T], R], things: list[T]) -> list[R]:
        """The results in order. Raises the first error."""
        if len(things) < 2:
            return [work(thing) for thing in things]
        if self._pool is None:
            self._pool = runtime.executor(self._threads, "together")
        return list(self._pool.map(work, things))


def get_whole(store: ObjectStore, key: str, *, expected: bool = False) -> bytes:
    """A whole object; asked for again when its checksum does not fit, as the way from the store may be at fault.

    What comes then is given back as it is, for the caller to judge. `expected`: it must be there, so absence is
    looked at twice as well. Raises ObjectNotFound.
    """
    data = get(store, key) if expected else store.get(key)
    return data if envelope.intact(key, data) else store.get(key)


def runs(
    items: Iterable[T], place: Callable[[T], tuple[ObjectName, int, int]], *, gap: int, largest: int
) -> Iterator[list[T]]:
    """Items grouped so that each group is worth one request.

    `place` gives (object, offset, length). Items of one object that lie at most `gap` bytes apart come together,
    up to `largest` bytes: reading over a gap costs less than asking again.
    """
    run: list[T] = []
    start = end = 0
    current: ObjectName | None = None
    for item in sorted(items, key=place):
        name, offset, length = place(item)
        if run and (name != current or offset - end > gap or offset + length - start > largest):
            yield run
            run = []
        if not run:
            current, start = name, offset
        run.append(item)
        end = offset + length
    if run:
        yield run
