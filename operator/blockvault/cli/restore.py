"""`blockvault restore`."""

from __future__ import annotations

import click

from blockvault.cli import naming, output
from blockvault.cli.options import BACKUP, PROGRESS, STORE, VOLUME, Settings, common
from blockvault.cli.showing import Display
from blockvault.engine.progress import camel


@click.command()
@STORE
@click.argument("target", metavar="TARGET")
@VOLUME
@BACKUP
@PROGRESS
@common
def restore(store: str, target: str, volume: str, backup_id: str, progress: str, settings: Settings) -> None:
    """Write a backup to TARGET, a device or file.

    TARGET must be at least as large as the volume was; a file that does not exist is made. Each block is checked
    before it is written.

    \b
    Examples:
      blockvault restore s3://backups/prod /dev/vg/db-new --volume db
      blockvault restore s3://backups/prod ./db.img --volume db --backup 3f9a01
    """
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        chosen = naming.backup_id(repository, volume, backup_id)
        with Display(progress) as display:
            result = camel(repository.restore(volume, target, chosen, display.of(volume)))
    if settings.json:
        output.as_json(result)
        return
    output.as_table(
        ("VOLUME", "BACKUP", "SIZE", "WRITTEN", "READ", "SECONDS"),
        [
            (
                volume,
                result["backupId"],
                output.size(result["size"]),
                output.size(result["bytesWritten"]),
                output.size(result["bytesRead"]),
                result["seconds"],
            )
        ],
    )
