"""The chain of commits of one lineage: finding the newest, and adding one.

The next state exists when commit n+1 has been created (`If-None-Match: *`). Nothing is ever overwritten, and
a crash at any moment leaves the former state. The rules are argued in docs/format.md, section Commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from blockvault.engine import envelope, rollback, runtime
from blockvault.engine.commitlog import MILESTONE, CommitLog, Listed, Stored, trimmable
from blockvault.engine.errors import (
    BadRequest,
    CommitContention,
    CommitsLost,
    EngineError,
    FormatUnsupported,
    StoredDataDamaged,
    TwoWriters,
)
from blockvault.engine.lineage import Lineage
from blockvault.engine.rollback import Seen
from blockvault.engine.state import ACTIVE, DELETED, EMPTY, OUTCOMES, Outcome, State
from blockvault.stores import AlreadyExists, ObjectStore

# Each lost race means that somebody else got through; so many in a row mean that something is wrong.
MAX_LOST_RACES = 100

# What clear sections say, for those who have no key: a lineage's last commit; that nothing is in it; a last commit that
# was made without the key.
_TERMINAL = b'{"status":"Deleted"}'
_EMPTY = b'{"empty":true}'
_ABANDONED = b'{"empty":true,"status":"Deleted"}'
_TOLD = {_TERMINAL: DELETED, _ABANDONED: DELETED, _EMPTY: EMPTY}

Decision = tuple[State, Outcome]


class Commits:
    """Commits of one lineage."""

    def __init__(self, store: ObjectStore, lineage: Lineage) -> None:
        self._store = store
        self._lineage = lineage
        self._paths = lineage.paths
        self._log = CommitLog(store, lineage)

    def newest(self, at_least: int = 0, *, probe: bool = True) -> State | None:
        """The newest state, or None when there is no commit yet.

        `at_least`: a number known to exist. Listings may lag, so what they show is only where probing begins. Who
        is going to add a commit can do without probing: if there are higher ones, the creation or the check after
        it shows it. Raises CommitsLost when there were commits.
        """
        found, listed = self._newest_object(at_least, probe=probe)
        if found is None:
            return None
        state = self._decode(found)
        state.tag = listed.tags.get(found.key)
        state.doubled = listed.doubled
        return state

    def _newest_object(self, at_least: int, *, probe: bool = True) -> tuple[Stored | None, Listed]:
        """The newest commit, and what was listed before it was read."""
        number, found, listed = self._log.highest(at_least, probe=probe)
        while number and found is None:
            found = self._log.get(number, listed)
            if found is None:
                # Trimmed since it was listed, or listed after it was trimmed: then there are later ones by now.
                later, found, listed = self._log.highest(number)
                if later == number:
                    raise StoredDataDamaged(f"{self._paths.commit(number)}: listed, but not there")
                number = later
        if found is None and (data := rollback.data_in(self._store, self._paths)) is not None:
            # Nothing is uploaded before the first commit counts. It may be younger than our listing of commits.
            number, found, listed = self._log.highest(0)
            if not number:
                raise CommitsLost(f"{self._paths.commits}: no commit is there, although {data} is")
            if found is None:
                return self._newest_object(number)
        return found, listed

    def update(
        self,
        decide: Callable[[State], Decision | None],
        known: State,
        *,
        check: Callable[[State], bool] = lambda made: True,
    ) -> State:
        """Add a commit. `decide` gets the state to follow and returns the next one, or None to leave it.

        It is called anew with the newest state after every lost race and must not carry anything over.
        Returns the state that counts: the one made, or the one that `decide` left. Raises what `decide`
        raises. `check`: told of what was made, says whether to make sure that it counts. Without, the next commit
        tells, as it counts only if this one does; until then nothing may rely on it.
        """
        state = known
        for _ in range(MAX_LOST_RACES):
            if self._lineage.single_writer:
                state = self._look(state)
            refuse_unwritable(state)
            try:
                decision = decide(state.copy())
            except StoredDataDamaged:
                # What a state names may be gone as soon as it is not the newest any more.
                newest = self._after(state.number)
                if newest.number == state.number:
                    raise
                state = newest
                continue
            if decision is None:
                return state
            following = self._prepare(state, *decision)
            key = self._log.new_key(following.number)
            try:
                self._store.create(key, self._seal(key, following))
            except AlreadyExists:
                state = self._after(following.number)
                continue
            if not check(following) and not self._lineage.single_writer:
                return following
            counts, state = self._counts(following, state)
            if counts:
                return state
        raise CommitContention(
            f"lineage {self._paths.lineage}: {MAX_LOST_RACES} commits in a row were overtaken"
        )

    def _prepare(self, state: State, following: State, outcome: Outcome) -> State:
        following.number = state.number + 1
        following.previous = state.commit_id or None
        following.commit_id = outcome.commit = runtime.random_id()
        following.written_at = runtime.now()
        following.outcomes = [*following.outcomes, outcome][-OUTCOMES:]
        return following

    def _look(self, known: State) -> State:
        """The newest state, for who will not be told that somebody else was faster."""
        try:
            newest = self.newest()
        except CommitsLost:
            if known.number:
                raise
            return known  # known to the caller, who was told to begin anew
        return known if newest is None or newest.number < known.number else newest

    def _after(self, number: int) -> State:
        state = self.newest(at_least=number)
        if state is None:
            raise StoredDataDamaged(f"{self._paths.commit(number)}: it existed and has gone")
        return state

    def _counts(self, made: State, before: State) -> tuple[bool, State]:
        """Whether the commit just created is in the newest state's past (or is the newest), and that state.

        A writer that slept may have created a number that was free again after trimming. Then higher numbers
        are there, and their states, which list the last outcomes, do not know of it.
        """
        number, found, listed = self._log.highest(made.number)
        refuse_doubled(made.volume, listed.doubled)
        if number == made.number:
            if made.number == 1 or self._follows(made, before, listed):
                return True, made
            number, found, _ = self._log.highest(made.number)
        if number == made.number:
            raise StoredDataDamaged(
                f"{self._paths.commit(made.number)}: its predecessor is not the one that it was built on",
                remedy="Somebody deleted or replaced commits by hand; keep the store as it is.",
            )
        newest = self._decode(found) if found is not None else self._after(number)
        return self._is_past(made.number, made.commit_id, newest), newest

    def _is_past(self, number: int, commit_id: str, newest: State) -> bool:
        """Whether a commit is in the newest state's past, or is the newest."""
        state = newest
        if newest.number - number >= OUTCOMES:
            # All that the newest state remembers is later. The milestone at or above it is never trimmed, and so was
            # never created a second time: what it remembers did count.
            found = self._log.get(-(-number // MILESTONE) * MILESTONE)
            if found is None:
                return False
            state = self._decode(found)
        return any(outcome.commit == commit_id for outcome in state.outcomes)

    def set_back(self, state: State, seen: Seen | None) -> str | None:
        """How this newest state shows that it does not follow what was seen before; None where nothing says so."""
        if seen is None or state.commit_id == seen.commit:
            return None
        if state.number < seen.number:
            return f"commit {seen.number} was seen before, and now commit {state.number} is the newest"
        if seen.commit is None or state.status != ACTIVE or self._is_past(seen.number, seen.commit, state):
            return None
        return f"another commit {seen.number} was seen before than the one that commit {state.number} follows"

    def _follows(self, made: State, before: State, listed: Listed) -> bool:
        """Whether its predecessor stands there; it may have been trimmed if we slept, but then there are later ones."""
        tags = [listed.tags[key] for key in listed.keys.get(before.number, [])]
        if before.tag is not None and tags == [before.tag]:
            return True  # listed before it was read and listed now, and the same version both times
        found = self._log.get(made.number - 1, listed)
        return found is not None and self._decode(found).commit_id == made.previous

    def check_chain(self, state: State) -> None:
        """Raises StoredDataDamaged unless the commit before this one stands there and is what it was built on.

        Where others have committed since, it may have been trimmed; then it is asked of their commit instead.
        """
        while state.number > 1 and not (state.outcomes and state.outcomes[-1].action == "choose"):
            found = self._log.get(state.number - 1)
            if found is not None and self._decode(found).commit_id == state.previous:
                return
            newest = self._after(state.number)
            if not trimmable(state.number - 1, newest.number):
                raise StoredDataDamaged(
                    f"{self._paths.commit(state.number)}: its predecessor is not the one that it was built on",
                    remedy="Somebody deleted or replaced commits by hand; keep the store as it is.",
                )
            state = newest

    def at(self, number: int) -> State | None:
        """What that commit held, to be read only; None when it is not there. Raises TwoWriters, StoredDataDamaged."""
        listed = self._log.list(self._paths.commit(number)) if self._lineage.single_writer else Listed()
        refuse_doubled(f"of lineage {self._paths.lineage}", listed.doubled)
        found = self._log.get(number, listed)
        return None if found is None else self._decode(found)

    def all(self, failed: Callable[[str, EngineError], None]) -> Iterator[State]:
        """What each commit that is listed held, in order. `failed` is told of the key of one that cannot be read."""
        listed = self._log.list()
        for key in [key for _, keys in sorted(listed.keys.items()) for key in sorted(keys)]:
            try:
                found = self._log.at(key)
                state = None if found is None else self._decode(found)
            except EngineError as error:
                failed(key, error)
                continue
            if state is not None:
                yield state

    def branches(self) -> list[State]:
        """The last states of all branches: one, unless two programs wrote to a store for one writer."""
        ends = self._ends(self._forked())
        newest = self.newest()
        return ends or ([] if newest is None else [newest])

    def _forked(self) -> dict[str, State]:
        """All commits from the first number on that is there twice, by their keys; none when none is."""
        listed = self._log.list()
        lowest = min((number for number, keys in listed.keys.items() if len(keys) > 1), default=None)
        if lowest is None:
            return {}
        keys = [key for number, keys in listed.keys.items() if number >= lowest for key in keys]
        return {found.key: self._decode(found) for key in keys if (found := self._log.at(key)) is not None}

    @staticmethod
    def _ends(states: dict[str, State]) -> list[State]:
        followed = {state.previous for state in states.values()}
        ends = [state for state in states.values() if state.commit_id not in followed]
        return sorted(ends, key=lambda state: (state.number, state.commit_id))

    def choose(self, commit_id: str) -> State:
        """Go on from the branch that ends in that commit, and let go of the others. To be told by a person.

        The next commit comes first, above all branches and with the highest of their epochs; then the others'
        commits are deleted. After a crash in between it is to be done again. Raises BadRequest.
        """
        states = self._forked()
        ends = {state.commit_id: state for state in self._ends(states)}
        if commit_id not in ends:
            raise BadRequest(
                f"lineage {self._paths.lineage}: it has no branches, or none that ends in commit {commit_id}",
                remedy="Look at the branches again.",
            )
        following = ends[commit_id].copy()
        # Runs of either branch may still be going on; none of them commits, as none is in the state.
        following.attempts = []
        following.epoch = max(state.epoch for state in states.values())
        following.condemned = list(dict.fromkeys(key for end in ends.values() for key in end.condemned))
        following = self._prepare(ends[commit_id], following, Outcome("", "choose"))
        following.number = max(state.number for state in states.values()) + 1
        key = self._log.new_key(following.number)
        self._store.create(key, self._seal(key, following))
        by_id = {state.commit_id: state for state in states.values()}
        walked: State | None = ends[commit_id]
        while walked is not None:
            del by_id[walked.commit_id]
            walked = by_id.get(walked.previous or "")
        self._store.delete(key for key, state in states.items() if state.commit_id in by_id)
        return following

    def told(self) -> str | None:
        """What the newest commit tells those who have no key: DELETED, EMPTY (also before the first), or nothing."""
        found, _ = self._newest_object(0)
        return EMPTY if found is None else _TOLD.get(_parts(found).clear)

    def abandon(self) -> bool:
        """End a lineage that nothing is in, without its key. False when something is in it. See docs/format.md.

        Whoever still has the key may commit at the same time: one of the two is first, and the other one sees it.
        Raises FormatUnsupported, TwoWriters, CommitContention.
        """
        for _ in range(MAX_LOST_RACES):
            found, listed = self._newest_object(0)
            refuse_doubled(f"of lineage {self._paths.lineage}", listed.doubled)
            if found is not None:
                parts = _parts(found)
                told = _TOLD.get(parts.clear)
                if told != EMPTY:
                    return told == DELETED
                if not parts.writable:
                    raise FormatUnsupported(f"{found.key}: this program must not add to it")
            key = self._log.new_key(1 if found is None else found.number + 1)
            # A number that is taken, or was free because it was trimmed, is not the newest when we look again.
            with suppress(AlreadyExists):
                self._store.create(key, envelope.seal(envelope.Kind.COMMIT, key, b"", clear=_ABANDONED))
        raise CommitContention(f"lineage {self._paths.lineage}: others commit each time before it is ended")

    def _seal(self, key: str, state: State) -> bytes:
        # The terminal commit outlives the lineage's key, and the first ones may be under a key that was given up: then
        # others have to know without it that there is nothing to lose.
        clear = _TERMINAL if state.status == DELETED else _EMPTY if state.empty else b""
        return envelope.seal(
            envelope.Kind.COMMIT, key, state.encode(), clear=clear, cipher=self._lineage.cipher
        )

    def _decode(self, found: Stored) -> State:
        number, key = found.number, found.key
        parts = _parts(found)
        if self._lineage.erased:
            return self._last(found, parts)
        if self._lineage.cipher is not None and parts.clear == _ABANDONED:
            return self._abandoned(found, parts)
        opened = envelope.decode(key, parts, self._lineage.cipher)
        try:
            state = State.from_json(envelope.facts_of(key, opened.body))
        except (ValueError, TypeError, KeyError) as error:
            raise StoredDataDamaged(f"{key}: {error}") from error
        if state.number != number or state.lineage != self._paths.lineage:
            raise StoredDataDamaged(f"{key}: holds commit {state.number} of lineage {state.lineage}")
        told = EMPTY if state.status == ACTIVE and state.empty else state.status
        if _TOLD.get(opened.clear, ACTIVE) != told:
            raise StoredDataDamaged(f"{key}: its clear section does not say what it holds")
        state.writable = opened.writable
        return state

    def _last(self, found: Stored, parts: envelope.Parts) -> State:
        """The last state of a lineage whose key was erased: all that is left to know is that it was deleted."""
        if _TOLD.get(parts.clear) != DELETED:
            raise StoredDataDamaged(f"{found.key}: cannot be opened, as the key of its lineage was erased")
        return State(self._paths.lineage, "", number=found.number, status=DELETED)

    def _abandoned(self, found: Stored, parts: envelope.Parts) -> State:
        """The last state of a lineage that was ended without its key, for who has it: believed only if it was empty.

        Everybody who may write to the store can make such a commit, so what it ends is looked at.
        """
        state = State(self._paths.lineage, "")
        if found.number > 1:
            before = self._log.get(found.number - 1)
            if before is None or not (state := self._decode(before)).empty or state.status != ACTIVE:
                raise StoredDataDamaged(
                    f"{found.key}: not encrypted, and ends a lineage that is not known to be empty",
                    remedy="Somebody without the key made this commit; delete it, and the backups are there again.",
                )
        state.attempts, state.status, state.number = [], DELETED, found.number
        state.previous, state.commit_id = state.commit_id or None, parts.object_id.hex()
        state.writable = parts.writable
        return state


def refuse_unwritable(state: State) -> None:
    """Raises FormatUnsupported when a newer version stored what this one would lose; TwoWriters."""
    refuse_doubled(state.volume, state.doubled)
    if not state.writable:
        raise FormatUnsupported(
            f"volume {state.volume}: its lineage uses features that this program must not write with"
        )


def refuse_doubled(volume: str, keys: list[str]) -> None:
    """Raises TwoWriters when a number is there twice."""
    if keys:
        raise TwoWriters(
            f"volume {volume}: two programs wrote at once to a store that cannot tell them apart; "
            f"each has written its own {', '.join(keys)}"
        )


def _parts(found: Stored) -> envelope.Parts:
    return envelope.split(envelope.Kind.COMMIT, found.key, found.data)
