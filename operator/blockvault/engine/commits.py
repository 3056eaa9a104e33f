"""The chain of commits of one lineage: finding the newest, and adding one.

The next state exists when commit n+1 has been created (`If-None-Match: *`). Nothing is ever overwritten, and
a crash at any moment leaves the former state. The rules are argued in docs/format.md, section Commits.
"""

from __future__ import annotations

from collections.abc import Callable

from blockvault.engine import envelope, runtime
from blockvault.engine.errors import CommitContention, FormatUnsupported, StoredDataDamaged
from blockvault.engine.fetching import get_whole
from blockvault.engine.lineage import Lineage
from blockvault.engine.state import ACTIVE, DELETED, OUTCOMES, Outcome, State
from blockvault.stores import AlreadyExists, ObjectNotFound, ObjectStore

# Commits whose number is a multiple of this are never trimmed, so a probe that looks at them cannot be fooled
# by a number that is free again.
MILESTONE = 64
# Each lost race means that somebody else got through; so many in a row mean that something is wrong.
MAX_LOST_RACES = 100

# The clear section of a lineage's last commit.
_TERMINAL = b'{"status":"Deleted"}'

Decision = tuple[State, Outcome]


class Commits:
    """Commits of one lineage."""

    def __init__(self, store: ObjectStore, lineage: Lineage) -> None:
        self._store = store
        self._lineage = lineage
        self._paths = lineage.paths

    def newest(self, at_least: int = 0, *, probe: bool = True) -> State | None:
        """The newest state, or None when there is no commit yet.

        `at_least`: a number known to exist. Listings may lag, so what they show is only where probing begins. Who
        is going to add a commit can do without probing: if there are higher ones, the creation or the check after
        it shows it.
        """
        found, tags = self._newest_object(at_least, probe=probe)
        if found is None:
            return None
        state = self._decode(*found)
        state.tag = tags.get(state.number)
        return state

    def _newest_object(
        self, at_least: int, *, probe: bool = True
    ) -> tuple[tuple[int, bytes] | None, dict[int, str | None]]:
        """(number, object) of the newest commit, and the versions' tags that were listed before it was read."""
        number, data, tags = self._highest(at_least, probe=probe)
        while number and data is None:
            data = self._get(number)
            if data is None:
                # Trimmed since it was listed, or listed after it was trimmed: then there are later ones by now.
                later, data, tags = self._highest(number)
                if later == number:
                    raise StoredDataDamaged(f"{self._paths.commit(number)}: listed, but not there")
                number = later
        return (None if data is None else (number, data)), tags

    def _highest(
        self, at_least: int, *, probe: bool = True
    ) -> tuple[int, bytes | None, dict[int, str | None]]:
        """The highest number, its object if it was read on the way, and the versions' tags that were listed."""
        tags = {_number(info.key): info.etag for info in self._store.list(self._paths.commits)}
        number, data = max(max(tags, default=0), at_least), None
        if not probe:
            return number, data, tags
        while True:
            higher = self._probe(number)
            if higher is None:
                return number, data, tags
            number, data = higher

    def update(self, decide: Callable[[State], Decision | None], known: State) -> State:
        """Add a commit. `decide` gets the state to follow and returns the next one, or None to leave it.

        It is called anew with the newest state after every lost race and must not carry anything over.
        Returns the state that counts: the one made, or the one that `decide` left. Raises what `decide`
        raises.
        """
        state = known
        for _ in range(MAX_LOST_RACES):
            refuse_unwritable(state)
            decision = decide(state.copy())
            if decision is None:
                return state
            following = self._prepare(state, *decision)
            key = self._paths.commit(following.number)
            try:
                self._store.create(key, self._seal(key, following))
            except AlreadyExists:
                state = self._after(following.number)
                continue
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
        number, data, tags = self._highest(made.number)
        if number == made.number:
            if made.number == 1 or self._follows(made, before, tags):
                return True, made
            number, data, _ = self._highest(made.number)
        if number == made.number:
            raise StoredDataDamaged(
                f"{self._paths.commit(made.number)}: its predecessor is not the one that it was built on",
                remedy="Somebody deleted or replaced commits by hand; keep the store as it is.",
            )
        newest = state = self._decode(number, data) if data is not None else self._after(number)
        while state.number - made.number >= OUTCOMES:
            data = self._get(state.number - 1)
            earlier = self._decode(state.number - 1, data) if data is not None else None
            if earlier is None or earlier.commit_id != state.previous:
                return False, newest
            state = earlier
        return any(outcome.commit == made.commit_id for outcome in state.outcomes), newest

    def _follows(self, made: State, before: State, tags: dict[int, str | None]) -> bool:
        """Whether its predecessor stands there; it may have been trimmed if we slept, but then there are later ones."""
        if before.tag is not None and tags.get(before.number) == before.tag:
            return True  # listed before it was read and listed now, and the same version both times
        data = self._get(made.number - 1)
        return data is not None and self._decode(made.number - 1, data).commit_id == made.previous

    def _probe(self, number: int) -> tuple[int, bytes] | None:
        """The next commit above `number`: n+1, else the next milestone."""
        for candidate in (number + 1, ((number + 1) // MILESTONE + 1) * MILESTONE):
            data = self._get(candidate)
            if data is not None:
                return candidate, data
        return None

    def is_deleted(self) -> bool:
        """Whether the newest commit is the terminal one. Takes no key."""
        found, _ = self._newest_object(0)
        if found is None:
            return False
        number, data = found
        return _status(envelope.split(envelope.Kind.COMMIT, self._paths.commit(number), data)) == DELETED

    def _seal(self, key: str, state: State) -> bytes:
        # The terminal commit outlives the lineage's key, so it says what it is in the clear as well.
        clear = _TERMINAL if state.status == DELETED else b""
        return envelope.seal(
            envelope.Kind.COMMIT, key, state.encode(), clear=clear, cipher=self._lineage.cipher
        )

    def _get(self, number: int) -> bytes | None:
        try:
            return get_whole(self._store, self._paths.commit(number))
        except ObjectNotFound:
            return None

    def _decode(self, number: int, data: bytes) -> State:
        key = self._paths.commit(number)
        if self._lineage.erased:
            return self._last(number, key, data)
        opened = envelope.unseal(envelope.Kind.COMMIT, key, data, self._lineage.cipher)
        try:
            state = State.decode(opened.body)
        except (ValueError, TypeError, KeyError) as error:
            raise StoredDataDamaged(f"{key}: {error}") from error
        terminal = opened.clear == _TERMINAL
        if (
            state.number != number
            or state.lineage != self._paths.lineage
            or (state.status == DELETED) != terminal
        ):
            raise StoredDataDamaged(f"{key}: holds commit {state.number} of lineage {state.lineage}")
        state.writable = opened.writable
        return state

    def _last(self, number: int, key: str, data: bytes) -> State:
        """The last state of a lineage whose key was erased: all that is left to know is that it was deleted."""
        if _status(envelope.split(envelope.Kind.COMMIT, key, data)) != DELETED:
            raise StoredDataDamaged(f"{key}: cannot be opened, as the key of its lineage was erased")
        return State(self._paths.lineage, "", number=number, status=DELETED)


def refuse_unwritable(state: State) -> None:
    """Raises FormatUnsupported when a newer version stored what this one would lose."""
    if not state.writable:
        raise FormatUnsupported(
            f"volume {state.volume}: its lineage uses features that this program must not write with"
        )


def _status(parts: envelope.Parts) -> str:
    return DELETED if parts.clear == _TERMINAL else ACTIVE


def _number(key: str) -> int:
    text = key.rpartition("/")[2]
    return int(text) if text.isdigit() else 0
