"""Which objects a root needs, how large they are, and how many bytes of each are alive.

A root's summary is written as changes to that of its parent, so that it costs what changed; after 16 in a row
it is written whole again. Used bytes are known from summaries alone, without listing the store. In memory they are
arrays of 32 bytes for each object, as they are stored: a volume of 15 TiB needs half a million objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blockvault.engine.envelope import Kind
from blockvault.engine.names import ObjectName

MAX_DEPTH = 16

# In a whole summary `size` is that of the object and `live` what is alive. In changes, `size` may be 0 (as in the
# base) and `live` is what comes to it.
RECORD = np.dtype(
    [
        ("epoch", "<u4"),
        ("sequence", "<u4"),
        ("nonce", "<u8"),
        ("size", "<u4"),
        ("kind", "<u4"),
        ("live", "<i8"),
    ]
)
RECORD_SIZE = RECORD.itemsize
assert RECORD_SIZE == 32

# Big-endian, so that keys sort as bytes the way that records do by number.
_KEY = np.dtype([("kind", ">u4"), ("epoch", ">u4"), ("sequence", ">u4"), ("nonce", ">u8")])

# Changes that wait in a dictionary, before they are folded into an array.
PENDING = 16 * 1024

Records = npt.NDArray[np.void]
Keys = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class Usage:
    """One object of a root: its size and how many of its bytes the root reaches."""

    kind: Kind
    size: int
    live: int


class Summary:
    """All objects that a root needs, besides roots: records in order of kind and name."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def items(self) -> Iterator[tuple[ObjectName, Usage]]:
        """One object at a time."""
        for record in self.records:
            yield name_of(record), Usage(Kind(int(record["kind"])), int(record["size"]), int(record["live"]))

    def __iter__(self) -> Iterator[ObjectName]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return len(self.records)


class Changes:
    """Collects what a backup adds to and takes from its parent's summary."""

    def __init__(self) -> None:
        self._live: dict[tuple[Kind, ObjectName], int] = {}
        self._folded: Records = empty()
        self._sizes: dict[ObjectName, int] = {}

    def add(self, kind: Kind, name: ObjectName, count: int) -> None:
        """`count` more bytes of the object are reached; negative for fewer."""
        key = (kind, name)
        self._live[key] = self._live.get(key, 0) + count
        if len(self._live) >= PENDING:
            self._fold()

    def _fold(self) -> None:
        fresh = empty(len(self._live))
        for place, ((kind, name), live) in enumerate(self._live.items()):
            fresh[place] = (*name, 0, kind, live)
        self._folded = _sum(self._folded, ordered(fresh))
        self._live = {}

    def set_sizes(self, sizes: dict[ObjectName, int]) -> None:
        """Sizes of objects made by this backup."""
        self._sizes.update(sizes)

    def set_sizes_of(self, sizes: dict[ObjectName, int]) -> None:
        """As `set_sizes`, for those of the objects that anything was counted of."""
        self._fold()
        named = {name_of(record) for record in self._folded}
        self._sizes.update({name: size for name, size in sizes.items() if name in named})

    @property
    def added_bytes(self) -> int:
        """Sizes of all new objects together."""
        return sum(self._sizes.values())

    def apply(self, base: Summary) -> Summary:
        """The parent's summary with these changes; `base` stays as it is."""
        return apply(base, self.records())

    def records(self) -> Records:
        """In order of kind and name, without those that change nothing."""
        self._fold()
        records = self._folded.copy()
        sizes = empty(len(self._sizes))
        for place, (name, size) in enumerate(self._sizes.items()):
            sizes[place] = (*name, size, 0, 0)
        sizes = ordered(sizes)
        bare = records.copy()
        bare["kind"] = 0
        found, places = found_in(keys_of(sizes), keys_of(bare))
        records["size"][found] = sizes["size"][places[found]]
        return _changing(records)


def empty(count: int = 0) -> Records:
    """Records of zeros."""
    return np.zeros(count, RECORD)


def name_of(record: np.void) -> ObjectName:
    """The object that a record is about."""
    return ObjectName(int(record["epoch"]), int(record["sequence"]), int(record["nonce"]))


def keys_of(records: Records) -> Keys:
    """Kind and name of each record, to sort and look up by."""
    keys = np.empty(len(records), _KEY)
    for name in ("kind", "epoch", "sequence", "nonce"):
        keys[name] = records[name]
    return keys.view(f"S{_KEY.itemsize}")


def ordered(records: Records) -> Records:
    """In order of kind and name."""
    result: Records = records[np.argsort(keys_of(records), kind="stable")]
    return result


def found_in(keys: Keys, wanted: Keys) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.intp]]:
    """(which of `wanted` are in `keys`, where each is or would be); `keys` are in order."""
    places = np.searchsorted(keys, wanted)
    found = np.zeros(len(wanted), np.bool_)
    inside = places < len(keys)
    found[inside] = keys[places[inside]] == wanted[inside]
    return found, places


def _sum(base: Records, records: Records) -> Records:
    """Live bytes added up, sizes taken from where there is one; both in order, each object once."""
    found, places = found_in(keys_of(base), keys_of(records))
    result = base.copy()
    known, sizes = places[found], records["size"][found]
    result["live"][known] += records["live"][found]
    result["size"][known] = np.where(sizes != 0, sizes, result["size"][known])
    merged: Records = np.insert(result, places[~found], records[~found])
    return merged


def apply(base: Summary, records: Records) -> Summary:
    """A summary changed by records. Raises ValueError when they do not fit together."""
    result = _sum(base.records, records)
    for wrong, cause in ((result["size"] == 0, "no size"), (result["live"] < 0, "less than no live bytes")):
        if wrong.any():
            raise ValueError(f"object {name_of(result[wrong][0])} would have {cause}")
    return Summary(result[result["live"] > 0])


def difference(base: Summary, wanted: Summary) -> Records:
    """The records that make `wanted` out of `base`."""
    before = base.records.copy()
    before["live"] = -before["live"]
    found, places = found_in(keys_of(before), keys_of(wanted.records))
    same = np.zeros(len(wanted), np.bool_)
    same[found] = before["size"][places[found]] == wanted.records["size"][found]
    after = wanted.records.copy()
    after["size"][same] = 0
    before["size"] = 0
    return _changing(_sum(before, after))


def _changing(records: Records) -> Records:
    chosen: Records = records[(records["live"] != 0) | (records["size"] != 0)]
    return chosen


def encode(records: Records) -> bytes:
    """Records as they stand in a root."""
    return records.tobytes()


def decode(data: bytes) -> Records:
    """The reverse of `encode`. Raises ValueError."""
    if len(data) % RECORD_SIZE:
        raise ValueError("summary cut short")
    records: Records = np.frombuffer(data, RECORD)
    keys = keys_of(records)
    if not np.isin(records["kind"], (Kind.SEGMENT, Kind.PAGES)).all() or not (keys[:-1] < keys[1:]).all():
        raise ValueError("summary whose records are of unknown kinds or not in order")
    return records
