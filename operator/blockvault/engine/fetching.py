"""Reading parts of objects with few requests, and believing in a loss only at the second look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from blockvault.engine import runtime
from blockvault.engine.names import ObjectName
from blockvault.stores import ObjectNotFound, ObjectStore

T = TypeVar("T")

# Seconds before an object that seems to be missing is asked for again.
SECOND_LOOK = 0.2


def get(store: ObjectStore, key: str, start: int = 0, length: int | None = None) -> bytes:
    """The bytes of an object that must be there; asked for twice. Raises ObjectNotFound."""
    try:
        return store.get(key, start, length)
    except ObjectNotFound:
        runtime.sleep(SECOND_LOOK)
        return store.get(key, start, length)


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
