"""The kinds of API objects that the emulation serves, besides those of CustomResourceDefinitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kmock import resource

Object = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    `status`: it has the status subresource. `counted`: it has a generation. `fields` are the field
    selectors that it knows besides metadata.name and metadata.namespace; `fixed` are dotted paths that
    cannot change once they are set.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = False
    counted: bool = False
    fields: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    finalizers: tuple[str, ...] = ()
    short_names: tuple[str, ...] = ()
    schema: Object | None = field(default=None, hash=False, compare=False)

    @property
    def api_version(self) -> str:
        """As in manifests: `v1` or `batch/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> resource:
        """The same, as kmock names it."""
        return resource(self.group, self.version, self.plural)

    @property
    def custom(self) -> bool:
        """Whether a real cluster has it by a CustomResourceDefinition."""
        return self.schema is not None or self.group == SNAPSHOT

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


STORAGE, SNAPSHOT = "storage.k8s.io", "snapshot.storage.k8s.io"

NAMESPACES = Kind(
    "", "v1", "namespaces", "Namespace", namespaced=False, status=True, finalizers=("kubernetes",)
)
# Their status is written by nobody but tests.
NODES = Kind("", "v1", "nodes", "Node", namespaced=False)
PODS = Kind("", "v1", "pods", "Pod", status=True, fields=("status.phase", "spec.nodeName"))
SECRETS = Kind("", "v1", "secrets", "Secret", fields=("type",), fixed=("type",))
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
CORE_EVENTS = Kind("", "v1", "events", "Event", fields=("involvedObject.name", "reason", "type"))
EVENTS = Kind("events.k8s.io", "v1", "events", "Event", fields=("regarding.name", "reason", "type"))
CLAIMS = Kind(
    "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", status=True, short_names=("pvc",),
    fixed=("spec.volumeName", "spec.volumeMode", "spec.storageClassName", "spec.accessModes",
           "spec.dataSource", "spec.dataSourceRef", "spec.selector"),
    finalizers=("kubernetes.io/pvc-protection",),
)  # fmt: skip
VOLUMES = Kind(
    "", "v1", "persistentvolumes", "PersistentVolume", namespaced=False, status=True, short_names=("pv",),
    fixed=("spec.csi", "spec.volumeMode", "spec.nodeAffinity"), finalizers=("kubernetes.io/pv-protection",),
)  # fmt: skip
STORAGE_CLASSES = Kind(
    STORAGE, "v1", "storageclasses", "StorageClass", namespaced=False, short_names=("sc",),
    fixed=("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
)  # fmt: skip
CSI_DRIVERS = Kind(STORAGE, "v1", "csidrivers", "CSIDriver", namespaced=False)
ATTACHMENTS = Kind(
    STORAGE, "v1", "volumeattachments", "VolumeAttachment", namespaced=False, status=True, fixed=("spec",)
)
JOBS = Kind(
    "batch", "v1", "jobs", "Job", status=True, counted=True,
    fields=("status.successful",), fixed=("spec.template", "spec.podFailurePolicy"),
)  # fmt: skip
DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS = (
    Kind("apps", "v1", plural, kind, status=True, counted=True, fixed=("spec.selector",))
    for plural, kind in (
        ("deployments", "Deployment"), ("statefulsets", "StatefulSet"), ("replicasets", "ReplicaSet")
    )
)  # fmt: skip
WORKLOADS = (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS)
LEASES = Kind("coordination.k8s.io", "v1", "leases", "Lease")
SNAPSHOTS = Kind(
    SNAPSHOT, "v1", "volumesnapshots", "VolumeSnapshot", status=True, counted=True, short_names=("vs",),
    fixed=("spec.source",),
)  # fmt: skip
CONTENTS = Kind(
    SNAPSHOT, "v1", "volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False, status=True,
    counted=True, short_names=("vsc",), fixed=("spec.source", "spec.sourceVolumeMode", "spec.driver"),
)  # fmt: skip
SNAPSHOT_CLASSES = Kind(
    SNAPSHOT, "v1", "volumesnapshotclasses", "VolumeSnapshotClass", namespaced=False, counted=True,
    fixed=("driver", "parameters", "deletionPolicy"),
)  # fmt: skip
CUSTOM_RESOURCES = Kind(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
    namespaced=False, status=True, counted=True, short_names=("crd",),
)  # fmt: skip

BUILT_IN = (
    NAMESPACES, NODES, PODS, SECRETS, CONFIG_MAPS, CORE_EVENTS, EVENTS, CLAIMS, VOLUMES, STORAGE_CLASSES,
    CSI_DRIVERS,
    ATTACHMENTS, JOBS, *WORKLOADS, LEASES, SNAPSHOTS, CONTENTS, SNAPSHOT_CLASSES, CUSTOM_RESOURCES,
)  # fmt: skip


def custom_kinds(definition: Object) -> list[Kind]:
    """The kinds that a CustomResourceDefinition brings, one for each version served."""
    spec, names = definition["spec"], definition["spec"]["names"]
    return [
        Kind(
            spec["group"],
            version["name"],
            names["plural"],
            names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            status="status" in version.get("subresources", {}),
            counted=True,
            fields=tuple(f["jsonPath"].lstrip(".") for f in version.get("selectableFields", [])),
            short_names=tuple(names.get("shortNames", [])),
            schema=version["schema"]["openAPIV3Schema"],
        )
        for version in spec["versions"]
        if version.get("served", True)
    ]


def fill(kind: Kind, obj: Object) -> None:
    """What the API server adds to a new object of a built-in kind."""
    spec = obj.get("spec") or {}
    if kind == CLAIMS:
        spec.setdefault("volumeMode", "Filesystem")
        for one, other in (("dataSource", "dataSourceRef"), ("dataSourceRef", "dataSource")):
            if spec.get(one):
                spec.setdefault(other, spec[one])
        obj["status"] = {"phase": "Pending"}
    elif kind == VOLUMES:
        spec.setdefault("volumeMode", "Filesystem")
        spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
        obj["status"] = {"phase": "Pending"}
    elif kind == PODS:
        obj["status"] = {"phase": "Pending"}
    elif kind == NAMESPACES:
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        obj["status"] = {"phase": "Active"}
    elif kind == SECRETS:
        obj.setdefault("type", "Opaque")


def quantity(text: str | int) -> int:
    """Bytes of a Kubernetes quantity, as `10Gi`, `500M` or `1024`. Raises ValueError."""
    text = str(text)
    for power, letter in enumerate("KMGTPE", start=1):
        if text.endswith(f"{letter}i"):
            return int(float(text[:-2]) * 1024**power)
        if text.endswith(letter) or (letter == "K" and text.endswith("k")):
            return int(float(text[:-1]) * 1000**power)
    return int(float(text))


def canonical(size: int) -> str:
    """Bytes as the storage controllers write them: in the largest binary unit that fits."""
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{letter}i"
    return str(size)
