"""`kubectl blockvault preview`: what retention would remove at the next run, and why."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click

from blockvault.cluster.resources import BACKUPS, POLICIES, RESTORES, VAULTS
from blockvault.core.naming import GROUP
from blockvault.plugin import facts
from blockvault.plugin.completing import names
from blockvault.plugin.errors import NotFoundError, PluginError
from blockvault.plugin.facts import status_of
from blockvault.plugin.options import common, output, show
from blockvault.plugin.settings import Settings
from blockvault.plugin.words import ago, name_of, several

if TYPE_CHECKING:
    from datetime import datetime

    from blockvault.core.retention import Made, Verdict
    from blockvault.plugin.session import Session

Judged = tuple[str, str, "Made", "Verdict"]


@click.command()
@click.argument("vault", required=False, metavar="[VAULT]", shell_complete=names("VAULTS"))
@click.option(
    "--policy", metavar="NAME", shell_complete=names("POLICIES"), help="As if the vault had that policy."
)
@click.option("--all", "every", is_flag=True, help="Those that stay too, and why.")
@output("json", "yaml", "name")
@common
def preview(vault: str | None, policy: str | None, every: bool, form: str, settings: Settings) -> None:
    """Show what retention would remove after the next run, if that were now, and why.

    Of all vaults with a policy, or of one. It is judged by the very rules that the operator goes by; a policy that is
    disabled, or that the vault does not have, can be tried so. Nothing is removed by looking.

    \b
    Examples:
      kubectl blockvault preview
      kubectl blockvault preview disks --policy stricter --all
    """

    async def ask(session: Session) -> tuple[list[Judged], list[str], Session]:
        vaults, policies, backups, restores = await session.each_of(VAULTS, POLICIES, BACKUPS, RESTORES)
        if vault is not None:
            vaults = [v for v in vaults if name_of(v) == vault]
            if not vaults:
                raise NotFoundError(
                    f"there is no Vault {vault} here", "`kubectl get vaults` shows those there are."
                )
        if policy is not None and policy not in map(name_of, policies):
            raise NotFoundError(
                f"there is no BackupPolicy {policy} here",
                "`kubectl get backuppolicies` shows those there are.",
            )
        found, held = judged(vaults, policies, backups, restores, session.now, policy)
        return found, held, session

    found, held, session = settings.converse(ask)
    shown = [each for each in found if every or each[3].goes]
    table = [
        [
            made.name,
            claim,
            f"{ago(made.taken.isoformat(), session.now)} ago",
            "goes" if v.goes else "stays",
            v.message,
        ]
        for _, claim, made, v in shown
    ]
    data = {
        "backups": [
            {"vault": of, "claim": claim, "name": made.name, "taken": made.taken.isoformat(), "goes": v.goes,
             "reason": v.reason, "message": v.message}
            for of, claim, made, v in shown
        ],
        "heldClaims": held,
    }  # fmt: skip
    named = [f"backup.{GROUP}/{made.name}" for _, _, made, _ in shown]
    none = f"Nothing would be removed; {several(len(found), 'backup stays', 'backups stay')}."
    show(form, data, ["BACKUP", "CLAIM", "TAKEN", "", "WHY"], table, names=named, none=none)
    if form == "table" and held:
        click.echo(f"Expiry is held of {', '.join(held)}: `kubectl blockvault hold` says why.", err=True)


def judged(
    vaults: list[Any],
    policies: list[Any],
    backups: list[Any],
    restores: list[Any],
    now: datetime,
    named: str | None = None,
) -> tuple[list[Judged], list[str]]:
    """(vault, claim, backup, verdict) of each ended Backup, and the claims of which nothing goes now. Pure.

    Raises PluginError for objects that this version cannot read.
    """
    from pydantic import ValidationError

    from blockvault.api import Backup, BackupPolicy
    from blockvault.core.naming import volume_name
    from blockvault.core.preview import preview as look
    from blockvault.core.runs import volume_of

    by_name = {name_of(p): p for p in policies}
    busy = {
        str(status_of(r).get("backup") or (r["spec"].get("backupRef") or {}).get("name"))
        for r in restores
        if facts.phase_of(r) not in facts.RESTORE_ENDED
    }
    found: list[Judged] = []
    held: list[str] = []
    try:
        for vault in vaults:
            policy = by_name.get(named or str((status_of(vault).get("policy") or {}).get("name")))
            if policy is None:
                continue
            volumes: dict[str, list[Backup]] = defaultdict(list)
            for each in backups:
                if facts.vault_of(each) == name_of(vault):
                    model = Backup.model_validate(each)
                    volumes[volume_of(model)].append(model)
            lines = [str(line["name"]) for line in status_of(vault).get("resources") or []]
            odd = {a["backup"] for a in status_of(vault).get("anomalies") or [] if not a.get("acknowledged")}
            claims = {volume_name(facts.namespace_of(vault), name): name for name in lines}
            stuck = [v for v, members in volumes.items() if any(b.metadata.name in odd for b in members)]
            held += [claims[v] for v in stuck if v in claims]
            looked = {v: members for v, members in volumes.items() if v in claims and v not in stuck}
            for volume, members in looked.items():
                one = look(BackupPolicy.model_validate(policy), {volume: members}, now, busy=busy)
                found += [(name_of(vault), claims[volume], made, verdict) for made, verdict in one]
    except ValidationError as error:
        raise PluginError(
            f"an object is of another version than this plugin: {error}", "Use the newer plugin."
        ) from error
    return sorted(found, key=lambda each: (each[0], each[2].taken, each[2].name)), held
