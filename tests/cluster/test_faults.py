"""Storage and store fail in the middle: what can pass is waited out, all else ends in Error and clean.

The CSI driver fails on demand; the store is frozen, so that a mover is in its middle for as long as a test
wants. What is left is looked for in the API and among the driver's own files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from blockvault.engine import Repository
from blockvault.stores import Credentials, StoreLocation, open_store
from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object, claim
from tests.cluster.lab import Cluster
from tests.cluster.lab.ceph import Keys
from tests.cluster.lab.namespace import wait_until
from tests.cluster.lab.storage import MOUNT
from tests.scenario import manifests
from tests.scenario.environment import phase_is

# In soak until whole runs beside the other files have shown it to be steady.
pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(300)]

MIB = 1 << 20
SIZE = 64 * MIB
LABEL = "blockvault.dev/operation"
CREATION = "snapshot.storage.kubernetes.io/volumesnapshot-being-created"
KINDS = "pvc,pv,secrets,jobs,pods,volumesnapshots,volumesnapshotcontents"


class Shop:
    """A namespace with a Vault that is Available and a claim that is bound; what a test leaves is compared.

    `keys` are those of an S3 user of its own, whom a test may lock out.
    """

    def __init__(self, cluster: Cluster, kube: Kube) -> None:
        self.cluster, self.kube, self.name = cluster, kube, f"shop-{kube.namespace[-4:]}"
        self.bucket = f"faults-{kube.namespace}"
        self.keys: Keys = cluster.s3.make_user(self.name)
        cluster.s3.make_bucket(self.bucket, self.keys)
        kube.apply(
            manifests.secret(
                "keys",
                kube.namespace,
                {"AWS_ACCESS_KEY_ID": self.keys.access_key, "AWS_SECRET_ACCESS_KEY": self.keys.secret_key},
            ),
            self._vault(),
            claim("data", size=str(SIZE)),
        )
        kube.wait_phase("pvc", "data", "Bound", seconds=60)
        kube.wait("vault", self.name, phase_is("Available"), 60)
        # Deletions of earlier tests may still be going on: only what is new is this test's.
        self._before = self._held()

    def _vault(self) -> Object:
        s3 = self.cluster.s3
        place = {"endpoint": s3.endpoint, "region": s3.region, "bucket": self.bucket, "addressing": "path"}
        storage = {"s3": {**place, "prefix": "p", "credentialsSecretRef": {"name": "keys"}}}
        spec = {"type": "Disk", "capacity": "10Gi", "storage": storage}
        return {"apiVersion": manifests.API, "kind": "Vault", "metadata": {"name": self.name}, "spec": spec}

    def _held(self) -> set[str]:
        state = self.cluster.state / MOUNT
        names = self.cluster.run_in("ls", f"{state}/volumes", f"{state}/snapshots").stdout.split()
        return {name for name in names if name.startswith(("vol-", "snap-"))}

    def held(self) -> list[str]:
        """Kinds of what the CSI driver holds and did not hold before this test: `vol` or `snap` for each."""
        return sorted(name.partition("-")[0] for name in self._held() - self._before)

    def wait_held(self, *wanted: str) -> None:
        """Wait until the driver holds exactly this besides; sidecars delete with growing pauses."""
        wait_until(f"the driver holds {wanted}", lambda: self.held() == sorted(wanted) or None, 60, 0.5)

    def backup(self, name: str, **spec: Any) -> str:
        """Apply a Backup of the claim; returns its uid."""
        obj = manifests.backup(name, self.name, "data")
        obj["spec"] |= spec
        return self._made("backup", obj)

    def restore(self, name: str, backup: str, target: str) -> str:
        """Apply a Restore to a new claim; returns its uid."""
        return self._made("restore", manifests.restore(name, backup, target, "bv-immediate", str(SIZE)))

    def _made(self, kind: str, obj: Object) -> str:
        self.kube.apply(obj)
        return str(self.kube.get(kind, obj["metadata"]["name"])["metadata"]["uid"])  # type: ignore[index]

    def backed_up(self, name: str) -> str:
        """A Backup that is Available; returns its uid."""
        uid = self.backup(name)
        self.kube.wait("backup", name, phase_is("Available"), 120)
        return uid

    def wait_status(self, kind: str, name: str, seconds: float = 60, **wanted: str) -> Object:
        """Wait until fields of the status are these; returns the status."""

        def reached(obj: Object) -> bool:
            status = obj.get("status") or {}
            return all(status.get(key) == value for key, value in wanted.items())

        found: Object = self.kube.wait(kind, name, reached, seconds)["status"]
        return found

    def wait_clone(self, name: str) -> None:
        """Wait until a Backup says that it waits for its clone: the Job and its Secret are there by then."""

        def waits(obj: Object) -> bool:
            status = obj.get("status") or {}
            words = "Waiting for the mover's volume to be provisioned"
            return status.get("reason") == "Cloning" and words in status["message"]

        self.kube.wait("backup", name, waits, 60)

    def wait_mover(self, uid: str) -> None:
        """Wait until the operation's mover runs."""
        system = self.kube.within(OPERATOR_NAMESPACE)

        def running() -> bool:
            return any(p["status"].get("phase") == "Running" for p in system.all("pods", f"{LABEL}={uid}"))

        wait_until(f"the mover of {uid} runs", running, 60, 0.2)

    def left(self, uid: str) -> list[str]:
        """What there is of an operation in the API, in any namespace, as kind/name."""
        found = [f"{o['kind']}/{o['metadata']['name']}" for o in self.kube.all(KINDS, f"{LABEL}={uid}", True)]
        found += [f"{o['kind']}/{o['metadata']['name']}" for o in self.contents(uid)]
        return sorted(set(found))

    def contents(self, uid: str) -> list[Object]:
        """Contents of the operation's snapshots; the snapshot controller's own have no label of ours."""
        found = self.kube.all("volumesnapshotcontents")
        return [c for c in found if c["spec"]["volumeSnapshotRef"]["name"] == f"bv-{uid}"]

    def stored(self) -> list[str]:
        """Ids of the claim's backups in the store."""
        s3, keys = self.cluster.s3, Credentials(self.keys.access_key, self.keys.secret_key)
        place = StoreLocation(f"s3://{self.bucket}/p", s3.endpoint, s3.region, "path", credentials=keys)
        found = Repository.open(open_store(place)).list()
        return [entry["backupId"] for entry in found if entry["volume"] == f"{self.kube.namespace}/data"]

    def events(self, name: str) -> dict[str, str]:
        """Events about an object: the last message of each reason."""
        found = self.kube.all("events")
        return {e["reason"]: e["message"] for e in found if e["involvedObject"]["name"] == name}


@pytest.fixture
def shop(cluster: Cluster, namespace: Kube, installed_operator: Operator) -> Iterator[Shop]:
    """No fault and no outage outlives its test."""
    made = Shop(cluster, namespace)
    try:
        yield made
    finally:
        cluster.set_faults({})


@contextmanager
def frozen_store(cluster: Cluster) -> Iterator[None]:
    """Connections to S3 are taken and not answered."""
    cluster.s3.stop(hang=True)
    try:
        yield
    finally:
        cluster.s3.resume()


def test_passing_faults_are_waited_out_visibly(shop: Shop, cluster: Cluster) -> None:
    """The driver refuses and is slow: each wait is told with the driver's words, and the Backup succeeds."""
    busy = {"error": "UNAVAILABLE", "message": "the array is busy", "times": 3}
    cluster.set_faults({"CreateSnapshot": busy, "snapshotReadySeconds": 8})
    uid = shop.backed_up("slow")
    told = shop.events("slow")
    assert "the array is busy" in told["SnapshotRetrying"], told
    assert "PersistentVolumeClaim data" in told["Snapshotting"], told
    shop.wait_held("snap")
    kept = [f"VolumeSnapshot/bv-{uid}", f"VolumeSnapshotContent/bv-{uid}"]
    assert shop.left(uid) == [*jobs(shop, uid), *kept]


def test_lost_answers_double_nothing(shop: Shop, cluster: Cluster) -> None:
    """Every call that makes or removes storage takes effect and seems to fail, once: one of each is there."""
    lost: Object = {"after": True, "times": 1}
    calls = ("CreateSnapshot", "CreateVolume", "DeleteVolume", "DeleteSnapshot")
    shop.backed_up("first")
    cluster.set_faults({call: dict(lost) for call in calls})
    uid = shop.backed_up("second")  # takes a snapshot and a clone away again, and the first one's snapshot
    shop.wait_held("snap")
    assert len(shop.stored()) == 2
    assert f"VolumeSnapshot/bv-{uid}" in shop.left(uid)


def test_a_driver_that_stays_full_ends_in_error_with_its_words(shop: Shop, cluster: Cluster) -> None:
    """A refusal that is not final leaves open whether the snapshot was cut, so the snapshotter asks on.

    The failure is told at the deadline; it is over when the driver has answered and nothing is left.
    """
    cluster.set_faults({"CreateSnapshot": {"error": "RESOURCE_EXHAUSTED", "message": "no space in pool 7"}})
    uid = shop.backup("full", startDeadlineSeconds=8)
    status = shop.wait_status("backup", "full", reason="CleaningUp")
    assert status["operation"]["reason"] == "SnapshotFailed", status
    assert "no space in pool 7" in status["message"]
    assert "PersistentVolumeClaim data" in status["message"]
    cluster.set_faults({})

    def being_created() -> bool:
        return any(CREATION in c["metadata"].get("annotations", {}) for c in shop.contents(uid))

    wait_until("the snapshotter has its answer", lambda: not being_created(), 60, 0.5)
    # It deletes what it has just made when it looks again, every 15 minutes or when it starts.
    cluster.restart("csi-snapshotter")
    status = shop.wait_status("backup", "full", phase="Error", reason="SnapshotFailed")
    assert "no space in pool 7" in status["message"]
    assert shop.left(uid) == []
    shop.wait_held()


def test_a_backup_whose_clone_never_comes_can_be_deleted(shop: Shop, cluster: Cluster) -> None:
    """The wait is told with its cause, and deletion does not need the driver to recover."""
    cluster.set_faults({"CreateVolume": {"error": "INTERNAL", "message": "no clones today"}})
    uid = shop.backup("stuck")
    shop.wait_clone("stuck")
    shop.kube.delete("backup", "stuck", wait=False)
    shop.wait_held()
    wait_until("the snapshot is last", lambda: shop.left(uid) in ([], [f"VolumeSnapshot/bv-{uid}"]), 60, 0.5)
    # The provisioner lets go of a clone's source when it looks again, every 5 minutes or when it starts.
    cluster.restart("csi-provisioner")
    shop.kube.wait_gone("backup", "stuck", 60)
    assert shop.left(uid) == []
    assert shop.stored() == []


def test_a_backup_deleted_while_its_mover_works_leaves_nothing(shop: Shop, cluster: Cluster) -> None:
    """Not in the cluster, not in the storage, and no backup in the store; another Backup then succeeds."""
    with frozen_store(cluster):
        uid = shop.backup("stopped")
        shop.wait_mover(uid)
        shop.kube.delete("backup", "stopped", wait=False)
        wait_until("only the store is waited for", lambda: not shop.left(uid), 60, 0.5)
    shop.kube.wait_gone("backup", "stopped", 90)
    shop.wait_held()
    assert shop.stored() == []
    shop.backed_up("again")
    assert len(shop.stored()) == 1


def test_a_namespace_deleted_while_a_mover_works_goes_at_once(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """F18: it waits for no store, nothing of it is left in the operator's namespace, stored data stays."""
    kube = Kube(cluster, f"leaving-{namespace.namespace[-4:]}")
    cluster.kubectl("create", "namespace", kube.namespace)
    shop = Shop(cluster, kube)
    shop.backed_up("kept")
    with frozen_store(cluster):
        uid = shop.backup("running")
        shop.wait_mover(uid)
        cluster.kubectl("delete", "namespace", shop.kube.namespace, "--timeout=90s")
        wait_until("nothing is left", lambda: not shop.left(uid), 30, 0.5)
    assert len(shop.stored()) == 1


def test_a_restore_deleted_while_its_mover_works_leaves_nothing(shop: Shop, cluster: Cluster) -> None:
    """The half-filled volume goes with its claim, and the backup it came from stays."""
    shop.backed_up("source")
    shop.wait_held("snap")
    with frozen_store(cluster):
        uid = shop.restore("stopped", "source", "copy")
        shop.wait_mover(uid)
        assert shop.kube.get("pvc", "copy") is not None
        shop.kube.delete("restore", "stopped", seconds=60)
        assert shop.kube.get("pvc", "copy") is None
        assert shop.left(uid) == []
        shop.wait_held("snap")
    shop.restore("again", "source", "copy")
    shop.kube.wait("restore", "again", phase_is("Completed"), 120)


@pytest.mark.parametrize("what", ["bucket", "credentials"])
def test_a_mover_that_cannot_use_the_store_says_why(shop: Shop, cluster: Cluster, what: str) -> None:
    """What was right when the Vault was checked is wrong when the mover starts: its words are in the status."""
    cluster.set_faults({"CreateVolume": {"error": "INTERNAL", "message": "not yet"}})
    uid = shop.backup("late")
    shop.wait_clone("late")
    s3 = cluster.s3
    if what == "bucket":
        empty(cluster, shop)
        reason = "BucketNotFound"
    else:
        s3.admin("key", "rm", f"--uid={shop.name}", f"--access-key={shop.keys.access_key}")
        reason = "InvalidCredentials"
    cluster.set_faults({})
    status = shop.wait_status("backup", "late", 90, phase="Error", reason=reason)
    assert shop.bucket in status["message"]
    mover = status["mover"]
    assert mover["errorClass"] == reason
    assert reason in mover["lastWords"]
    assert [f"Job/{mover['job']}"] == jobs(shop, uid) == shop.left(uid)
    shop.wait_held()


def jobs(shop: Shop, uid: str) -> list[str]:
    """The operation's Job, which stays an hour for a person to look at; its pods do not."""
    return [f"Job/bv-{uid}-1"] if shop.kube.within(OPERATOR_NAMESPACE).get("job", f"bv-{uid}-1") else []


def empty(cluster: Cluster, shop: Shop) -> None:
    """Remove the bucket with all that is in it."""
    client = cluster.s3.client(shop.keys)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=shop.bucket):
        for found in page.get("Contents", []):
            client.delete_object(Bucket=shop.bucket, Key=found["Key"])
    client.delete_bucket(Bucket=shop.bucket)
