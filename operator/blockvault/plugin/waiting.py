"""Waiting for Backups and Restores to end, with bars on a terminal and lines elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from blockvault.cluster.resources import Resource
from blockvault.core.objects import Object
from blockvault.plugin import facts, words
from blockvault.plugin.errors import FailedError, PassingError
from blockvault.plugin.words import name_of
from blockvault.terminal import size

if TYPE_CHECKING:
    from blockvault.plugin.session import Session

# Seconds between looks, and between lines of what is not drawn.
LOOK, LINE = 1.0, 5.0
# An API server that does not answer is waited for so long.
PATIENCE = timedelta(minutes=2)


@dataclass(frozen=True)
class Goal:
    """What is waited for: phases that are good, and phases that are not."""

    good: tuple[str, ...]
    bad: tuple[str, ...] = ("Error",)
    gone: bool = False
    """Whether it is good that the object goes."""

    def reached(self, obj: Object | None) -> bool | None:
        """True or False when it has ended well or not, None while it goes on."""
        if obj is None:
            return self.gone
        phase = facts.phase_of(obj)
        return True if phase in self.good else False if phase in self.bad else None


BACKED_UP = Goal(("Available",))
RESTORED = Goal(("Completed", "Restored", "Skipped", "Available"), ("Error", "RolledBack"))
ROLLED_BACK = Goal(("RolledBack",), ("Error", "Completed"))
CONFIRMED = Goal(("Completed",), ("Error", "RolledBack"))
ENDED = Goal(("Error", "Available", "Completed", "Restored", "RolledBack", "Skipped"), ())
GONE = Goal((), (), gone=True)


async def wait(
    session: Session,
    resource: Resource,
    objects: Sequence[Object],
    goal: Goal,
    limit: timedelta | None = None,
) -> list[Object]:
    """The objects as they are in the end; those that have gone are as they were seen last.

    Raises FailedError when one has not ended well, after all have ended; PassingError after `limit`.
    """
    seen = {name_of(o): o for o in objects}
    ends: dict[str, bool] = {}
    begun = last_answer = asyncio.get_running_loop().time()
    with display(resource.kind) as tell:
        while True:
            now = asyncio.get_running_loop().time()
            for name in [n for n in seen if n not in ends]:
                try:
                    found = await session.find(resource, name)
                    last_answer = now
                except PassingError:
                    if now - last_answer > PATIENCE.total_seconds():
                        raise
                    continue
                seen[name] = found or seen[name]
                ended = goal.reached(found)
                tell(seen[name], ended)
                if ended is not None:
                    ends[name] = ended
            if len(ends) == len(seen):
                break
            if limit is not None and now - begun > limit.total_seconds():
                left = ", ".join(
                    f"{resource.kind} {n} is {facts.phase_of(seen[n])}" for n in seen if n not in ends
                )
                raise PassingError(
                    f"not ended after {words.span(limit.total_seconds())}: {left}",
                    "It goes on in the cluster: `kubectl blockvault status` shows how.",
                )
            await asyncio.sleep(LOOK)
    failed = [name for name, good in ends.items() if not good]
    if failed:
        raise _failure(resource, [seen[name] for name in failed])
    return list(seen.values())


def _failure(resource: Resource, objects: list[Object]) -> FailedError:
    told = []
    for obj in objects:
        status = facts.status_of(obj)
        what = f"{resource.kind} {name_of(obj)} ended in {facts.phase_of(obj)}"
        told.append(
            f"{what}: {status.get('reason')}: {status.get('message')}" if status.get("reason") else what
        )
    first = objects[0]
    remedy = (
        facts.remedy(first)
        or f"`kubectl blockvault describe {resource.kind.lower()}/{name_of(first)}` has more."
    )
    return FailedError("; ".join(told), remedy)


Tell = Callable[[Object, "bool | None"], None]


def display(kind: str) -> AbstractContextManager[Tell]:
    """Where it is told how it goes: bars where stderr is a terminal, else lines."""
    return _Bars(kind) if sys.stderr.isatty() else nullcontext(_Lines(kind))


class _Lines:
    """One line when the phase changes, and now and then."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._told: dict[str, tuple[str, float]] = {}

    def __call__(self, obj: Object, ended: bool | None) -> None:
        name, now = name_of(obj), asyncio.get_running_loop().time()
        line = say(self._kind, obj)
        state = facts.phase_of(obj)
        before, at = self._told.get(name, ("", -LINE))
        if state != before or now - at >= LINE:
            self._told[name] = (state, now)
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def say(kind: str, obj: Object) -> str:
    """How an object does, in a line."""
    status = facts.status_of(obj)
    line = f"{kind} {name_of(obj)}: {facts.phase_of(obj)}"
    progress = status.get("progress") or {}
    done, total = facts.percent_of(obj), progress.get("bytesTotal")
    if facts.at_work(obj):
        line += f", {status['reason']}" if status.get("reason") else ""
        if done is not None:
            line += f", {words.percent(done)}"
            line += f" of {size(total)}" if total else ""
    return line


class _Bars:
    """A bar for each object."""

    def __init__(self, kind: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._kind = kind
        self._tasks: dict[str, Any] = {}
        self._bars = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:>3.0f} %", table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=Console(stderr=True, highlight=False),
        )

    def __enter__(self) -> Tell:
        self._bars.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _tell(self, obj: Object, ended: bool | None) -> None:
        name, status = name_of(obj), facts.status_of(obj)
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=100, note="")
        done = 100.0 if ended else facts.percent_of(obj) or 0.0
        phase = facts.phase_of(obj)
        note = phase if ended is not None else " ".join(filter(None, [phase, status.get("reason")]))
        self._bars.update(self._tasks[name], completed=done, note=note)


def interrupted(what: str, how: str) -> PassingError:
    """What is said when somebody stops waiting."""
    return PassingError(f"stopped waiting: {what} in the cluster", how)
