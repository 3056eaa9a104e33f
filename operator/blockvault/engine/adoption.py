"""What a dead run of the same backup had sent already, found again by the directories of its segments.

Segments of one run hold blocks in ascending order, so they are walked through beside the scan, one directory at a
time. A block is adopted only when the block just read has the very same hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from blockvault.engine.codec import CodecError
from blockvault.engine.fetching import get
from blockvault.engine.leaf import Piece, Spot
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.packs import Entry, open_directory
from blockvault.engine.scan import Found
from blockvault.stores import ObjectNotFound, ObjectStore

# The end of a segment that is read first; the directory of one with ordinary blocks fits.
FIRST_READ = 32 * 1024


class Adoption:
    """Segments of dead epochs. `patches_of`: the epoch whose patches fit as well, as it had the same parent.

    Create it only after the commit that takes the epochs over counts: then nothing of them can be condemned.
    """

    def __init__(
        self, store: ObjectStore, lineage: Lineage, epochs: Iterable[int], patches_of: int | None
    ) -> None:
        self.sizes: dict[ObjectName, int] = {}
        self.bytes_adopted = 0
        self._cursors = [
            _Cursor(store, lineage, epoch, patches=epoch == patches_of)
            for epoch in sorted(epochs, reverse=True)
        ]

    def find(self, found: Found, digests: Spot) -> Piece | None:
        """Where the same bytes lie already; None when they have to be sent."""
        for cursor in self._cursors:
            entry = cursor.find(found)
            if entry is not None:
                name, size = cursor.segment
                self.sizes[name] = size
                self.bytes_adopted += entry.length
                return Piece(name, entry.offset, entry.length, entry.head.codec, found.mask, digests)
        return None


class _Cursor:
    """Goes through the segments of one epoch in the order in which they were made."""

    def __init__(self, store: ObjectStore, lineage: Lineage, epoch: int, *, patches: bool) -> None:
        self._store = store
        self._lineage = lineage
        self._patches = patches
        listed = []
        for info in store.list(lineage.paths.segments_of(epoch)):
            with suppress(ValueError):  # somebody else's file
                listed.append((lineage.paths.parse(info.key)[1], info.size))
        self._waiting = sorted(listed, reverse=True)
        self._entries: dict[tuple[int, int], Entry] = {}
        self._last = -1
        self.segment = (ObjectName(0, 0, 0), 0)

    def find(self, found: Found) -> Entry | None:
        """The entry of the same block with the same bytes."""
        while found.block > self._last and self._waiting:
            self.segment = self._waiting.pop()
            entries = self._directory(*self.segment)
            self._entries = {(entry.head.number, entry.head.mask): entry for entry in entries}
            self._last = max((entry.head.number for entry in entries), default=-1)
        if found.mask and not self._patches:
            return None
        entry = self._entries.get((found.block, found.mask))
        return entry if entry is not None and entry.digest == found.digest else None

    def _directory(self, name: ObjectName, size: int) -> list[Entry]:
        """The directory of a segment. What cannot be read back is not adopted: its blocks are sent again."""
        key = self._lineage.paths.segment(name)
        try:
            start = max(0, size - FIRST_READ)
            tail = get(self._store, key, start, size - start)
            needed, entries = open_directory(self._lineage, name, tail, size)
            if needed > len(tail):
                tail = get(self._store, key, size - needed, needed)
                _, entries = open_directory(self._lineage, name, tail, size)
        except (ObjectNotFound, CodecError):
            return []
        return entries
