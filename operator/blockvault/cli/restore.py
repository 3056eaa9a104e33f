"""`blockvault restore`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from blockvault.cli import naming, output
from blockvault.cli.again import command_line
from blockvault.cli.backup import read_list
from blockvault.cli.options import BACKUP, COMMIT, PROGRESS, STORE, VOLUME, Settings, common
from blockvault.cli.showing import Display
from blockvault.engine import DataLost, Interrupted, memory
from blockvault.engine.progress import camel
from blockvault.stores import BlockvaultError, ObjectNotFound, ObjectUnreadable, StoreError


@click.command()
@STORE
@click.argument("target", metavar="TARGET")
@VOLUME
@BACKUP
@COMMIT
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
@click.pass_context
def restore(
    context: click.Context,
    store: str,
    target: str,
    volume: str,
    backup_id: str,
    commit: int | None,
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
      blockvault restore s3://backups/prod ./db.img --volume db --commit 129
    """
    memory.keep_reads()
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        chosen = naming.backup_id(repository, volume, backup_id, newest=True, commit=commit)
        held = None if have is None else naming.backup_id(repository, volume, have, commit=commit)
        listed = None if changed is None else read_list(changed).ranges
        again = command_line(context, backup_id=chosen, have=held, resume=None)
        with Display(progress) as display, _going_on(again):
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
                    commit=commit,
                )
            )
    if settings.json:
        output.as_json(result)
    else:
        _table(volume, result)
    if result["unpinned"]:
        output.warn(f"nothing kept the backup from being collected while it was read: {result['unpinned']}")
    if result["unreadable"]:
        zero = sum(length for _, length in result["unreadable"])
        output.warn(
            f"{output.size(zero)} are zeros: the volume could not be read there when it was backed up (see show)"
        )
    if result["lost"]:
        lost = sum(item["length"] for item in result["lost"])
        raise DataLost(
            f"{target}: {lost} bytes in {len(result['lost'])} places are damaged in the store, and zero"
        )


@contextmanager
def _going_on(command: str) -> Iterator[None]:
    """Lets errors that may pass, or can be set right, name the command that goes on with what is there."""
    try:
        yield
    except Interrupted as error:
        raise Interrupted(error.message, remedy=f"Go on with:\n    {command}") from error
    except BlockvaultError as error:
        lost = isinstance(error, (ObjectNotFound, ObjectUnreadable))
        if error.retryable or (isinstance(error, StoreError) and not lost):
            error.remedy += f"\n  Go on with:\n    {command}"
        raise


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
