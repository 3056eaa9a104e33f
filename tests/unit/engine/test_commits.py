"""The chain of commits by itself: lost answers, lagging listings, trimmed numbers, and what others have written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blockvault.engine import (
    StoredDataDamaged,
    envelope,
)
from blockvault.engine.commitlog import MILESTONE, CommitLog
from blockvault.engine.commits import Commits
from blockvault.engine.lineage import lineage_of
from blockvault.engine.state import Outcome, State
from blockvault.stores import ObjectInfo
from tests.unit.engine.support import MemoryStore, note

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
LINEAGE = lineage_of("lineage", bytes(32), encrypted=False, single_writer=False)


class Chain:
    """Commits without backups, to test the protocol alone."""

    def __init__(self, length: int) -> None:
        self.store = MemoryStore()
        self.paths = LINEAGE.paths
        self.commits = Commits(self.store, LINEAGE)
        self.state = State(LINEAGE.id, "v")
        for _ in range(length):
            self.state = self.commits.update(note, self.state)

    def trim(self) -> None:
        """Remove what trimming may: not the latest 64, no multiple of 64."""
        for number in range(1, self.state.number - MILESTONE + 1):
            if number % MILESTONE:
                self.store.objects.pop(self.paths.commit(number), None)


def test_a_lost_answer_counts_once() -> None:
    chain = Chain(3)

    class Lossy(MemoryStore):
        def create(self, key: str, data: bytes | bytearray | memoryview) -> None:
            super().create(key, data)
            super().create(key, data)  # what the store layer does after a lost answer

    newest = Commits(Lossy(chain.store.objects), LINEAGE).update(note, chain.state)
    assert newest.number == 4
    assert len(chain.store.objects) == 4


class Lagging(MemoryStore):
    """Its listings show only the first `seen` objects."""

    seen = 0

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(sorted(super().list(prefix), key=lambda info: info.key)[: self.seen])


@pytest.mark.parametrize("seen", [0, 1, 3, 70, 130, 199, 200])
def test_listings_may_lag(seen: int) -> None:
    chain = Chain(200)
    store = Lagging(chain.store.objects)
    store.seen = seen
    newest = Commits(store, LINEAGE).newest()
    assert newest is not None
    assert newest.number == 200


@pytest.mark.parametrize("lagging", [False, True])
@pytest.mark.parametrize("length", [65, 127, 128, 130, 200])
def test_a_writer_that_slept_does_not_commit_on_a_trimmed_number(length: int, lagging: bool) -> None:
    chain = Chain(3)
    slept = chain.state
    for _ in range(length):
        chain.state = chain.commits.update(note, chain.state)
    chain.trim()
    seen: list[int] = []

    def decide(state: State) -> tuple[State, Outcome]:
        seen.append(state.number)
        return note(state)

    store = Lagging(chain.store.objects) if lagging else chain.store.view()
    made = Commits(store, LINEAGE).update(decide, slept)
    assert made.number == length + 4
    assert seen == [3, length + 3]
    newest = chain.commits.newest()
    assert newest is not None
    assert newest.number == made.number


@pytest.mark.parametrize(
    ("length", "others"), [(3, 1), (3, 63), (3, 64), (3, 65), (3, 130), (3, 200), (63, 200), (64, 200)]
)
def test_a_commit_that_was_built_upon_counts(length: int, others: int) -> None:
    """Others commit and trim between our creation and our look: the newest or the next milestone remembers ours."""
    chain = Chain(length)
    decided: list[int] = []

    class Slow(MemoryStore):
        def create(self, key: str, data: bytes | bytearray | memoryview) -> None:
            super().create(key, data)
            calm = Commits(self.view(), LINEAGE)
            for _ in range(others):
                newest = calm.newest()
                assert newest is not None
                calm.update(note, newest)
            CommitLog(self.view(), LINEAGE).trim(length + 1 + others)

    def decide(state: State) -> tuple[State, Outcome]:
        decided.append(state.number)
        return state, Outcome("", "delete")

    newest = Commits(Slow(chain.store.objects), LINEAGE).update(decide, chain.state)
    assert decided == [length]
    assert newest.number == length + 1 + others


def test_a_replaced_predecessor_is_noticed() -> None:
    chain = Chain(3)
    key = chain.paths.commit(3)
    other = chain.commits.newest()
    assert other is not None
    other.commit_id = "0" * 32
    body = other.encode()
    chain.store.objects[key] = envelope.seal(envelope.Kind.COMMIT, key, body, clear=b'{"empty":true}')
    with pytest.raises(StoredDataDamaged, match="predecessor"):
        chain.commits.update(note, chain.state)


def test_unknown_keys_are_carried_along() -> None:
    chain = Chain(1)
    chain.state.extra["future"] = {"a": [1]}
    assert chain.commits.update(note, chain.state).extra["future"] == {"a": [1]}
    newest = chain.commits.newest()
    assert newest is not None
    assert newest.extra["future"] == {"a": [1]}
