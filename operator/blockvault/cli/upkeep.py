"""`blockvault init` and `usage`: the store as a whole."""

from __future__ import annotations

from typing import Any

import click

from blockvault.cli import output
from blockvault.cli.options import STORE, Settings, common
from blockvault.engine import Repository


@click.command()
@STORE
@click.option(
    "--single-writer",
    is_flag=True,
    help="Use a store that cannot create exclusively, promising that only one program writes to it at a time.",
)
@common
def init(store: str, single_writer: bool, settings: Settings) -> None:
    """Make a place for backups at STORE: s3://bucket/prefix or file:///directory.

    First it is proved that the store is fit for it. With --key-file all that is stored is encrypted, for ever:
    without that key nobody reads it, you included. Repeating it changes nothing.

    \b
    Examples:
      blockvault init file:///mnt/backups
      blockvault key generate vault.key && blockvault init s3://backups/prod --key-file vault.key
    """
    ring = settings.ring
    made = Repository.init(settings.store(store, make=True), ring, single_writer=single_writer)
    facts = {
        "storeId": made.store_id,
        "location": store,
        "createdAt": made.created_at,
        "encrypted": made.encrypted,
        "keyFingerprint": ring.current.fingerprint if ring.current else None,
    }
    if settings.json:
        output.as_json(facts)
        return
    click.echo(f"Store {made.store_id} at {store}.")
    if ring.current is not None:
        click.echo(f"Encrypted under the key {ring.current.fingerprint}: keep a copy of it elsewhere.")


@click.command()
@STORE
@common
def usage(store: str, settings: Settings) -> None:
    """Show how many bytes the backups of each volume occupy.

    \b
    Example:
      blockvault usage s3://backups/prod
    """
    volumes = settings.repository(store).usage()
    total: int = sum(volume["usedBytes"] for volume in volumes)
    facts: dict[str, Any] = {"usedBytes": total, "volumes": volumes}
    if settings.json:
        output.as_json(facts)
        return
    rows = [(volume["volume"], volume["backups"], output.size(volume["usedBytes"])) for volume in volumes]
    output.as_table(("VOLUME", "BACKUPS", "USED"), [*rows, ("(all)", "", output.size(total))])
