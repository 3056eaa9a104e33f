"""The commands."""

from __future__ import annotations

import sys
from typing import Any

import click

from blockvault.cli import output
from blockvault.cli.options import (
    PROGRESS,
    RETRY_SECONDS,
    STORE,
    VOLUME,
    common,
    location,
    repository,
    sources,
)
from blockvault.engine import (
    LATEST,
    BackupNotFound,
    BackupRequest,
    BadChangedList,
    BadRequest,
    ChangedList,
    Repository,
    parse_changed_list,
)
from blockvault.engine.progress import camel
from blockvault.stores import open_store


@click.command()
@STORE
@common
def init(store: str, endpoint_url: str | None, region: str | None, output_form: str) -> None:
    """Make a store of backups at STORE (s3://bucket/prefix or file:///directory)."""
    made = Repository.init(
        open_store(location(store, endpoint_url, region), retry_seconds=RETRY_SECONDS, make=True)
    )
    facts = {"storeId": made.store_id, "location": store, "createdAt": made.created_at}
    if output_form == "json":
        output.as_json(facts)
    else:
        click.echo(f"Store {made.store_id} at {store}.")


@click.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[SOURCE] STORE")
@click.option("--volume", metavar="NAME", help="Name of the volume in the store.")
@click.option("--source", "named", multiple=True, metavar="NAME=PATH", help="Several volumes in one run.")
@click.option("--full", is_flag=True, help="Store everything again.")
@click.option(
    "--changed",
    metavar="FILE",
    help='JSON lines {"offset": n, "length": n}: all ranges that may differ from the parent (- is stdin).',
)
@click.option("--parent", metavar="ID", help="Backup to build on: an id, or latest (the default).")
@click.option("--operation-id", metavar="ID", help="Repeating a run with the same id makes no second backup.")
@PROGRESS
@common
def backup(
    arguments: tuple[str, ...],
    volume: str | None,
    named: tuple[str, ...],
    full: bool,
    changed: str | None,
    parent: str | None,
    operation_id: str | None,
    progress: str,
    endpoint_url: str | None,
    region: str | None,
    output_form: str,
) -> None:
    """Back up SOURCE (a device or file) to STORE; after the first time only what changed is stored."""
    if len(arguments) > 2:
        raise BadRequest("too many arguments; several volumes go by --source NAME=PATH")
    pairs = sources(arguments[0] if len(arguments) == 2 else None, volume, named)
    if len(pairs) > 1 and (changed or parent or operation_id):
        raise BadRequest("--changed, --parent and --operation-id belong to one volume")
    if full and parent:
        raise BadRequest("--full and --parent exclude each other: a full backup builds on nothing")
    listed = _changed(changed, parent, full)
    opened = repository(arguments[-1], endpoint_url, region)
    results = []
    for name, path in pairs:
        with output.reporting(progress, name) as report:
            request = BackupRequest(path, name, full=full, changed=listed, report=report)
            if operation_id:
                request.operation_id = operation_id
            request.parent = parent or (listed.parent if listed and listed.parent else LATEST)
            results.append(camel(opened.backup(request)))
    if output_form == "json":
        output.as_json({"results": results} if named else results[0])
        return
    output.as_table(
        ("VOLUME", "BACKUP", "TYPE", "SIZE", "SCANNED", "CHANGED", "STORED", "SECONDS"),
        [
            (
                r["volume"],
                r["backupId"],
                r["type"],
                output.size(r["size"]),
                output.size(r["bytesScanned"]),
                output.size(r["bytesChanged"]),
                output.size(r["bytesStored"]),
                r["seconds"],
            )
            for r in results
        ],
    )


def _changed(path: str | None, parent: str | None, full: bool) -> ChangedList | None:
    """The changed-block list, which must say what it was made from: by --parent, or in its first line."""
    if path is None:
        return None
    if full:
        raise BadRequest("--full and --changed exclude each other")
    try:
        if path == "-":
            listed = parse_changed_list(sys.stdin, "stdin")
        else:
            with open(path, encoding="utf-8") as file:
                listed = parse_changed_list(file, path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadChangedList(f"{path}: {error}", remedy="Name a readable file of JSON lines.") from error
    if parent is None and listed.parent is None:
        raise BadRequest(
            "--changed needs --parent: a list means nothing without the backup that it was made from",
            remedy="Add --parent ID (or --parent latest, if you know that the list starts there).",
        )
    return listed


@click.command()
@STORE
@click.argument("target", metavar="TARGET")
@VOLUME
@click.option("--backup", "backup_id", default=LATEST, metavar="ID", help="Which one; the latest by default.")
@PROGRESS
@common
def restore(
    store: str,
    target: str,
    volume: str,
    backup_id: str,
    progress: str,
    endpoint_url: str | None,
    region: str | None,
    output_form: str,
) -> None:
    """Write a backup to TARGET, a device or file at least as large; each block is checked first."""
    opened = repository(store, endpoint_url, region)
    with output.reporting(progress, volume) as report:
        result = camel(opened.restore(volume, target, backup_id, report))
    if output_form == "json":
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


@click.command(name="list")
@STORE
@click.option("--volume", metavar="NAME", help="Only this volume.")
@common
def list_backups(
    store: str, volume: str | None, endpoint_url: str | None, region: str | None, output_form: str
) -> None:
    """List the backups in STORE, oldest first."""
    found = repository(store, endpoint_url, region).list(volume)
    if output_form == "json":
        output.as_json({"backups": found})
        return
    output.as_table(
        ("VOLUME", "BACKUP", "CREATED", "TYPE", "SIZE", "STORED"),
        [
            (
                b["volume"],
                b["backupId"],
                b["createdAt"],
                b["type"],
                output.size(b["size"]),
                output.size(b["bytesStored"]),
            )
            for b in found
        ],
    )


@click.command()
@STORE
@VOLUME
@click.option("--backup", "backup_id", default=LATEST, metavar="ID", help="Which one; the latest by default.")
@common
def show(
    store: str, volume: str, backup_id: str, endpoint_url: str | None, region: str | None, output_form: str
) -> None:
    """Show all that is known of one backup."""
    facts = repository(store, endpoint_url, region).show(volume, backup_id)
    if output_form == "json":
        output.as_json(facts)
    else:
        output.as_table(("FIELD", "VALUE"), list(facts.items()))


@click.command()
@STORE
@VOLUME
@click.option("--backup", "ids", multiple=True, required=True, metavar="ID", help="Which; may be repeated.")
@common
def delete(
    store: str,
    volume: str,
    ids: tuple[str, ...],
    endpoint_url: str | None,
    region: str | None,
    output_form: str,
) -> None:
    """Delete backups; all others stay whole."""
    opened = repository(store, endpoint_url, region)
    missing = [backup_id for backup_id in ids if not opened.delete(volume, backup_id)]
    deleted = [backup_id for backup_id in ids if backup_id not in missing]
    if output_form == "json":
        output.as_json({"deleted": deleted, "notFound": missing})
    else:
        for backup_id in deleted:
            click.echo(f"Deleted {backup_id}.")
    if missing:
        raise BackupNotFound(f"volume {volume!r} has no backup {', '.join(missing)}")


@click.command()
@STORE
@common
def usage(store: str, endpoint_url: str | None, region: str | None, output_form: str) -> None:
    """Show how many bytes the backups of each volume occupy."""
    volumes = repository(store, endpoint_url, region).usage()
    total: int = sum(volume["usedBytes"] for volume in volumes)
    facts: dict[str, Any] = {"usedBytes": total, "volumes": volumes}
    if output_form == "json":
        output.as_json(facts)
        return
    rows = [(volume["volume"], volume["backups"], output.size(volume["usedBytes"])) for volume in volumes]
    output.as_table(("VOLUME", "BACKUPS", "USED"), [*rows, ("(all)", "", output.size(total))])
