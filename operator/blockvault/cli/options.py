"""Options that commands share, and the way from them to a store."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

import click

from blockvault.cli import keyfiles
from blockvault.cli.values import SIZE
from blockvault.engine import KeyRing, Repository
from blockvault.stores import ObjectStore, StoreLocation, open_store

F = TypeVar("F", bound=Callable[..., Any])

# A person waits at the other end; a mover is more patient.
RETRY_SECONDS = 60.0

STORE = click.argument("store", metavar="STORE")
VOLUME = click.option("--volume", required=True, metavar="NAME", help="Name of the volume in the store.")
BACKUP = click.option(
    "--backup",
    "backup_id",
    default="latest",
    metavar="ID",
    help="Which one: its id, the first 6 or more of its characters, or latest (the default).",
)
COMMIT = click.option(
    "--commit",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="As that commit of the volume had it, deleted backups included: see `blockvault commits`.",
)
PROGRESS = click.option(
    "--progress",
    type=click.Choice(["auto", "none", "plain", "json"]),
    default="auto",
    help="Progress on stderr: bars on a terminal and lines elsewhere (auto), always lines, or JSON lines.",
)


@dataclass(frozen=True)
class Settings:
    """What all commands on a store are given."""

    endpoint_url: str | None
    region: str | None
    key_file: str | None
    previous_key_file: str | None
    limit_rate: int | None
    actor: str | None
    output_form: str

    @property
    def json(self) -> bool:
        """Whether the result is wanted as one JSON object."""
        return self.output_form == "json"

    @property
    def ring(self) -> KeyRing:
        """The keys that were given."""
        return keyfiles.ring(self.key_file, self.previous_key_file)

    def store(self, url: str, *, make: bool = False) -> ObjectStore:
        """The store at that place. S3 credentials come from the environment."""
        location = self.location(url)
        return open_store(location, retry_seconds=RETRY_SECONDS, limit_rate=self.limit_rate, make=make)

    def location(self, url: str) -> StoreLocation:
        """That place, as the options say how to reach it."""
        return StoreLocation(url, endpoint=self.endpoint_url, region=self.region)

    def repository(self, url: str) -> Repository:
        """The backups there."""
        ring = self.ring  # first: a wrong key file is told without asking the store
        return Repository.open(self.store(url), ring, actor=self.actor)


def common(command: F) -> F:
    """Options of every command on a store; it gets them as `settings`."""

    @functools.wraps(command)
    def call(*arguments: Any, **given: Any) -> Any:
        settings = Settings(**{field.name: given.pop(field.name) for field in fields(Settings)})
        return command(*arguments, settings=settings, **given)

    for option in (
        click.option(
            "--output",
            "output_form",
            type=click.Choice(["table", "json"]),
            default="table",
            help="Form of the result.",
        ),
        click.option(
            "--limit-rate",
            type=SIZE,
            metavar="SIZE",
            help="Most bytes per second to and from the store, e.g. 20M.",
        ),
        click.option(
            "--as",
            "actor",
            metavar="CLUSTER",
            help="Act for the cluster that owns the backups: see OWNER in `blockvault list`.",
        ),
        click.option("--region", metavar="REGION", help="S3 region (else AWS_REGION)."),
        click.option("--endpoint-url", metavar="URL", help="S3 endpoint (else AWS_ENDPOINT_URL, else AWS)."),
        click.option(
            "--previous-key-file",
            metavar="FILE",
            envvar="BLOCKVAULT_PREVIOUS_KEY_FILE",
            help="The key before it, while it is being rotated (BLOCKVAULT_PREVIOUS_KEY_FILE).",
        ),
        click.option(
            "--key-file",
            metavar="FILE",
            envvar="BLOCKVAULT_KEY_FILE",
            help="The vault's key, if the store is encrypted: 32 bytes, raw or base64 (BLOCKVAULT_KEY_FILE).",
        ),
    ):
        call = option(call)
    return cast(F, call)
