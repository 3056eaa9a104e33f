"""`kubectl blockvault list`, `tasks` and `usage`: tables of what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blockvault.cluster.resources import BACKUPS, TASKS, VAULTS
from blockvault.core.naming import GROUP
from blockvault.plugin import rows
from blockvault.plugin.completing import names
from blockvault.plugin.facts import namespace_of, status_of
from blockvault.plugin.options import ALL_NAMESPACES, common, listed, output, show, when
from blockvault.plugin.screen import coloured
from blockvault.plugin.settings import Settings

if TYPE_CHECKING:
    from blockvault.plugin.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def searching(command: F) -> F:
    """Options by which backups and tasks are searched."""
    for option in (
        click.option("--until", metavar="TIME", help="Until then: as --since."),
        click.option("--since", metavar="TIME", help="From then on: a date, or so long ago as 24h, 7d, 4w."),
        click.option("--id", metavar="ID", help="Its id in the store, or its uid: the beginning will do."),
        click.option(
            "--trigger", type=click.Choice(["Manual", "Policy"], case_sensitive=False), help="Who asked."
        ),
        click.option("--vault", metavar="NAME", shell_complete=names("VAULTS"), help="In that vault."),
        click.option(
            "--claim",
            metavar="NAME",
            shell_complete=names("CLAIMS"),
            help="Of that claim; db-* is a pattern.",
        ),
    ):
        command = option(command)
    return command


@click.command("list")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@searching
@click.option("--phase", metavar="PHASE", help="Pending, Creating, Available, Restoring, Deleting or Error.")
@click.option(
    "--type", "kind", type=click.Choice(["Full", "Incremental"], case_sensitive=False), help="What was sent."
)
@click.option(
    "--trash", is_flag=True, help="Deleted backups that can be brought back, in place of the others."
)
@ALL_NAMESPACES
@output("wide", "json", "yaml", "name")
@common
def list_backups(
    names: tuple[str, ...],
    claim: str | None,
    vault: str | None,
    trigger: str | None,
    id: str | None,
    since: str | None,
    until: str | None,
    phase: str | None,
    kind: str | None,
    trash: bool,
    everywhere: bool,
    form: str,
    settings: Settings,
) -> None:
    """List backups, the newest first: all, or those that are searched for.

    Each NAME is a name or a pattern such as 'autobk-*'. What is given by several options must all be so.

    \b
    Examples:
      kubectl blockvault list --claim db-data --since 7d
      kubectl blockvault list --phase Error -A -o wide
    """
    if trash:
        _trash(settings, vault, everywhere, form)
        return
    search = rows.Search(
        names, claim, vault, phase, kind, trigger, id, when(since, "--since"), when(until, "--until")
    )

    async def ask(session: Session) -> tuple[list[Any], Session]:
        return await session.all(BACKUPS), session

    found, session = settings.converse(ask, everywhere=everywhere)
    backups = rows.newest_first(b for b in found if search.finds_backup(b))
    table = rows.backup_rows(backups, session.now)
    _table(form, backups, rows.BACKUP_COLUMNS, table, rows.BACKUP_WIDE, everywhere, "backup", 2)


def _trash(settings: Settings, vault: str | None, everywhere: bool, form: str) -> None:
    async def ask(session: Session) -> tuple[list[Any], Session]:
        return await session.all(VAULTS), session

    vaults, session = settings.converse(ask, everywhere=everywhere)
    vaults = [v for v in vaults if not vault or v["metadata"]["name"] == vault]
    data = [
        {"namespace": namespace_of(v), "vault": v["metadata"]["name"], **each}
        for v in vaults
        for each in status_of(v).get("trash") or []
    ]
    ids = [each["backupId"] for each in data]
    show(
        form, {"trash": data}, rows.TRASH_COLUMNS, rows.trash_rows(vaults, session.now), names=ids,
        none="The trash is empty.",
    )  # fmt: skip
    more = sum(int(status_of(v).get("inTrash") or 0) for v in vaults) - len(data)
    if more > 0 and form in ("table", "wide"):
        click.echo(f"{more} more are in the trash: of each vault those are shown that go last.", err=True)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@searching
@click.option("--phase", metavar="PHASE", help="Running, Succeeded, Failed, Skipped or Cancelled.")
@click.option("--type", "kind", metavar="TYPE", help="Backup, Restore, DeleteBackup, Expand, Upkeep, ...")
@ALL_NAMESPACES
@output("wide", "json", "yaml", "name")
@common
def tasks(
    names: tuple[str, ...],
    claim: str | None,
    vault: str | None,
    trigger: str | None,
    id: str | None,
    since: str | None,
    until: str | None,
    phase: str | None,
    kind: str | None,
    everywhere: bool,
    form: str,
    settings: Settings,
) -> None:
    """List what was done in the last 30 days, the newest first; -o wide has causes and remedies.

    Each NAME is that of the object that a task is about, or a pattern; it may be gone since.

    \b
    Examples:
      kubectl blockvault tasks --phase Failed -o wide
      kubectl blockvault tasks --type Restore --claim db-data --since 2026-11-01
    """
    search = rows.Search(
        names, claim, vault, phase, kind, trigger, id, when(since, "--since"), when(until, "--until")
    )

    async def ask(session: Session) -> tuple[list[Any], Session]:
        return await session.all(TASKS), session

    found, session = settings.converse(ask, everywhere=everywhere)
    shown = rows.newest_first(t for t in found if search.finds_task(t))
    table = rows.task_rows(shown, session.now)
    _table(form, shown, rows.TASK_COLUMNS, table, rows.TASK_WIDE, everywhere, "task", 4)


def _table(
    form: str,
    objects: list[Any],
    columns: tuple[str, ...],
    table: list[list[str]],
    wide: tuple[str, ...],
    everywhere: bool,
    kind: str,
    phase: int,
) -> None:
    cells: list[list[Any]] = [[*r[:phase], coloured(r[phase]), *r[phase + 1 :]] for r in table]
    if everywhere:
        columns = ("NAMESPACE", *columns)
        cells = [[namespace_of(o), *r] for o, r in zip(objects, cells, strict=True)]
    named = [f"{kind}.{GROUP}/{o['metadata']['name']}" for o in objects]
    show(form, listed(objects), columns, cells, wide=wide, names=named, none=f"No {kind}s found.")


@click.command()
@ALL_NAMESPACES
@output("json", "yaml")
@common
def usage(everywhere: bool, form: str, settings: Settings) -> None:
    """Show what vaults occupy in the store, and what each claim's backups have added to it.

    What several backups share is stored once, so a claim's figures say what each of its backups added when it was
    made; deleting one frees what no other needs.

    \b
    Example:
      kubectl blockvault usage
    """

    async def ask(session: Session) -> tuple[list[Any], list[Any], Session]:
        vaults, backups = await session.each_of(VAULTS, BACKUPS)
        return vaults, backups, session

    vaults, backups, session = settings.converse(ask, everywhere=everywhere)
    claims = rows.claim_usage(backups)
    data = {
        "vaults": [
            {"namespace": namespace_of(v), "name": v["metadata"]["name"], "capacity": rows.capacity_of(v)}
            | {key: status_of(v).get(key) for key in ("usedBytes", "utilization", "trashBytes", "inTrash", "backups")}
            for v in vaults
        ],
        "claims": [
            {"namespace": c.namespace, "claim": c.claim, "vault": c.vault, "size": c.size, "backups": c.backups,
             "fullBytes": c.first, "storedBytes": c.stored, "changedBytesPerBackup": c.changed, "lastBackup": c.last}
            for c in claims
        ],
    }  # fmt: skip
    first, second = list(rows.USAGE_COLUMNS), list(rows.CLAIM_COLUMNS)
    one, two = rows.usage_rows(vaults), [c.row(session.now) for c in claims]
    if everywhere:
        first, one = ["NAMESPACE", *first], [[namespace_of(v), *r] for v, r in zip(vaults, one, strict=True)]
        second, two = ["NAMESPACE", *second], [[c.namespace, *r] for c, r in zip(claims, two, strict=True)]
    show(form, data, first, one, none="No vaults found.")
    if form == "table" and two:
        click.echo()
        show(form, data, second, two)
