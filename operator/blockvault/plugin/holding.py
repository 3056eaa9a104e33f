"""`kubectl blockvault hold`: what waits for a word, and the word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from blockvault.cluster.resources import BACKUPS, VAULTS
from blockvault.core.naming import ACKNOWLEDGE_ANNOTATION, ALLOW_DELETION_ANNOTATION, GROUP
from blockvault.plugin.completing import names
from blockvault.plugin.errors import NotFoundError, UsageError
from blockvault.plugin.facts import namespace_of, status_of
from blockvault.plugin.options import ALL_NAMESPACES, common, output, show
from blockvault.plugin.restoring import asks
from blockvault.plugin.settings import Settings
from blockvault.plugin.words import ago, name_of

if TYPE_CHECKING:
    from blockvault.plugin.session import Session

# As core.hold has it, which brings the models along.
KEEP = "keep-"
HOLDS = {"deletionHold": "deletion of backups", "dissociationHold": "backups of claims that have left"}


@click.group(invoke_without_command=True)
@ALL_NAMESPACES
@output("json", "yaml")
@common
@click.pass_context
def hold(context: click.Context, everywhere: bool, form: str, settings: Settings) -> None:
    """Show what is held until somebody says a word: mass deletions, and expiry after an odd backup.

    \b
    Examples:
      kubectl blockvault hold
      kubectl blockvault hold allow disks 1a2b3c4d
    """
    if context.invoked_subcommand is not None:
        context.obj = settings
        return

    async def ask(session: Session) -> tuple[list[Any], Session]:
        return await session.all(VAULTS), session

    vaults, session = settings.converse(ask, everywhere=everywhere)
    found = held(vaults)
    if form != "table":
        show(form, {"holds": found}, (), ())
        return
    if not found:
        click.echo("Nothing is held.", err=True)
    for each in found:
        since = f", since {ago(each['since'], session.now)}" if each["since"] else ""
        where = f"{each['namespace']}: " if everywhere else ""
        click.echo(f"{where}Vault {each['vault']}: {each['what']}{since}")
        click.echo(f"  {each['message']}")
        for word, command in each["commands"].items():
            click.echo(f"  to {word}: {command}")


def held(vaults: list[Any]) -> list[dict[str, Any]]:
    """All that is held, with the commands that answer. Pure."""
    found: list[dict[str, Any]] = []
    for vault in vaults:
        name, where = name_of(vault), namespace_of(vault)
        for key, what in HOLDS.items():
            one = status_of(vault).get(key)
            if not one:
                continue
            said = f"{name} {one['token']} -n {where}"
            found.append(
                {
                    "namespace": where, "vault": name, "what": what, "token": one["token"], "since": one.get("since"),
                    "message": str(one.get("message") or "").partition(" To go on:")[0],
                    "commands": {
                        "let it go on": f"kubectl blockvault hold allow {said}",
                        "keep all data": f"kubectl blockvault hold keep {said}",
                    },
                }
            )  # fmt: skip
        for odd in status_of(vault).get("anomalies") or []:
            if odd.get("acknowledged"):
                continue
            found.append(
                {
                    "namespace": where, "vault": name, "what": "expiry", "token": odd["token"], "since": None,
                    "message": str(odd.get("message") or "").partition(", then kubectl")[0],
                    "commands": {"let it go on": f"kubectl blockvault hold acknowledge {odd['backup']} -n {where}"},
                }
            )  # fmt: skip
    return found


@hold.command()
@click.argument("vault", shell_complete=names("VAULTS"))
@click.argument("given", required=False, metavar="[TOKEN]")
@common
def allow(vault: str, given: str | None, settings: Settings) -> None:
    """Let a held deletion go on. TOKEN is that of the hold, so that no other one is meant; it is asked for.

    \b
    Example:
      kubectl blockvault hold allow disks 1a2b3c4d
    """
    _say(settings, vault, given, "")


@hold.command()
@click.argument("vault", shell_complete=names("VAULTS"))
@click.argument("given", required=False, metavar="[TOKEN]")
@common
def keep(vault: str, given: str | None, settings: Settings) -> None:
    """Let the objects of a held deletion go, and keep all data, which is shown again afterwards.

    \b
    Example:
      kubectl blockvault hold keep disks 1a2b3c4d
    """
    _say(settings, vault, given, KEEP)


def _say(settings: Settings, name: str, token: str | None, prefix: str) -> None:
    async def work(session: Session) -> None:
        vault = await session.get(VAULTS, name)
        holds = [h for h in held([vault]) if "keep all data" in h["commands"]]
        if not holds:
            raise UsageError(
                f"Vault {name} holds no deletion", "`kubectl blockvault hold` shows what is held."
            )
        given = token
        if given is None:
            for each in holds:
                click.echo(f"{each['what']}: {each['message']} Token: {each['token']}", err=True)
            if not asks():
                raise UsageError("no token is given", "Give the one that `kubectl blockvault hold` shows.")
            given = str(click.prompt("Type the token if it is meant", err=True))
        if given not in {each["token"] for each in holds}:
            raise UsageError(
                f"{given} is not the token of what is held", "`kubectl blockvault hold` shows it."
            )
        await session.annotate(VAULTS, vault, ALLOW_DELETION_ANNOTATION, f"{prefix}{given}")
        click.echo(f"vault.{GROUP}/{name} {'data is kept' if prefix else 'deletion is allowed'}")

    settings.converse(work)


@hold.command()
@click.argument("backup", shell_complete=names("BACKUPS"))
@common
def acknowledge(backup: str, settings: Settings) -> None:
    """Say that an odd backup was looked at: rules remove older ones again.

    \b
    Example:
      kubectl blockvault hold acknowledge autobk-1a2b-0001
    """

    async def work(session: Session) -> None:
        vaults, found = await session.all(VAULTS), await session.get(BACKUPS, backup)
        tokens = [
            odd["token"] for v in vaults for odd in status_of(v).get("anomalies") or []
            if odd.get("backup") == backup and not odd.get("acknowledged")
        ]  # fmt: skip
        if not tokens:
            raise NotFoundError(
                f"Backup {backup} holds nothing up", "`kubectl blockvault hold` shows what does."
            )
        await session.annotate(BACKUPS, found, ACKNOWLEDGE_ANNOTATION, ",".join(tokens))
        click.echo(f"backup.{GROUP}/{backup} acknowledged")

    settings.converse(work)
