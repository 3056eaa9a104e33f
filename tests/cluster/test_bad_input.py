"""What a user gets wrong, on the real cluster: each a clear refusal, or a clear wait and then a refusal.

All objects are made at once and judged one by one, so that the waits pass together.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object, claim
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

API = manifests.API
DEADLINE = 20


def backup(name: str, vault: str, claim_name: str, **spec: Any) -> Object:
    """A Backup that does not wait long."""
    obj = manifests.backup(name, vault, claim_name)
    obj["spec"] |= {"startDeadlineSeconds": DEADLINE, **spec}
    return obj


def restore(name: str, backup_name: str, target: str, size: str = "64Mi") -> Object:
    """A Restore that does not wait long."""
    obj = manifests.restore(name, backup_name, target, "bv-immediate", size)
    obj["spec"]["startDeadlineSeconds"] = DEADLINE
    return obj


def vault(name: str, s3: Object, **spec: Any) -> Object:
    """A Vault with storage of its own."""
    storage = {"storage": {"s3": s3}} if s3 else {}
    return {
        "apiVersion": API,
        "kind": "Vault",
        "metadata": {"name": name},
        "spec": {"type": "Disk", "capacity": "10Gi", **storage, **spec},
    }


def static(name: str, driver: str | None) -> list[Object]:
    """A claim bound by hand to a volume of a driver that is not there, or of none at all."""
    csi = {"csi": {"driver": driver, "volumeHandle": name}} if driver else {"hostPath": {"path": "/tmp"}}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"bad-{name}"},
        "spec": {**common, "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain", **csi},
    }
    bound = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {**common, "volumeName": f"bad-{name}", "resources": {"requests": {"storage": "1Gi"}}},
    }
    return [volume, bound]


def snapshot_class(name: str, driver: str) -> Object:
    """A VolumeSnapshotClass that is the default of its driver."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {
            "name": name,
            "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"},
        },
        "driver": driver,
        "deletionPolicy": "Delete",
    }


# kind, name, phase, reason, words of the message
Row = tuple[str, str, str, str, list[str]]

AT_ONCE: list[Row] = [
    ("vault", "wrong-keys", "Error", "InvalidCredentials", ["bad-input"]),
    ("vault", "half-secret", "Error", "SecretInvalid", ["AWS_SECRET_ACCESS_KEY"]),
    ("vault", "loopback", "Error", "EndpointForbidden", ["127.0.0.1", "loopback"]),
    ("vault", "taken", "Error", "LocationInUse", ["/good:", "another prefix"]),
    ("vault", "encrypted", "Pending", "KeyNotFound", ["Secret", "the vault's key", "create it"]),
    ("vault", "server", "Error", "NotServed", ["spec.type"]),
    ("backup", "not-csi", "Error", "NotCSI", ["claim-hostpath", "CSI"]),
    (
        "backup",
        "two-classes",
        "Error",
        "AmbiguousSnapshotClass",
        ["bad-a, bad-b", "blockvault.dev/snapshot-class"],
    ),
    ("backup", "bad-vault", "Error", "VaultError", ["wrong-keys"]),
    ("backup", "shared", "Error", "NotServed", ["sharedWith"]),
    ("restore", "target-exists", "Error", "ClaimExists", ["data", "left alone"]),
    ("restore", "too-small", "Error", "TargetTooSmall", ["newClaim.size"]),
    ("restore", "of-a-failure", "Error", "BackupNotRestorable", ["not-csi"]),
]
AFTER_A_WAIT: list[Row] = [
    ("backup", "no-claim", "Pending", "ClaimNotFound", ["absent", "create it"]),
    ("backup", "unbound", "Pending", "ClaimNotBound", ["never-used"]),
    ("backup", "no-class", "Pending", "NoSnapshotClass", ["nobody.example.com"]),
    ("backup", "no-vault", "Pending", "VaultNotFound", ["absent"]),
    ("backup", "vault-not-ready", "Pending", "VaultNotAvailable", ["no-secret"]),
    ("restore", "no-backup", "Pending", "BackupNotFound", ["absent"]),
]


def make_everything(kube: Kube, cluster: Cluster, bucket: str) -> None:
    """All that is bad, and what is good around it."""
    s3 = cluster.s3
    place = {
        "endpoint": s3.endpoint,
        "region": s3.region,
        "bucket": bucket,
        "addressing": "path",
    }
    good = {"credentialsSecretRef": {"name": "keys"}}
    keys = {"AWS_ACCESS_KEY_ID": s3.keys.access_key, "AWS_SECRET_ACCESS_KEY": s3.keys.secret_key}
    key_ref = {"keySecretRef": {"name": "k"}}
    kube.apply(
        manifests.secret("keys", kube.namespace, keys),
        manifests.secret("wrong", kube.namespace, {**keys, "AWS_SECRET_ACCESS_KEY": "not-the-key"}),
        manifests.secret("half", kube.namespace, {"AWS_ACCESS_KEY_ID": "x"}),
        vault("good", {**place, "prefix": "good", **good}),
        vault("wrong-keys", {**place, "prefix": "wrong-keys", "credentialsSecretRef": {"name": "wrong"}}),
        vault("half-secret", {**place, "prefix": "half-secret", "credentialsSecretRef": {"name": "half"}}),
        vault("no-secret", {**place, "prefix": "no-secret", "credentialsSecretRef": {"name": "comes-later"}}),
        vault("no-bucket", {**place, "prefix": "no-bucket", **good, "bucket": f"{bucket}-later"}),
        vault("loopback", {**place, "prefix": "loopback", **good, "endpoint": "http://127.0.0.1:8000"}),
        vault("encrypted", {**place, "prefix": "encrypted", **good}, encryption=key_ref),
        vault("server", {**place, "prefix": "server", **good}, type="Server"),
        claim("data"),
        claim("never-used", storage_class="bv-wait"),
        *static("claim-hostpath", None),
        *static("claim-no-class", "nobody.example.com"),
        *static("claim-two-classes", "twice.example.com"),
        snapshot_class("bad-a", "twice.example.com"),
        snapshot_class("bad-b", "twice.example.com"),
    )
    kube.wait_phase("pvc", "data", "Bound", seconds=60)
    kube.wait_phase("vault", "good", "Available", seconds=60)
    kube.wait_phase("vault", "wrong-keys", "Error", seconds=60)
    kube.apply(vault("taken", {**place, "prefix": "good", **good}))
    kube.apply(manifests.backup("fine", "good", "data"))
    kube.wait("backup", "fine", phase_is("Available"), 180)


def test_each_is_refused_with_cause_and_remedy(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    kube, bucket = namespace, "bad-input"
    cluster.s3.make_bucket(bucket)
    try:
        make_everything(kube, cluster, bucket)
        kube.apply(
            backup("not-csi", "good", "claim-hostpath"),
            backup("two-classes", "good", "claim-two-classes"),
            backup("bad-vault", "wrong-keys", "data"),
            backup("shared", "good", "data", sharedWith=["team-b"]),
            backup("no-claim", "good", "absent"),
            backup("unbound", "good", "never-used"),
            backup("no-class", "good", "claim-no-class"),
            backup("no-vault", "absent", "data"),
            backup("vault-not-ready", "no-secret", "data"),
            restore("target-exists", "fine", "data"),
            restore("too-small", "fine", "smaller", size="32Mi"),
            restore("of-a-failure", "not-csi", "copy"),
            restore("no-backup", "absent", "copy-2"),
        )
        for row in AFTER_A_WAIT:
            judge(kube, *row, seconds=15)
        for row in AT_ONCE:
            judge(kube, *row, seconds=60)
        for kind, name, _, reason, words in AFTER_A_WAIT:
            judge(kube, kind, name, "Error", reason, [*words, "spec.startDeadlineSeconds"], seconds=60)
        # What comes in time is used: the Secret and the bucket appear, and the Vaults go on by themselves.
        judge(kube, "vault", "no-secret", "Pending", "SecretNotFound", ["comes-later"], seconds=10)
        judge(kube, "vault", "no-bucket", "Pending", "BucketNotFound", ["bad-input-later"], seconds=10)
        keys = {
            "AWS_ACCESS_KEY_ID": cluster.s3.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": cluster.s3.keys.secret_key,
        }
        kube.apply(manifests.secret("comes-later", kube.namespace, keys))
        cluster.s3.make_bucket("bad-input-later")
        for name in ("no-secret", "no-bucket"):
            kube.wait_phase("vault", name, "Available", seconds=60)
        nothing_is_left(kube)
    finally:
        for name in ("bad-a", "bad-b"):
            kube.delete("volumesnapshotclass", name, wait=False)
        for name in ("claim-hostpath", "claim-no-class", "claim-two-classes"):
            kube.delete("pvc", name, wait=False)
            kube.delete("pv", f"bad-{name}", wait=False)


def judge(
    kube: Kube, kind: str, name: str, phase: str, reason: str, words: list[str], seconds: float
) -> None:
    """Wait for a phase and reason; the message has the words, and kstatus would judge the same."""

    def reached(obj: Object) -> bool:
        status = obj.get("status") or {}
        return (status.get("phase"), status.get("reason")) == (phase, reason)

    status = kube.wait(kind, name, reached, seconds)["status"]
    missing = [word for word in words if word not in status["message"]]
    assert not missing, f"{kind} {name}: {missing} not in {status['message']!r}"
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert ready["status"] == ("Unknown" if phase == "Pending" else "False"), status["conditions"]


def nothing_is_left(kube: Kube) -> None:
    """No refused object has made anything; the good backup's snapshot is the only one."""
    assert not kube.all("volumesnapshots")
    assert {c["metadata"]["name"] for c in kube.all("pvc")} == {
        "data", "never-used", "claim-hostpath", "claim-no-class", "claim-two-classes",
    }  # fmt: skip
    system = kube.within(OPERATOR_NAMESPACE)
    mine = [
        f"{kind}/{o['metadata']['name']}"
        for kind in ("pvc", "secrets", "volumesnapshots")
        for o in system.all(kind, "blockvault.dev/operation")
        if o["metadata"].get("annotations", {}).get("blockvault.dev/namespace") == kube.namespace
    ]
    uid = kube.get("backup", "fine")["metadata"]["uid"]  # type: ignore[index]
    assert mine == [f"volumesnapshots/bv-{uid}"]


def test_c13_two_backups_of_one_claim_run_one_after_the_other(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """C13: the second waits, visibly, and then runs."""
    kube, name = namespace, f"two-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    kube.apply(claim("data"))
    kube.wait_phase("pvc", "data", "Bound", seconds=60)
    kube.wait_phase("vault", name, "Available", seconds=60)
    cluster.set_faults({"snapshotReadySeconds": 8})
    try:
        kube.apply(manifests.backup("one", name, "data"), manifests.backup("two", name, "data"))

        def queued(obj: Object) -> bool:
            return (obj.get("status") or {}).get("reason") == "OperationInProgress"

        waits = {}
        for _ in range(100):
            waits = {n: kube.get("backup", n) for n in ("one", "two")}
            if any(queued(obj or {}) for obj in waits.values()):
                break
        waiting = [n for n, obj in waits.items() if queued(obj or {})]
        assert len(waiting) == 1, waits
        other = "one" if waiting == ["two"] else "two"
        assert f"Backup {other}" in waits[waiting[0]]["status"]["message"]  # type: ignore[index]
    finally:
        cluster.set_faults({})
    for each in ("one", "two"):
        kube.wait("backup", each, phase_is("Available"), 180)


def test_a_snapshot_that_fails_ends_in_error_and_leaves_nothing(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """Failure of a step ends in Error with its cause; a passing fault is tried again."""
    kube, name = namespace, f"fail-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, "bv-immediate")
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    kube.apply(claim("data"))
    kube.wait_phase("pvc", "data", "Bound", seconds=60)
    kube.wait_phase("vault", name, "Available", seconds=60)
    cluster.set_faults({"CreateSnapshot": {"error": "INTERNAL", "message": "no quota left"}})
    try:
        kube.apply(backup("fails", name, "data"))
        failed = kube.wait_phase("backup", "fails", "Error", seconds=120)["status"]
        assert failed["reason"] == "SnapshotFailed"
        assert "no quota left" in failed["message"]
    finally:
        cluster.set_faults({})
    assert not kube.all("volumesnapshots")
    contents = [
        c
        for c in kube.all("volumesnapshotcontents")
        if c["spec"]["volumeSnapshotRef"]["namespace"] == kube.namespace
    ]
    assert not contents
    cluster.set_faults(
        {"CreateSnapshot": {"after": True, "times": 1}, "CreateVolume": {"after": True, "times": 1}}
    )
    try:
        kube.apply(manifests.backup("passes", name, "data"))
        kube.wait("backup", "passes", phase_is("Available"), 240)
    finally:
        cluster.set_faults({})
