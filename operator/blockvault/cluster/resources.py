"""The kinds of API objects that the operator touches, and the verbs that it uses on them.

`VERBS` is what the chart's roles must allow, no more and no less; a test compares them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from blockvault.core.naming import GROUP, VERSION

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def can_be_name(text: str) -> bool:
    """Whether an object can have this name. Not all fields that name objects are checked by the API server.

    A claim's volumeName, for one, takes any text, and `../../other/secrets/key` in a URL would lead elsewhere.
    """
    return bool(_NAME.fullmatch(text))


@dataclass(frozen=True)
class Resource:
    """One kind of API object: where it is in the API and whether it lives in namespaces."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As in manifests: `v1` or `batch/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        """URL path of the collection, of one object, or of a subresource.

        Raises ValueError when a namespace is given for a cluster-scoped kind, a name is given
        without the namespace that it needs, or one of them is no name.
        """
        for part in (namespace, name):
            if part and not can_be_name(part):
                raise ValueError(f"{part!r} is no name of a {self.kind}")
        if namespace and not self.namespaced:
            raise ValueError(f"{self.kind} is not namespaced")
        if name and self.namespaced and not namespace:
            raise ValueError(f"{self.kind} {name} needs a namespace")
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, *(["namespaces", namespace] if namespace else []), self.plural]
        return "/".join([*parts, *([name] if name else []), *([sub] if sub else [])])


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
SECRETS = Resource("", "v1", "secrets", "Secret")
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
JOBS = Resource("batch", "v1", "jobs", "Job")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
ATTACHMENTS = Resource("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced=False)
SNAPSHOTS = Resource("snapshot.storage.k8s.io", "v1", "volumesnapshots", "VolumeSnapshot")
SNAPSHOT_CONTENTS = Resource(
    "snapshot.storage.k8s.io", "v1", "volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False
)
SNAPSHOT_CLASSES = Resource(
    "snapshot.storage.k8s.io", "v1", "volumesnapshotclasses", "VolumeSnapshotClass", namespaced=False
)
CUSTOM_RESOURCES = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
METADATA_SERVICES = Resource(
    "cbt.storage.k8s.io", "v1beta1", "snapshotmetadataservices", "SnapshotMetadataService", namespaced=False
)
VAULT_CLASSES = Resource(GROUP, VERSION, "vaultclasses", "VaultClass", namespaced=False)
VAULTS = Resource(GROUP, VERSION, "vaults", "Vault")
POLICIES = Resource(GROUP, VERSION, "backuppolicies", "BackupPolicy")
BACKUPS = Resource(GROUP, VERSION, "backups", "Backup")
RESTORES = Resource(GROUP, VERSION, "restores", "Restore")
TASKS = Resource(GROUP, VERSION, "tasks", "Task")

# Verbs by scope. "cluster" is a ClusterRole; "operator" a Role in the operator's own namespace; "mover" another one
# there, for the movers' ServiceAccount. Movers do not talk to the API: a storage's SnapshotMetadata service asks it
# whether who holds a mover's token may see the snapshot.
# Kopf lists and watches what it has handlers for, and patches its finalizer onto our own kinds.
VERBS: dict[str, dict[tuple[str, str], frozenset[str]]] = {
    "cluster": {
        ("", "namespaces"): frozenset({"get", "list", "watch"}),
        ("apiextensions.k8s.io", "customresourcedefinitions"): frozenset({"list", "watch"}),
        ("", "persistentvolumeclaims"): frozenset({"get", "list", "watch", "create", "patch", "delete"}),
        ("", "pods"): frozenset({"list"}),
        ("", "nodes"): frozenset({"get"}),
        ("", "persistentvolumes"): frozenset({"get", "list", "create", "patch", "delete"}),
        ("events.k8s.io", "events"): frozenset({"create"}),
        ("batch", "jobs"): frozenset({"list", "watch"}),
        ("storage.k8s.io", "storageclasses"): frozenset({"get", "list"}),
        ("storage.k8s.io", "volumeattachments"): frozenset({"list"}),
        ("snapshot.storage.k8s.io", "volumesnapshots"): frozenset(
            {"get", "list", "watch", "create", "delete"}
        ),
        ("snapshot.storage.k8s.io", "volumesnapshotcontents"): frozenset(
            {"get", "create", "patch", "delete"}
        ),
        ("snapshot.storage.k8s.io", "volumesnapshotclasses"): frozenset({"list"}),
        ("cbt.storage.k8s.io", "snapshotmetadataservices"): frozenset({"get"}),
        (GROUP, "vaultclasses"): frozenset({"get", "list", "watch", "patch"}),
        (GROUP, "vaultclasses/status"): frozenset({"patch"}),
        (GROUP, "vaults"): frozenset({"get", "list", "watch", "patch"}),
        (GROUP, "vaults/status"): frozenset({"patch"}),
        (GROUP, "backuppolicies"): frozenset({"get", "list", "watch", "patch"}),
        (GROUP, "backuppolicies/status"): frozenset({"patch"}),
        (GROUP, "backups"): frozenset({"get", "list", "watch", "create", "patch", "delete"}),
        (GROUP, "backups/status"): frozenset({"patch"}),
        (GROUP, "restores"): frozenset({"get", "list", "watch", "create", "patch"}),
        (GROUP, "restores/status"): frozenset({"patch"}),
        (GROUP, "tasks"): frozenset({"list", "create", "patch", "delete"}),
    },
    # Only where the chart allows restores in place to stop what uses a claim.
    "workloads": {
        ("apps", "deployments"): frozenset({"get"}),
        ("apps", "deployments/scale"): frozenset({"patch"}),
        ("apps", "statefulsets"): frozenset({"get"}),
        ("apps", "statefulsets/scale"): frozenset({"patch"}),
        ("apps", "replicasets"): frozenset({"get"}),
        ("apps", "replicasets/scale"): frozenset({"patch"}),
    },
    # Only where the chart allows vaults with storage of their own: their credentials.
    "tenant-storage": {("", "secrets"): frozenset({"get"})},
    "operator": {
        ("", "secrets"): frozenset({"get", "create", "patch", "delete"}),
        ("", "pods"): frozenset({"list", "delete"}),
        ("", "pods/log"): frozenset({"get"}),
        ("batch", "jobs"): frozenset({"get", "create", "delete"}),
    },
    "mover": {("snapshot.storage.k8s.io", "volumesnapshots"): frozenset({"get"})},
}
