"""What the operator's and the movers' service accounts have asked of the API server, by its audit log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockvault.cluster.resources import VERBS

NAMESPACE = "blockvault-system"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:blockvault"
MOVER = f"system:serviceaccount:{NAMESPACE}:blockvault-mover"
ELSEWHERE = [scope for scope in VERBS if scope not in ("operator", "mover")]


@dataclass(frozen=True, order=True)
class Call:
    """One kind of request. `resource` with its subresource; `own`: in the operator's own namespace."""

    user: str
    group: str
    resource: str
    verb: str
    own: bool

    def scopes(self) -> list[str]:
        """The scopes of `VERBS` by which it is granted."""
        scopes = ["mover"] if self.user == MOVER else [*ELSEWHERE, "operator"]
        return [
            scope
            for scope in scopes
            if self.verb in VERBS[scope].get((self.group, self.resource), ())
            and (self.own or scope in ELSEWHERE)
        ]


@dataclass(frozen=True)
class Audit:
    """`calls`: what was asked; `denied`: what RBAC has refused; `strangers`: other accounts of the namespace."""

    calls: set[Call]
    denied: set[str]
    strangers: set[str]

    def beyond(self) -> list[Call]:
        """What no table grants."""
        return sorted(call for call in self.calls if not call.scopes())

    def unused(self) -> list[tuple[str, str, str, str]]:
        """Scope, group, resource and verb of what is granted, and was not asked for."""
        used = {(scope, c.group, c.resource, c.verb) for c in self.calls for scope in c.scopes()}
        granted = {
            (scope, group, resource, verb)
            for scope, table in VERBS.items()
            for (group, resource), verbs in table.items()
            for verb in verbs
        }
        return sorted(granted - used)


def read(log: Path) -> Audit:
    """The audit of a log. Lines that are being written are passed over."""
    return audit(_events(log))


def audit(events: Iterable[dict[str, Any]]) -> Audit:
    """See `Audit`. Requests for no resource (what the server serves) are granted to every account by Kubernetes."""
    calls: set[Call] = set()
    denied: set[str] = set()
    strangers: set[str] = set()
    for event in events:
        user = event.get("user", {}).get("username", "")
        if not user.startswith(f"system:serviceaccount:{NAMESPACE}:"):
            continue
        what = event.get("objectRef")
        if user not in (OPERATOR, MOVER):
            strangers.add(user)
            continue
        if (event.get("annotations") or {}).get("authorization.k8s.io/decision") == "forbid":
            denied.add(f"{user}: {event['verb']} {event['requestURI'].partition('?')[0]}")
        if not what or "resource" not in what:
            continue
        resource = "/".join(part for part in (what["resource"], what.get("subresource")) if part)
        own = what.get("namespace") == NAMESPACE
        calls.add(Call(user, what.get("apiGroup", ""), resource, event["verb"], own))
    return Audit(calls, denied, strangers)


def _events(log: Path) -> Iterator[dict[str, Any]]:
    with log.open(encoding="utf-8") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            yield event
