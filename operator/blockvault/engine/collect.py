"""Collect: deleting what no backup and no running attempt needs any more, while backups go on.

In two phases. First a commit condemns objects by name; no commit may ever name them again. Only when that commit
counts are they deleted, and a second commit forgets them. Nothing is deleted because it was not seen: what the
backups need must all be in the listing, or nothing is done. The order of reading is what makes it right: first
the state, then the listing, so that what a later attempt uploads has a higher epoch than any that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from blockvault.engine import objects, rollback, runtime, trash
from blockvault.engine.canary import clock_of
from blockvault.engine.commitlog import CommitLog
from blockvault.engine.commits import Commits, refuse_unwritable
from blockvault.engine.errors import (
    CommitContention,
    ListingImplausible,
    RollbackSuspected,
    StoredDataDamaged,
)
from blockvault.engine.lineage import Lineage
from blockvault.engine.lockrule import LockRule
from blockvault.engine.lockwait import Waiting
from blockvault.engine.names import ObjectName
from blockvault.engine.objects import Objects
from blockvault.engine.rollback import Seen
from blockvault.engine.root import Roots
from blockvault.engine.state import DELETED, Outcome, State
from blockvault.engine.unresolved import explained
from blockvault.stores import AccessDenied, ObjectLock, ObjectStore

# Objects condemned by one commit; as many as one request deletes.
ROUND = 1000
# An attempt whose entry is older counts as dead. Only wrong clocks could make that a mistake, and then the run
# fails cleanly at its commit.
ATTEMPT_SECONDS = 7 * 24 * 3600
# Clocks that differ by more seconds than this are mentioned.
SKEW_SECONDS = 300
# How often a collect begins anew because others have committed and deleted since it read the state.
TRIES = 10


@dataclass
class Collected:
    """What was done in one lineage (with `dry_run`: what would be). Sizes in bytes.

    `locked_objects`, `locked_bytes`: what nothing needs, but cannot be deleted yet; `locked_until`: the first of it can
    then, as far as that is known.
    """

    volume: str
    deleted_objects: int = 0
    deleted_bytes: int = 0
    emptied: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    trimmed_commits: int = 0
    locked_objects: int = 0
    locked_bytes: int = 0
    locked_until: str | None = None
    warnings: list[str] = field(default_factory=list)


class Collector:
    """Collects one lineage. Use once."""

    def __init__(
        self,
        store: ObjectStore,
        lineage: Lineage,
        actor: str | None = None,
        *,
        dry_run: bool = False,
        seen: Seen | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
        lock: ObjectLock | None = None,
    ) -> None:
        self._store = store
        self._rule = None if lock is None else LockRule(lock)
        self._waiting = Waiting(store, lineage)
        self._lineage = lineage
        self._commits = Commits(store, lineage)
        self._roots = Roots(store, lineage)
        self._actor = actor
        self._dry_run = dry_run
        self._seen = seen
        self._attempt_seconds = attempt_seconds
        self._known: tuple[list[str], Objects] | None = None
        self._judged = 0

    def run(self, state: State) -> Collected:
        """Collect. Raises RollbackSuspected, ListingImplausible, CommitContention; then nothing was deleted."""
        done = Collected(state.volume)
        cause = self._commits.set_back(state, self._seen)
        if cause is not None:
            raise RollbackSuspected(f"volume {state.volume}: {cause}")
        for _ in range(TRIES):
            try:
                self._collect(state, done)
                return done
            except (ListingImplausible, StoredDataDamaged):
                # What an old state needs may have been deleted since, by somebody who knew a newer one.
                newest = self._commits.newest(at_least=state.number)
                if newest is None or newest.number <= self._judged:
                    raise
                state = newest
        raise CommitContention(
            f"volume {state.volume}: others changed it {TRIES} times while it was looked at"
        )

    def _collect(self, state: State, done: Collected) -> None:
        refuse_unwritable(state)
        if state.status == DELETED:
            self._erase(state, done)
            return
        rollback.refuse(state)
        self._judged = state.number
        state = self._tidy(state, done)
        try:
            self._needed(state)
        except StoredDataDamaged as error:
            raise explained(state, self._roots, error) from error
        if state.condemned and not self._dry_run:
            state = self._delete(state, dict.fromkeys(state.condemned, 0), done)
        self._judged = state.number
        listed = objects.listed(self._store, self._lineage.paths)
        self._doubt(state, listed)
        candidates = self._candidates(state, listed)
        del listed
        if self._rule is not None:
            candidates = self._waiting.unlocked(state, candidates)
            done.locked_objects, done.locked_bytes = self._waiting.objects, self._waiting.bytes
            done.locked_until = self._waiting.until
        if self._dry_run:
            done.deleted_objects, done.deleted_bytes = len(candidates), candidates.total
            return
        if self._rule is not None:
            state = self._commits.update(self._waiting.note, state)
        for first in range(0, len(candidates), ROUND):
            batch = Objects(candidates.records[first : first + ROUND])
            sizes = dict(zip(batch.keys(self._lineage.paths), batch.records["size"].tolist(), strict=True))
            state = self._update(partial(self._condemn, batch=batch), state)
            # What another collector condemned meanwhile is deleted as well: by then it is condemned for ever.
            state = self._delete(state, {key: sizes.get(key, 0) for key in state.condemned}, done)
        log = CommitLog(self._store, self._lineage)
        if self._rule is None:
            done.trimmed_commits = log.trim(state.number)
        else:
            self._tolerate(done, lambda: self._trim(log, state.number, done))

    def _tidy(self, state: State, done: Collected) -> State:
        """Empty what is due in the trash, and give up attempts that are too old."""
        at = runtime.wall()
        due, dead = self._over(state, at)
        if (due or dead) and not self._dry_run:
            at = self._agreed(at, done)
            due, dead = self._over(state, at)
        done.emptied = sorted({*done.emptied, *due})
        done.given_up = sorted({*done.given_up, *dead})
        if self._dry_run:
            for entry in [entry for entry in state.roots if entry.id in due]:
                state.roots.remove(entry)
            state.attempts = [attempt for attempt in state.attempts if attempt.id not in dead]
            trash.count(state, self._roots)
            return state
        if not due and not dead and not state.uncounted:
            return state

        def decide(current: State) -> tuple[State, Outcome] | None:
            due, dead = self._over(current, at)
            removed = trash.remove(current, due, self._roots)
            uncounted = current.uncounted
            current.attempts = [attempt for attempt in current.attempts if attempt.id not in dead]
            if uncounted and removed is None:
                trash.count(current, self._roots)
            if removed is None and not dead and current.uncounted == uncounted:
                return None
            root, ended = (removed[1].root, removed[1].ended) if removed else (None, [])
            return current, Outcome("", "tidy", root=root, ended=ended)

        return self._update(decide, state)

    def _update(self, decide: Callable[[State], tuple[State, Outcome] | None], state: State) -> State:
        return self._commits.update(trash.owned(decide, self._actor), state)

    def _over(self, state: State, at: float) -> tuple[set[str], set[str]]:
        """(backups whose time in the trash is over, attempts that are too old) at that time."""
        ages = {attempt.id: at - runtime.seconds_of(attempt.started_at) for attempt in state.attempts}
        return trash.due(state, at), {each for each, age in ages.items() if age > self._attempt_seconds}

    def _agreed(self, now: float, done: Collected) -> float:
        """The earlier of this machine's clock and the store's: one that is wrong alone deletes nothing."""
        store = clock_of(self._store)
        if now - store > SKEW_SECONDS:
            done.warnings.append(
                f"this machine's clock is {(now - store) / 3600:.1f} hours ahead of the store's, which counts here"
            )
        return min(now, store)

    def _doubt(self, state: State, listed: Objects) -> None:
        """Raises unless the listing and the state fit together."""
        newest = self._commits.newest(at_least=state.number) or state
        refuse_unwritable(newest)
        rollback.refuse(newest)
        ahead = listed.later_than(newest.epoch)
        if len(ahead):
            raise RollbackSuspected(
                f"volume {state.volume}: {self._first(ahead)} is of a later epoch than the newest commit, "
                f"{newest.number}, knows of"
            )
        needed = self._needed(state)
        missing = needed.lacking(listed)
        if len(missing):
            raise ListingImplausible(
                f"volume {state.volume}: {len(missing)} of {len(needed)} objects that its backups need are not in "
                f"the store's listing as they should be, {self._first(missing)} for one"
            )
        used = self._roots.used_bytes(state.roots)
        if used != state.used_bytes:
            raise ListingImplausible(
                f"volume {state.volume}: its backups need {used} bytes by their summaries, "
                f"{state.used_bytes} by the newest commit"
            )

    def _needed(self, state: State) -> Objects:
        """All objects that backups and pins need."""
        names = [entry.object for entry in state.roots]
        names += [attempt.parent["object"] for attempt in state.attempts if attempt.parent]
        if self._known is None or self._known[0] != names:
            self._known = names, self._roots.objects(ObjectName.parse(name) for name in names)
        return self._known[1]

    def _candidates(self, state: State, listed: Objects) -> Objects:
        """What is listed, needed by nobody, and not of an attempt that may still commit."""
        live = [epoch for attempt in state.attempts for epoch in (attempt.epoch, *attempt.adopts)]
        unneeded = ~listed.within(self._needed(state)) & (listed.epochs <= state.epoch)
        return listed.where(unneeded & ~np.isin(listed.epochs, live))

    def _condemn(self, state: State, batch: Objects) -> tuple[State, Outcome] | None:
        """Condemn what is still a candidate by the state that is followed."""
        if state.status == DELETED:
            return None
        rollback.refuse(state)
        room = max(0, ROUND - len(state.condemned))
        candidates = self._candidates(state, batch).keys(self._lineage.paths)
        still = [key for key in candidates if key not in set(state.condemned)][:room]
        if not still:
            return None
        state.condemned = [*state.condemned, *still]
        return state, Outcome("", "condemn")

    def _delete(self, state: State, condemned: dict[str, int], done: Collected) -> State:
        """Delete what a commit that counts has condemned, then forget it."""
        if not condemned:
            return state
        trash.refuse_foreign(state, self._actor)
        # Condemned is for ever; if a root needs one of these all the same, a rule was broken somewhere.
        parsed = Objects.of((*self._lineage.paths.parse(key), size) for key, size in condemned.items())
        broken = parsed.where(parsed.within(self._needed(state)))
        if len(broken):
            raise ListingImplausible(
                f"volume {state.volume}: {self._first(broken)} is condemned, and a backup needs it"
            )
        if self._tolerate(done, lambda: self._store.delete(condemned)):
            done.deleted_objects += len(condemned)
            done.deleted_bytes += sum(condemned.values())
        gone = set(condemned)

        def forget(current: State) -> tuple[State, Outcome] | None:
            left = [key for key in current.condemned if key not in gone]
            if left == current.condemned:
                return None
            current.condemned = left
            names = {key.rpartition("/")[2] for key in gone}
            current.damaged = [item for item in current.damaged if item["object"] not in names]
            return current, Outcome("", "forget")

        return self._update(forget, state)

    def _trim(self, log: CommitLog, newest: int, done: Collected) -> None:
        done.trimmed_commits = log.trim(newest, self._waiting.locked)

    def _tolerate(self, done: Collected, delete: Callable[[], object]) -> bool:
        """Delete; what a store refuses stays, with a warning. Whether all went."""
        try:
            delete()
        except AccessDenied as error:
            done.warnings.append(f"{error} (kept for now; the next collect tries again)")
            return False
        return True

    def _erase(self, state: State, done: Collected) -> None:
        """All of a deleted lineage but its commits; its keys first, as from then on nobody can read it."""
        paths = self._lineage.paths
        # Nobody has extended a lock since, so it takes no request to know that all of it can go by then.
        end = self._rule.end(runtime.seconds_of(state.written_at)) if self._rule and state.written_at else 0.0
        for folder in (paths.keys, *paths.folders.values()):
            found = list(self._store.list(folder))
            if end > runtime.wall():
                done.locked_objects += len(found)
                done.locked_bytes += sum(info.size for info in found)
                done.locked_until = runtime.time_of(end) if done.locked_objects else None
                continue
            gone = [info.key for info in found]
            if self._dry_run or self._tolerate(done, partial(self._store.delete, gone)):
                done.deleted_objects += len(found)
                done.deleted_bytes += sum(info.size for info in found)

    def _first(self, found: Objects) -> str:
        return found.where(np.arange(len(found)) == 0).keys(self._lineage.paths)[0]
