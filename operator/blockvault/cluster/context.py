"""What every reconciler works with, and how sleeping ones are woken."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from blockvault.api import Vault, VaultClass
from blockvault.core.coveragebook import CoverageBook
from blockvault.core.task_record import Record
from blockvault.core.taskbook import TaskBook
from blockvault.core.turns import Turns
from blockvault.metrics.figures import Figures
from blockvault.storework import StoreWork

from .gateway import Gateway
from .kept import Kept
from .resources import VAULT_CLASSES, VAULTS
from .settings import MOST_BACKUPS, Settings


def utc_now() -> datetime:
    """The wall clock, in UTC: for the age of what the API server stamped."""
    return datetime.now(UTC)


def runs_key(vault_uid: str) -> str:
    """The bell of the loop that runs a Vault's policy, beside the one that checks its store."""
    return f"{vault_uid}/runs"


class Wakeups:
    """One bell for each loop, by the uid of its object. Ringing where nobody sleeps is kept."""

    def __init__(self) -> None:
        self._bells: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._kinds: dict[str, str] = {}

    def begin(self, uid: str, kind: str) -> None:
        """Hang up the bell of a loop, before its first look: what happens during that look wakes it too."""
        self._bells[uid], self._kinds[uid] = asyncio.Event(), kind

    def wake(self, uid: str) -> None:
        """Let the loop of that object look again now."""
        if uid in self._bells:
            self._bells[uid].set()

    def wake_all(self, *kinds: str) -> None:
        """Let every loop look again, or those of these kinds: something that many may wait for has changed."""
        for uid, bell in self._bells.items():
            if not kinds or self._kinds.get(uid) in kinds:
                bell.set()

    async def sleep(self, uid: str, seconds: float) -> None:
        """Sleep until woken, at most so many seconds."""
        bell = self._bells[uid]
        try:
            await asyncio.wait_for(bell.wait(), timeout=seconds)
        except TimeoutError:
            return
        finally:
            bell.clear()

    def forget(self, uid: str) -> None:
        """Drop the bell of an object that is finished or gone."""
        self._bells.pop(uid, None)
        self._kinds.pop(uid, None)


ADMITTED_AT_ONCE = 4
# Of loops that wait for nothing: seconds between the looks of any two Vaults', and how long one sleeps at most.
IDLE_APART, IDLE_MOST = 36.0, 3600.0
# The bell of the loop that writes Tasks.
TASKS_KEY = "tasks"
# The bell of the loop that looks at claims which wait for their data.
POPULATING = "populating"


def upkeep_key(vault_uid: str) -> str:
    """The bell of the loop that tidies a Vault's store up."""
    return f"{vault_uid}/upkeep"


def catalogue_key(vault_uid: str) -> str:
    """The bell of the loop that looks a Vault's store through."""
    return f"{vault_uid}/catalogue"


@dataclass
class Context:
    """One operator's parts. `clock` is the calendar that schedules and rules go by; tests move it.

    `cluster`: see `vaults.cluster_id`.
    """

    gateway: Gateway
    settings: Settings
    stores: StoreWork
    figures: Figures
    clock: Callable[[], datetime] = utc_now
    cluster: str | None = None
    # When Backups of a Vault were deleted by somebody, by its uid.
    deletions: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    # Namespaces and names of claims that wait for their data, by uid.
    populating: dict[str, tuple[str, str]] = field(default_factory=dict)
    # Vaults that were deleted with their data: when, and in which namespace.
    deleted_vaults: list[tuple[datetime, str]] = field(default_factory=list)
    # Fingerprints of the Vaults' credentials, by uid, and at how many more looks movers' Secrets are compared.
    credentials: dict[str, tuple[str, int]] = field(default_factory=dict)
    # Namespaces of the Vaults, by uid.
    vaults: dict[str, str] = field(default_factory=dict)
    # Of a Vault without its claims, which are nearly all of it.
    neighbours: Kept[Vault] = field(
        default_factory=lambda: Kept(VAULTS, Vault, (("spec", "resources"), ("status", "resources")))
    )
    classes: Kept[VaultClass] = field(default_factory=lambda: Kept(VAULT_CLASSES, VaultClass))
    wakeups: Wakeups = field(default_factory=Wakeups)
    tasks: TaskBook = field(default_factory=TaskBook)
    coverage: CoverageBook = field(default_factory=CoverageBook)
    turns: Turns = field(default_factory=lambda: Turns(MOST_BACKUPS))
    # Backups that have not begun look around a few at a time: hundreds that a slot makes would else keep those that
    # have begun from going on, and the rest of them from being made.
    admission: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ADMITTED_AT_ONCE))
    # A reconcile and a deletion of one object never overlap in this process.
    locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def pace(self, seconds: float, apart: float, most: float) -> float:
        """How long a Vault's loop sleeps that would sleep so long if there were few Vaults.

        All together they look no more often than once in `apart` seconds, but each does once in `most`.
        """
        return max(seconds, min(most, apart * len(self.vaults)))

    def idle(self, seconds: float) -> float:
        """How long a loop that waits for nothing sleeps: what happens wakes it."""
        return self.pace(seconds, IDLE_APART, IDLE_MOST)

    def want_populating(self, uid: str, namespace: str, name: str) -> None:
        """Let a claim that waits for its data be looked at."""
        self.populating[uid] = (namespace, name)
        self.wakeups.wake(POPULATING)

    def note_tasks(self, records: Iterable[Record]) -> None:
        """Have Tasks say this soon. Nobody waits for them, and nothing fails with them."""
        for record in records:
            self.tasks.put(record, time.monotonic())
            self.wakeups.wake(TASKS_KEY)
