"""Whose a volume may be, as far as whoever was told of it can know: two clusters on one store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from blockvault.engine.state import State
from tests.simulation.model import Wrong

# What a commit may do to a lineage that belongs to another cluster: read, note what was found, leave it, take it over.
HARMLESS = {"pin", "unpin", "verify", "note", "give-up", "take-over"}

May = frozenset[str | None]


def refuse_trespass(followed: State, action: str, cluster: str) -> None:
    """A commit of a cluster is about to follow that state. Raises Wrong when that belongs to another one."""
    owner = followed.owner["cluster"] if followed.owner else cluster
    if owner != cluster and action not in HARMLESS:
        raise Wrong(f"{cluster} decides on {action!r} although volume {followed.volume} belongs to {owner}")


class Owners:
    """By volume, the clusters of which each may be its owner, as time goes by. None stands for nobody."""

    def __init__(self, clusters: Iterable[str]) -> None:
        self._clusters: May = frozenset(clusters)
        self._past: dict[str, list[May]] = {}
        self._changing: Counter[str] = Counter()

    def mark(self, volume: str) -> int:
        """A point in time, for `may_have_been`."""
        return len(self._history(volume)) - 1

    def backs_up(self, volume: str, cluster: str) -> None:
        """Begins to: what is nobody's may become that one's."""
        now = self._history(volume)[-1]
        if None in now:
            self._history(volume).append(now | {cluster})

    @contextmanager
    def takes_over(self, volume: str, cluster: str, *, born: bool) -> Iterator[None]:
        """Inside the block it may become that one's; when that ends well it is, unless others change it as well.

        What is not `born` has no backup that stays: it may be given up for another that is nobody's.
        """
        history = self._history(volume)
        history.append(history[-1] | {cluster})
        since = self.mark(volume)
        with self._change(volume):
            yield
        if not self._changing[volume] and self.mark(volume) == since:
            history.append(frozenset({cluster} if born else {cluster, None}))

    def empties(self, volume: str) -> None:
        """Its last backup goes: it may be given up from now on, for another that is nobody's."""
        history = self._history(volume)
        history.append(history[-1] | {None})

    @contextmanager
    def deletes(self, volume: str) -> Iterator[None]:
        """Inside the block its backups are deleted for good: whoever comes first owns what follows."""
        self._history(volume).append(self._clusters | {None})
        try:
            with self._change(volume):
                yield
        finally:
            self._history(volume).append(self._clusters | {None})

    def may_have_been(self, volume: str, cluster: str, since: int) -> bool:
        """Whether it may have been that one's, or nobody's, at some time after `since`."""
        return any({cluster, None} & owners for owners in self._history(volume)[since:])

    def may_have_been_anothers(self, volume: str, cluster: str, since: int) -> bool:
        """Whether it may have been of somebody else at some time after `since`."""
        return any(owners - {cluster, None} for owners in self._history(volume)[since:])

    @contextmanager
    def _change(self, volume: str) -> Iterator[None]:
        self._changing[volume] += 1
        try:
            yield
        finally:
            self._changing[volume] -= 1

    def _history(self, volume: str) -> list[May]:
        return self._past.setdefault(volume, [frozenset({None})])
