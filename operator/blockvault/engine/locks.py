"""Object lock: what a backup needs cannot be deleted for its days, though backups share objects for ever.

Objects are stored with a lock of the days and a margin. A backup that inherits objects whose locks would end too early
moves them all, by days and margin again. So each object is touched about once in a margin, and not by each backup.
Nothing is asked of the store to know when: the entry of each backup says until when all that it needs is locked, at
least, and what a backup inherits is a part of that. See docs/immutability.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np

from blockvault.engine import runtime
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import BadRequest
from blockvault.engine.lockrule import LockRule, held
from blockvault.engine.names import ObjectName
from blockvault.engine.objects import Objects
from blockvault.engine.root import Root
from blockvault.engine.state import RootEntry
from blockvault.engine.summary import Changes
from blockvault.engine.volumes import Volumes
from blockvault.engine.work import Work
from blockvault.stores import ObjectNotFound, ObjectStore


class BackupLock:
    """Locks what one backup needs. Without a lock in the store's record it does nothing."""

    def __init__(self, store: ObjectStore, volumes: Volumes, volume: str, days: int | None) -> None:
        """`days`: for which this backup is locked at least. Raises BadRequest."""
        self._store = store
        self._volumes = volumes
        self._volume = volume
        given = volumes.lock
        self._ordinary = None if given is None else LockRule(given)
        if days is not None and given is None:
            raise BadRequest(
                f"volume {volume}: {days} days of lock are asked for, and this store was made without",
                remedy="Leave it out, or make a store with `blockvault init --lock-days` in a bucket with object lock.",
            )
        self._rule = None if self._ordinary is None else self._ordinary.at_least(days)

    def extend(
        self, work: Work, above: RootEntry | None, parent: Root | None, changes: Changes
    ) -> float | None:
        """Move the locks that end too early of all that the backup needs, but its own root. When they end, at least.

        `above`, `parent`: what it builds on. To be called when all else has arrived. Raises AccessDenied.
        """
        if self._rule is None or self._ordinary is None:
            return None
        now = runtime.wall()
        target = self._rule.end(now)
        records = changes.records()
        fresh = Objects(records[(records["size"] > 0) & (records["live"] > 0)])
        own = self._ordinary.end(runtime.seconds_of(work.attempt.started_at))
        short = self._rule.due(own, now)
        # What dead runs have sent may be of any age.
        wanted = fresh if short else fresh.where(np.isin(fresh.epochs, work.attempt.adopts))
        ends = [target if short else own]
        before = None if parent is None else held(above)
        if before is None or self._rule.due(before, now):
            self._move(self._volumes.records_of(self._volume, work.lineage), target)
            ends.append(target)
            if above is not None and parent is not None:
                inherited = _inherited(work, above, changes)
                wanted = wanted.join([inherited.where(~inherited.within(fresh)).records])
        else:
            ends.append(before)
        self._move((work.lineage.paths.object(kind, name) for kind, name, _ in wanted), target)
        return min(ends)

    def stored(self, prefix: str) -> None:
        """The root has been stored, or the commit: lock it too, if this backup is locked for longer than others."""
        if self._rule is not None and self._rule is not self._ordinary:
            self._move((info.key for info in self._store.list(prefix)), self._rule.end(runtime.wall()))

    def _move(self, keys: Iterator[str], until: float) -> None:
        # What is missing cannot be locked. That is damage, which verify names; it must not stop all backups.
        with suppress(ObjectNotFound):
            self._store.extend_lock(keys, datetime.fromtimestamp(until, UTC))


def _inherited(work: Work, above: RootEntry, changes: Changes) -> Objects:
    """What a backup shares with its parent: objects of the tree, and roots on which its summary may be based."""
    whole = changes.apply(work.roots.summary(ObjectName.parse(above.object)))
    roots: list[tuple[Kind, ObjectName, int]] = []
    base: tuple[ObjectName, int] | None = (ObjectName.parse(above.object), above.object_bytes)
    while base is not None:
        roots.append((Kind.ROOT, *base))
        base = work.roots.at(base[0]).base
    return Objects.of(roots).join([whole.records])
