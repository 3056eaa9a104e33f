"""`kubectl blockvault backup`: back claims up now."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import click

from blockvault.cluster.resources import BACKUPS, CLAIMS, VAULTS
from blockvault.core.naming import GROUP
from blockvault.plugin.completing import names
from blockvault.plugin.errors import NotFoundError, RefusedError, UsageError
from blockvault.plugin.options import TIMEOUT, WAIT, common, listed, output, show, span
from blockvault.plugin.requests import BackupWishes, backups, choose_vault, held_claims
from blockvault.plugin.settings import Settings

if TYPE_CHECKING:
    from blockvault.plugin.session import Session

# Random names are tried so often.
TRIES = 5


@click.command()
@click.argument("claims", nargs=-1, metavar="[CLAIM]...", shell_complete=names("CLAIMS"))
@click.option(
    "--all", "every", is_flag=True, help="All claims that --vault holds; those of all vaults without it."
)
@click.option(
    "--vault",
    metavar="NAME",
    shell_complete=names("VAULTS"),
    help="Vault (else the one that holds the claim).",
)
@click.option("--name", metavar="NAME", help="Its name (else manualbk-xxxx); several get -0001, -0002, ...")
@click.option("--full", is_flag=True, help="Read and store everything anew.")
@click.option("--description", metavar="TEXT", help="For people; at most 255 characters.")
@WAIT
@TIMEOUT
@output("json", "yaml", "name")
@common
def backup(
    claims: tuple[str, ...],
    every: bool,
    vault: str | None,
    name: str | None,
    full: bool,
    description: str | None,
    wait: bool,
    timeout: str | None,
    form: str,
    settings: Settings,
) -> None:
    """Back up claims now.

    \b
    Examples:
      kubectl blockvault backup db-data --wait --description "before the upgrade"
      kubectl blockvault backup --all --vault disks
    """
    from blockvault.plugin import waiting

    limit = span(timeout, "--timeout")
    if bool(claims) == every:
        raise UsageError(
            "name claims, or --all", "`kubectl blockvault coverage` shows which claims there are."
        )
    made: list[Any] = []

    async def work(session: Session) -> list[Any]:
        pairs = await _pairs(session, claims, vault)
        made.extend(await _create(session, pairs, BackupWishes("", name, full, description)))
        if form == "table":
            for each in made:
                click.echo(f"backup.{GROUP}/{each['metadata']['name']} created")
        return await waiting.wait(session, BACKUPS, made, waiting.BACKED_UP, limit) if wait else made

    try:
        ended = settings.converse(work)
    except KeyboardInterrupt:
        if not made:
            raise
        told = ", ".join(f"backup/{each['metadata']['name']}" for each in made)
        raise waiting.interrupted(
            f"{told} goes on", f"`kubectl blockvault cancel {told.replace(', ', ' ')}` stops it."
        ) from None
    if form != "table":
        shown = ended[0] if len(ended) == 1 else listed(ended)
        show(form, shown, (), (), names=[f"backup.{GROUP}/{each['metadata']['name']}" for each in ended])


async def _pairs(session: Session, claims: tuple[str, ...], named: str | None) -> list[tuple[str, str]]:
    """(claim, vault) of each backup that is asked for."""
    vaults = await session.all(VAULTS)
    if not claims:
        found = [(c, v["metadata"]["name"]) for v in vaults for c in held_claims(v)]
        pairs = [(c, v) for c, v in found if named in (None, v)]
        if named is not None:
            choose_vault("", vaults, named)
        if not pairs:
            raise NotFoundError("no vault holds a claim here", "`kubectl blockvault coverage` says why.")
        return pairs
    for claim in claims:
        try:
            await session.get(CLAIMS, claim)
        except RefusedError:
            break  # the operator will see whether it is there
    return [(claim, choose_vault(claim, vaults, named)) for claim in dict.fromkeys(claims)]


async def _create(session: Session, pairs: list[tuple[str, str]], wishes: BackupWishes) -> list[Any]:
    from dataclasses import replace

    from blockvault.cluster.gateway import ConflictError

    for left in reversed(range(TRIES)):
        made: list[Any] = []
        try:
            for body in backups(pairs, replace(wishes, token=secrets.token_hex(2)), session.namespace):
                made.append(await session.create(BACKUPS, body))  # noqa: PERF401 - those made before a failure count
            return made
        except ConflictError as error:
            if wishes.name is not None:
                raise UsageError(
                    f"there is a Backup of that name: {error.message}", "Choose another --name."
                ) from error
            if made or not left:
                raise
    raise AssertionError("unreachable: the last try returns or raises")
