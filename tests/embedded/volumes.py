"""Claims and volumes: the provisioner, the binder, and the protection of what is in use."""

from __future__ import annotations

import asyncio
import uuid

from . import files
from .controller import Controller, deleting, pod_claims, pod_ended
from .kinds import (
    CLAIMS,
    CONTENTS,
    NAMESPACES,
    PODS,
    SNAPSHOTS,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    canonical,
    quantity,
)

DRIVER = "test.csi.blockvault.dev"
NODE_NAMES = ("node-1", "node-2")
NODE = NODE_NAMES[0]
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONER_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
MODE_CHANGE = "snapshot.storage.kubernetes.io/allow-volume-mode-change"


class NotYetError(Exception):
    """Why a claim cannot be provisioned now; tried again at the next change."""


class VolumeController(Controller):
    """Binds claims to volumes, makes and removes volumes, and plays the pods of users for claims."""

    def look(self) -> None:
        """One pass over namespaces, pods, claims and volumes."""
        self._look_at_namespaces()
        used: set[tuple[str, str]] = set()
        for pod in self.store.list(PODS):
            if not pod_ended(pod):
                used |= pod_claims(pod)
                self._look_at_pod(pod)
        for claim in self.store.list(CLAIMS):
            self._look_at_claim(claim, used)
        for volume in self.store.list(VOLUMES):
            self._look_at_volume(volume)

    def _look_at_namespaces(self) -> None:
        for namespace in filter(deleting, self.store.list(NAMESPACES)):
            name = namespace["metadata"]["name"]
            inside = [(k, o) for k in self.store.namespaced_kinds() for o in self.store.list(k, name)]
            for kind, obj in inside:
                if not deleting(obj):
                    self.store.delete(kind, name, obj["metadata"]["name"])
            if not inside:
                self.drop_finalizer(NAMESPACES, namespace, "kubernetes")

    def _look_at_pod(self, pod: Object) -> None:
        """Pods of users run nothing here, but they are the consumers that some classes wait for."""
        for namespace, name in pod_claims(pod):
            claim = self.store.find(CLAIMS, namespace, name)
            if claim and not claim["spec"].get("volumeName") and not _annotation(claim, SELECTED_NODE):
                self.update(
                    CLAIMS,
                    claim,
                    lambda c: c["metadata"].setdefault("annotations", {}).update({SELECTED_NODE: NODE}),
                )
        owned = pod["metadata"].get("ownerReferences")
        if not owned and _phase(pod) == "Pending":
            claims = [self.store.find(CLAIMS, *key) for key in pod_claims(pod)]
            if all(c and _phase(c) == "Bound" for c in claims):
                self.set_status(PODS, pod, phase="Running", conditions=[{"type": "Ready", "status": "True"}])

    # Claims

    def _look_at_claim(self, claim: Object, used: set[tuple[str, str]]) -> None:
        meta, spec = claim["metadata"], claim["spec"]
        if deleting(claim):
            if (meta["namespace"], meta["name"]) not in used:
                self.drop_finalizer(CLAIMS, claim, "kubernetes.io/pvc-protection")
            return
        name = spec.get("volumeName")
        volume = self.store.find(VOLUMES, None, name) if name else self._reserved(claim)
        if _phase(claim) == "Bound":
            if volume is None or not _refers(volume, claim):
                self.set_status(CLAIMS, claim, phase="Lost")
            else:
                self._expand(claim, volume)
        elif volume is not None:
            self._bind(claim, volume)
        elif not name:
            self._provision(claim)

    def _reserved(self, claim: Object) -> Object | None:
        return next((v for v in self.store.list(VOLUMES) if _refers(v, claim)), None)

    def _bind(self, claim: Object, volume: Object) -> None:
        why = _mismatch(claim, volume)
        if why:
            self.store.add_event(claim, "VolumeMismatch", f"volume {volume['metadata']['name']}: {why}")
            return
        meta, name = claim["metadata"], volume["metadata"]["name"]

        def reserve(v: Object) -> None:
            v["spec"]["claimRef"] = {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta["namespace"],
                "name": meta["name"], "uid": meta["uid"],
            }  # fmt: skip
            v["status"] = {"phase": "Bound"}

        def bind(c: Object) -> None:
            c["spec"]["volumeName"] = name
            c["metadata"].setdefault("annotations", {})["pv.kubernetes.io/bind-completed"] = "yes"
            size = volume["spec"]["capacity"]["storage"]
            c["status"] = {
                "phase": "Bound", "capacity": {"storage": size}, "accessModes": volume["spec"]["accessModes"]
            }  # fmt: skip

        self.update(VOLUMES, volume, reserve)
        self.update(CLAIMS, claim, bind)

    def _expand(self, claim: Object, volume: Object) -> None:
        size = claim["spec"]["resources"]["requests"]["storage"]
        if quantity(size) <= quantity(claim["status"]["capacity"]["storage"]):
            return
        with self.files.volume(volume["spec"]["csi"]["volumeHandle"]).open("r+b") as file:
            file.truncate(quantity(size))
        self.update(VOLUMES, volume, lambda v: v["spec"]["capacity"].update(storage=size))
        self.set_status(CLAIMS, claim, capacity={"storage": size})

    # Provisioning

    def _provision(self, claim: Object) -> None:
        class_name = claim["spec"].get("storageClassName")
        storage_class = self.store.find(STORAGE_CLASSES, None, class_name) if class_name else None
        if storage_class is None or storage_class["provisioner"] != DRIVER:
            return
        if claim["spec"].get("selector"):
            self.store.add_event(claim, "ProvisioningFailed", "claim Selector is not supported")
            return
        waits = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        if waits and not _annotation(claim, SELECTED_NODE):
            self.store.add_event(
                claim,
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding",
                "Normal",
            )
            return
        try:
            if self.faults.provision_error:
                raise NotYetError(self.faults.provision_error)
            size, source = self._source(claim)
        except NotYetError as error:
            self.store.add_event(claim, "ProvisioningFailed", str(error))
            return
        self.begin(f"provision {claim['metadata']['uid']}", self._make(claim, storage_class, size, source))

    def _source(self, claim: Object) -> tuple[int, str | None]:
        """Size in bytes and the snapshot's handle, None for an empty volume. Raises NotYetError."""
        size = quantity(claim["spec"]["resources"]["requests"]["storage"])
        source = claim["spec"].get("dataSource") or claim["spec"].get("dataSourceRef")
        if not source:
            return size, None
        if source["kind"] != "VolumeSnapshot":
            raise NotYetError(f"data source kind {source['kind']} is not supported")
        snapshot = self.store.find(SNAPSHOTS, claim["metadata"]["namespace"], source["name"])
        status = (snapshot or {}).get("status") or {}
        if not snapshot or deleting(snapshot) or not status.get("readyToUse"):
            raise NotYetError(f"snapshot {source['name']} is not ready")
        content = self.store.find(CONTENTS, None, status["boundVolumeSnapshotContentName"])
        if not content or content["spec"]["volumeSnapshotRef"].get("uid") != snapshot["metadata"]["uid"]:
            raise NotYetError(f"snapshot {source['name']} is not bound both ways")
        if content["spec"]["driver"] != DRIVER:
            raise NotYetError(f"snapshot {source['name']} is of driver {content['spec']['driver']}")
        if size < (content["status"].get("restoreSize") or 0):
            raise NotYetError(
                f"requested volume size {size} is less than the size of snapshot {source['name']}"
            )
        mode = content["spec"].get("sourceVolumeMode")
        wanted = claim["spec"].get("volumeMode", "Filesystem")
        if mode and mode != wanted and _annotation(content, MODE_CHANGE) != "true":
            raise NotYetError(
                "requested volume modifies the mode of the source volume "
                "but does not have permission to do so"
            )
        return size, content["status"]["snapshotHandle"]

    async def _make(self, claim: Object, storage_class: Object, size: int, source: str | None) -> None:
        meta, spec = claim["metadata"], claim["spec"]
        handle = f"vol-{uuid.uuid5(uuid.NAMESPACE_OID, meta['uid']).hex}"
        path = self.files.volume(handle)
        if source is None:
            files.make(path, size)
        else:
            await asyncio.to_thread(files.clone, self.files.snapshot(source), path, size)
        mode = spec.get("volumeMode", "Filesystem")
        csi = {"driver": DRIVER, "volumeHandle": handle}
        if mode == "Filesystem":
            csi["fsType"] = storage_class.get("parameters", {}).get("csi.storage.k8s.io/fstype", "ext4")
        policy = storage_class.get("reclaimPolicy", "Delete")
        volume: Object = {
            "metadata": {
                "name": f"pvc-{meta['uid']}",
                "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER},
                "finalizers": [PROVISIONER_FINALIZER] if policy == "Delete" else [],
            },
            "spec": {
                "capacity": {"storage": canonical(size)},
                "accessModes": spec["accessModes"], "volumeMode": mode,
                "storageClassName": storage_class["metadata"]["name"],
                "persistentVolumeReclaimPolicy": policy, "csi": csi,
                "claimRef": {k: meta[k] for k in ("namespace", "name", "uid")},
            },
        }  # fmt: skip
        if storage_class.get("mountOptions"):
            volume["spec"]["mountOptions"] = storage_class["mountOptions"]
        self.store.create(VOLUMES, volume)

    # Volumes

    def _look_at_volume(self, volume: Object) -> None:
        ref = volume["spec"].get("claimRef")
        claim = self.store.find(CLAIMS, ref["namespace"], ref["name"]) if ref else None
        bound = claim is not None and ref.get("uid") == claim["metadata"]["uid"]
        retained = volume["spec"].get("persistentVolumeReclaimPolicy", "Retain") == "Retain"
        if retained:
            # Nobody reclaims what is retained, so nobody holds it either.
            self.drop_finalizer(VOLUMES, volume, PROVISIONER_FINALIZER)
            volume = self.store.get(VOLUMES, None, volume["metadata"]["name"])
        if not ref or (not bound and not ref.get("uid")):
            phase = "Available"
        else:
            phase = "Bound" if bound else "Released"
        if _phase(volume) != phase:
            volume = self.set_status(VOLUMES, volume, phase=phase)
        if phase == "Bound":
            return
        if (not retained and phase == "Released") or (not retained and deleting(volume)):
            self.files.volume(volume["spec"]["csi"]["volumeHandle"]).unlink(missing_ok=True)
            if not deleting(volume):
                volume = self.store.delete(VOLUMES, None, volume["metadata"]["name"])
        if deleting(volume):
            self.drop_finalizer(VOLUMES, volume, PROVISIONER_FINALIZER, "kubernetes.io/pv-protection")


def _phase(obj: Object) -> str | None:
    phase: str | None = (obj.get("status") or {}).get("phase")
    return phase


def _annotation(obj: Object, name: str) -> str | None:
    value: str | None = (obj["metadata"].get("annotations") or {}).get(name)
    return value


def _refers(volume: Object, claim: Object) -> bool:
    ref, meta = volume["spec"].get("claimRef") or {}, claim["metadata"]
    same = (ref.get("namespace"), ref.get("name")) == (meta["namespace"], meta["name"])
    return same and ref.get("uid") in (None, "", meta["uid"])


def _mismatch(claim: Object, volume: Object) -> str:
    """Why the binder does not bind the two, empty when it does."""
    c, v = claim["spec"], volume["spec"]
    if deleting(volume):
        return "it is being deleted"
    if v.get("claimRef") and not _refers(volume, claim):
        return "it is claimed by another"
    if c.get("volumeMode", "Filesystem") != v.get("volumeMode", "Filesystem"):
        return "the volume modes differ"
    if (c.get("storageClassName") or "") != (v.get("storageClassName") or ""):
        return "the storage classes differ"
    if not set(c["accessModes"]) <= set(v["accessModes"]):
        return "the access modes differ"
    if quantity(c["resources"]["requests"]["storage"]) > quantity(v["capacity"]["storage"]):
        return "it is smaller than requested"
    return ""
