"""Sets of objects of one lineage, with their sizes: what backups need, what the store lists.

Sorted arrays instead of dictionaries of keys, as there may be half a million objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from blockvault.engine import summary
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import ListingImplausible
from blockvault.engine.names import LineagePaths, ObjectName
from blockvault.engine.summary import Records
from blockvault.stores import ObjectStore

# Objects of a listing that are held one by one before they are packed.
CHUNK = 4096


class Objects:
    """Objects by kind and name, each once. Of the records only kind, name and size count."""

    def __init__(self, records: Records | None = None) -> None:
        self.records = summary.empty() if records is None else records
        self._keys = summary.keys_of(self.records)

    @classmethod
    def of(cls, found: Iterable[tuple[Kind, ObjectName, int]]) -> Objects:
        """From (kind, name, size in bytes); of what comes twice the first counts."""
        chunks: list[Records] = []
        pending: list[tuple[int, int, int, int, int, int]] = []
        for kind, name, size in found:
            pending.append((*name, size, kind, 0))
            if len(pending) == CHUNK:
                chunks.append(np.array(pending, summary.RECORD))
                pending = []
        chunks.append(np.array(pending, summary.RECORD))
        return cls(_unique(np.concatenate(chunks)))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[Kind, ObjectName, int]]:
        for record in self.records:
            yield Kind(int(record["kind"])), summary.name_of(record), int(record["size"])

    @property
    def total(self) -> int:
        """Bytes of all together."""
        return int(self.records["size"].sum(dtype=np.int64))

    @property
    def epochs(self) -> npt.NDArray[np.uint32]:
        """The epoch of each."""
        return self.records["epoch"]

    def join(self, others: list[Records]) -> Objects:
        """With these as well; what is here already stays as it is."""
        return Objects(_unique(np.concatenate([self.records, *others]))) if others else self

    def where(self, mask: npt.NDArray[np.bool_]) -> Objects:
        """Those that a mask chooses."""
        return Objects(self.records[mask])

    def later_than(self, epoch: int) -> Objects:
        """Those of later epochs: a state that knows of none of them is not the newest there has been."""
        return self.where(self.epochs > epoch)

    def within(self, other: Objects) -> npt.NDArray[np.bool_]:
        """Of each whether `other` has it, of whatever size."""
        return summary.found_in(other._keys, self._keys)[0]

    def lacking(self, other: Objects) -> Objects:
        """Those that `other` does not have, or of another size."""
        found, places = summary.found_in(other._keys, self._keys)
        same = np.zeros(len(self), np.bool_)
        same[found] = other.records["size"][places[found]] == self.records["size"][found]
        return self.where(~same)

    def keys(self, paths: LineagePaths) -> list[str]:
        """Their keys in the store, in order."""
        return [paths.object(kind, name) for kind, name, _ in self]


def _unique(records: Records) -> Records:
    """In order, the first of each."""
    records = summary.ordered(records)
    keys = summary.keys_of(records)
    first = np.ones(len(records), np.bool_)
    first[1:] = keys[1:] != keys[:-1]
    return records[first]


def listed(store: ObjectStore, paths: LineagePaths) -> Objects:
    """All segments, page objects and roots of a lineage that the store's listing shows.

    Raises ListingImplausible when something else is among them.
    """
    return Objects.of(
        (kind, _name(info.key, folder), info.size)
        for kind, folder in paths.folders.items()
        for info in store.list(folder)
    )


def _name(key: str, folder: str) -> ObjectName:
    try:
        return ObjectName.parse(key[len(folder) :])
    except ValueError as error:
        raise ListingImplausible(
            f"{key}: not an object of a store of backups",
            remedy="Find out who put it there, and remove it.",
        ) from error
