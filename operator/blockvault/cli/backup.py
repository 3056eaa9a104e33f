"""`blockvault backup`: one volume or several, in a run that can be gone on with."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from blockvault.cli import naming, output
from blockvault.cli.again import command_line
from blockvault.cli.options import PROGRESS, Settings, common
from blockvault.cli.showing import Display
from blockvault.cli.unfinished import Note, What
from blockvault.cli.values import MOST_DAYS, SIZE
from blockvault.engine import (
    LATEST,
    BackupRequest,
    BackupResult,
    BadChangedList,
    BadRequest,
    ChangedList,
    EngineError,
    Interrupted,
    Repository,
    VolumeNotFound,
    exit_code,
    parse_changed_list,
    runtime,
)
from blockvault.engine.many import Budget, Outcome, back_up, share
from blockvault.engine.progress import camel
from blockvault.stores import BlockvaultError


@click.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[SOURCE] STORE")
@click.option("--volume", metavar="NAME", help="Name of the volume in the store.")
@click.option("--source", "named", multiple=True, metavar="NAME=PATH", help="One of several volumes.")
@click.option("--full", is_flag=True, help="Store everything again, building on nothing.")
@click.option(
    "--changed",
    metavar="FILE",
    help='JSON lines {"offset": n, "length": n}: all ranges that may differ from --parent (- is stdin).',
)
@click.option(
    "--parent", metavar="ID", help="Backup to build on: an id, its beginning, or latest (the default)."
)
@click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Store zeros for sectors that cannot be read, record them, and read them again the next time.",
)
@click.option(
    "--operation-id", metavar="ID", help="One id makes one backup: repeated, it goes on or is done."
)
@click.option("--no-resume", is_flag=True, help="Do not go on with a former run of this command that died.")
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Volumes read at once (4).")
@click.option("--memory-limit", type=SIZE, metavar="SIZE", help="Most memory for all of it, e.g. 400M.")
@click.option(
    "--lock-days",
    type=click.IntRange(1, MOST_DAYS),
    metavar="DAYS",
    help="Lock this backup for so long, if that is longer than for what the store locks all.",
)
@click.option("--meta", multiple=True, metavar="NAME=TEXT", help="A note to keep with the backup.")
@PROGRESS
@common
@click.pass_context
def backup(
    context: click.Context,
    arguments: tuple[str, ...],
    volume: str | None,
    named: tuple[str, ...],
    full: bool,
    changed: str | None,
    parent: str | None,
    skip_unreadable: bool,
    operation_id: str | None,
    no_resume: bool,
    concurrency: int | None,
    memory_limit: int | None,
    lock_days: int | None,
    meta: tuple[str, ...],
    progress: str,
    settings: Settings,
) -> None:
    """Back up SOURCE, a device or file, to STORE.

    The first backup of a volume stores all that is not zero, each later one what changed; every one of them can be
    restored by itself. Nobody should write to SOURCE meanwhile: back up a snapshot, or an unmounted device.

    If it is interrupted, run the same command again: it goes on with what was sent.

    \b
    Examples:
      blockvault backup /dev/vg/db-snap s3://backups/prod --volume db
      blockvault backup s3://backups/prod --source db=/dev/vg/db-snap --source web=/srv/web.img

    Overlapping ranges of --changed are merged; ranges that leave the volume are refused.
    """
    if len(arguments) > 2:
        raise BadRequest("too many arguments; several volumes go by --source NAME=PATH")
    pairs = _sources(arguments[0] if len(arguments) == 2 else None, volume, named)
    if len(pairs) > 1 and (changed or parent):
        raise BadRequest("--changed and --parent belong to one volume")
    if full and parent:
        raise BadRequest("--full and --parent exclude each other: a full backup builds on nothing")
    budget = Budget(concurrency, None, memory_limit)
    share(budget, len(pairs))  # a budget that cannot be is told before anything is asked
    listed = _changed(changed, parent, full)
    notes = _meta(meta)
    store = arguments[-1]
    repository = settings.repository(store)
    runs = _Runs(context, repository, store, settings.endpoint_url)
    with Display(progress) as display:
        requests = [
            BackupRequest(
                path,
                name,
                operation_id=runs.operation(name, path, operation_id, resume=not no_resume),
                full=full,
                parent=_parent(repository, name, parent or (listed.parent if listed else None)),
                changed=listed,
                meta=notes,
                report=display.of(name),
                skip_unreadable=skip_unreadable,
                lock_days=lock_days,
            )
            for name, path in pairs
        ]
        try:
            outcomes = back_up(repository, requests, budget, runs.ended)
        except Interrupted as error:
            raise runs.interrupted(error, requests) from error
    if named:
        runs.show_all(requests, outcomes, as_json=settings.json)
    else:
        runs.show_one(requests[0], outcomes[0], as_json=settings.json)


class _Runs:
    """The runs of one command: how each can be gone on with, and what became of it."""

    def __init__(
        self, context: click.Context, repository: Repository, store: str, endpoint: str | None
    ) -> None:
        self._context = context
        self._repository = repository
        self._store = store
        self._place = " ".join([store, *([endpoint] if endpoint else [])])
        self._notes: dict[str, Note] = {}

    def operation(self, volume: str, path: str, given: str | None, *, resume: bool) -> str:
        """The id of the run: as given, that of a run which died, or a new one."""
        if given is not None:
            return given
        note = self._notes[volume] = Note(What(self._place, volume, os.path.abspath(path)))
        chosen = runtime.random_id()
        if resume and note.former is not None:
            former = str(note.former["operationId"])
            # It may have made its backup and died before it could say so: then this is a new one.
            if self._repository.find_operation(volume, former) is None:
                output.note(
                    f"{volume}: going on with the run of {note.former.get('startedAt')} that did not end "
                    "(--no-resume starts afresh)"
                )
                chosen = former
        note.write(chosen)
        return chosen

    def ended(self, request: BackupRequest, outcome: Outcome) -> None:
        """Drop the note of a run that leaves nothing to go on with."""
        note = self._notes.get(request.volume)
        if note is not None:
            note.close(keep=_goes_on(outcome))

    def interrupted(self, error: Interrupted, requests: list[BackupRequest]) -> Interrupted:
        """The error with what to do about it."""
        commands = [self._resume(request) for request in requests]
        return Interrupted(error.message, remedy="Go on with:\n    " + "\n    ".join(commands))

    def show_one(self, request: BackupRequest, outcome: Outcome, *, as_json: bool) -> None:
        """The result of a single run. Raises its error."""
        if isinstance(outcome, BlockvaultError):
            if _goes_on(outcome):
                outcome.remedy += f"\n  Go on with:\n    {self._resume(request)}"
            raise outcome
        if as_json:
            output.as_json(camel(outcome))
        else:
            _table([outcome])
            _warn([(request, outcome)])

    def show_all(self, requests: list[BackupRequest], outcomes: list[Outcome], *, as_json: bool) -> None:
        """The results of several. Ends the command with a code if any of them failed."""
        results = [outcome for outcome in outcomes if isinstance(outcome, BackupResult)]
        failed = [(r, o) for r, o in zip(requests, outcomes, strict=True) if isinstance(o, BlockvaultError)]
        if as_json:
            errors = [
                {
                    "volume": request.volume,
                    "source": request.source,
                    "reason": error.reason,
                    "message": error.message,
                    "remedy": error.remedy,
                    "retryable": error.retryable,
                    "exitCode": exit_code(error),
                    "resume": self._resume(request) if _goes_on(error) else None,
                }
                for request, error in failed
            ]
            output.as_json({"results": [camel(result) for result in results], "errors": errors})
        elif results:
            _table(results)
            _warn([(r, o) for r, o in zip(requests, outcomes, strict=True) if isinstance(o, BackupResult)])
        for request, error in failed:
            remedy = error.remedy
            if _goes_on(error):
                remedy += f"\n  Go on with:\n    {self._resume(request)}"
            output.complain(f"{request.volume}: {error.message}", remedy)
        if failed:
            # Repeating helps only if it helps all of them.
            lasting = [error for _, error in failed if not error.retryable]
            raise click.exceptions.Exit(exit_code((lasting or [failed[0][1]])[0]))

    def _resume(self, request: BackupRequest) -> str:
        return command_line(
            self._context,
            arguments=(request.source, self._store),
            volume=request.volume,
            named=None,
            operation_id=request.operation_id,
            no_resume=None,
        )


def _goes_on(outcome: Outcome) -> bool:
    """Whether what a run has sent is still of use to the next one of its id: see BackupRun."""
    if isinstance(outcome, BackupResult):
        return False
    return outcome.retryable or not isinstance(outcome, EngineError)


def _table(results: list[BackupResult]) -> None:
    output.as_table(
        ("VOLUME", "BACKUP", "TYPE", "SIZE", "SCANNED", "CHANGED", "STORED", "SECONDS"),
        [
            (
                result.volume,
                result.backup_id,
                result.type,
                output.size(result.size),
                output.size(result.bytes_scanned),
                output.size(result.bytes_changed),
                output.size(result.bytes_stored),
                result.seconds,
            )
            for result in results
        ],
    )


def _warn(made: list[tuple[BackupRequest, BackupResult]]) -> None:
    for request, result in made:
        if result.size == 0:
            output.warn(f"{result.volume}: {request.source} is empty, and so is this backup")
        if result.fallback_reason:
            output.warn(
                f"{result.volume}: the list of changes was not used ({result.fallback_reason}); all was read"
            )
        if result.unreadable:
            lost = sum(length for _, length in result.unreadable)
            output.warn(
                f"{result.volume}: {output.size(lost)} could not be read and are zeros in this backup"
            )


def _sources(source: str | None, volume: str | None, named: tuple[str, ...]) -> list[tuple[str, str]]:
    """(volume, path) of each source, from `SOURCE --volume NAME` or from `--source NAME=PATH`."""
    if named and (source or volume):
        raise BadRequest("give either SOURCE with --volume, or --source, not both")
    if not named:
        if not source or not volume:
            raise BadRequest("give SOURCE and --volume, or --source NAME=PATH")
        return [(volume, source)]
    pairs = [_pair("--source", text, "NAME=PATH") for text in named]
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadRequest("--source names one volume twice")
    return pairs


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise BadRequest(f"{option} {text!r} is not {form}")
    return name, value


def _meta(texts: tuple[str, ...]) -> dict[str, Any]:
    return dict(_pair("--meta", text, "NAME=TEXT") for text in texts)


def _parent(repository: Repository, volume: str, given: str | None) -> str:
    if given is None:
        return LATEST
    try:
        return naming.backup_id(repository, volume, given)
    except VolumeNotFound:
        return given  # a volume that is new: the engine says so


def _changed(path: str | None, parent: str | None, full: bool) -> ChangedList | None:
    """The changed-block list, which must say what it was made from: by --parent, or in its first line."""
    if path is None:
        return None
    if full:
        raise BadRequest("--full and --changed exclude each other")
    listed = read_list(path)
    if parent is None and listed.parent is None:
        raise BadRequest(
            "--changed needs --parent: a list means nothing without the backup that it was made from",
            remedy="Add --parent ID (or --parent latest, if you know that the list starts there).",
        )
    return listed


def read_list(path: str) -> ChangedList:
    """The list in a file, or from stdin (-). Raises BadChangedList."""
    try:
        if path == "-":
            return parse_changed_list(sys.stdin, "stdin")
        with open(path, encoding="utf-8") as file:
            return parse_changed_list(file, path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadChangedList(f"{path}: {error}", remedy="Name a readable file of JSON lines.") from error
