"""`blockvault list`, `show`, `delete` and `undelete`: the backups in a store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from blockvault.cli import naming, output
from blockvault.cli.options import BACKUP, COMMIT, STORE, VOLUME, Settings, common
from blockvault.cli.values import DURATION
from blockvault.engine import LATEST, BackupNotFound, BadRequest, EngineError


@click.command(name="list")
@STORE
@click.option("--volume", metavar="NAME", help="Only this volume.")
@COMMIT
@common
def list_backups(store: str, volume: str | None, commit: int | None, settings: Settings) -> None:
    """List the backups in STORE, oldest first, and what is known of each: in the trash, verified, labels.

    \b
    Examples:
      blockvault list s3://backups/prod
      blockvault list file:///mnt/backups --volume db --output json
      blockvault list s3://backups/prod --volume db --commit 129
    """
    if commit is not None and volume is None:
        raise BadRequest("--commit needs --volume: each volume counts its own commits")
    repository = settings.repository(store)
    errors: list[tuple[str, EngineError]] = []
    if volume is None:
        found = repository.list(failed=lambda name, error: errors.append((name, error)))
    else:
        with naming.suggesting(repository, volume):
            found = repository.list(volume, commit=commit)
    if settings.json:
        output.as_json({"backups": found, "errors": output.errors(errors)})
    else:
        _table(found)
    output.fail(errors)


def _table(found: list[dict[str, Any]]) -> None:
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
@COMMIT
@common
def show(store: str, volume: str, backup_id: str, commit: int | None, settings: Settings) -> None:
    """Show all that is known of one backup.

    Where the knowledge of what changed came from, and why a list was not used; ranges that could not be read;
    labels, trash, verification, owner, and the notes it was made with.

    \b
    Example:
      blockvault show s3://backups/prod --volume db --backup 3f9a01
    """
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        chosen = naming.backup_id(repository, volume, backup_id, commit=commit)
        facts = repository.show(volume, chosen, commit=commit)
    if settings.json:
        output.as_json(facts)
    else:
        output.as_table(("FIELD", "VALUE"), [(name, output.value(name, facts[name])) for name in facts])


IDS = click.option(
    "--backup", "ids", multiple=True, metavar="ID", help="Which: an id or its beginning; may be repeated."
)


@click.command()
@STORE
@VOLUME
@IDS
@click.option("--entire-volume", is_flag=True, help="All backups of the volume, and its key, for good.")
@click.option(
    "--keep",
    type=DURATION,
    default="7d",
    metavar="TIME",
    help="How long it stays in the trash, 7d by default.",
)
@click.option("--now", is_flag=True, help="Delete for good, past the trash.")
@common
def delete(
    store: str,
    volume: str,
    ids: tuple[str, ...],
    entire_volume: bool,
    keep: timedelta,
    now: bool,
    settings: Settings,
) -> None:
    """Move backups to the trash; all others stay whole.

    In the trash a backup keeps its bytes and can be brought back by `blockvault undelete`, until its time is over
    and `blockvault collect` empties it. --entire-volume knows no trash and so needs --now.

    \b
    Examples:
      blockvault delete s3://backups/prod --volume db --backup 3f9a01
      blockvault delete s3://backups/prod --volume old --entire-volume --now
    """
    if entire_volume == bool(ids):
        raise BadRequest("name backups with --backup, or all of them with --entire-volume")
    if LATEST in ids:
        raise BadRequest(f"what is deleted is named by its id, not by {LATEST!r}")
    if entire_volume and not now:
        raise BadRequest(
            f"all backups of {volume!r} would be gone for good: a volume knows no trash",
            remedy="Add --now if that is what you mean.",
        )
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        repository.list(volume)  # a volume that is not there is another mistake than a backup
        if entire_volume:
            repository.delete_volume(volume)
            _tell(settings, {"deletedVolume": volume}, [f"Deleted all of {volume}."])
            return
        chosen = [naming.backup_id(repository, volume, given) for given in ids]
    seconds = 0.0 if now else keep.total_seconds()
    missing = [each for each in chosen if not repository.delete(volume, each, keep_seconds=seconds)]
    deleted = [each for each in chosen if each not in missing]
    how = "Deleted" if not seconds else f"In the trash for {keep}:"
    _tell(settings, {"deleted": deleted, "notFound": missing}, [f"{how} {each}." for each in deleted])
    if missing:
        raise BackupNotFound(f"volume {volume!r} has no backup {', '.join(missing)}")


@click.command()
@STORE
@VOLUME
@IDS
@common
def undelete(store: str, volume: str, ids: tuple[str, ...], settings: Settings) -> None:
    """Bring backups back from the trash.

    \b
    Example:
      blockvault undelete s3://backups/prod --volume db --backup 3f9a01
    """
    if not ids or LATEST in ids:
        raise BadRequest("name the backups to bring back with --backup ID; `blockvault list` shows them")
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        chosen = [naming.backup_id(repository, volume, given) for given in ids]
        back = [each for each in chosen if repository.undelete(volume, each)]
    other = [each for each in chosen if each not in back]
    words = [f"Brought back {each}." for each in back] + [f"{each} was not in the trash." for each in other]
    _tell(settings, {"undeleted": back, "notInTrash": other}, words)


def _tell(settings: Settings, facts: dict[str, Any], words: list[str]) -> None:
    if settings.json:
        output.as_json(facts)
        return
    for line in words:
        click.echo(line)
