"""`blockvault key`: making, showing and rotating the key of an encrypted store."""

from __future__ import annotations

from typing import Any

import click

from blockvault.cli import keyfiles, output
from blockvault.cli.options import STORE, Settings, common
from blockvault.engine import OldKeyNeeded, generations
from blockvault.engine.progress import camel
from blockvault.engine.rotation import Rotation, wrapped_under


@click.group()
def key() -> None:
    """Make, show and rotate the key of an encrypted store."""


@key.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--output", "output_form", type=click.Choice(["table", "json"]), default="table", help="Form of it."
)
def generate(file: str, output_form: str) -> None:
    """Write a new random key to FILE, which must not exist yet and is for its owner's eyes only.

    \b
    Example:
      blockvault key generate ~/vault.key
    """
    made = keyfiles.generate(file)
    if output_form == "json":
        output.as_json({"file": file, "fingerprint": made.fingerprint})
        return
    click.echo(f"Key {made.fingerprint} is in {file}.")
    click.echo("Keep a copy elsewhere: without it nobody, you included, reads what it encrypts.")


@key.command()
@STORE
@common
def show(store: str, settings: Settings) -> None:
    """Show fingerprints: of the key given, of STORE's keys, and which volumes open with which.

    Without a key it shows those of the store only.

    \b
    Example:
      blockvault key show s3://backups/prod --key-file vault.key
    """
    ring = settings.ring
    opened = settings.store(store)
    known = generations.known(opened)
    facts: dict[str, Any] = {
        "encrypted": bool(known),
        "keyFile": ring.current.fingerprint if ring.current else None,
        "previousKeyFile": ring.previous.fingerprint if ring.previous else None,
        "generations": [{"generation": each.number, "fingerprint": each.fingerprint} for each in known],
        "lineages": None,
    }
    if known and ring.current is not None:
        facts["lineages"] = wrapped_under(opened, generations.open_store_record(opened, ring))
    if settings.json:
        output.as_json(facts)
        return
    if not known:
        click.echo(f"{store} is not encrypted.")
        return
    given = {facts["keyFile"]: "--key-file", facts["previousKeyFile"]: "--previous-key-file"}
    output.as_table(
        ("GENERATION", "FINGERPRINT", "GIVEN BY"),
        [(each.number, each.fingerprint, given.get(each.fingerprint, "")) for each in known],
    )
    if facts["lineages"] is None:
        output.note("give --key-file to see which volumes open with which key")
    else:
        rows = [
            (each["volume"], each["lineage"], " ".join(each["fingerprints"])) for each in facts["lineages"]
        ]
        output.as_table(("VOLUME", "LINEAGE", "OPENS WITH"), rows)


@key.command()
@STORE
@common
def rotate(store: str, settings: Settings) -> None:
    """Replace STORE's key by another one. No data is written again.

    --key-file is the new key, --previous-key-file the present one. It may be interrupted and repeated at any time.
    Keep the old key until it says that it is removed: till then some volume or some running backup needs it. Whoever
    copied the old key and the store before can still read that copy.

    \b
    Example:
      blockvault key generate new.key
      blockvault key rotate s3://backups/prod --key-file new.key --previous-key-file old.key
    """
    ring = settings.ring
    result = Rotation(settings.store(store), ring).run()
    if settings.json:
        output.as_json(camel(result))
    else:
        click.echo(f"Generation {result.generation}, key {result.fingerprint}.")
        click.echo(f"{result.lineages} volumes open with it; {result.rewrapped} of them since now.")
        if result.old_key_removed:
            click.echo("The old key is removed from the store: it opens nothing there any more.")
    if result.locked is not None:
        raise OldKeyNeeded(
            f"the old key still opens what was made under it, as that is locked: {result.locked}",
            remedy="New backups need the new key only. Repeat this when the lock has ended, to remove the old one.",
        )
    if not result.old_key_removed:
        runs = ", ".join(f"{run['volume']} (since {run['startedAt']})" for run in result.waiting_for)
        raise OldKeyNeeded(
            f"the old key is still in the store: runs that were given it have not ended: {runs}"
        )
