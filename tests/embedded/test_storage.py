"""Claims, volumes and snapshots behave as with the real controllers, with real bytes behind them."""

from __future__ import annotations

from typing import Any

import pytest

from .cluster import OPERATOR_NAMESPACE, EmbeddedCluster
from .conftest import claim, phase


def snapshot(name: str, of: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"source": {"persistentVolumeClaimName": of}, "volumeSnapshotClassName": "bv-snapshots"}
        | spec,
    }


def ready(obj: dict[str, Any] | None) -> bool:
    return bool(obj and (obj.get("status") or {}).get("readyToUse"))


def write(cluster: EmbeddedCluster, name: str, data: bytes, namespace: str = "shop") -> None:
    with cluster.volume_path(namespace, name).open("r+b") as file:
        file.write(data)


def read(cluster: EmbeddedCluster, name: str, length: int, namespace: str = "shop") -> bytes:
    with cluster.volume_path(namespace, name).open("rb") as file:
        return file.read(length)


def test_a_claim_gets_a_volume_and_takes_it_along(cluster: EmbeddedCluster) -> None:
    cluster.apply(claim("data"))
    bound = cluster.wait_for("pvc", "data", phase("Bound"))
    assert cluster.volume_path("shop", "data").stat().st_size == 8 << 20
    assert cluster.get("pv", bound["spec"]["volumeName"])["status"]["phase"] == "Bound"  # type: ignore[index]
    cluster.apply(claim("data", size="16Mi"))
    cluster.wait_for("pvc", "data", lambda c: c and c["status"]["capacity"]["storage"] == "16Mi")
    assert cluster.volume_path("shop", "data").stat().st_size == 16 << 20
    cluster.delete("pvc", "data")
    cluster.wait_for("pv", bound["spec"]["volumeName"], phase(None))
    assert cluster.files.handles("volumes") == set()


def test_a_claim_that_waits_for_a_consumer_gets_its_volume_with_the_pod(cluster: EmbeddedCluster) -> None:
    cluster.apply(claim("data", storage_class="bv-wait"))
    cluster.until(lambda: "waiting for first consumer" in cluster.story(), "waiting for first consumer")
    assert phase("Pending")(cluster.get("pvc", "data"))
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app"},
        "spec": {"volumes": volumes, "containers": []},
    }
    cluster.apply(pod)
    cluster.wait_for("pod", "app", phase("Running"))
    cluster.delete("pvc", "data")  # protected while the pod runs
    assert "deletionTimestamp" in (cluster.get("pvc", "data") or {})["metadata"]
    cluster.delete("pod", "app")
    cluster.wait_for("pvc", "data", phase(None))


def test_a_snapshot_is_a_copy_of_that_moment(cluster: EmbeddedCluster) -> None:
    cluster.apply(claim("data"))
    cluster.wait_for("pvc", "data", phase("Bound"))
    write(cluster, "data", b"before")
    cluster.faults.snapshot_delay = 0.3
    cluster.apply(snapshot("s", of="data"))
    cut = cluster.wait_for("vs", "s", lambda o: o and (o.get("status") or {}).get("creationTime"))
    assert not ready(cut)
    write(cluster, "data", b"after!")
    content = cluster.wait_for("vs", "s", ready)["status"]["boundVolumeSnapshotContentName"]
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
    cluster.apply(claim("copy", size="12Mi", dataSource=source))
    cluster.wait_for("pvc", "copy", phase("Bound"))
    assert read(cluster, "copy", 6) == b"before"
    assert cluster.volume_path("shop", "copy").stat().st_size == 12 << 20
    cluster.apply(claim("small", size="4Mi", dataSource=source))
    cluster.until(
        lambda: "less than the size of snapshot" in cluster.story(), "less than the size of snapshot"
    )
    cluster.delete("vs", "s")  # held: a pending claim names it
    cluster.until(lambda: "being used to restore" in cluster.story(), "being used to restore")
    assert cluster.get("vs", "s")
    cluster.delete("pvc", "small")
    cluster.wait_for("vs", "s", phase(None))
    assert cluster.get("vsc", content) is None
    assert cluster.files.handles("snapshots") == set()


def test_a_snapshot_of_another_mode_is_not_cloned_without_leave(cluster: EmbeddedCluster) -> None:
    cluster.apply(claim("data", volumeMode="Filesystem"))
    cluster.wait_for("pvc", "data", phase("Bound"))
    cluster.apply(snapshot("s", of="data"))
    cluster.wait_for("vs", "s", ready)
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}
    cluster.apply(claim("raw", dataSource=source))
    cluster.until(lambda: "does not have permission" in cluster.story(), "does not have permission")


def test_a_snapshot_moves_to_another_namespace(cluster: EmbeddedCluster) -> None:
    """The way of storage-level re-binding: retain, bind again by handle, let the first one go."""
    cluster.apply(claim("data", volumeMode="Filesystem"))
    cluster.wait_for("pvc", "data", phase("Bound"))
    write(cluster, "data", b"moved")
    cluster.apply(snapshot("s", of="data"))
    first = cluster.wait_for("vs", "s", ready)["status"]["boundVolumeSnapshotContentName"]
    handle = (cluster.get("vsc", first) or {})["status"]["snapshotHandle"]
    place = {"name": "moved", "namespace": OPERATOR_NAMESPACE}
    cluster.apply(
        {
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": {"name": "moved"},
            "spec": {"driver": "test.csi.blockvault.dev", "deletionPolicy": "Delete",
                     "volumeSnapshotRef": place, "source": {"snapshotHandle": handle}},
        },
        {
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": place,
            "spec": {"source": {"volumeSnapshotContentName": "moved"}},
        },
        {
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
            "metadata": {"name": first}, "spec": {"deletionPolicy": "Retain"},
        },
    )  # fmt: skip
    cluster.wait_for("vs", "moved", ready, namespace=OPERATOR_NAMESPACE)
    cluster.delete("vs", "s")
    cluster.wait_for("vs", "s", phase(None))
    cluster.delete("vsc", first)
    cluster.wait_for("vsc", first, phase(None))
    assert cluster.files.handles("snapshots") == {handle}
    raw = claim(
        "raw", dataSource={"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "moved"}
    )
    raw["metadata"]["namespace"] = OPERATOR_NAMESPACE
    cluster.apply(raw)  # no sourceVolumeMode, so the mode may change
    cluster.wait_for("pvc", "raw", phase("Bound"), namespace=OPERATOR_NAMESPACE)
    assert read(cluster, "raw", 5, OPERATOR_NAMESPACE) == b"moved"
    cluster.delete("vs", "moved", OPERATOR_NAMESPACE)
    cluster.wait_for("vsc", "moved", phase(None))
    assert cluster.files.handles("snapshots") == set()


def test_a_volume_changes_hands_and_mode(cluster: EmbeddedCluster) -> None:
    """How a Filesystem claim gets restored bytes: it waits by name for a volume with the same handle."""
    cluster.apply(claim("raw"), claim("target", volumeMode="Filesystem", volumeName="made-later"))
    old = cluster.wait_for("pvc", "raw", phase("Bound"))["spec"]["volumeName"]
    write(cluster, "raw", b"restored")
    assert phase("Pending")(cluster.get("pvc", "target"))
    volume = cluster.get("pv", old) or {}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": old},
                   "spec": {"persistentVolumeReclaimPolicy": "Retain"}})  # fmt: skip
    cluster.delete("pvc", "raw")
    cluster.wait_for("pv", old, phase("Released"))
    cluster.delete("pv", old)
    cluster.wait_for("pv", old, phase(None))
    spec = volume["spec"] | {"volumeMode": "Filesystem", "claimRef": {"namespace": "shop", "name": "target"}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "made-later"}, "spec": spec}
    )
    cluster.wait_for("pvc", "target", phase("Bound"))
    assert read(cluster, "target", 8) == b"restored"
    cluster.delete("pvc", "target")
    cluster.wait_for("pv", "made-later", phase(None))
    assert cluster.files.handles("volumes") == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"volumeMode": "Filesystem"}, "volume modes differ"),
        ({"storageClassName": "bv-wait"}, "storage classes differ"),
        ({"resources": {"requests": {"storage": "9Mi"}}}, "smaller than requested"),
        ({"accessModes": ["ReadWriteMany"]}, "access modes differ"),
    ],
)
def test_claims_and_volumes_that_do_not_match_are_not_bound(
    cluster: EmbeddedCluster, change: dict[str, Any], words: str
) -> None:
    spec = {
        "capacity": {"storage": "8Mi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
        "storageClassName": "bv-immediate", "claimRef": {"namespace": "shop", "name": "data"},
        "csi": {"driver": "test.csi.blockvault.dev", "volumeHandle": "x"},
    }  # fmt: skip
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}, "spec": spec})
    cluster.apply(claim("data", volumeName="pv", **change))
    cluster.until(lambda: words in cluster.story(), words)
    assert phase("Pending")(cluster.get("pvc", "data"))


def test_snapshot_errors_stand_in_the_status_until_they_pass(cluster: EmbeddedCluster) -> None:
    cluster.faults.snapshot_error = "the array is full"
    cluster.apply(claim("data"))
    cluster.wait_for("pvc", "data", phase("Bound"))
    cluster.apply(snapshot("s", of="data"))
    cluster.wait_for("vs", "s", lambda o: o and "array is full" in str(o.get("status")))
    cluster.faults.snapshot_error = None
    assert "error" not in cluster.wait_for("vs", "s", ready)["status"]
