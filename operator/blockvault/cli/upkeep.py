"""`blockvault init`, `usage` and `collect`: the store as a whole."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import click

from blockvault.cli import naming, output
from blockvault.cli.options import STORE, VOLUME, Settings, common
from blockvault.cli.seen import known, note
from blockvault.cli.values import DURATION, MOST_DAYS, SIZE
from blockvault.engine import BadRequest, EngineError, Repository, VolumeNotFound
from blockvault.engine.collect import Collected
from blockvault.engine.errors import OwnedElsewhere
from blockvault.engine.progress import camel
from blockvault.engine.upkeep import compact_all
from blockvault.stores import ObjectLock
from blockvault.stores.location import LockMode

MODES: dict[str, LockMode] = {"governance": "Governance", "compliance": "Compliance"}


@click.command()
@STORE
@click.option(
    "--single-writer",
    is_flag=True,
    help="Use a store that cannot create exclusively, promising that only one program writes to it at a time.",
)
@click.option(
    "--lock-days",
    type=click.IntRange(1, MOST_DAYS),
    metavar="DAYS",
    help="Lock backups: nobody can delete one for so many days. The bucket must have been made with object lock.",
)
@click.option(
    "--lock-mode",
    type=click.Choice(["governance", "compliance"]),
    help="Whether who has a special right may lift locks (governance, the default), or nobody at all (compliance).",
)
@common
def init(
    store: str, single_writer: bool, lock_days: int | None, lock_mode: str | None, settings: Settings
) -> None:
    """Make a place for backups at STORE: s3://bucket/prefix or file:///directory.

    First it is proved that the store is fit for it. With --key-file all that is stored is encrypted, for ever:
    without that key nobody reads it, you included. Repeating it changes nothing. With --lock-days, objects cannot be
    deleted while a backup younger than that needs them; they stay for up to 30 days more: see docs/immutability.md.

    \b
    Examples:
      blockvault init file:///mnt/backups
      blockvault init s3://backups/prod --lock-days 30 --lock-mode compliance
      blockvault key generate vault.key && blockvault init s3://backups/prod --key-file vault.key
    """
    if lock_mode and lock_days is None:
        raise BadRequest("--lock-mode needs --lock-days: for how long?")
    lock = None if lock_days is None else ObjectLock(MODES[lock_mode or "governance"], lock_days)
    ring = settings.ring
    opened = settings.store(store, make=True)
    made = Repository.init(opened, ring, single_writer=single_writer, lock=lock)
    facts = {
        "storeId": made.store_id,
        "location": store,
        "createdAt": made.created_at,
        "encrypted": made.encrypted,
        "keyFingerprint": ring.current.fingerprint if ring.current else None,
        "lockDays": made.lock.days if made.lock else None,
        "lockMode": made.lock.mode if made.lock else None,
    }
    if settings.json:
        output.as_json(facts)
        return
    click.echo(f"Store {made.store_id} at {store}.")
    if ring.current is not None:
        click.echo(f"Encrypted under the key {ring.current.fingerprint}: keep a copy of it elsewhere.")
    if made.lock is not None:
        click.echo(f"Each backup is locked for {made.lock.days} days ({made.lock.mode}).")


@click.command()
@STORE
@common
def usage(store: str, settings: Settings) -> None:
    """Show how many bytes the backups of each volume need, and how many of them only for what is in the trash.

    The last line counts what lies in the store. What is more than used is collected in time, or belongs to running
    backups.

    \b
    Example:
      blockvault usage s3://backups/prod
    """
    repository = settings.repository(store)
    volumes = repository.usage()
    note(repository, volumes)
    sizes = [info.size for info in repository.store.list("")]
    locked = sum(volume["lockedBytes"] for volume in volumes)
    facts: dict[str, Any] = {
        "usedBytes": sum(volume["usedBytes"] for volume in volumes),
        "trashBytes": sum(volume["trashBytes"] for volume in volumes),
        "lockedBytes": locked,
        "objects": len(sizes),
        "storedBytes": sum(sizes),
        "volumes": volumes,
    }
    if settings.json:
        output.as_json(facts)
        return
    rows = [
        (
            volume["volume"],
            volume["backups"],
            output.size(volume["usedBytes"]),
            volume["inTrash"],
            output.size(volume["trashBytes"]),
            (volume["owner"] or {}).get("cluster", ""),
        )
        for volume in volumes
    ]
    all_of_it = ("(all)", "", output.size(facts["usedBytes"]), "", output.size(facts["trashBytes"]), "")
    output.as_table(("VOLUME", "BACKUPS", "USED", "IN TRASH", "THEIR BYTES", "OWNER"), [*rows, all_of_it])
    for volume in volumes:
        if volume["uncounted"]:
            output.warn(
                f"{volume['volume']}: {len(volume['uncounted'])} backups are not counted, as roots are damaged "
                "(blockvault verify STORE --repair)"
            )
    click.echo(f"{facts['objects']} objects of {output.size(facts['storedBytes'])} are in the store.")
    if locked:
        click.echo(f"{output.size(locked)} of that are of no use any more, but still locked.")


@click.command()
@STORE
@click.option("--volume", metavar="NAME", help="Only this volume.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option(
    "--compact",
    type=SIZE,
    metavar="SIZE",
    help="First write so much, at most, of objects that are mostly dead anew, so that they can go.",
)
@click.option(
    "--dead-after",
    type=DURATION,
    default="7d",
    metavar="TIME",
    help="Runs that began longer ago and have not ended are given up, 7d by default.",
)
@common
def collect(
    store: str,
    volume: str | None,
    dry_run: bool,
    compact: int | None,
    dead_after: timedelta,
    settings: Settings,
) -> None:
    """Delete from STORE what no backup needs any more: emptied trash, and what dead runs have left.

    Backups may go on meanwhile. It deletes nothing when what it sees is doubtful: a listing that lacks something, a
    store that was set back. Volumes of other clusters are left alone; see --as.

    \b
    Examples:
      blockvault collect s3://backups/prod --dry-run
      blockvault collect s3://backups/prod --compact 10G
    """
    if dry_run and compact:
        raise BadRequest(
            "--dry-run and --compact exclude each other: what compacting frees is known afterwards"
        )
    repository = settings.repository(store)
    seen = known(repository)
    errors: list[tuple[str, EngineError]] = []
    rewritten = 0
    if compact:
        # Of damaged records tells the collect that follows.
        names = [volume] if volume is not None else repository.volumes(failed=lambda key, error: None)
        rewritten = compact_all(repository, names, compact, errors)
    done = repository.collect(
        volume,
        dry_run=dry_run,
        seen=seen,
        attempt_seconds=dead_after.total_seconds(),
        refused=lambda name, error: errors.append((name, error)),
    )
    with naming.suggesting(repository, volume or ""):
        if volume is not None and not done and not errors:
            raise VolumeNotFound(f"{store} holds no volume {volume!r}")
    foreign = {name for name, error in errors if isinstance(error, OwnedElsewhere) and volume is None}
    failed = [(name, error) for name, error in errors if name not in foreign]
    if not failed:
        with suppress(VolumeNotFound):  # one that is deleted
            note(repository, repository.usage(volume))
    _tell_collected(done, failed, sorted(foreign), rewritten, settings, dry_run=dry_run)


@click.command("accept-rollback")
@STORE
@VOLUME
@common
def accept_rollback(store: str, volume: str, settings: Settings) -> None:
    """Go on from what STORE shows of a volume, and give up what was lost.

    For a volume of which RollbackSuspected or CommitsLost is said, when nothing more can be brought back: first try
    former versions of the objects, or a copy of the store. After this the data of backups that only lost commits knew
    is deleted by the next `blockvault collect`, for good. A volume without any commit begins anew, from nothing.
    What this user has seen of the volume is forgotten as well; others who have seen later commits repeat the command.

    \b
    Example:
      blockvault accept-rollback s3://backups/prod --volume db
    """
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        accepted = repository.accept_rollback(volume)
    note(repository, repository.usage(volume), accept=volume)
    if settings.json:
        output.as_json({"volume": volume, "accepted": accepted})
        return
    what = (
        "goes on from here; what only lost commits knew is given up"
        if accepted
        else "had lost nothing that shows"
    )
    click.echo(f"Volume {volume} {what}.")


@click.command()
@STORE
@VOLUME
@click.option(
    "--keep", metavar="COMMIT", help="Keep the branch that ends in this commit; the others go, for good."
)
@common
def branches(store: str, volume: str, keep: str | None, settings: Settings) -> None:
    """Show the branches of a volume in STORE, or choose one.

    For a volume of which TwoWriters is said: in a store for one writer (init --single-writer) two programs wrote
    at once. Nothing is written or deleted until a branch is chosen; restoring goes on. Stop all writers first. Backups
    that only the other branches hold are lost: restore from them before.

    \b
    Examples:
      blockvault branches file:///mnt/nas/backups --volume db
      blockvault branches file:///mnt/nas/backups --volume db --keep 5f0c...
    """
    repository = settings.repository(store)
    with naming.suggesting(repository, volume):
        if keep is not None:
            repository.choose_branch(volume, keep)
        found = repository.branches(volume)
    if settings.json:
        output.as_json({"volume": volume, "branches": found})
        return
    rows = [
        (end["commitId"], str(end["number"]), end["writtenAt"], ", ".join(end["backups"])) for end in found
    ]
    output.as_table(("COMMIT", "NUMBER", "WRITTEN", "BACKUPS"), rows)


def _tell_collected(
    done: list[Collected],
    failed: list[tuple[str, EngineError]],
    foreign: list[str],
    rewritten: int,
    settings: Settings,
    *,
    dry_run: bool,
) -> None:
    objects, size = sum(d.deleted_objects for d in done), sum(d.deleted_bytes for d in done)
    for name in foreign:
        output.note(f"{name}: belongs to another cluster and is left alone (--as)")
    for each in done:
        for words in each.warnings:
            output.warn(f"{each.volume}: {words}")
    if settings.json:
        output.as_json(
            {
                "deletedObjects": objects,
                "deletedBytes": size,
                "rewrittenBytes": rewritten,
                "dryRun": dry_run,
                "volumes": [camel(each) for each in done],
                "errors": output.errors(failed),
            }
        )
    else:
        what = "would be deleted" if dry_run else "deleted"
        click.echo(f"{objects} objects of {output.size(size)} {what}.")
        for each in done:
            if each.locked_objects:
                waits = f"{each.locked_objects} objects of {output.size(each.locked_bytes)} are still locked"
                click.echo(f"{each.volume}: {waits}, the first until {each.locked_until}.")
            for backup in each.emptied:
                click.echo(f"{each.volume}: {backup} left the trash for good.")
            for attempt in each.given_up:
                click.echo(f"{each.volume}: a run that did not end was given up ({attempt}).")
    output.fail(failed)
