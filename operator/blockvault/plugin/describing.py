"""`kubectl blockvault describe`: all about one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from blockvault.cluster.resources import BACKUPS, POLICIES, RESTORES, TASKS, VAULT_CLASSES, VAULTS, Resource
from blockvault.plugin.completing import names
from blockvault.plugin.errors import NotFoundError, UsageError
from blockvault.plugin.options import common, output, show
from blockvault.plugin.settings import Settings

if TYPE_CHECKING:
    from blockvault.plugin.session import Session

KINDS: dict[str, Resource] = {
    word: resource
    for resource, short in (
        (BACKUPS, "bvbackup"), (RESTORES, "bvrestore"), (VAULTS, "bvault"), (POLICIES, "bvpolicy"),
        (TASKS, "bvtask"), (VAULT_CLASSES, "bvclass"),
    )
    for word in (resource.kind.lower(), resource.plural, short)
} | {"policy": POLICIES, "class": VAULT_CLASSES}  # fmt: skip
# What a bare name is looked for among, in this order.
SEARCHED = (BACKUPS, RESTORES, VAULTS, POLICIES)


async def find_object(
    session: Session, given: str, kinds: tuple[Resource, ...] = SEARCHED
) -> tuple[Resource, Any]:
    """The object that `NAME` or `KIND/NAME` means. Raises NotFoundError; UsageError of a name that two have."""
    kind, slash, name = given.rpartition("/")
    if slash:
        resource = KINDS.get(kind.lower().partition(".")[0])
        if resource is None or (kinds is not SEARCHED and resource not in kinds):
            known = ", ".join(sorted({r.kind.lower() for r in kinds}))
            raise UsageError(
                f"{kind} is none of {known}", f"Write for instance {kinds[0].kind.lower()}/{name}."
            )
        return resource, await session.get(resource, name)
    found = [(r, o) for r in kinds if (o := await session.find(r, name)) is not None]
    first, last = [r.kind for r in kinds[:-1]], kinds[-1].kind
    words = f"{', '.join(first)} or {last}"
    if not found:
        raise NotFoundError(
            f"there is no {words} {name} in namespace {session.namespace}",
            "`kubectl blockvault list -A` and `kubectl get blockvault -A` show those there are.",
        )
    if len(found) > 1:
        several = ", ".join(f"{r.kind.lower()}/{name}" for r, _ in found)
        raise UsageError(f"several objects are called {name}: {several}", "Write its kind too, as here.")
    return found[0]


@click.command()
@click.argument(
    "name", metavar="[KIND/]NAME", shell_complete=names("BACKUPS", "RESTORES", "VAULTS", "POLICIES")
)
@output("json", "yaml")
@common
def describe(name: str, form: str, settings: Settings) -> None:
    """Show all about one vault, policy, backup, restore, task or class.

    \b
    Examples:
      kubectl blockvault describe manualbk-1a2b
      kubectl blockvault describe vault/disks
    """
    from blockvault.plugin import description

    async def ask(session: Session) -> tuple[Resource, Any, Session]:
        resource, found = await find_object(session, name)
        return resource, found, session

    resource, found, session = settings.converse(ask)
    if form != "table":
        show(form, found, (), ())
        return
    click.echo(description.describe(resource.kind, found, session.now), nl=False)
