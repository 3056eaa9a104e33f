"""Whether what backups need is locked for as long as they say, by a few samples."""

from __future__ import annotations

import random

from blockvault.engine import runtime, trash
from blockvault.engine.finding import FAIL, OK, WARN, Check, finding
from blockvault.engine.lockrule import LOCKED_UNTIL, LockRule, held
from blockvault.engine.names import ObjectName
from blockvault.engine.objects import Objects
from blockvault.engine.root import Roots
from blockvault.engine.volumes import Volume
from blockvault.exitcodes import DATA
from blockvault.stores import ObjectLock, ObjectStore

SAMPLES = 8


def locked_as_told(store: ObjectStore, found: Volume, lock: ObjectLock | None) -> Check:
    """A finding on the newest backup: its root, its commit, and some objects that it shares with others."""
    living = trash.living(found.state)
    if lock is None or not living:
        return finding("", OK, "there is nothing to lock")
    entry, paths = living[-1], found.lineage.paths
    until = held(entry)
    if until is None:
        told = f"backup {entry.id} is not known to be locked"
        return finding("", WARN, told, "Make a backup: it locks all that it needs.")
    needed = Roots(store, found.lineage).objects([ObjectName.parse(entry.object)])
    chance = random.Random(runtime.random(8))  # noqa: S311 - samples
    places = sorted(chance.sample(range(len(needed)), min(SAMPLES, len(needed))))
    keys = [paths.root(ObjectName.parse(entry.object)), *Objects(needed.records[places]).keys(paths)]
    for key in keys:
        end = store.lock_until(key)
        if end is None or end.timestamp() < until:
            ends = "it is not locked" if end is None else f"its lock ends {runtime.time_of(end.timestamp())}"
            days = lock.days + LockRule(lock).margin
            return finding(
                "",
                FAIL,
                f"{key}: {ends}, and backup {entry.id} needs it, {LOCKED_UNTIL} {entry.extra[LOCKED_UNTIL]}",
                f"Make a backup with --lock-days {days}, which locks all that it needs anew; find out who did this.",
                DATA,
            )
    return finding(
        "", OK, f"backup {entry.id} is locked until {entry.extra[LOCKED_UNTIL]} ({len(keys)} samples)"
    )
