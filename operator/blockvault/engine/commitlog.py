"""The objects that hold a lineage's commits: their names, finding one, finding the highest.

Where the store creates exclusively, commit n is `commits/<n>`, and whoever creates it second is told. Where it does
not, the store has one writer, and commit n is `commits/<n>-<random>`: two writers would not see each other, but
neither overwrites what the other wrote, and both numbers stand there for everybody to see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from blockvault.engine import runtime
from blockvault.engine.fetching import get_whole
from blockvault.engine.lineage import Lineage
from blockvault.stores import ObjectNotFound, ObjectStore

# Commits whose number is a multiple of this are never trimmed, so a probe that looks at them cannot be fooled
# by a number that is free again.
MILESTONE = 64


class Stored(NamedTuple):
    """One commit as it is stored."""

    number: int
    key: str
    data: bytes


@dataclass
class Listed:
    """What a listing showed: the keys of each number, and a tag of each key's version."""

    keys: dict[int, list[str]] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)

    @property
    def highest(self) -> int:
        """The highest number; 0 when there is none."""
        return max(self.keys, default=0)

    @property
    def doubled(self) -> list[str]:
        """Keys of all numbers that are there more than once: two programs wrote."""
        return sorted(key for keys in self.keys.values() if len(keys) > 1 for key in keys)


class CommitLog:
    """The commits of one lineage, as objects."""

    def __init__(self, store: ObjectStore, lineage: Lineage) -> None:
        self._store = store
        self._single = lineage.single_writer
        self._paths = lineage.paths

    def new_key(self, number: int) -> str:
        """What the next commit of that number is to be called."""
        key = self._paths.commit(number)
        return f"{key}-{runtime.random(8).hex()}" if self._single else key

    def list(self, prefix: str | None = None) -> Listed:
        """All commits that the store's listing shows."""
        found = Listed()
        for info in self._store.list(prefix or self._paths.commits):
            number = number_of(info.key)
            if number:
                found.keys.setdefault(number, []).append(info.key)
                found.tags[info.key] = info.etag
        return found

    def get(self, number: int, listed: Listed | None = None) -> Stored | None:
        """A commit, or None when it is not there. Of two of one number, the first by name."""
        key = self._paths.commit(number)
        if self._single:
            keys = (listed or Listed()).keys.get(number) or self.list(key).keys.get(number)
            if not keys:
                return None
            key = min(keys)
        return self.at(key)

    def at(self, key: str) -> Stored | None:
        """The commit under that key, or None."""
        try:
            return Stored(number_of(key), key, get_whole(self._store, key))
        except ObjectNotFound:
            return None

    def highest(self, at_least: int, *, probe: bool = True) -> tuple[int, Stored | None, Listed]:
        """The highest number, its commit if it was read on the way, and what was listed before.

        `at_least`: a number known to exist. Listings may lag, so what they show is only where probing begins; but of
        a store with one writer it is asked that they do not, as names cannot be guessed there.
        """
        listed = self.list()
        number, found = max(listed.highest, at_least), None
        while probe and not self._single:
            higher = self._probe(number)
            if higher is None:
                break
            number, found = higher.number, higher
        return number, found, listed

    def _probe(self, number: int) -> Stored | None:
        """The next commit above `number`: n+1, else the next milestone."""
        for candidate in (number + 1, ((number + 1) // MILESTONE + 1) * MILESTONE):
            found = self.get(candidate)
            if found is not None:
                return found
        return None

    def trim(self, newest: int, locked: Callable[[str], bool] = lambda key: False) -> int:
        """Delete commits that nobody needs: not the latest 64, nor those that probes look at. Returns how many.

        `locked`: whether one cannot be deleted yet; then later ones cannot either.
        """
        old = [key for number, keys in self.list().keys.items() if trimmable(number, newest) for key in keys]
        old = list(takewhile(lambda key: not locked(key), sorted(old)))
        self._store.delete(old)
        return len(old)


def trimmable(number: int, newest: int) -> bool:
    """Whether nobody needs that commit any more when `newest` is the newest."""
    return number <= newest - MILESTONE and bool(number % MILESTONE)


def number_of(key: str) -> int:
    """The number of a commit by its key; 0 for what is none."""
    text, _, random = key.rpartition("/")[2].partition("-")
    digits = set(random) <= set("0123456789abcdef")
    return int(text) if len(text) == 16 and text.isascii() and text.isdigit() and digits else 0
