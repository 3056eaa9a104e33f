"""Volume snapshots: taken in the claim's namespace, owned in the operator's.

A snapshot changes hands by a second VolumeSnapshotContent on the same handle. At no moment do two
contents with the policy Delete name one handle: the first is set to Retain before the second exists.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from blockvault.api import Backup
from blockvault.core.kept import Kept
from blockvault.core.naming import (
    CLAIM_LABEL,
    NAME_ANNOTATION,
    NAMESPACE_ANNOTATION,
    OPERATION_LABEL,
    SOURCE_ANNOTATION,
    SOURCE_CONTENT_ANNOTATION,
    claim_label,
    owned_name,
)
from blockvault.core.objects import Object, content_handle
from blockvault.core.source import Source

from .context import Context
from .gateway import GatewayError
from .resources import BACKUPS, SNAPSHOT_CONTENTS, SNAPSHOTS
from .templates import Owner, own_content, own_snapshot, snapshot_of_claim


@dataclass(frozen=True)
class SnapshotObjects:
    """The up to four objects of one operation's snapshot, as they are now."""

    snapshot: Object | None
    content: Object | None
    own_snapshot: Object | None
    own_content: Object | None


async def observe(context: Context, owner: Owner) -> SnapshotObjects:
    """Look them up."""
    gateway, name = context.gateway, owned_name(owner.uid)
    snapshot, mine, own = await asyncio.gather(
        gateway.get(SNAPSHOTS, name, owner.namespace),
        gateway.get(SNAPSHOT_CONTENTS, name),
        gateway.get(SNAPSHOTS, name, context.settings.namespace),
    )
    source = ((snapshot or {}).get("status") or {}).get("boundVolumeSnapshotContentName")
    if mine is not None:
        source = (mine["metadata"].get("annotations") or {}).get(SOURCE_CONTENT_ANNOTATION) or source
    content = await gateway.get(SNAPSHOT_CONTENTS, source) if source else None
    return SnapshotObjects(snapshot, content, own, mine)


async def create(context: Context, owner: Owner, snapshot_class: Object, source: Source) -> None:
    """Take the snapshot."""
    await context.gateway.ensure(
        SNAPSHOTS, snapshot_of_claim(owner, snapshot_class["metadata"]["name"], source)
    )


async def set_policy(context: Context, content: Object, policy: str) -> None:
    """Say what becomes of the storage's snapshot when this content goes: Retain or Delete."""
    patch = {"spec": {"deletionPolicy": policy}}
    await context.gateway.patch(SNAPSHOT_CONTENTS, content["metadata"]["name"], None, patch)


async def bind_content(context: Context, owner: Owner, snapshot: Object, content: Object) -> None:
    """Make the operator's content on the same handle. Raises GatewayError when there is no handle."""
    source = snapshot["metadata"]["annotations"][SOURCE_ANNOTATION]
    handle = content_handle(content)
    if handle is None:
        raise GatewayError(
            0, f"VolumeSnapshotContent {content['metadata']['name']}", "it has no snapshotHandle"
        )
    body = own_content(owner, context.settings.namespace, content, handle, source)
    await context.gateway.ensure(SNAPSHOT_CONTENTS, body)


async def bind_snapshot(context: Context, owner: Owner, content: Object) -> None:
    """Make the operator's snapshot, bound to its content."""
    await context.gateway.ensure(SNAPSHOTS, own_snapshot(owner, context.settings.namespace, content))


async def drop_source(context: Context, owner: Owner, objects: SnapshotObjects) -> None:
    """Remove the claim's own snapshot and its content, whose policy is Retain: the handle is ours now.

    The policy is looked at again, and set again if somebody changed it: deleting a content with the
    policy Delete would take the snapshot away under the mover.
    """
    if objects.content is not None and objects.content["spec"].get("deletionPolicy") != "Retain":
        await set_policy(context, objects.content, "Retain")
        return
    if objects.snapshot is not None:
        await context.gateway.delete(
            SNAPSHOTS,
            objects.snapshot["metadata"]["name"],
            owner.namespace,
            uid=objects.snapshot["metadata"]["uid"],
        )
    if objects.content is not None:
        await context.gateway.delete(SNAPSHOT_CONTENTS, objects.content["metadata"]["name"])


async def delete(context: Context, owner: Owner, objects: SnapshotObjects) -> None:
    """Remove the snapshot for good, in whichever state the change of hands is."""
    name = owned_name(owner.uid)
    if objects.own_content is not None and objects.own_content["spec"].get("deletionPolicy") != "Delete":
        await set_policy(context, objects.own_content, "Delete")
    if objects.own_snapshot is not None:
        await context.gateway.delete(SNAPSHOTS, name, context.settings.namespace)
    elif objects.own_content is not None:
        await context.gateway.delete(SNAPSHOT_CONTENTS, name)
    if objects.snapshot is not None and objects.own_content is None:
        await context.gateway.delete(SNAPSHOTS, name, owner.namespace)


async def of_claim(context: Context, owner: Owner) -> list[Object]:
    """The snapshots of other operations on the same claim that the operator still keeps."""
    found = await context.gateway.list_objects(
        SNAPSHOTS, context.settings.namespace, labels={CLAIM_LABEL: claim_label(owner.namespace, owner.claim)}
    )
    return [s for s in found if (s["metadata"].get("labels") or {}).get(OPERATION_LABEL) != owner.uid]


async def kept_of(context: Context, owner: Owner) -> list[Kept]:
    """The same with their contents, and the Backups whose names stand on them."""
    found: list[Kept] = []
    for snapshot in await of_claim(context, owner):
        content = await context.gateway.get(SNAPSHOT_CONTENTS, snapshot["metadata"]["name"])
        if content is None:
            continue
        made_for = content["metadata"].get("annotations") or {}
        name, namespace = made_for.get(NAME_ANNOTATION), made_for.get(NAMESPACE_ANNOTATION)
        backup = await context.gateway.get(BACKUPS, name, namespace) if name and namespace else None
        found.append(Kept(content, Backup.model_validate(backup) if backup else None, snapshot))
    return found


async def delete_kept(context: Context, kept: list[Object]) -> None:
    """Remove kept snapshots with their storage: their contents have the policy Delete."""
    for snapshot in kept:
        await context.gateway.delete(SNAPSHOTS, snapshot["metadata"]["name"], context.settings.namespace)
