"""`blockvault commits`: the states that a volume has been in, as far as they are still there."""

from __future__ import annotations

import click

from blockvault.cli import naming, output
from blockvault.cli.options import STORE, VOLUME, Settings, common
from blockvault.engine import EngineError


@click.command()
@STORE
@VOLUME
@common
def commits(store: str, volume: str, settings: Settings) -> None:
    """Show the commits of a volume in STORE, oldest first: each is the whole catalogue as it was then.

    `list`, `show` and `restore` read one of them with --commit, for instance the last one before backups were deleted.
    The latest 64 are kept, and every 64th before them. None of them keeps data: what was deleted, a whole volume as
    well, can be restored until it is collected, and with locks until these end.

    \b
    Example:
      blockvault commits s3://backups/prod --volume db
    """
    repository = settings.repository(store)
    errors: list[tuple[str, EngineError]] = []
    with naming.suggesting(repository, volume):
        found = repository.commits(volume, failed=lambda key, error: errors.append((key, error)))
    if settings.json:
        output.as_json({"volume": volume, "commits": found, "errors": output.errors(errors)})
    else:
        output.as_table(
            ("COMMIT", "WRITTEN", "ACTION", "BACKUPS", "IN TRASH", "LINEAGE"),
            [
                (c["number"], c["writtenAt"], c["action"], c["backups"], c["inTrash"], c["lineage"][:8])
                for c in found
            ],
        )
    output.fail(errors)
