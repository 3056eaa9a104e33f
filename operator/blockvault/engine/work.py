"""What a backup was asked for, what it works with, and what its upload leaves for the commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blockvault.engine import runtime, samples
from blockvault.engine.attempts import LATEST
from blockvault.engine.changes import ChangedList
from blockvault.engine.commits import Commits
from blockvault.engine.devices import Source
from blockvault.engine.errors import StoredDataDamaged
from blockvault.engine.fetching import Together
from blockvault.engine.former import DigestGroup, FormerLeaf
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import NameSource, ObjectName
from blockvault.engine.pages import FANOUT, NO_REFERENCE, levels_for
from blockvault.engine.progress import Report, quiet
from blockvault.engine.root import Root, Roots
from blockvault.engine.state import Attempt, RootEntry, State
from blockvault.engine.summary import MAX_DEPTH
from blockvault.engine.tree import TreeReader
from blockvault.stores import ObjectStore

# Where the knowledge of what changed came from; where it is a list, the list says whose it is.
FULL = "Full"
COMPARE = "Compare"


@dataclass
class BackupRequest:
    """What to back up, and how.

    `source`: path of a device or file. `operation_id`: at most one backup is ever made for it; asked again,
    the same result comes back, or the run that died goes on. `parent`: a backup id or `latest`; ignored when
    `full`. `changed`: all ranges that may differ from the parent; `no_list`: why there is none though one was hoped
    for, kept as the reason of a run that compares. `meta`: kept with the backup, at most 64 KiB
    as JSON. `skip_unreadable`: what the source cannot give is stored as zeros and recorded. `lock_days`: of days for
    which it is locked, where that is more than the store's own. `turn`: which try of the operation this is, where
    somebody counts: one that was given up does not take over from a later one.
    """

    source: str
    volume: str
    operation_id: str = field(default_factory=runtime.random_id)
    full: bool = False
    parent: str = LATEST
    changed: ChangedList | None = None
    no_list: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    report: Report = quiet
    threads: int | None = None
    skip_unreadable: bool = False
    lock_days: int | None = None
    turn: int = 0


class Work:
    """What a run works with, from its first commit on."""

    def __init__(
        self,
        store: ObjectStore,
        lineage: Lineage,
        commits: Commits,
        state: State,
        attempt: Attempt,
        source: Source,
        file_system: str | None,
    ) -> None:
        self.store = store
        self.lineage = lineage
        self.commits = commits
        self.state = state
        self.attempt = attempt
        self.source = source
        self.file_system = file_system
        self.roots = Roots(store, lineage)
        self.fallback: str | None = None
        self._together = Together()
        self._damaged = {(item["object"], int(item["offset"])) for item in state.damaged}
        self._pages = [item for item in state.damaged if item.get("page")]
        self.damaged_blocks = sorted({int(block) for item in state.damaged for block in item["blocks"]})

    def reader(self, parent: Root | None) -> TreeReader:
        """The parent's tree, or an empty one."""
        if parent is None:
            return TreeReader(self.store, self.lineage, NO_REFERENCE, levels_for(self.source.size))
        return TreeReader(self.store, self.lineage, parent.top, parent.levels)

    def refuse_damaged(self, parent: RootEntry) -> None:
        """Raises StoredDataDamaged when a page or root that was found damaged is one that the parent needs.

        Also when what the parent needs cannot be told, and the new root would have to say it as a whole.
        """
        if self.roots.read(parent).depth + 1 >= MAX_DEPTH:
            self.roots.summary(ObjectName.parse(parent.object))
        if not self._pages:
            return
        names = {item["object"] for item in self._pages}
        name: ObjectName | None = ObjectName.parse(parent.object)
        while name is not None:
            if str(name) in names:
                raise StoredDataDamaged(f"{self.lineage.paths.root(name)}: was found damaged")
            base = self.roots.at(name).base
            name = None if base is None else base[0]
        reader = self.reader(self.roots.read(parent))
        for _ in reader.leaves(sorted({int(item["page"][0]) // FANOUT for item in self._pages})):
            pass

    def former(self, number: int, leaf: Leaf | None, asked: set[int] | None) -> FormerLeaf:
        """A leaf of the parent. Blocks that were found damaged are not built upon, so they are stored anew."""
        distrusted: set[int] = set()
        if leaf is not None and self._damaged:
            for block in self.damaged_blocks:
                slot = block % FANOUT
                if block // FANOUT == number and any(
                    (str(spot.name), spot.offset) in self._damaged
                    for piece in leaf.pieces(slot)
                    for spot in (piece, piece.digests)
                    if spot is not None
                ):
                    distrusted.add(slot)
        return FormerLeaf(number, leaf, asked, frozenset(distrusted))

    def group(self, leaves: list[FormerLeaf]) -> DigestGroup:
        """Leaves of the parent whose digests are to be fetched together."""
        return DigestGroup(self.store, self.lineage, self._together, leaves)


@dataclass
class Made:
    """What the upload left for the commit.

    `sent`: bytes of segments and pages sent by this run. `requests`, `seconds`: so far.
    """

    parent_entry: RootEntry | None
    parent: Root | None
    top: np.void
    names: NameSource
    mode: str
    samples: samples.Samples
    sent: int
    fallback: str | None = None
    requests: int = 0
    seconds: float = 0.0
