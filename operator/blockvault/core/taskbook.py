"""Which Tasks are to be written, when, and which go. Pure but for what it remembers.

Nobody waits for a Task: reconcilers leave what they have to say here, and one loop writes it. What is not written when
the operator dies is made up from the operations' own objects at its next start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .conditions import parse_timestamp
from .objects import Object
from .task_record import Record

KEPT = timedelta(days=30)
# What is stamped so far ahead of the clock was stamped by one that was wrong: its creation counts then.
PLAUSIBLE = timedelta(days=1)
# All Tasks are looked through so often; and, where more come than a namespace may have, no sooner than after so long.
SWEEP_EVERY, SWEEP_PAUSE = timedelta(hours=12), 60.0
# Seconds between two writes of a Task that only goes on.
PROGRESS_SECONDS = 10.0

Key = tuple[str, str]


def key_of(record: Record) -> Key:
    """A Task's namespace and name."""
    return record.namespace, record.name


@dataclass(frozen=True)
class Kept:
    """A Task as far as its removal goes. `since`: when it ended; None while it runs."""

    namespace: str
    name: str
    uid: str
    since: datetime | None


def kept_of(task: Object, now: datetime) -> Kept:
    """The same of an object of the API."""
    meta, status = task["metadata"], task.get("status") or {}
    created, since = parse_timestamp(meta["creationTimestamp"]), None
    if status.get("phase") != "Running":
        ended = _moment(status.get("completedAt"))
        since = ended if ended is not None and ended <= now + PLAUSIBLE else created
    return Kept(meta["namespace"], meta["name"], meta["uid"], since)


def _moment(text: str | None) -> datetime | None:
    """A time, if it is one with a zone: a Task that somebody else wrote must not stop the others' removal."""
    try:
        moment = parse_timestamp(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def to_remove(tasks: Iterable[Kept], now: datetime, most: int) -> list[Kept]:
    """Tasks whose 30 days are over, and the oldest where a namespace has more than `most`. None that runs."""
    gone: list[Kept] = []
    living: dict[str, list[tuple[datetime, str, Kept]]] = {}
    running: Counter[str] = Counter()
    for task in tasks:
        if task.since is None:
            running[task.namespace] += 1
        elif now - task.since >= KEPT:
            gone.append(task)
        else:
            living.setdefault(task.namespace, []).append((task.since, task.name, task))
    for namespace, ended in living.items():
        surplus = len(ended) + running[namespace] - most
        if surplus > 0:
            gone += [task for _, _, task in sorted(ended)[:surplus]]
    return gone


class TaskBook:
    """What was written of Tasks that run, what is to be written, and how many there are.

    `moment`: seconds of any clock that only goes forward.
    """

    def __init__(self) -> None:
        self.swept: datetime | None = None
        self.going: list[Kept] = []
        self._swept_at = 0.0
        self._said: dict[Key, tuple[Record, float]] = {}
        self._waiting: dict[Key, tuple[Record, float]] = {}
        self._counts: Counter[str] = Counter()

    def put(self, record: Record, moment: float) -> None:
        """Have a Task say this: at once where it begins or ends, else some seconds after it last said something."""
        key = key_of(record)
        former = self._latest(key)
        if former is not None and former.started and record.started:
            record = replace(record, started=former.started)  # a beginning stays what it was
        if former == record or (former is not None and not former.open):
            return
        said, at = self._said.get(key, (None, 0.0))
        urgent = said is None or not record.open or (record.started and not said.started)
        self._waiting[key] = (record, moment if urgent else max(moment, at + PROGRESS_SECONDS))

    def adopt(self, record: Record) -> None:
        """One that runs, found in the API: as good as written by this operator."""
        if self._latest(key_of(record)) is None:
            self._said[key_of(record)] = (record, 0.0)

    def said(self, record: Record) -> Record | None:
        """What was last written of this Task."""
        return self._said.get(key_of(record), (None, 0.0))[0]

    def open_of(self, uid: str) -> list[Record]:
        """What the Tasks of an object say that have not ended."""
        keys = {**self._said, **self._waiting}
        found = [self._latest(key) for key in keys]
        return [record for record in found if record is not None and record.open and record.uid == uid]

    def at_work(self, namespace: str) -> bool:
        """Whether an operation of a namespace goes on."""
        return any(
            record.open and record.namespace == namespace
            for record, _ in (*self._said.values(), *self._waiting.values())
        )

    def due(self, moment: float) -> list[Record]:
        """What is to be written now, in the order in which it came."""
        return [record for record, at in self._waiting.values() if at <= moment]

    def written(self, record: Record, moment: float, *, made: bool = False) -> None:
        """It stands in the API. What was put meanwhile still waits."""
        key = key_of(record)
        self._counts[record.namespace] += made
        self.drop(record)
        if record.open:
            self._said[key] = (record, moment)
        else:
            self._said.pop(key, None)

    def drop(self, record: Record) -> None:
        """It can never be written."""
        if self._waiting.get(key_of(record), (None,))[0] == record:
            del self._waiting[key_of(record)]

    def seconds(self, moment: float) -> float | None:
        """How long until something is due; None when nothing waits."""
        return min((max(0.0, at - moment) for _, at in self._waiting.values()), default=None)

    def sweep_is_due(self, now: datetime, moment: float, most: int) -> bool:
        """Whether all Tasks are to be looked through: at the start, each half day, and where too many have come."""
        if self.swept is None or abs(now - self.swept) >= SWEEP_EVERY:
            return True
        # Not for each one more: so many at a time.
        full = most + max(1, most // 10)
        return moment - self._swept_at >= SWEEP_PAUSE and any(count > full for count in self._counts.values())

    def sweep_done(self, tasks: list[Kept], now: datetime, moment: float, most: int) -> None:
        """All Tasks were looked through."""
        self.swept, self._swept_at = now, moment
        self.going = to_remove(tasks, now, most)
        self._counts = Counter(task.namespace for task in tasks)
        self._counts.subtract(task.namespace for task in self.going)

    def _latest(self, key: Key) -> Record | None:
        return (self._waiting.get(key) or self._said.get(key) or (None,))[0]
