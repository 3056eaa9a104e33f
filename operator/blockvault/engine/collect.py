"""Collect: deleting what no backup and no running attempt needs any more, while backups go on.

In two phases. First a commit condemns objects by name; no commit may ever name them again. Only when that commit
counts are they deleted, and a second commit forgets them. Nothing is deleted because it was not seen: what the
backups need must all be in the listing, or nothing is done. The order of reading is what makes it right: first
the state, then the listing, so that what a later attempt uploads has a higher epoch than any that is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from blockvault.engine import runtime, trash
from blockvault.engine.commits import MILESTONE, Commits
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import ListingImplausible, RollbackSuspected
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.root import Roots
from blockvault.engine.state import DELETED, Outcome, State
from blockvault.stores import AccessDenied, ObjectLocked, ObjectStore

# Objects condemned by one commit; as many as one request deletes.
ROUND = 1000
# An attempt whose entry is older counts as dead. Only a wrong clock could make that a mistake, and then the run
# fails cleanly at its commit.
ATTEMPT_SECONDS = 7 * 24 * 3600


@dataclass
class Collected:
    """What was done in one lineage (with `dry_run`: what would be). Sizes in bytes."""

    volume: str
    deleted_objects: int = 0
    deleted_bytes: int = 0
    emptied: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    trimmed_commits: int = 0
    warnings: list[str] = field(default_factory=list)


class Collector:
    """Collects one lineage. Use once."""

    def __init__(
        self,
        store: ObjectStore,
        lineage: Lineage,
        *,
        dry_run: bool = False,
        seen: int | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._commits = Commits(store, lineage)
        self._roots = Roots(store, lineage)
        self._dry_run = dry_run
        self._seen = seen
        self._attempt_seconds = attempt_seconds

    def run(self, state: State) -> Collected:
        """Collect. Raises RollbackSuspected, ListingImplausible; then nothing was deleted."""
        done = Collected(state.volume)
        if self._seen is not None and state.number < self._seen:
            raise RollbackSuspected(
                f"volume {state.volume}: commit {self._seen} was seen before, and now the newest is {state.number}"
            )
        if state.status == DELETED:
            self._erase(done)
            return done
        state = self._tidy(state, done)
        if state.condemned and not self._dry_run:
            state = self._delete(state, dict.fromkeys(state.condemned, 0), done)
        listed = self._list()
        self._doubt(state, listed)
        candidates = self._candidates(state, listed)
        if self._dry_run:
            done.deleted_objects, done.deleted_bytes = len(candidates), sum(candidates.values())
            return done
        names = sorted(candidates)
        for first in range(0, len(names), ROUND):
            batch = {key: candidates[key] for key in names[first : first + ROUND]}
            state = self._commits.update(lambda current, batch=batch: self._condemn(current, batch), state)  # type: ignore[misc]
            # What another collector condemned meanwhile is deleted as well: by then it is condemned for ever.
            state = self._delete(state, {key: batch.get(key, 0) for key in state.condemned}, done)
        done.trimmed_commits = self._trim(state)
        return done

    def _tidy(self, state: State, done: Collected) -> State:
        """Empty what is due in the trash, and give up attempts that are too old."""
        done.emptied = sorted(trash.due(state))
        done.given_up = sorted(attempt.id for attempt in state.attempts if self._dead(attempt.started_at))
        if self._dry_run:
            for entry in [entry for entry in state.roots if entry.id in done.emptied]:
                state.roots.remove(entry)
            state.attempts = [attempt for attempt in state.attempts if attempt.id not in done.given_up]
            state.used_bytes = self._roots.used_bytes(state.roots)
            return state
        if not done.emptied and not done.given_up:
            return state

        def decide(current: State) -> tuple[State, Outcome] | None:
            removed = trash.remove(current, trash.due(current), self._roots)
            before = len(current.attempts)
            current.attempts = [a for a in current.attempts if not self._dead(a.started_at)]
            if removed is None and len(current.attempts) == before:
                return None
            return current, Outcome("", "tidy", root=removed[1].root if removed else None)

        return self._commits.update(decide, state)

    def _dead(self, started_at: str) -> bool:
        started = datetime.strptime(started_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        return runtime.wall() - started.timestamp() > self._attempt_seconds

    def _list(self) -> dict[str, int]:
        paths = self._lineage.paths
        return {
            info.key: info.size
            for prefix in (paths.segments, paths.page_objects, paths.roots)
            for info in self._store.list(prefix)
        }

    def _doubt(self, state: State, listed: dict[str, int]) -> None:
        """Raises unless the listing and the state fit together."""
        newest = self._commits.newest(at_least=state.number) or state
        ahead = [key for key in listed if self._name(key).epoch > newest.epoch]
        if ahead:
            raise RollbackSuspected(
                f"volume {state.volume}: {ahead[0]} is of a later epoch than the newest commit, "
                f"{newest.number}, knows of"
            )
        needed = self._needed(state)
        missing = [key for key, size in needed.items() if listed.get(key) != size]
        if missing:
            raise ListingImplausible(
                f"volume {state.volume}: {len(missing)} of {len(needed)} objects that its backups need are not in "
                f"the store's listing as they should be, {missing[0]} for one"
            )
        used = self._roots.used_bytes(state.roots)
        if used != state.used_bytes:
            raise ListingImplausible(
                f"volume {state.volume}: its backups need {used} bytes by their summaries, "
                f"{state.used_bytes} by the newest commit"
            )

    def _needed(self, state: State) -> dict[str, int]:
        """Keys and sizes of all objects that backups and pins need."""
        objects = [entry.object for entry in state.roots]
        objects += [attempt.parent["object"] for attempt in state.attempts if attempt.parent]
        paths = self._lineage.paths
        needed: dict[str, int] = {}
        for name in {ObjectName.parse(text) for text in objects}:
            for used, usage in self._roots.summary(name).items():
                key = paths.segment(used) if usage.kind == Kind.SEGMENT else paths.pages(used)
                needed[key] = usage.size
            needed.update({paths.root(below): size for below, size in self._roots.chain(name)})
        return needed

    def _candidates(self, state: State, listed: dict[str, int]) -> dict[str, int]:
        """What is listed, needed by nobody, and not of an attempt that may still commit."""
        needed = self._needed(state)
        live = {epoch for attempt in state.attempts for epoch in (attempt.epoch, *attempt.adopts)}
        return {
            key: size
            for key, size in listed.items()
            if key not in needed and (epoch := self._name(key).epoch) <= state.epoch and epoch not in live
        }

    def _condemn(self, state: State, batch: dict[str, int]) -> tuple[State, Outcome] | None:
        """Condemn what is still a candidate by the state that is followed."""
        if state.status == DELETED:
            return None
        room = ROUND - len(state.condemned)
        still = sorted(set(self._candidates(state, batch)) - set(state.condemned))[: max(0, room)]
        if not still:
            return None
        state.condemned = [*state.condemned, *still]
        return state, Outcome("", "condemn")

    def _delete(self, state: State, condemned: dict[str, int], done: Collected) -> State:
        """Delete what a commit that counts has condemned, then forget it."""
        if not condemned:
            return state
        # Condemned is for ever; if a root needs one of these all the same, a rule was broken somewhere.
        broken = self._needed(state).keys() & condemned.keys()
        if broken:
            raise ListingImplausible(
                f"volume {state.volume}: {min(broken)} is condemned, and a backup needs it"
            )
        try:
            self._store.delete(condemned)
        except (AccessDenied, ObjectLocked) as error:
            done.warnings.append(f"{error} (kept for now; the next collect tries again)")
        else:
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

        return self._commits.update(forget, state)

    def _trim(self, state: State) -> int:
        """Delete commits that nobody needs: not the latest 64, nor those that probes look at."""
        numbers = (int(info.key.rpartition("/")[2]) for info in self._store.list(self._lineage.paths.commits))
        old = [n for n in numbers if n <= state.number - MILESTONE and n % MILESTONE]
        self._store.delete(self._lineage.paths.commit(number) for number in old)
        return len(old)

    def _erase(self, done: Collected) -> None:
        """All of a deleted lineage but its commits; its keys first, as from then on nobody can read it."""
        found: Iterable[tuple[str, int]] = [*self._list().items()]
        keys = [(info.key, info.size) for info in self._store.list(self._lineage.paths.keys)]
        done.deleted_objects = len([*found, *keys])
        done.deleted_bytes = sum(size for _, size in [*found, *keys])
        if not self._dry_run:
            self._store.delete(key for key, _ in [*keys, *found])

    @staticmethod
    def _name(key: str) -> ObjectName:
        return ObjectName.parse(key.rpartition("/")[2])
