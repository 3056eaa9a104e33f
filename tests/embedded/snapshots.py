"""The snapshot controller and its CSI side."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

from . import files
from .controller import Controller, deleting
from .kinds import CLAIMS, CONTENTS, SNAPSHOT_CLASSES, SNAPSHOTS, VOLUMES, Object, canonical, quantity
from .store import now
from .volumes import DRIVER

PREFIX = "snapshot.storage.kubernetes.io"
BOUND, SOURCE = f"{PREFIX}/volumesnapshot-bound-protection", f"{PREFIX}/volumesnapshot-as-source-protection"
CONTENT_BOUND = f"{PREFIX}/volumesnapshotcontent-bound-protection"
DEFAULT_CLASS = f"{PREFIX}/is-default-class"


class NotYetError(Exception):
    """Why a snapshot cannot be made now; it stands in status.error and is tried again for ever."""


class SnapshotController(Controller):
    """Makes snapshots of claims, binds those that exist, and removes them by their deletion policy."""

    def look(self) -> None:
        """One pass over snapshots and contents."""
        for snapshot in self.store.list(SNAPSHOTS):
            if deleting(snapshot):
                self._remove(snapshot)
            elif not (snapshot.get("status") or {}).get("readyToUse"):
                self._advance(snapshot)
        for content in self.store.list(CONTENTS):
            self._look_at_content(content)

    def _advance(self, snapshot: Object) -> None:
        source = snapshot["spec"]["source"]
        try:
            if self.faults.snapshot_error:
                raise NotYetError(self.faults.snapshot_error)
            if source.get("volumeSnapshotContentName"):
                self._bind(snapshot, source["volumeSnapshotContentName"])
            else:
                self._cut(snapshot, source["persistentVolumeClaimName"])
        except NotYetError as error:
            former = ((snapshot.get("status") or {}).get("error") or {}).get("message")
            if former != str(error):
                self.set_status(
                    SNAPSHOTS, snapshot, readyToUse=False, error={"time": now(), "message": str(error)}
                )

    # From a claim

    def _cut(self, snapshot: Object, claim_name: str) -> None:
        namespace, uid = snapshot["metadata"]["namespace"], snapshot["metadata"]["uid"]
        claim = self.store.find(CLAIMS, namespace, claim_name)
        if claim is None or (claim.get("status") or {}).get("phase") != "Bound":
            raise NotYetError(f"the claim {claim_name} is not there or not bound")
        volume = self.store.get(VOLUMES, None, claim["spec"]["volumeName"])
        driver = (volume["spec"].get("csi") or {}).get("driver")
        if driver != DRIVER:
            raise NotYetError(f"the volume of claim {claim_name} is not of a CSI driver")
        snapshot_class = self._class(snapshot, str(driver))
        if self.store.find(CONTENTS, None, f"snapcontent-{uid}") is None:
            self.begin(f"cut {uid}", self._make(snapshot, volume, snapshot_class))

    def _class(self, snapshot: Object, driver: str) -> Object:
        name = snapshot["spec"].get("volumeSnapshotClassName")
        if name:
            found = self.store.find(SNAPSHOT_CLASSES, None, name)
            if found is None or found["driver"] != driver:
                raise NotYetError(f"snapshot class {name} is not there or not of driver {driver}")
            return found
        defaults = [
            c
            for c in self.store.list(SNAPSHOT_CLASSES)
            if c["driver"] == driver and (c["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
        ]
        if len(defaults) != 1:
            raise NotYetError(f"{len(defaults)} default snapshot classes were found for driver {driver}")
        return defaults[0]

    async def _make(self, snapshot: Object, volume: Object, snapshot_class: Object) -> None:
        meta, spec = snapshot["metadata"], volume["spec"]
        handle = f"snap-{uuid.uuid5(uuid.NAMESPACE_OID, meta['uid']).hex}"
        content = self.store.create(
            CONTENTS,
            {
                "metadata": {"name": f"snapcontent-{meta['uid']}", "finalizers": [CONTENT_BOUND]},
                "spec": {
                    "volumeSnapshotRef": {k: meta[k] for k in ("namespace", "name", "uid")},
                    "deletionPolicy": snapshot_class["deletionPolicy"], "driver": DRIVER,
                    "volumeSnapshotClassName": snapshot_class["metadata"]["name"],
                    "source": {"volumeHandle": spec["csi"]["volumeHandle"]},
                    "sourceVolumeMode": spec.get("volumeMode", "Filesystem"),
                },
            },
        )  # fmt: skip
        self._protect(snapshot, content)
        source, target = self.files.volume(spec["csi"]["volumeHandle"]), self.files.snapshot(handle)
        await asyncio.to_thread(files.clone, source, target)
        self.files.origins[handle] = spec["csi"]["volumeHandle"]
        cut = datetime.now(UTC)
        size = quantity(spec["capacity"]["storage"])
        status = {"snapshotHandle": handle, "creationTime": int(cut.timestamp() * 1e9), "restoreSize": size}
        content = self.set_status(CONTENTS, content, readyToUse=False, **status)
        made = cut.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.set_status(
            SNAPSHOTS, snapshot, readyToUse=False, creationTime=made, restoreSize=canonical(size), error=None
        )
        await asyncio.sleep(self.faults.snapshot_delay)
        self.set_status(CONTENTS, content, readyToUse=True)
        self.set_status(SNAPSHOTS, snapshot, readyToUse=True)

    def _protect(self, snapshot: Object, content: Object) -> None:
        def change(current: Object) -> None:
            current["metadata"]["finalizers"] = sorted(
                {*current["metadata"].get("finalizers", []), BOUND, SOURCE}
            )
            current["status"] = {
                **(current.get("status") or {}), "boundVolumeSnapshotContentName": content["metadata"]["name"]
            }  # fmt: skip

        self.update(SNAPSHOTS, snapshot, change)

    # To a content that exists

    def _bind(self, snapshot: Object, name: str) -> None:
        content = self.store.find(CONTENTS, None, name)
        if content is None:
            raise NotYetError(f"VolumeSnapshotContent {name} is not there")
        ref, meta = content["spec"]["volumeSnapshotRef"], snapshot["metadata"]
        if (ref.get("namespace"), ref.get("name")) != (meta["namespace"], meta["name"]):
            raise NotYetError(
                f"VolumeSnapshotContent {name} is bound to {ref.get('namespace')}/{ref.get('name')}"
            )
        if ref.get("uid") not in (None, "", meta["uid"]):
            raise NotYetError(f"VolumeSnapshotContent {name} is bound to another snapshot of that name")
        class_name = content["spec"].get("volumeSnapshotClassName")
        if class_name and self.store.find(SNAPSHOT_CLASSES, None, class_name) is None:
            raise NotYetError(f"snapshot class {class_name} is not there")
        handle = content["spec"]["source"].get("snapshotHandle")
        if not handle or not self.files.snapshot(handle).exists():
            raise NotYetError(f"the storage system has no snapshot {handle}")
        size = self.files.snapshot(handle).stat().st_size

        def change(current: Object) -> None:
            current["spec"]["volumeSnapshotRef"]["uid"] = meta["uid"]
            current["metadata"]["finalizers"] = sorted(
                {*current["metadata"].get("finalizers", []), CONTENT_BOUND}
            )
            made = int(datetime.now(UTC).timestamp() * 1e9)
            current["status"] = {
                "snapshotHandle": handle, "readyToUse": True, "restoreSize": size, "creationTime": made
            }  # fmt: skip

        self.update(CONTENTS, content, change)
        self._protect(snapshot, content)
        self.set_status(
            SNAPSHOTS, snapshot, readyToUse=True, restoreSize=canonical(size), creationTime=now(), error=None
        )

    # Removal

    def _remove(self, snapshot: Object) -> None:
        namespace, name = snapshot["metadata"]["namespace"], snapshot["metadata"]["name"]
        for claim in self.store.list(CLAIMS, namespace):
            source = claim["spec"].get("dataSource") or {}
            pending = (claim.get("status") or {}).get("phase") in (None, "Pending")
            if pending and (source.get("kind"), source.get("name")) == ("VolumeSnapshot", name):
                self.store.add_event(
                    snapshot, "SnapshotDeletePending", "Snapshot is being used to restore a PVC"
                )
                return
        content_name = (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName")
        content = self.store.find(CONTENTS, None, content_name) if content_name else None
        if (
            content is not None
            and _names(content, snapshot)
            and content["spec"]["deletionPolicy"] == "Delete"
        ):
            if not deleting(content):
                self.store.delete(CONTENTS, None, str(content_name))
            content = self.store.find(CONTENTS, None, str(content_name))
            if content is not None and not self._released(content):
                return
        self.drop_finalizer(SNAPSHOTS, snapshot, BOUND, SOURCE)

    def _look_at_content(self, content: Object) -> None:
        if deleting(content):
            ref = content["spec"]["volumeSnapshotRef"]
            snapshot = self.store.find(SNAPSHOTS, ref["namespace"], ref["name"])
            if snapshot is None or not _names(content, snapshot) or deleting(snapshot):
                self._released(content)

    def _released(self, content: Object) -> bool:
        """Remove the bytes by the deletion policy and let the content go, unless it is still being cut."""
        status = content.get("status") or {}
        if "volumeHandle" in content["spec"]["source"] and "snapshotHandle" not in status:
            return False
        handle = status.get("snapshotHandle") or content["spec"]["source"].get("snapshotHandle")
        if handle and content["spec"]["deletionPolicy"] == "Delete":
            self.files.snapshot(handle).unlink(missing_ok=True)
        self.drop_finalizer(CONTENTS, content, CONTENT_BOUND)
        return True


def _names(content: Object, snapshot: Object) -> bool:
    ref, meta = content["spec"]["volumeSnapshotRef"], snapshot["metadata"]
    same = (ref.get("namespace"), ref.get("name")) == (meta["namespace"], meta["name"])
    return same and ref.get("uid") in (None, "", meta["uid"])
