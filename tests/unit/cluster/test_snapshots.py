"""What is asked of the API to make a snapshot go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from blockvault.cluster import snapshots
from blockvault.cluster.snapshots import SnapshotObjects
from blockvault.cluster.templates import Owner

Object = dict[str, Any]
OWNER = Owner("Backup", "shop", "nightly", "u1", "data")


class Recorder:
    """Remembers what it was asked to delete."""

    def __init__(self) -> None:
        self.deleted: list[tuple[str, str, str | None, str | None]] = []

    async def delete(
        self, resource: Any, name: str, namespace: str | None = None, *, uid: str | None = None
    ) -> bool:
        self.deleted.append((resource.kind, name, namespace, uid))
        return True


def obj(name: str, namespace: str | None, policy: str | None, going: bool) -> Object:
    meta: Object = {"name": name, "uid": f"uid-{name}"}
    if namespace:
        meta["namespace"] = namespace
    if going:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": meta, "spec": {"deletionPolicy": policy} if policy else {}}


@pytest.mark.parametrize("going", [False, True])
async def test_deletion_is_asked_for_once(going: bool) -> None:
    """Sidecars hold a snapshot until its driver answers, for hours: that is no reason to ask every second."""
    snapshot, content = obj("bv-u1", "shop", None, going), obj("snapcontent-1", None, "Retain", going)
    own, own_content = obj("bv-u1", "system", None, going), obj("bv-u1", None, "Delete", going)
    asked = []
    for work, found in [
        (snapshots.delete, SnapshotObjects(snapshot, None, None, None)),
        (snapshots.delete, SnapshotObjects(None, None, own, own_content)),
        (snapshots.delete, SnapshotObjects(None, None, None, own_content)),
        (snapshots.drop_source, SnapshotObjects(snapshot, content, own, own_content)),
    ]:
        gateway = Recorder()
        await work(SimpleNamespace(gateway=gateway), OWNER, found)  # type: ignore[arg-type]
        asked.append(gateway.deleted)
    in_shop = ("VolumeSnapshot", "bv-u1", "shop", "uid-bv-u1")
    assert asked == (
        [[], [], [], []]
        if going
        else [
            [in_shop],
            [("VolumeSnapshot", "bv-u1", "system", "uid-bv-u1")],
            [("VolumeSnapshotContent", "bv-u1", None, "uid-bv-u1")],
            [in_shop, ("VolumeSnapshotContent", "snapcontent-1", None, "uid-snapcontent-1")],
        ]
    )
