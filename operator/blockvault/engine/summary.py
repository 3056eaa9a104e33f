"""Which objects a root needs, how large they are, and how many bytes of each are alive.

A root's summary is written as changes to that of its parent, so that it costs what changed; after 16 in a row
it is written whole again. Used bytes are known from summaries alone, without listing the store.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from blockvault.engine.envelope import Kind
from blockvault.engine.names import ObjectName

MAX_DEPTH = 16

# object name, size in bytes (0: as in the base), kind, change of live bytes
_RECORD = struct.Struct("<16sIIq")
RECORD_SIZE = _RECORD.size
assert RECORD_SIZE == 32


@dataclass
class Usage:
    """One object of a root: its size and how many of its bytes the root reaches."""

    kind: Kind
    size: int
    live: int


Summary = dict[ObjectName, Usage]


class Changes:
    """Collects what a backup adds to and takes from its parent's summary."""

    def __init__(self) -> None:
        self._live: dict[tuple[Kind, ObjectName], int] = {}
        self._sizes: dict[ObjectName, int] = {}

    def add(self, kind: Kind, name: ObjectName, count: int) -> None:
        """`count` more bytes of the object are reached; negative for fewer."""
        key = (kind, name)
        self._live[key] = self._live.get(key, 0) + count

    def set_sizes(self, sizes: dict[ObjectName, int]) -> None:
        """Sizes of objects made by this backup."""
        self._sizes.update(sizes)

    def set_sizes_of(self, sizes: dict[ObjectName, int]) -> None:
        """As `set_sizes`, for those of the objects that anything was counted of."""
        named = {name for _, name in self._live}
        self._sizes.update({name: size for name, size in sizes.items() if name in named})

    @property
    def added_bytes(self) -> int:
        """Sizes of all new objects together."""
        return sum(self._sizes.values())

    def apply(self, base: Summary) -> Summary:
        """The parent's summary with these changes; `base` stays as it is."""
        return apply(base, self.records())

    def records(self) -> list[tuple[Kind, ObjectName, int, int]]:
        """(kind, name, size or 0, change of live bytes), in order of names."""
        return sorted(
            (kind, name, self._sizes.get(name, 0), live)
            for (kind, name), live in self._live.items()
            if live or name in self._sizes
        )


def apply(base: Summary, records: Iterable[tuple[Kind, ObjectName, int, int]]) -> Summary:
    """A summary changed by records. Raises ValueError when they do not fit together."""
    result = dict(base)
    for kind, name, size, live in records:
        old = result.get(name)
        if old is None and not size:
            raise ValueError(f"object {name} has no size")
        usage = Usage(kind, size or (old.size if old else 0), live + (old.live if old else 0))
        if usage.live < 0 or (old and old.kind != kind):
            raise ValueError(f"object {name} would have {usage.live} live bytes")
        if usage.live:
            result[name] = usage
        else:
            result.pop(name, None)
    return result


def whole(summary: Summary) -> list[tuple[Kind, ObjectName, int, int]]:
    """A summary as records that need no base."""
    return sorted((usage.kind, name, usage.size, usage.live) for name, usage in summary.items())


def difference(base: Summary, wanted: Summary) -> list[tuple[Kind, ObjectName, int, int]]:
    """The records that make `wanted` out of `base`."""
    records = []
    for name in base.keys() | wanted.keys():
        old, new = base.get(name), wanted.get(name)
        kind = (new or old).kind  # type: ignore[union-attr]
        live = (new.live if new else 0) - (old.live if old else 0)
        size = new.size if new and (old is None or old.size != new.size) else 0
        if live or size:
            records.append((kind, name, size, live))
    return sorted(records)


def encode(records: list[tuple[Kind, ObjectName, int, int]]) -> bytes:
    """Records as they stand in a root."""
    return b"".join(_RECORD.pack(name.pack(), size, kind, live) for kind, name, size, live in records)


def decode(data: bytes) -> list[tuple[Kind, ObjectName, int, int]]:
    """The reverse of `encode`. Raises ValueError."""
    if len(data) % _RECORD.size:
        raise ValueError("summary cut short")
    return [
        (Kind(kind), ObjectName.unpack(name), size, live)
        for name, size, kind, live in _RECORD.iter_unpack(data)
    ]
