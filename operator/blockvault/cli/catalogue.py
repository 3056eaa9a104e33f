"""`blockvault list`, `show` and `delete`: the backups in a store."""

from __future__ import annotations

import click

from blockvault.cli import naming, output
from blockvault.cli.options import BACKUP, STORE, VOLUME, Settings, common
from blockvault.engine import LATEST, BackupNotFound, BadRequest


@click.command(name="list")
@STORE
@click.option("--volume", metavar="NAME", help="Only this volume.")
@common
def list_backups(store: str, volume: str | None, settings: Settings) -> None:
    """List the backups in STORE, oldest first, and what is known of each: in the trash, verified, labels.

    \b
    Examples:
      blockvault list s3://backups/prod
      blockvault list file:///mnt/backups --volume db --output json
    """
    repository = settings.repository(store)
    if volume is None:
        found = repository.list()
    else:
        with naming.suggesting(repository, volume):
            found = repository.list(volume)
    if settings.json:
        output.as_json({"backups": found})
        return
    output.as_table(
        ("VOLUME", "BACKUP", "CREATED", "TYPE", "SIZE", "STORED", "STATE", "OWNER"),
        [
            (
                b["volume"],
                b["backupId"],
                b["createdAt"],
                b["type"],
                output.size(b["size"]),
                output.size(b["bytesStored"]),
                output.labels(b),
                (b.get("owner") or {}).get("cluster", ""),
            )
            for b in found
        ],
    )


@click.command()
@STORE
@VOLUME
@BACKUP
@common
def show(store: str, volume: str, backup_id: str, settings: Settings) -> None:
    """Show all that is known of one backup.

    Where the knowledge of what changed came from, and why a list was not used; ranges that could not be read;
    labels, trash, verification, owner, and the notes it was made with.

    \b
    Example:
      blockvault show s3://backups/prod --volume db --backup 3f9a01
    """
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        facts = repository.show(volume, naming.backup_id(repository, volume, backup_id))
    if settings.json:
        output.as_json(facts)
    else:
        output.as_table(("FIELD", "VALUE"), [(name, output.value(name, facts[name])) for name in facts])


@click.command()
@STORE
@VOLUME
@click.option("--backup", "ids", multiple=True, required=True, metavar="ID", help="Which; may be repeated.")
@common
def delete(store: str, volume: str, ids: tuple[str, ...], settings: Settings) -> None:
    """Delete backups; all others stay whole.

    \b
    Example:
      blockvault delete s3://backups/prod --volume db --backup 3f9a01
    """
    repository = settings.repository(store)
    deleted: list[str] = []
    missing: list[str] = []
    with naming.suggesting(repository, volume):
        if LATEST in ids:
            raise BadRequest(f"what is deleted is named by its id, not by {LATEST!r}")
        repository.list(volume)  # a volume that is not there is another mistake than a backup
        for given in ids:
            chosen = naming.backup_id(repository, volume, given)
            (deleted if repository.delete(volume, chosen) else missing).append(chosen)
    if settings.json:
        output.as_json({"deleted": deleted, "notFound": missing})
    else:
        for chosen in deleted:
            click.echo(f"Deleted {chosen}.")
    if missing:
        raise BackupNotFound(f"volume {volume!r} has no backup {', '.join(missing)}")
