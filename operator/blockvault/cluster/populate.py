"""Claims whose dataSourceRef names a Backup or a Restore: each gets a Restore of its own that fills it (D3, F19).

A level loop over the claims that wait. It needs no finalizer on them: when a claim goes, the Restore that it owns goes
too, and takes along what it has made.
"""

from __future__ import annotations

import asyncio
import logging

from pydantic import ValidationError

from blockvault.api import Restore, as_dict
from blockvault.core.naming import API_VERSION, GROUP, POPULATES_ANNOTATION, populating_name
from blockvault.core.objects import Object, deleting

from . import operations
from .context import Context
from .gateway import GatewayError
from .resources import BACKUPS, CLAIMS, RESTORES, can_be_name

log = logging.getLogger(__name__)

# How long what a claim names is waited for before it is looked for again.
AGAIN_SECONDS = 10.0
RETRY_SECONDS = 3.0
DEADLINE_SECONDS = 86400


def waits_for_us(claim: Object) -> bool:
    """Whether a claim has no volume yet and names an object of ours to come from."""
    spec = claim.get("spec") or {}
    ref = spec.get("dataSourceRef") or {}
    ours = ref.get("apiGroup") == GROUP and ref.get("kind") in (BACKUPS.kind, RESTORES.kind)
    return bool(ours and not ref.get("namespace") and not spec.get("volumeName") and not deleting(claim))


async def watch_claims(context: Context) -> None:
    """Note the claims that wait for us, and of all the little that coverage looks at, for ever.

    Not by Kopf, which would remember each claim of the cluster.
    """
    while True:
        try:
            context.coverage.begin_listing()
            async for what, claim in context.gateway.follow(CLAIMS):
                _cover(context, what, claim)
                if what != "DELETED" and waits_for_us(claim):
                    meta = claim["metadata"]
                    context.want_populating(meta["uid"], meta["namespace"], meta["name"])
        except GatewayError as error:
            log.warning("Watching claims: %s; again in %.0f s", error, RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)


def _cover(context: Context, what: str, claim: Object) -> None:
    """Let coverage have what is told of a claim."""
    if what != "LISTED":
        context.coverage.end_listing()
    if what == "DELETED":
        context.coverage.drop_claim(claim["metadata"]["namespace"], claim["metadata"]["name"])
    else:
        context.coverage.put_claim(claim)


async def populate_claims(context: Context) -> float:
    """Give each claim that waits its Restore. Returns seconds until the next look."""
    for uid, (namespace, name) in list(context.populating.items()):
        try:
            if await _populate(context, uid, namespace, name):
                context.populating.pop(uid, None)
        except (GatewayError, ValidationError) as error:  # one claim does not hold up the others
            log.warning("PersistentVolumeClaim %s/%s: %s", namespace, name, error)
    return AGAIN_SECONDS if context.populating else 3600.0


async def _populate(context: Context, uid: str, namespace: str, name: str) -> bool:
    """Make the Restore of one claim. Whether nothing is left to do for it."""
    claim = await context.gateway.get(CLAIMS, name, namespace)
    if claim is None or claim["metadata"]["uid"] != uid or not waits_for_us(claim):
        return True
    ref = claim["spec"]["dataSourceRef"]
    if not can_be_name(ref["name"]):  # no API server looks at it
        text = f"dataSourceRef.name {ref['name']!r} is no name of a {ref['kind']}: make the claim again."
        await _tell(context, claim, f"{ref['kind']}NotFound", text)
        return True
    source: Object = {"backupRef": {"name": ref["name"]}}
    if ref["kind"] == RESTORES.kind:
        found = await context.gateway.get(RESTORES, ref["name"], namespace)
        restore = Restore.model_validate(found) if found else None
        if restore is None or restore.spec.target.populate is None:
            why = "does not exist in this namespace" if restore is None else "has no spec.target.populate"
            await _tell(context, claim, "RestoreNotFound", f"Restore {ref['name']}, which it names, {why}.")
            return False
        spec = as_dict(restore.spec)
        source = {key: spec[key] for key in ("backupRef", "latestOf", "ifNone") if key in spec}
    owner = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "uid": uid}
    body = {
        "metadata": {
            "name": populating_name(uid),
            "namespace": namespace,
            "annotations": {POPULATES_ANNOTATION: uid},
            "ownerReferences": [owner],
        },
        "spec": {**source, "target": {"newClaim": {"name": name}}, "startDeadlineSeconds": DEADLINE_SECONDS},
    }
    made = await context.gateway.ensure(RESTORES, body)
    await _tell(context, claim, "Populating", f"{API_VERSION} Restore {made['metadata']['name']} fills it.")
    return True


async def _tell(context: Context, claim: Object, reason: str, message: str) -> None:
    status = {"phase": "Pending", "reason": reason, "message": message}
    await operations.tell(context, CLAIMS, claim, status)
