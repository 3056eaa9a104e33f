"""`kubectl blockvault logs`: what the mover of a Backup or Restore said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blockvault.cluster.resources import BACKUPS, PODS, RESTORES
from blockvault.core.naming import OPERATION_LABEL
from blockvault.plugin import facts
from blockvault.plugin.completing import names
from blockvault.plugin.describing import find_object
from blockvault.plugin.errors import NotFoundError
from blockvault.plugin.options import common
from blockvault.plugin.settings import Settings

if TYPE_CHECKING:
    from blockvault.plugin.session import Session

OPERATOR_NAMESPACE = "blockvault-system"


@click.command()
@click.argument("name", metavar="[KIND/]NAME", shell_complete=names("BACKUPS", "RESTORES"))
@click.option(
    "--tail", type=click.IntRange(min=1), default=200, metavar="LINES", help="The last so many lines (200)."
)
@click.option(
    "--operator-namespace", default=OPERATOR_NAMESPACE, metavar="NAME", envvar="BLOCKVAULT_NAMESPACE",
    help="Where movers run (else BLOCKVAULT_NAMESPACE, else blockvault-system).",
)  # fmt: skip
@common
def logs(name: str, tail: int, operator_namespace: str, settings: Settings) -> None:
    """Print the log of the mover of a backup or a restore.

    Movers run in the operator's namespace, and an hour after their end they go. Where their log may not be read or is
    gone, the last 4 KiB of it are printed that stand in the status.

    \b
    Example:
      kubectl blockvault logs manualbk-1a2b
    """

    async def ask(session: Session) -> tuple[str, str]:
        from blockvault.cluster.gateway import GatewayError

        resource, found = await find_object(session, name, (BACKUPS, RESTORES))
        mover = facts.status_of(found).get("mover") or {}
        last = str(mover.get("lastWords") or "")
        text, why = "", "the pod is gone"
        try:
            job = mover.get("job")
            labels = {OPERATION_LABEL: str(found["metadata"]["uid"])}
            pods = await session.gateway.list_objects(PODS, operator_namespace, labels=labels)
            pods = [p for p in pods if not job or p["metadata"]["name"].startswith(f"{job}-")] or pods
            for pod in sorted(pods, key=facts.created_of):
                text += await session.gateway.pod_log(
                    pod["metadata"]["name"], operator_namespace, tail_lines=tail
                )
        except GatewayError as error:
            text, why = "", error.message
        if text:
            return text, ""
        if not last:
            phase = facts.phase_of(found)
            raise NotFoundError(
                f"{resource.kind} {found['metadata']['name']} is {phase} and has no log that can be read: {why}",
                "While it waits no mover has run: `kubectl blockvault doctor` says what it waits for.",
            )
        return last, f"These are the last words that the status has; of more: {why}."

    text, note = settings.converse(ask)
    click.echo(text, nl=not text.endswith("\n"))
    if note:
        click.echo(note, err=True)
