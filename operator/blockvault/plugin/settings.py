"""Which cluster, as whom, and for how long an answer is waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from blockvault.plugin.session import Session

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What all commands on a cluster are given."""

    kubeconfig: str | None
    context: str | None
    cluster: str | None
    user: str | None
    namespace: str | None
    server: str | None
    token: str | None
    as_user: str | None
    as_group: str | None
    certificate_authority: str | None
    insecure: bool
    request_timeout: str | None

    def converse(self, work: Callable[[Session], Awaitable[T]], *, everywhere: bool = False) -> T:
        """Do some work with the cluster. Raises PluginError."""
        # Here and not above: what answers --help and completes words must start at once.
        from blockvault.cluster.kubeconfig import Way
        from blockvault.plugin.session import converse

        given = {
            each.name: getattr(self, each.name) for each in fields(Settings) if each.name != "request_timeout"
        }
        return converse(Way(**given, timeout=self._timeout()), work, everywhere=everywhere)

    def over(self, outer: Settings) -> Settings:
        """These, and what they leave open as the group says before its command: `hold -n shop allow …`."""
        return Settings(**{f.name: getattr(self, f.name) or getattr(outer, f.name) for f in fields(Settings)})

    def _timeout(self) -> float | None:
        text = (self.request_timeout or "0").strip()
        number, unit = text.rstrip("smh"), text[-1:]
        factor = {"s": 1, "m": 60, "h": 3600}.get(unit, 1)
        try:
            return float(number) * factor or None
        except ValueError:
            raise click.UsageError(f"--request-timeout {text!r} is not a time such as 30s") from None
