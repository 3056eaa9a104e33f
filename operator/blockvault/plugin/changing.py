"""`kubectl blockvault cancel`, `delete` and `undelete`."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import click

from blockvault.cluster.resources import BACKUPS, RESTORES, TASKS, VAULT_CLASSES, VAULTS
from blockvault.core.naming import GROUP, UNDELETE_ANNOTATION, asked_id, task_name
from blockvault.plugin import facts, rows, waiting
from blockvault.plugin.completing import names
from blockvault.plugin.describing import find_object
from blockvault.plugin.errors import FailedError, NotFoundError, PassingError, UsageError
from blockvault.plugin.options import TIMEOUT, WAIT, YES, common, span
from blockvault.plugin.restoring import confirm
from blockvault.plugin.settings import Settings
from blockvault.plugin.words import name_of, several

if TYPE_CHECKING:
    from datetime import timedelta

    from blockvault.plugin.session import Session

# Fewer characters of an id than this are a slip rather than a choice.
SHORTEST, WHOLE = 6, 32
# The operator looks at each Vault's annotations at least every minute.
UNDELETE_SECONDS = 180.0


@click.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="[KIND/]NAME...", shell_complete=names("BACKUPS", "RESTORES")
)
@WAIT
@TIMEOUT
@common
def cancel(names: tuple[str, ...], wait: bool, timeout: str | None, settings: Settings) -> None:
    """Stop backups or restores at work. Nothing of them is left but their objects, in phase Error.

    \b
    Examples:
      kubectl blockvault cancel manualbk-1a2b
      kubectl blockvault cancel restore/restore-3c4d --wait
    """
    limit = span(timeout, "--timeout")

    async def work(session: Session) -> None:
        for name in names:
            resource, found = await find_object(session, name, (BACKUPS, RESTORES))
            if not facts.at_work(found):
                raise UsageError(
                    f"{resource.kind} {name_of(found)} is {facts.phase_of(found)}: there is nothing to stop",
                    "`kubectl blockvault status` shows what is at work.",
                )
            changed = await session.patch(resource, found, {"spec": {"cancel": True}})
            click.echo(f"{resource.kind.lower()}.{GROUP}/{name_of(found)} cancel requested")
            if wait:
                (ended,) = await waiting.wait(session, resource, [changed], waiting.ENDED, limit)
                if facts.phase_of(ended) != "Error":
                    raise FailedError(
                        f"{resource.kind} {name_of(found)} ended in {facts.phase_of(ended)} before it was stopped",
                        "Delete it if it is not wanted.",
                    )

    try:
        settings.converse(work)
    except KeyboardInterrupt:
        raise waiting.interrupted(
            "what was asked for goes on", "`kubectl blockvault status` shows how."
        ) from None


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="BACKUP...", shell_complete=names("BACKUPS"))
@YES
@WAIT
@TIMEOUT
@common
def delete(names: tuple[str, ...], yes: bool, wait: bool, timeout: str | None, settings: Settings) -> None:
    """Delete backups. They are trash first, and can be brought back for the days that their class has.

    No other backup is harmed. Many at once are held until somebody says that it is meant: `kubectl blockvault hold`.

    \b
    Example:
      kubectl blockvault delete manualbk-1a2b manualbk-3c4d
    """
    limit = span(timeout, "--timeout")

    async def work(session: Session) -> None:
        found = [await session.get(BACKUPS, name) for name in dict.fromkeys(names)]
        for line in await _consequences(session, found):
            click.echo(line, err=True)
        confirm(f"Delete {several(len(found), 'backup')}?", yes)
        for backup in found:
            await session.delete(BACKUPS, backup)
            click.echo(f"backup.{GROUP}/{name_of(backup)} deleted")
        if wait:
            await waiting.wait(session, BACKUPS, found, waiting.GONE, limit)

    try:
        settings.converse(work)
    except KeyboardInterrupt:
        raise waiting.interrupted(
            "the deletion goes on", "`kubectl blockvault list` shows what is left."
        ) from None


async def _consequences(session: Session, found: list[Any]) -> list[str]:
    """What deleting these backups means, one line each, and for how long it can be undone."""
    backups = await session.all(BACKUPS)
    going = {b["metadata"]["name"] for b in found}
    lines = []
    for backup in found:
        claim = facts.claim_of(backup)
        others = [
            b for b in backups
            if facts.claim_of(b) == claim and facts.phase_of(b) == "Available" and b["metadata"]["name"] not in going
        ]  # fmt: skip
        good = facts.phase_of(backup) == "Available"
        last = " THE LAST GOOD ONE of its claim." if good and not others else ""
        when = f"of {claim}, as of {rows.volume_time(backup)}" if claim else ""
        lines.append(f"Backup {name_of(backup)} {when} ({facts.phase_of(backup)}).{last}")
    days = {await _trash_days(session, facts.vault_of(b)) for b in found}
    if None in days:
        lines.append(
            "They can be brought back for the days that their VaultClass has (7 unless it says another)."
        )
    elif days == {0}:
        lines.append("They go at once, for good: their VaultClass has no trash.")
    else:
        lines.append(
            f"They can be brought back for {min(d for d in days if d is not None)} days: `undelete`."
        )
    return lines


async def _trash_days(session: Session, vault: str) -> int | None:
    """The days that a Vault's trash has; None where that cannot be seen."""
    from blockvault.core.plan_vault import TRASH_DAYS

    found = await session.find(VAULTS, vault)
    spec = (found or {}).get("spec") or {}
    if spec.get("storage"):
        return TRASH_DAYS
    classes = await session.visible(VAULT_CLASSES)
    named = [c for c in classes or [] if c["metadata"]["name"] == spec.get("className")]
    if not named:
        return None
    days = named[0]["spec"].get("trashDays")
    return TRASH_DAYS if days is None else int(days)


@click.command()
@click.argument("backup_id", metavar="ID")
@click.option(
    "--vault", metavar="NAME", shell_complete=names("VAULTS"), help="The vault whose trash it is in."
)
@WAIT
@TIMEOUT
@common
def undelete(backup_id: str, vault: str | None, wait: bool, timeout: str | None, settings: Settings) -> None:
    """Bring a deleted backup back from the trash, by its id or the beginning of that: see `list --trash`.

    \b
    Example:
      kubectl blockvault undelete 3f9a1c --wait
    """
    limit = span(timeout, "--timeout")

    async def work(session: Session) -> None:
        name, whole = in_trash(backup_id, await session.all(VAULTS), vault)
        found = await session.get(VAULTS, name)
        value = whole
        if asked_id(facts.status_of(found).get("undeleted")) == whole:
            value = f"{whole}@{secrets.token_hex(2)}"  # each value counts once
        await session.annotate(VAULTS, found, UNDELETE_ANNOTATION, value)
        click.echo(f"vault.{GROUP}/{name} undelete of {whole} requested")
        if wait:
            click.echo(await _brought_back(session, found, value, limit))

    try:
        settings.converse(work)
    except KeyboardInterrupt:
        raise waiting.interrupted(
            "what was asked for goes on", "`kubectl blockvault list` shows it when it is back."
        ) from None


def in_trash(given: str, vaults: list[Any], named: str | None) -> tuple[str, str]:
    """The Vault and the whole id that the beginning of an id means. Raises NotFoundError and UsageError."""
    here = [v for v in vaults if named in (None, v["metadata"]["name"])]
    if named is not None and not here:
        raise NotFoundError(f"there is no Vault {named} here", "`kubectl get vaults` shows those there are.")
    if len(given) < SHORTEST:
        raise UsageError(f"{given} is too short for an id", f"Give at least {SHORTEST} characters.")
    found = {
        (str(v["metadata"]["name"]), str(each["backupId"]))
        for v in here
        for each in facts.status_of(v).get("trash") or []
        if str(each["backupId"]).startswith(given.lower())
    }
    if len(found) == 1:
        return found.pop()
    if found:
        raise UsageError(f"{given} could be {', '.join(sorted(i for _, i in found))}", "Give more of it.")
    # A status names the last of them only.
    if len(given) == WHOLE and len(here) == 1:
        return str(here[0]["metadata"]["name"]), given.lower()
    raise NotFoundError(
        f"no trash that is shown has a backup {given}",
        "`kubectl blockvault list --trash` shows them; of one that is not shown give the whole id and --vault.",
    )


async def _brought_back(session: Session, vault: Any, value: str, limit: timedelta | None) -> str:
    """The operator's words on what came of it. Raises FailedError and PassingError."""
    meta = vault["metadata"]
    task = task_name("Undelete", meta["uid"], value)
    loop = asyncio.get_running_loop()
    end = loop.time() + (limit.total_seconds() if limit else UNDELETE_SECONDS)
    while loop.time() < end:
        seen = await session.get(VAULTS, meta["name"])
        if facts.status_of(seen).get("undeleted") == value:
            record = await session.find(TASKS, task)
            status = facts.status_of(record) if record else {}
            if status.get("phase") == "Failed":
                raise FailedError(str(status.get("message")), str(status.get("remedy")))
            if status.get("phase") == "Succeeded":
                return str(status.get("message"))
        await asyncio.sleep(waiting.LOOK)
    raise PassingError(
        "the operator has not answered yet", "`kubectl blockvault status` says whether it is there."
    )
