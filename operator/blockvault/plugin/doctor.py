"""`kubectl blockvault doctor`: will this cluster work, and why is this stuck."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import click

from blockvault.cluster.resources import (
    BACKUPS,
    CLAIMS,
    DEPLOYMENTS,
    EVENTS,
    METADATA_SERVICES,
    PODS,
    POLICIES,
    RESTORES,
    SNAPSHOT_CLASSES,
    SNAPSHOTS,
    STORAGE_CLASSES,
    VAULT_CLASSES,
    VAULTS,
    Resource,
)
from blockvault.core.naming import GROUP, OPERATION_LABEL
from blockvault.exitcodes import FAILED
from blockvault.plugin import facts
from blockvault.plugin.completing import names
from blockvault.plugin.describing import find_object
from blockvault.plugin.errors import NotFoundError, PluginError, RefusedError
from blockvault.plugin.options import common, output, show
from blockvault.plugin.settings import Settings

if TYPE_CHECKING:
    from datetime import datetime

    from blockvault.plugin.checks import Around, Finding, Seen
    from blockvault.plugin.session import Session

REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
OPERATOR_LABELS = {"app.kubernetes.io/name": "blockvault", "app.kubernetes.io/component": "operator"}
# What each right is asked by: verb and resource.
RIGHTS = {
    "look": ("list", BACKUPS),
    "back up": ("create", BACKUPS),
    "restore": ("create", RESTORES),
    "change vaults": ("patch", VAULTS),
}


@click.command()
@click.argument("name", required=False, metavar="[[KIND/]NAME]", shell_complete=names("BACKUPS", "RESTORES"))
@output("json", "yaml")
@common
def doctor(name: str | None, form: str, settings: Settings) -> None:
    """Look whether backups will work here; or, with NAME, why that backup or restore does not go on.

    Looked at are the API server and its clock, the operator, your permissions, the vault classes, each storage class
    in use with its driver, snapshot class and changed-block service, and of each vault whether its bucket answers. What
    you may not read is left out. Nothing is changed. A line that says fail makes the exit code 69; warn does not.

    \b
    Examples:
      kubectl blockvault doctor
      kubectl blockvault doctor manualbk-1a2b
    """
    from blockvault.plugin import checks, screen

    async def ask(session: Session) -> list[Finding]:
        if name is None:
            return checks.examine(await _look(session))
        resource, found = await find_object(session, name, (BACKUPS, RESTORES))
        return checks.explain(resource.kind, found, await _around(session, resource, found))

    findings = settings.converse(ask)
    data = {"ok": checks.worst(findings) != "fail", "checks": [asdict(f) for f in findings]}
    if form != "table":
        show(form, data, (), ())
    else:
        screen.findings(findings)
        if name is None:
            click.echo(checks.verdict(findings), err=True)
    if checks.worst(findings) == "fail":
        raise click.exceptions.Exit(FAILED)


async def _look(session: Session) -> Seen:
    from blockvault.plugin.checks import Seen

    vaults, policies = await session.each_of(VAULTS, POLICIES)
    claims, classes, storage, services, operators, may = await asyncio.gather(
        session.visible(CLAIMS),
        session.visible(VAULT_CLASSES),
        session.visible(STORAGE_CLASSES),
        session.visible(METADATA_SERVICES),
        _operators(session),
        _rights(session),
    )
    known = True
    try:
        snapshot_classes: list[Any] | None = await session.all(SNAPSHOT_CLASSES)
    except NotFoundError:
        snapshot_classes, known = None, False
    except RefusedError:
        snapshot_classes = None
    return Seen(
        now=session.now,
        vaults=vaults,
        policies=policies,
        claims=claims,
        vault_classes=classes,
        storage_classes=storage,
        snapshot_classes=snapshot_classes,
        services=services,
        operators=operators,
        server=_server_time(session),
        may=may,
        snapshots_known=known,
    )


def _server_time(session: Session) -> datetime | None:
    try:
        return parsedate_to_datetime(session.gateway.server_date or "")
    except ValueError:
        return None


async def _operators(session: Session) -> list[Any] | None:
    from blockvault.cluster.gateway import GatewayError

    try:
        return await session.gateway.list_objects(DEPLOYMENTS, labels=OPERATOR_LABELS)
    except GatewayError:
        return None


async def _rights(session: Session) -> dict[str, bool | None]:
    async def may(verb: str, resource: Resource) -> bool | None:
        asked = {"verb": verb, "group": GROUP, "resource": resource.plural, "namespace": session.namespace}
        body = {"metadata": {}, "spec": {"resourceAttributes": asked}}
        try:
            answer = await session.create(REVIEWS, body)
        except PluginError:
            return None
        return bool((answer.get("status") or {}).get("allowed"))

    answers = await asyncio.gather(*(may(*asked) for asked in RIGHTS.values()))
    return dict(zip(RIGHTS, answers, strict=True))


async def _around(session: Session, resource: Resource, obj: Any) -> Around:
    from blockvault.plugin.checks import Around
    from blockvault.plugin.restore_words import users_of

    claim = facts.claim_of(obj)
    vault = facts.vault_of(obj)
    if resource is RESTORES and not vault:
        name = facts.status_of(obj).get("backup") or (obj["spec"].get("backupRef") or {}).get("name")
        backup = await session.find(BACKUPS, str(name)) if name else None
        vault = facts.vault_of(backup) if backup else ""
    backups, restores = await session.each_of(BACKUPS, RESTORES)
    uid = obj["metadata"].get("uid")
    rivals = [
        each for each in [*backups, *restores]
        if claim and facts.claim_of(each) == claim and facts.at_work(each) and each["metadata"].get("uid") != uid
    ]  # fmt: skip
    snapshots = [
        s for s in await session.visible(SNAPSHOTS) or []
        if (s["metadata"].get("labels") or {}).get(OPERATION_LABEL) == uid
    ]  # fmt: skip
    pods = await session.visible(PODS) if claim else None
    events = [e for e in await session.visible(EVENTS) or [] if (e.get("regarding") or {}).get("uid") == uid]
    return Around(
        session.now,
        await session.find(VAULTS, vault) if vault else None,
        vault,
        await _maybe(session, CLAIMS, claim) if claim else None,
        claim,
        rivals,
        snapshots,
        users_of(claim, pods) if pods is not None else (),
        events,
    )


async def _maybe(session: Session, resource: Resource, name: str) -> Any:
    try:
        return await session.find(resource, name)
    except RefusedError:
        return None
