"""`blockvault restore`."""

from __future__ import annotations

from typing import Any

import click

from blockvault.cli import naming, output
from blockvault.cli.backup import read_list
from blockvault.cli.options import BACKUP, PROGRESS, STORE, VOLUME, Settings, common
from blockvault.cli.showing import Display
from blockvault.engine import DataLost
from blockvault.engine.progress import camel


@click.command()
@STORE
@click.argument("target", metavar="TARGET")
@VOLUME
@BACKUP
@click.option("--force", is_flag=True, help="Overwrite a target that is not empty.")
@click.option(
    "--have", metavar="ID", help="A backup of the volume that TARGET holds: write only what differs."
)
@click.option(
    "--changed",
    metavar="FILE",
    help='JSON lines {"offset": n, "length": n}: where TARGET may differ from --have (- is stdin).',
)
@click.option("--resume/--no-resume", default=True, help="Leave what TARGET holds already (the default).")
@click.option("--salvage", is_flag=True, help="Go on past damaged data, with zeros in its place.")
@PROGRESS
@common
def restore(
    store: str,
    target: str,
    volume: str,
    backup_id: str,
    force: bool,
    have: str | None,
    changed: str | None,
    resume: bool,
    salvage: bool,
    progress: str,
    settings: Settings,
) -> None:
    """Write a backup to TARGET, a device or file.

    TARGET must be at least as large as the volume was; a file that does not exist is made. Each block is checked
    before it is written. An interrupted restore goes on when the same command is run again.

    \b
    Examples:
      blockvault restore s3://backups/prod /dev/vg/db-new --volume db
      blockvault restore s3://backups/prod ./db.img --volume db --backup 3f9a01
      blockvault restore s3://backups/prod /dev/vg/db --volume db --backup 3f9a01 --have 77c2d0
    """
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        chosen = naming.backup_id(repository, volume, backup_id)
        held = None if have is None else naming.backup_id(repository, volume, have)
        listed = None if changed is None else read_list(changed).ranges
        with Display(progress) as display:
            result = camel(
                repository.restore(
                    volume,
                    target,
                    chosen,
                    display.of(volume),
                    have=held,
                    changed=listed,
                    resume=resume,
                    force=force,
                    salvage=salvage,
                )
            )
    if settings.json:
        output.as_json(result)
    else:
        _table(volume, result)
    if result["unpinned"]:
        output.warn(f"nothing kept the backup from being collected while it was read: {result['unpinned']}")
    if result["lost"]:
        lost = sum(item["length"] for item in result["lost"])
        raise DataLost(
            f"{target}: {lost} bytes in {len(result['lost'])} places are damaged in the store, and zero"
        )


def _table(volume: str, result: dict[str, Any]) -> None:
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
    if result["lost"]:
        output.as_table(
            ("LOST AT", "BYTES", "OBJECT", "CAUSE"),
            [(item["offset"], item["length"], item["object"], item["cause"]) for item in result["lost"]],
        )
