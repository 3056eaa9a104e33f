"""Faults on demand: what goes wrong in the emulated cluster, when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .kinds import Object

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")


@dataclass
class RequestFault:
    """The next `times` requests of a verb on a resource fail.

    With `after_effect` the request takes effect first and only its answer is lost (status 0: the
    connection breaks). `resource` is a plural, with its subresource where there is one: `jobs`,
    `backups/status`, or `*`.
    """

    verb: str
    resource: str
    status: int
    times: int
    after_effect: bool


@dataclass
class Faults:
    """All faults of one cluster. Fields can be set at any moment, from any thread."""

    requests: list[RequestFault] = field(default_factory=list)
    # Seconds from cutting a snapshot to readyToUse.
    snapshot_delay: float = 0.0
    # Creating a snapshot fails with this message, for as long as it is set.
    snapshot_error: str | None = None
    # Provisioning a volume fails with this message, for as long as it is set.
    provision_error: str | None = None
    # A mover gets these besides its own environment.
    mover_environment: dict[str, str] = field(default_factory=dict)
    # Movers' pods stay Pending while this is set, as when no node has room.
    hold_movers: bool = False
    # Nodes that nobody hears of; what runs there goes on. See EmbeddedCluster.lose_node.
    lost_nodes: set[str] = field(default_factory=set)
    # Called with verb and resource when a request over HTTP has taken effect and is not answered yet.
    on_request: Callable[[str, str], None] | None = None
    # Called with each Job's pod when its process has started.
    on_mover: Callable[[Object], None] | None = None

    def fail(
        self, verb: str, resource: str, *, status: int = 500, times: int = 1, after_effect: bool = False
    ) -> RequestFault:
        """Let the next requests fail; returns the fault, whose `times` counts down."""
        if verb not in (*VERBS, "*"):
            raise ValueError(f"verb {verb!r} is none of {VERBS}")
        fault = RequestFault(verb, resource, status, times, after_effect)
        self.requests.append(fault)
        return fault

    def next_for(self, verb: str, resource: str) -> RequestFault | None:
        """The fault that a request meets, counted down; None for most."""
        for fault in self.requests:
            if fault.times > 0 and fault.verb in (verb, "*") and fault.resource in (resource, "*"):
                fault.times -= 1
                return fault
        return None
