"""What a grown cluster holds: namespaces, claims with volumes, Vaults, and Backups as the operator has left them."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import yaml

from blockvault.api import Backup, BackupPolicy
from blockvault.cluster.resources import (
    BACKUPS,
    CLAIMS,
    NAMESPACES,
    POLICIES,
    SECRETS,
    SNAPSHOT_CLASSES,
    SNAPSHOT_CONTENTS,
    SNAPSHOTS,
    STORAGE_CLASSES,
    TASKS,
    VAULT_CLASSES,
    VAULTS,
    VERBS,
    VOLUMES,
    Resource,
)
from blockvault.core.automatic import annotations_of, expiry_status, origin_of, origin_status
from blockvault.core.naming import CLAIM_LABEL, NAME_ANNOTATION, claim_label, owned_name
from blockvault.core.task_record import body_of
from blockvault.core.tasks import operation_of
from tests.cluster.lab import binaries

from .client import Client, Object, together

DRIVER = "stand-in.csi.blockvault.dev"
OPERATOR_NAMESPACE = "blockvault-system"
ROOT = Path(__file__).parents[3]
ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")


@dataclass(frozen=True)
class Size:
    """How much there is: Vaults of so many claims in so many namespaces, and finished Backups."""

    namespaces: int
    vaults: int
    claims: int
    backups: int

    def places(self) -> Iterator[tuple[str, str]]:
        """(namespace, name) of each Vault."""
        for number in range(self.vaults):
            yield f"team-{number % self.namespaces}", f"disks-{number}"

    def claim(self, vault: str, number: int) -> str:
        """Name of a Vault's claim."""
        return f"{vault}-{number}"


def rules(user: str) -> list[tuple[Resource, Object]]:
    """What the chart would allow the operator: the verbs of the gateway's own table."""
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    found: list[tuple[Resource, Object]] = []
    for scope, verbs in VERBS.items():
        allowed = [
            {"apiGroups": [group], "resources": [plural], "verbs": sorted(words)}
            for (group, plural), words in verbs.items()
        ]
        meta = {"metadata": {"name": f"blockvault-{scope}"}}
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"blockvault-{scope}"}
        found += [
            (ROLES, {**meta, "rules": allowed}),
            (BINDINGS, {**meta, "roleRef": ref, "subjects": [subject]}),
        ]
    return found


def setting() -> list[tuple[Resource, Object]]:
    """Storage, a VaultClass with its credentials, and the accounts."""
    secret = {"AWS_ACCESS_KEY_ID": "c3RhbmQtaW4=", "AWS_SECRET_ACCESS_KEY": "c3RhbmQtaW4="}
    s3 = {
        "endpoint": "http://127.0.0.1:9", "region": "us-east-1", "bucket": "backups", "prefix": "bench",
        "credentialsSecretRef": {"name": "store"},
    }  # fmt: skip
    inside = {"namespace": OPERATOR_NAMESPACE}
    return [
        (STORAGE_CLASSES, {"metadata": {"name": "stand-in"}, "provisioner": DRIVER}),
        (
            SNAPSHOT_CLASSES,
            {"metadata": {"name": "stand-in"}, "driver": DRIVER, "deletionPolicy": "Delete"},
        ),
        (ACCOUNTS, {"metadata": {"name": "blockvault-mover", **inside}}),
        (SECRETS, {"metadata": {"name": "store", **inside}, "data": secret}),
        (VAULT_CLASSES, {"metadata": {"name": "standard"}, "spec": {"storage": {"s3": s3}}}),
    ]


def policy(name: str, namespace: str, hour: int, minute: int) -> Object:
    """A BackupPolicy that runs once a day."""
    spec = {
        "schedule": {"hours": [hour], "minute": minute, "timeZone": "UTC", "everyDays": 1},
        "retention": {"count": 14},
    }
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def vault(size: Size, namespace: str, name: str) -> Object:
    """A Vault with its claims by name."""
    names = [size.claim(name, number) for number in range(size.claims)]
    spec = {
        "type": "Disk",
        "capacity": "100Ti",
        "className": "standard",
        "policyRef": {"name": "nightly"},
        "resources": [{"kind": "PersistentVolumeClaim", "name": each} for each in names],
    }
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


async def bound_claim(client: Client, namespace: str, name: str) -> None:
    """A claim with its volume, as the volume controller leaves them."""
    volume = f"pvc-{uuid.uuid4()}"
    size = {"storage": "10Gi"}
    common = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "storageClassName": "stand-in"}
    claim = await client.create(
        CLAIMS,
        {
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
            "spec": {**common, "volumeName": volume, "resources": {"requests": size}},
        },
    )
    await client.status(
        CLAIMS, claim, {"phase": "Bound", "capacity": size, "accessModes": common["accessModes"]}
    )
    ref = {"namespace": namespace, "name": name, "uid": claim["metadata"]["uid"]}
    csi = {"driver": DRIVER, "volumeHandle": volume}
    spec = {
        **common,
        "capacity": size,
        "claimRef": ref,
        "csi": csi,
        "persistentVolumeReclaimPolicy": "Delete",
    }
    await client.create(VOLUMES, {"metadata": {"name": volume}, "spec": spec})


async def fill(client: Client, size: Size, user: str) -> None:
    """All but Backups."""
    spaces = {namespace for namespace, _ in size.places()}
    await together(
        client.create(NAMESPACES, {"metadata": {"name": name}})
        for name in (OPERATOR_NAMESPACE, *sorted(spaces))
    )
    await together((client.create(*each) for each in [*rules(user), *setting()]), 1)
    hour = (datetime.now(UTC) + timedelta(hours=12)).hour  # nothing is due while it is measured
    await together(client.create(POLICIES, policy("nightly", each, hour, 0)) for each in sorted(spaces))
    await together(
        bound_claim(client, namespace, size.claim(name, number))
        for namespace, name in size.places()
        for number in range(size.claims)
    )
    await together(client.create(VAULTS, vault(size, namespace, name)) for namespace, name in size.places())


@dataclass(frozen=True)
class Finished:
    """A Backup as the operator has left it, and what it keeps of its snapshot."""

    backup: Object
    snapshot: Object
    content: Object


async def finished(client: Client, namespace: str, name: str) -> Finished:
    """Of a Backup that has ended."""
    backup = await client.get(BACKUPS, name, namespace)
    assert backup is not None
    own = owned_name(backup["metadata"]["uid"])
    snapshot = await client.get(SNAPSHOTS, own, OPERATOR_NAMESPACE)
    content = await client.get(SNAPSHOT_CONTENTS, own)
    assert snapshot is not None
    assert content is not None
    return Finished(backup, snapshot, content)


def copies(size: Size, model: Finished) -> Iterator[tuple[Resource, Object]]:
    """Backups like that one: five nights of so many claims of each Vault. Each has its Task, the last its snapshot."""
    nightly = BackupPolicy.model_validate(
        {"metadata": {"name": "nightly", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}}
        | {"spec": policy("nightly", "", 0, 0)["spec"]}
    )
    nights = 5
    each = -(-size.backups // (size.vaults * nights))
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = (
        (namespace, name, size.claim(name, number), midnight - timedelta(days=2 + night), night == 0)
        for night in reversed(range(nights))
        for number in range(each)
        for namespace, name in size.places()
    )
    for row in islice(rows, size.backups):
        yield from _copy(model, nightly, *row)


def _copy(
    model: Finished, nightly: BackupPolicy, namespace: str, vault: str, claim: str, slot: datetime, last: bool
) -> Iterator[tuple[Resource, Object]]:
    backup = copy.deepcopy(model.backup)
    meta, status = backup["metadata"], backup["status"]
    made = slot.strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = (slot + timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta |= {"name": f"autobk-{uuid.uuid4().hex[:8]}", "namespace": namespace}
    _fresh(meta, made)
    meta["annotations"] = {**(meta.get("annotations") or {}), **annotations_of(nightly, slot)}
    backup["spec"] |= {
        "vaultRef": {"name": vault},
        "resource": {"kind": "PersistentVolumeClaim", "name": claim},
    }
    del status["trigger"]
    status |= {"startedAt": ended, "completedAt": ended}
    status["volumes"][0] |= {
        "claim": claim,
        "backupId": uuid.uuid4().hex,
        "snapshotTime": made,
        "lineageVolume": f"{namespace}/{claim}",
    }
    known = Backup.model_validate(backup)
    status |= origin_status(known) | expiry_status(origin_of(known))
    yield BACKUPS, backup
    record = operation_of(BACKUPS.kind, backup)
    assert record is not None
    task = {"apiVersion": TASKS.api_version, "kind": TASKS.kind, **body_of(record)}
    _fresh(task["metadata"], made)
    yield TASKS, task
    if last:
        yield from _copied_snapshot(model, backup, made)


def _copied_snapshot(model: Finished, backup: Object, made: str) -> Iterator[tuple[Resource, Object]]:
    meta = backup["metadata"]
    text = json.dumps([model.content, model.snapshot]).replace(model.backup["metadata"]["uid"], meta["uid"])
    content, snapshot = json.loads(text)
    for obj in (content, snapshot):
        _fresh(obj["metadata"], made)
        obj["metadata"]["labels"][CLAIM_LABEL] = claim_label(
            meta["namespace"], backup["spec"]["resource"]["name"]
        )
        obj["metadata"]["annotations"][NAME_ANNOTATION] = meta["name"]
    content["spec"]["volumeSnapshotRef"]["uid"] = snapshot["metadata"]["uid"]
    yield SNAPSHOT_CONTENTS, content
    yield SNAPSHOTS, snapshot


def _fresh(meta: Object, made: str) -> None:
    """Make it the metadata of an object of its own."""
    meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": made, "generation": 1}
    meta.pop("resourceVersion", None)


def definitions() -> list[Object]:
    """Our kinds, and those of snapshots."""
    paths = [*sorted((ROOT / "crds").glob("*.yaml")), *binaries.storage_crds()]
    return [obj for path in paths for obj in yaml.safe_load_all(path.read_text()) if obj]
