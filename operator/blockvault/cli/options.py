"""Options that commands share, and the way from them to a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from blockvault.engine import BadRequest, Repository
from blockvault.stores import StoreLocation, open_store

F = TypeVar("F", bound=Callable[..., Any])

# A person waits at the other end; a mover is more patient.
RETRY_SECONDS = 60.0

STORE = click.argument("store", metavar="STORE")
VOLUME = click.option("--volume", required=True, metavar="NAME", help="Name of the volume in the store.")
PROGRESS = click.option(
    "--progress",
    type=click.Choice(["auto", "none", "plain", "json"]),
    default="auto",
    help="Progress on stderr: bars on a terminal (auto), lines, or JSON lines.",
)


def common(command: F) -> F:
    """STORE's own options, and the form of the output."""
    for option in (
        click.option("--endpoint-url", metavar="URL", help="S3 endpoint (else AWS_ENDPOINT_URL, else AWS)."),
        click.option("--region", metavar="REGION", help="S3 region (else AWS_REGION)."),
        click.option(
            "--output",
            "output_form",
            type=click.Choice(["table", "json"]),
            default="table",
            help="Form of the result.",
        ),
    ):
        command = option(command)
    return command


def location(store: str, endpoint_url: str | None, region: str | None) -> StoreLocation:
    """The store that the arguments mean. Credentials come from the environment."""
    return StoreLocation(store, endpoint=endpoint_url, region=region)


def repository(store: str, endpoint_url: str | None, region: str | None) -> Repository:
    """Open it."""
    return Repository.open(open_store(location(store, endpoint_url, region), retry_seconds=RETRY_SECONDS))


def sources(source: str | None, volume: str | None, named: tuple[str, ...]) -> list[tuple[str, str]]:
    """(volume, path) of each source, from `SOURCE --volume NAME` or from `--source NAME=PATH`."""
    if named and (source or volume):
        raise BadRequest("give either SOURCE with --volume, or --source, not both")
    if not named:
        if not source or not volume:
            raise BadRequest("give SOURCE and --volume, or --source NAME=PATH")
        return [(volume, source)]
    pairs = []
    for text in named:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise BadRequest(f"--source {text!r} is not NAME=PATH")
        pairs.append((name, path))
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadRequest("--source names one volume twice")
    return pairs
