"""Whose turn it is: how many Backups work at once, overall and in each Vault (F10). Pure.

A Backup that is at work keeps its place until it has ended. Of those that wait the oldest one of the namespace goes
first that has the fewest at work, so that none is held up by what another one has piled up; unless its Vault is full:
then the next one of another Vault does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, order=True)
class Waiting:
    """A Backup that wants to begin; `most`: how many of its Vault may work at once, None for any number."""

    created: datetime
    uid: str
    vault: str
    most: int | None = None


def chosen(working: dict[str, str], waiting: Iterable[Waiting], most: int) -> set[str]:
    """Which of those that wait may begin now. `working`: uid to Vault of those at work; `most`: overall.

    A Vault is `namespace/name`.
    """
    busy = Counter(working.values())
    at_work = Counter(_namespace(vault) for vault in working.values())
    queues: dict[str, list[Waiting]] = {}
    for each in sorted(waiting, reverse=True):  # the oldest is the last one
        queues.setdefault(_namespace(each.vault), []).append(each)
    found: set[str] = set()
    while queues and len(working) + len(found) < most:
        namespace = min(queues, key=lambda name: (at_work[name], queues[name][-1]))
        each = queues[namespace].pop()
        if not queues[namespace]:
            del queues[namespace]
        if each.most is None or busy[each.vault] < each.most:
            found.add(each.uid)
            busy[each.vault] += 1
            at_work[namespace] += 1
    return found


def _namespace(vault: str) -> str:
    return vault.partition("/")[0]


class Turns:
    """Who works and who waits in this operator. A place is asked for and taken without anybody in between."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seeded = False
        self._working: dict[str, str] = {}
        self._waiting: dict[str, Waiting] = {}

    def keep(self, uid: str, vault: str) -> None:
        """One that is at work already, perhaps since before a restart."""
        self._waiting.pop(uid, None)
        self._working[uid] = vault

    def take(self, wanted: Waiting) -> bool:
        """Take a place, or keep the one that it has; False when it is not this one's turn, and then it waits."""
        if wanted.uid in self._working:
            return True
        self._waiting[wanted.uid] = wanted
        if wanted.uid not in chosen(self._working, self._waiting.values(), self.most):
            return False
        self.keep(wanted.uid, wanted.vault)
        return True

    def waits(self, uid: str) -> bool:
        """Whether it waits and its turn has not come, so that nothing else of it need be looked at."""
        return uid in self._waiting and uid not in chosen(self._working, self._waiting.values(), self.most)

    def leave(self, uid: str) -> list[str]:
        """It has ended, or cannot begin for another reason. Who may begin now that could not before."""
        self._waiting.pop(uid, None)
        if self._working.pop(uid, None) is None:
            return []
        return sorted(chosen(self._working, self._waiting.values(), self.most))

    def counts(self) -> tuple[int, int, int]:
        """How many work, how many wait for their turn, and how many may work."""
        return len(self._working), len(self._waiting), self.most

    def words(self, vault: str) -> str:
        """How many work, for people."""
        here = sum(name == vault for name in self._working.values())
        return f"{here} of this vault, and {len(self._working)} of at most {self.most} in all"
