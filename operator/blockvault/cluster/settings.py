"""What the operator is told by its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from blockvault.api.common import parse_quantity

# Backups at work at once, where nobody says otherwise.
MOST_BACKUPS = 8


class SettingsError(Exception):
    """The environment says something that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """Settings of one operator. `image` is that of the movers: the operator's own.

    `max_bandwidth`: bytes a second, of all movers of backups together.
    `testing_clock`: a file with the seconds that the calendar is ahead; for tests only.
    """

    namespace: str = "blockvault-system"
    image: str = "blockvault:latest"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = field(default=())
    mover_service_account: str = "blockvault-mover"
    http_port: int = 8080
    instance: str = "default"
    allow_tenant_storage: bool = True
    allow_local_endpoints: bool = False
    max_backups: int = MOST_BACKUPS
    max_bandwidth: int | None = None
    max_policies: int = 32
    max_tasks: int = 5000
    testing_clock: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Settings from BLOCKVAULT_* variables. Raises SettingsError naming the variable and the remedy."""
        return cls(
            namespace=environment.get("BLOCKVAULT_NAMESPACE", cls.namespace),
            image=environment.get("BLOCKVAULT_IMAGE", cls.image),
            image_pull_policy=environment.get("BLOCKVAULT_IMAGE_PULL_POLICY", cls.image_pull_policy),
            image_pull_secrets=tuple(environment.get("BLOCKVAULT_IMAGE_PULL_SECRETS", "").split()),
            mover_service_account=environment.get(
                "BLOCKVAULT_MOVER_SERVICE_ACCOUNT", cls.mover_service_account
            ),
            http_port=_number(environment, "BLOCKVAULT_HTTP_PORT", cls.http_port),
            instance=environment.get("BLOCKVAULT_INSTANCE", cls.instance),
            allow_tenant_storage=_flag(environment, "BLOCKVAULT_ALLOW_TENANT_STORAGE", True),
            allow_local_endpoints=_flag(environment, "BLOCKVAULT_ALLOW_LOCAL_ENDPOINTS", False),
            max_backups=_number(environment, "BLOCKVAULT_MAX_BACKUPS", cls.max_backups, least=1),
            max_bandwidth=_rate(environment, "BLOCKVAULT_MAX_BANDWIDTH"),
            max_policies=_number(environment, "BLOCKVAULT_MAX_POLICIES", cls.max_policies, least=1),
            max_tasks=_number(environment, "BLOCKVAULT_MAX_TASKS", cls.max_tasks, least=1),
            testing_clock=environment.get("BLOCKVAULT_TESTING_CLOCK", ""),
        )


def _number(environment: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal() or int(text) < least:
        raise SettingsError(f"{name} is {text!r}: set a number, {least} or more.")
    return int(text)


def _rate(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    try:
        rate = parse_quantity(text) if text else None
    except ValueError:
        rate = 0
    if rate is not None and rate <= 0:
        raise SettingsError(
            f"{name} is {text!r}: set bytes a second as a quantity, such as 200Mi, or nothing."
        )
    return rate


def _flag(environment: Mapping[str, str], name: str, default: bool) -> bool:
    return _choice(environment, name, str(default).lower(), ("true", "false")) == "true"


def _choice(environment: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    text = environment.get(name, default).lower()
    if text not in allowed:
        raise SettingsError(f"{name} is {text!r}: set one of {', '.join(allowed)}.")
    return text
