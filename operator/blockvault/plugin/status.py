"""`kubectl blockvault status`: the whole picture, trouble first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blockvault.cluster.resources import BACKUPS, POLICIES, RESTORES, VAULTS
from blockvault.plugin.options import ALL_NAMESPACES, common, output, show
from blockvault.plugin.settings import Settings

if TYPE_CHECKING:
    from blockvault.plugin.session import Session
    from blockvault.plugin.trouble import Picture, Trouble


@click.command()
@ALL_NAMESPACES
@output("json", "yaml")
@common
def status(everywhere: bool, form: str, settings: Settings) -> None:
    """Show the whole picture of a namespace: what wants attention first, then vaults, policies and work.

    \b
    Examples:
      kubectl blockvault status
      kubectl blockvault status -A -o json
    """
    from blockvault.plugin import picture, trouble

    async def ask(session: Session) -> tuple[Picture, list[Trouble], str, Session]:
        vaults, policies, backups, restores = await session.each_of(VAULTS, POLICIES, BACKUPS, RESTORES)
        seen = trouble.Picture(vaults, policies, backups, restores)
        return seen, trouble.find(seen, session.now), session.namespace, session

    seen, troubles, namespace, session = settings.converse(ask, everywhere=everywhere)
    if form != "table":
        show(form, picture.as_data(seen, troubles, None if everywhere else namespace), (), ())
        return
    where = "All namespaces" if everywhere else f"Namespace {namespace}"
    from blockvault.plugin import screen

    screen.status(
        picture.summary(seen, troubles, where),
        troubles,
        picture.sections(seen, session.now, everywhere=everywhere),
        everywhere=everywhere,
        empty=not (seen.vaults or seen.policies or seen.backups or seen.restores),
    )
