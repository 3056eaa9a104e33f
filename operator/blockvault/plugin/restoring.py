"""`kubectl blockvault restore`, `confirm` and `rollback`."""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any

import click

from blockvault.cluster.resources import BACKUPS, CLAIMS, PODS, RESTORES
from blockvault.core.naming import GROUP
from blockvault.plugin.completing import names
from blockvault.plugin.errors import RefusedError, UsageError
from blockvault.plugin.options import TIMEOUT, WAIT, YES, common, output, show, span, when
from blockvault.plugin.requests import RestoreWishes
from blockvault.plugin.requests import restore as restore_of
from blockvault.plugin.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from blockvault.plugin.session import Session
    from blockvault.plugin.waiting import Goal

# So many backups are offered to somebody who names none.
OFFERED = 10
MODES = click.Choice(["Block", "Filesystem"], case_sensitive=False)


@click.command()
@click.argument("backup", required=False, metavar="[BACKUP]", shell_complete=names("BACKUPS"))
@click.option(
    "--latest", metavar="CLAIM", shell_complete=names("CLAIMS"), help="The newest good backup of that claim."
)
@click.option("--before", metavar="TIME", help="With --latest: as of then; a date, or so long ago as 24h.")
@click.option("--to", "new", metavar="CLAIM", help="Into a new claim of that name.")
@click.option("--in-place", is_flag=True, help="Into the claim that was backed up; it can be taken back.")
@click.option("--size", metavar="SIZE", help="With --to: its size, such as 20Gi (else that of the backup).")
@click.option(
    "--storage-class", metavar="NAME", shell_complete=names("STORAGE_CLASSES"), help="With --to: its class."
)
@click.option("--mode", type=MODES, help="With --to: its mode (else that of the source).")
@click.option(
    "--access-mode", "access", multiple=True, metavar="MODE", help="With --to: ReadWriteOnce is the default."
)
@click.option(
    "--stop-workload", "stop", is_flag=True, help="With --in-place: scale what uses the claim to zero."
)
@click.option("--no-start", is_flag=True, help="With --stop-workload: leave it stopped.")
@click.option(
    "--rollback-window", "window", metavar="TIME", help="With --in-place: how long the former data is kept."
)
@click.option("--name", metavar="NAME", help="Name of the Restore (else restore-xxxx).")
@YES
@WAIT
@TIMEOUT
@output("json", "yaml", "name")
@common
def restore(
    backup: str | None,
    latest: str | None,
    before: str | None,
    new: str | None,
    in_place: bool,
    yes: bool,
    wait: bool,
    timeout: str | None,
    form: str,
    settings: Settings,
    **wishes: Any,
) -> None:
    """Bring a backup back, into a new claim or in place.

    What is not said is asked for at a terminal. Before anything is done it is shown what will happen; --yes does it
    without a question.

    \b
    Examples:
      kubectl blockvault restore autobk-1a2b-0001 --to db-copy --wait
      kubectl blockvault restore --latest db-data --before 2026-11-28 --in-place --stop-workload
    """
    from blockvault.plugin import facts, restore_words, waiting

    limit = span(timeout, "--timeout")
    moment = when(before, "--before")
    _check(backup, latest, before, new, in_place, wishes)
    made: list[Any] = []

    async def work(session: Session) -> Any:
        chosen = await _chosen(session, backup, latest, moment)
        wanted = _wishes(new, in_place, wishes, chosen)
        source = facts.claim_of(chosen)
        claim, pods = await _around(session, source) if wanted.claim is None else (None, [])
        if wanted.claim is not None:
            await _free(session, wanted.claim)
        for line in restore_words.plan(chosen, wanted, session.now, claim, pods):
            click.echo(line, err=True)
        confirm("Do it?", yes)
        body = restore_of(chosen["metadata"]["name"], wanted, session.namespace)
        made.append(await session.create(RESTORES, body))
        if form == "table":
            click.echo(f"restore.{GROUP}/{wanted.name} created")
        return (await waiting.wait(session, RESTORES, made, waiting.RESTORED, limit))[0] if wait else made[0]

    try:
        ended = settings.converse(work)
    except KeyboardInterrupt:
        if not made:
            raise
        name = made[0]["metadata"]["name"]
        raise waiting.interrupted(
            f"restore/{name} goes on", f"`kubectl blockvault cancel restore/{name}` stops it."
        ) from None
    if form != "table":
        show(form, ended, (), (), names=[f"restore.{GROUP}/{ended['metadata']['name']}"])
    elif wait and (ended.get("status") or {}).get("phase") == "Skipped":
        click.echo(f"Nothing was written: {ended['status'].get('message')}", err=True)


def _check(
    backup: str | None,
    latest: str | None,
    before: str | None,
    new: str | None,
    in_place: bool,
    wishes: dict[str, Any],
) -> None:
    """Whether what was said goes together. Raises UsageError."""
    help_ = "`kubectl blockvault restore --help` has examples."
    if backup and latest:
        raise UsageError("name a BACKUP or --latest CLAIM, not both", help_)
    if before and not latest:
        raise UsageError("--before goes with --latest", help_)
    if new and in_place:
        raise UsageError("say --to or --in-place, not both", help_)
    for option, given in (
        ("--size", wishes["size"]), ("--storage-class", wishes["storage_class"]), ("--mode", wishes["mode"]),
        ("--access-mode", wishes["access"]),
    ):  # fmt: skip
        if given and in_place:
            raise UsageError(f"{option} goes with --to: in place a claim stays as it is", help_)
    for option, given in (("--stop-workload", wishes["stop"]), ("--rollback-window", wishes["window"])):
        if given and new:
            raise UsageError(f"{option} goes with --in-place", help_)
    if wishes["no_start"] and not wishes["stop"]:
        raise UsageError("--no-start goes with --stop-workload", help_)


def asks() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str, yes: bool) -> None:
    """Go on when somebody says so. Raises UsageError where there is nobody, click.Abort at a no."""
    if yes:
        return
    if not asks():
        raise UsageError("there is nobody to ask here", "Say --yes if it is meant.")
    if not click.confirm(question, err=True):
        raise click.Abort


async def _chosen(session: Session, backup: str | None, latest: str | None, moment: Any) -> Any:
    """The Backup that is meant; asked for where none is named."""
    from blockvault.plugin import restore_words, rows
    from blockvault.terminal import as_table

    if backup is not None:
        return await session.get(BACKUPS, backup)
    backups = await session.all(BACKUPS)
    if latest is not None:
        return restore_words.latest(backups, latest, moment)
    if not asks():
        raise UsageError("no backup is named", "Name one, or --latest CLAIM.")
    good = restore_words.restorable(backups)[:OFFERED]
    if not good:
        raise UsageError(
            "there is no backup that can be restored", "`kubectl blockvault list` shows those there are."
        )
    table = [[number, *row[:7]] for number, row in enumerate(rows.backup_rows(good, session.now), 1)]
    as_table(("", *rows.BACKUP_COLUMNS), table)
    number = click.prompt("Which one", type=click.IntRange(1, len(good)), default=1, err=True)
    return good[number - 1]


def _wishes(new: str | None, in_place: bool, given: dict[str, Any], backup: Any) -> RestoreWishes:
    """All that is wanted; asked for where it matters and was not said."""
    source = (backup["spec"].get("resource") or {}).get("name")
    stop = given["stop"]
    if not new and not in_place:
        if not asks():
            raise UsageError("it is not said where to", "Say --to NEW-CLAIM or --in-place.")
        place = click.prompt(
            "Into a new claim, or in place", type=click.Choice(["new", "in-place"]), default="new", err=True
        )
        if place == "new":
            new = click.prompt("Name of the new claim", default=f"{source}-restored", err=True)
        else:
            stop = stop or click.confirm(f"Stop what uses {source} for it, and start it again", err=True)
    mode = given["mode"]
    return RestoreWishes(
        given["name"] or f"restore-{secrets.token_hex(2)}",
        new or None,
        given["size"],
        given["storage_class"],
        mode.capitalize() if mode else None,
        given["access"],
        stop,
        not given["no_start"],
        given["window"],
    )


async def _around(session: Session, claim: str) -> tuple[Any, Sequence[str] | None]:
    """The claim as it is now, and who uses it; None where nobody may see the pods."""
    from blockvault.plugin.restore_words import users_of

    found = await session.find(CLAIMS, claim)
    pods = await session.visible(PODS)
    return found, None if pods is None else users_of(claim, pods)


async def _free(session: Session, claim: str) -> None:
    try:
        found = await session.find(CLAIMS, claim)
    except RefusedError:
        return  # the operator will see
    if found is not None:
        raise UsageError(
            f"there is a claim {claim} already",
            "Name another by --to; --in-place restores into the original.",
        )


@click.command("confirm")
@click.argument("name", metavar="RESTORE", shell_complete=names("RESTORES"))
@YES
@WAIT
@TIMEOUT
@common
def confirm_command(name: str, yes: bool, wait: bool, timeout: str | None, settings: Settings) -> None:
    """Let the former data go that a restore in place has kept. It cannot be brought back then.

    \b
    Example:
      kubectl blockvault confirm restore-1a2b
    """
    from blockvault.plugin import waiting

    question = f"Restore {name}: its claim's former data goes for good. Do it?"
    _answer(
        settings, name, {"confirm": True}, question, yes, wait, waiting.CONFIRMED, span(timeout, "--timeout")
    )


@click.command()
@click.argument("name", metavar="RESTORE", shell_complete=names("RESTORES"))
@YES
@WAIT
@TIMEOUT
@common
def rollback(name: str, yes: bool, wait: bool, timeout: str | None, settings: Settings) -> None:
    """Bring the former data back after a restore in place. What was written since is lost.

    \b
    Example:
      kubectl blockvault rollback restore-1a2b --wait
    """
    from blockvault.plugin import waiting

    question = f"Restore {name}: its claim gets its former data back, what was written since is lost. Do it?"
    _answer(
        settings,
        name,
        {"rollback": True},
        question,
        yes,
        wait,
        waiting.ROLLED_BACK,
        span(timeout, "--timeout"),
    )


def _answer(
    settings: Settings,
    name: str,
    change: dict[str, bool],
    question: str,
    yes: bool,
    wait: bool,
    goal: Goal,
    limit: timedelta | None,
) -> None:
    from blockvault.plugin import facts, waiting

    word = next(iter(change))

    async def work(session: Session) -> None:
        found = await session.get(RESTORES, name)
        phase = facts.phase_of(found)
        if "original" not in found["spec"]["target"]:
            raise UsageError(
                f"Restore {name} is not in place: nothing was replaced by it",
                "Delete its claim if it is not wanted.",
            )
        if phase in facts.RESTORE_ENDED:
            raise UsageError(
                f"Restore {name} is {phase}: its former data is not kept any more",
                "See `kubectl blockvault describe`.",
            )
        confirm(question, yes)
        changed = await session.patch(RESTORES, found, {"spec": change})
        click.echo(f"restore.{GROUP}/{name} {word} requested")
        if wait:
            await waiting.wait(session, RESTORES, [changed], goal, limit)

    try:
        settings.converse(work)
    except KeyboardInterrupt:
        raise waiting.interrupted(
            f"the {word} of restore/{name} goes on", "`kubectl blockvault status` shows how."
        ) from None
