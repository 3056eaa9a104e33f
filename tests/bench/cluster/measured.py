"""What one step took one program, in the terms that both have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tests.bench.cluster.watching import Seen

FIRST, UNCHANGED, CHANGED = "first backup", "nothing changed", "scattered changes"
RESTORE, RESTORE_FAR = "restore to a new claim", "restore, all from the store"
BACKUPS, RESTORES = (FIRST, UNCHANGED, CHANGED), (RESTORE, RESTORE_FAR)

Phase = tuple[str, float]


@dataclass(frozen=True)
class Took:
    """Seconds from `kubectl apply` to the end that the user waits for, and what they went into.

    `own`: of them, those in which neither Kubernetes nor the storage was at work for it; None if that is not known.
    `stored`: bytes that the bucket grew by.
    """

    seconds: float
    phases: list[Phase] = field(default_factory=list)
    own: float | None = None
    stored: int = 0


class Program(Protocol):
    """What backs claims up, installed in a cluster."""

    name: str

    def back_up(self, namespace: str, claim: str) -> Took:
        """Back a claim up, once more; returns when the backup can be restored."""

    def restore(self, namespace: str, claim: str, *, far: bool) -> tuple[Took, str, str]:
        """Restore the newest backup to a new claim, whose namespace and name are given back.

        `far`: where nothing but the store helps.
        """

    def busy(self) -> bool:
        """Whether it works at something that nobody asked for: what is measured then is not that alone."""

    def stored(self) -> int:
        """Bytes in its bucket."""


def between(transitions: Iterable[tuple[float, str]], end: float) -> list[Phase]:
    """Each state that was entered, for as long as it was the newest one; what came twice is added up."""
    steps = sorted(transitions)
    found: dict[str, float] = {}
    for (at, name), (until, _) in zip(steps, [*steps[1:], (end, "")], strict=True):
        found[name] = found.get(name, 0.0) + until - at
    return list(found.items())


def entered(seen: list[Seen], kinds: Iterable[str], begin: float) -> list[tuple[float, str]]:
    """When objects of these kinds entered a phase of their status, since a moment: (moment, kind and phase)."""
    found, last = [], dict[str, str | None]()
    for event in seen:
        uid = event.object["metadata"]["uid"]
        if event.kind not in kinds or event.at < begin or event.phase == last.get(uid):
            continue
        last[uid] = event.phase
        found.append((event.at, f"{event.kind} {event.phase}"))
    return found
