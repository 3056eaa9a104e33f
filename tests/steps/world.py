"""What the scenarios need of a cluster, emulated or real."""

from __future__ import annotations

from typing import Protocol

from tests.scenario.environment import Environment, Object

MIB = 1 << 20


class World(Environment, Protocol):
    """An environment whose operator may die, and comes back, and whose storage can be looked into."""

    size: int
    """Bytes of each claim."""
    patience: float
    """Seconds in which an operation ends, faults included."""

    def workload(self, name: str, claim: str) -> Object:
        """A StatefulSet with one pod on a raw claim."""

    def tend(self) -> None:
        """Have the operator run, if it has died and nobody else starts it."""

    def let_go(self, claim: str) -> None:
        """Take the pod away by which `write` and `digest` reach a claim."""

    def held(self) -> tuple[set[str], set[str]]:
        """Handles of the volumes and of the snapshots that take up space in the storage."""

    def move_clock(self, seconds: int) -> None:
        """Let the operator's calendar be so far ahead."""

    def kill_movers(self) -> None:
        """SIGKILL to all movers that run."""

    def set_finalizer(self, kind: str, obj: Object, finalizer: str, there: bool) -> None:
        """Have a foreign finalizer on an object, or take it away; nothing where the object is gone."""

    def harm(self, how: str) -> None:
        """Break something around the operator; only in a real cluster."""
