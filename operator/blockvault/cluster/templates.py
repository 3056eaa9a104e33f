"""Snapshots, claims and volumes that operations make, as dicts. Pure; names and labels come from `core.naming`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blockvault.api import format_quantity
from blockvault.core import naming
from blockvault.core.plan_restore import Target
from blockvault.core.source import Source

Object = dict[str, Any]

KEPT_FOR_POLICY = (naming.RECLAIM_POLICY_ANNOTATION, naming.RETAINED_BY_ANNOTATION)


@dataclass(frozen=True)
class Owner:
    """The Backup or Restore that an object is made for, or a Vault (no claim); which of its movers works."""

    kind: str
    namespace: str
    name: str
    uid: str
    claim: str = ""
    attempt: int = 1

    @property
    def mover_name(self) -> str:
        """Name of the mover's raw claim and Secret."""
        return naming.mover_name(self.uid, self.attempt)

    def metadata(self, namespace: str | None, *, name: str | None = None, **annotations: str) -> Object:
        """Metadata of an object made for this owner."""
        meta: Object = naming.owned_metadata(
            self.uid, self.kind, self.namespace, self.name, claim=self.claim or None
        )
        meta["name"] = name or naming.owned_name(self.uid)
        if namespace is not None:
            meta["namespace"] = namespace
        meta["annotations"] |= annotations
        return meta


def snapshot_of_claim(owner: Owner, snapshot_class: str) -> Object:
    """The VolumeSnapshot in the claim's own namespace."""
    return {
        "metadata": owner.metadata(owner.namespace),
        "spec": {
            "volumeSnapshotClassName": snapshot_class,
            "source": {"persistentVolumeClaimName": owner.claim},
        },
    }


def own_content(owner: Owner, namespace: str, content: Object, handle: str, source: Source) -> Object:
    """The VolumeSnapshotContent by which the operator owns the snapshot; with policy Delete, always.

    It has no sourceVolumeMode, so that a raw clone can be made from a Filesystem claim's snapshot. It
    remembers the content it takes over from, which is removed only after this one exists; and the volume that
    the snapshot is of, as the snapshot controller has written it, which is more than the claim's name says.
    """
    spec = content["spec"]
    metadata = owner.metadata(None)
    metadata["annotations"] |= {
        naming.SOURCE_CONTENT_ANNOTATION: content["metadata"]["name"],
        naming.SOURCE_ANNOTATION: source.to_json(),
    }
    volume = spec.get("source", {}).get("volumeHandle")
    if volume:
        metadata["annotations"][naming.VOLUME_HANDLE_ANNOTATION] = volume
    managed_by = (content["metadata"].get("labels") or {}).get("snapshot.storage.kubernetes.io/managed-by")
    if managed_by:
        metadata["labels"]["snapshot.storage.kubernetes.io/managed-by"] = managed_by
    for key, value in (content["metadata"].get("annotations") or {}).items():
        if key.startswith("snapshot.storage.kubernetes.io/deletion-secret"):
            metadata["annotations"][key] = value
    body: Object = {
        "driver": spec["driver"],
        "deletionPolicy": "Delete",
        "source": {"snapshotHandle": handle},
        "volumeSnapshotRef": {"namespace": namespace, "name": naming.owned_name(owner.uid)},
    }
    if spec.get("volumeSnapshotClassName"):
        body["volumeSnapshotClassName"] = spec["volumeSnapshotClassName"]
    return {"metadata": metadata, "spec": body}


def own_snapshot(owner: Owner, namespace: str, content: Object) -> Object:
    """The VolumeSnapshot in the operator's namespace, bound to `own_content`."""
    spec: Object = {"source": {"volumeSnapshotContentName": naming.owned_name(owner.uid)}}
    if content["spec"].get("volumeSnapshotClassName"):
        spec["volumeSnapshotClassName"] = content["spec"]["volumeSnapshotClassName"]
    return {"metadata": owner.metadata(namespace), "spec": spec}


def raw_claim(
    owner: Owner,
    namespace: str,
    storage_class: str | None,
    size: str,
    *,
    snapshot: str | None = None,
    **annotations: str,
) -> Object:
    """A raw block claim for a mover: a clone of a snapshot, or an empty one to restore into."""
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Block",
        "resources": {"requests": {"storage": size}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    if snapshot is not None:
        spec["dataSource"] = {
            "apiGroup": "snapshot.storage.k8s.io",
            "kind": "VolumeSnapshot",
            "name": snapshot,
        }
    return {"metadata": owner.metadata(namespace, name=owner.mover_name, **annotations), "spec": spec}


def target_claim(owner: Owner, target: Target, mark: str) -> Object:
    """The user's new claim, bound by name to a volume that is made when the data is there.

    It carries no label of ours but the mark of its Restore: it belongs to the user.
    """
    return {
        "metadata": {
            "name": owner.claim,
            "namespace": owner.namespace,
            "labels": target.labels,
            "annotations": {
                **target.annotations,
                naming.RESTORE_ANNOTATION: owner.uid,
                naming.RESTORED_BY_ANNOTATION: mark,
            },
        },
        "spec": {
            "accessModes": list(target.access_modes),
            "volumeMode": target.volume_mode,
            "storageClassName": target.storage_class,
            **({} if target.empty else {"volumeName": naming.owned_name(owner.uid)}),
            "resources": {"requests": {"storage": format_quantity(target.size)}},
        },
    }


def retain_patch(uid: str, volume: Object) -> Object:
    """Keep a storage while its owner changes; its own policy is noted beside it, and for whom it was kept."""
    notes = volume["metadata"].get("annotations") or {}
    policy = volume["spec"].get("persistentVolumeReclaimPolicy")
    if notes.get(naming.RETAINED_BY_ANNOTATION) == uid:  # done before: what is noted is what it was
        policy = notes.get(naming.RECLAIM_POLICY_ANNOTATION) or policy
    return {
        "spec": {"persistentVolumeReclaimPolicy": "Retain"},
        "metadata": {
            "annotations": {naming.RECLAIM_POLICY_ANNOTATION: policy, naming.RETAINED_BY_ANNOTATION: uid}
        },
    }


def release_patch(policy: str) -> Object:
    """Give a volume its own policy again, and forget that it was kept."""
    return {
        "spec": {"persistentVolumeReclaimPolicy": policy},
        "metadata": {
            "annotations": {naming.RECLAIM_POLICY_ANNOTATION: None, naming.RETAINED_BY_ANNOTATION: None}
        },
    }


def reference_to(claim: Object) -> Object:
    """A PersistentVolume's `claimRef` to a claim."""
    meta = claim["metadata"]
    return _reference(meta["namespace"], meta["name"], meta["uid"])


def parked_reference(owner: Owner, namespace: str, volume: str) -> Object:
    """The `claimRef` of a PersistentVolume that no claim can have: that of `namespace` never exists."""
    return _reference(namespace, f"{volume}-parked", owner.uid)


def _reference(namespace: str, name: str, uid: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": namespace,
        "name": name,
        "uid": uid,
    }


def parked_volume(owner: Owner, namespace: str, volume: Object, name: str) -> Object:
    """A PersistentVolume's storage under another name, where no claim can have it.

    With the policy Retain. It keeps all labels and annotations, so that the object can be made again from it.
    """
    metadata = owner.metadata(None, name=name)
    for kind in ("labels", "annotations"):
        ours = {k: v for k, v in metadata[kind].items() if k.startswith(f"{naming.GROUP}/")}
        metadata[kind] |= {**(volume["metadata"].get(kind) or {}), **ours}
    return {
        "metadata": metadata,
        "spec": {
            **volume["spec"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": parked_reference(owner, namespace, name),
        },
    }


def claims_volume(claim: Object, storage: Object, former: Object | None) -> Object:
    """The PersistentVolume that a claim names, on the storage of another object, with the policy Retain at first.

    Its own labels and annotations are those that `former` has kept; what a provisioner needs comes with the storage.
    """
    former = former or storage

    def kept(kind: str, obj: Object) -> dict[str, str]:
        found = obj["metadata"].get(kind) or {}
        ours = {k for k, v in found.items() if k.startswith(f"{naming.GROUP}/") or v == naming.MANAGED_BY}
        return {k: v for k, v in found.items() if k not in ours or k in KEPT_FOR_POLICY}

    provisioners = kept("annotations", storage)
    for name in KEPT_FOR_POLICY:  # the claim's own policy stays
        provisioners.pop(name, None)
    options = [o for v in (former, storage) for o in v["spec"].get("mountOptions") or []]
    return {
        "metadata": {
            "name": claim["spec"]["volumeName"],
            "labels": kept("labels", former),
            "annotations": {**provisioners, **kept("annotations", former)},
        },
        "spec": {
            **storage["spec"],
            "mountOptions": list(dict.fromkeys(options)),
            "accessModes": former["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": reference_to(claim),
        },
    }


def restored_volume(owner: Owner, raw_volume: Object, target: Object, file_system: str | None) -> Object:
    """The PersistentVolume for the user's claim, on the storage that the mover filled.

    Keeps what the provisioner wrote for its own later deletion of the storage (annotations and secret
    references). Its policy is Retain until the raw volume object is gone. `nouuid` lets two copies of
    one XFS be mounted on one node (D10).
    """
    old = raw_volume["spec"]
    mode = target["spec"]["volumeMode"]
    csi = dict(old["csi"])
    options = list(old.get("mountOptions") or [])
    if mode == "Filesystem" and file_system:
        csi["fsType"] = file_system
        if file_system == "xfs" and "nouuid" not in options:
            options.append("nouuid")
    elif mode == "Block":
        csi.pop("fsType", None)
        options = []
    metadata = owner.metadata(None)
    kept = raw_volume["metadata"].get("annotations") or {}
    metadata["annotations"] |= {
        key: value
        for key, value in kept.items()
        if key == "pv.kubernetes.io/provisioned-by"
        or key.startswith("volume.kubernetes.io/provisioner-deletion-secret")
        or key in KEPT_FOR_POLICY
    }
    spec: Object = {
        "capacity": old["capacity"],
        "accessModes": target["spec"]["accessModes"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": old.get("storageClassName", ""),
        "volumeMode": mode,
        "csi": csi,
        "claimRef": reference_to(target),
    }
    for key in ("nodeAffinity", "volumeAttributesClassName"):
        if old.get(key):
            spec[key] = old[key]
    if options:
        spec["mountOptions"] = options
    return {"metadata": metadata, "spec": spec}
