"""`kubectl blockvault coverage`: which claims are protected, which are left out, and which are neither."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from blockvault.cluster.resources import CLAIMS, NAMESPACES, VAULTS
from blockvault.plugin.errors import NotFoundError, RefusedError
from blockvault.plugin.options import ALL_NAMESPACES, common, output, show
from blockvault.plugin.screen import coloured
from blockvault.plugin.settings import Settings
from blockvault.plugin.words import NONE, ago, several

if TYPE_CHECKING:
    from blockvault.core.coverage import Covered
    from blockvault.plugin.session import Session


@click.command()
@click.option(
    "--state",
    type=click.Choice(["Protected", "Excluded", "Unprotected"], case_sensitive=False),
    help="Only those.",
)
@ALL_NAMESPACES
@output("json", "yaml", "name")
@common
def coverage(state: str | None, everywhere: bool, form: str, settings: Settings) -> None:
    """Show each bound claim as unprotected, excluded or protected, and why.

    Protected is a claim that a vault holds, that has a good backup, and of which a policy makes the next one. One that
    needs none is excluded by the annotation blockvault.dev/exclude, on it or on its namespace, whose value is the
    reason.

    \b
    Examples:
      kubectl blockvault coverage -A --state Unprotected
      kubectl annotate pvc scratch blockvault.dev/exclude="can be made again"
    """
    from blockvault.core.coverage import STATES, count

    async def ask(session: Session) -> tuple[list[Covered], Session]:
        return await _covered(session), session

    found, session = settings.converse(ask, everywhere=everywhere)
    shown = [each for each in found if state is None or each.state == state.capitalize()]
    shown.sort(key=lambda each: (-STATES.index(each.state), each.namespace, each.claim))
    table = [
        [
            each.claim,
            coloured(each.state),
            each.vault or NONE,
            ago(each.last_backup, session.now),
            each.message,
        ]
        for each in shown
    ]
    columns = ["CLAIM", "STATE", "VAULT", "LAST BACKUP", "WHY"]
    if everywhere:
        columns, table = (
            ["NAMESPACE", *columns],
            [[e.namespace, *r] for e, r in zip(shown, table, strict=True)],
        )
    counts = count(found)
    data = {
        "counts": {each.lower(): number for each, number in counts.items()},
        "claims": [_camel(each) for each in shown],
    }
    named = [f"persistentvolumeclaim/{each.claim}" for each in shown]
    show(form, data, columns, table, names=named, none="No bound claims found.")
    if form == "table" and found:
        parts = ", ".join(f"{counts[each]} {each.lower()}" for each in reversed(STATES))
        click.echo(f"{several(len(found), 'claim')}: {parts}.")


def _camel(each: Covered) -> dict[str, str]:
    facts = asdict(each)
    facts["lastBackup"] = facts.pop("last_backup")
    return facts


async def _covered(session: Session) -> list[Covered]:
    from blockvault.core.coverage import cover, exclusions

    claims, vaults = await session.each_of(CLAIMS, VAULTS)
    try:
        if session.everywhere:
            namespaces = await session.all(NAMESPACES)
        else:
            found = await session.find(NAMESPACES, session.namespace)
            namespaces = [found] if found else []
    except (RefusedError, NotFoundError):
        namespaces = []  # what is said there counts for nothing then, and no claim looks better than it is
    return cover(claims, vaults, exclusions(namespaces))
