"""Volumes of a lab: where they lie, the CSI sidecars that serve them, and their classes."""

import base64
import http.client
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.lab import binaries, versions
from tests.cluster.lab.namespace import Namespaces, Processes
from tests.cluster.lab.pki import Pair

SIZE = "40G"  # of the sparse file under all volumes
MOUNT = "volumes"
METADATA_PORT = 50051
_HEALTH_PORT = 50052
METADATA_AUDIENCE = "block-metadata-of-the-lab"


def make_file_system(state: Path, where: Namespaces) -> Path:
    """Mount an XFS with shared extents (instant snapshots) from a sparse file; returns its directory."""
    image, mount = state / "volumes.xfs", state / MOUNT
    mount.mkdir()
    with open(image, "w"):
        pass
    subprocess.run(["truncate", "-s", SIZE, str(image)], check=True)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    where.run("mount", "-o", "loop,nouuid", str(image), str(mount))
    return mount


def _class(name: str, file_system: str, binding: str) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": versions.CSI_DRIVER,
        "parameters": {"csi.storage.k8s.io/fstype": file_system},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": binding,
        "allowVolumeExpansion": True,
    }


def objects(metadata_host: str, authority: Path) -> list[dict[str, Any]]:
    """CSIDriver, StorageClasses and VolumeSnapshotClass of the lab, and where its block metadata are served."""
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": versions.CSI_DRIVER},
            "spec": {
                "attachRequired": True,
                "podInfoOnMount": False,
                "fsGroupPolicy": "ReadWriteOnceWithFSType",
            },
        },
        _class("bv-immediate", "ext4", "Immediate"),
        _class("bv-wait", "ext4", "WaitForFirstConsumer"),
        _class("bv-immediate-xfs", "xfs", "Immediate"),
        _class("bv-wait-xfs", "xfs", "WaitForFirstConsumer"),
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": "bv-snapshots"},
            "driver": versions.CSI_DRIVER,
            "deletionPolicy": "Delete",
        },
        {
            "apiVersion": "cbt.storage.k8s.io/v1beta1",
            "kind": "SnapshotMetadataService",
            "metadata": {"name": versions.CSI_DRIVER},
            "spec": {
                "address": f"{metadata_host}:{METADATA_PORT}",
                "audience": METADATA_AUDIENCE,
                "caCert": base64.b64encode(authority.read_bytes()).decode(),
            },
        },
    ]


def crd_manifest() -> str:
    """CRDs of snapshots and of the service of their block metadata as one YAML text."""
    return "\n---\n".join(path.read_text() for path in binaries.storage_crds())


def object_manifest(metadata_host: str, authority: Path) -> str:
    """objects() as one YAML text."""
    return yaml.safe_dump_all(objects(metadata_host, authority))


def start_sidecars(
    where: Namespaces, processes: Processes, programs: Path, kubeconfig: Path, socket: Path, serving: Pair
) -> None:
    """Start provisioner, attacher, resizer, snapshotter, the snapshot controller and, with its certificate, the
    service of block metadata."""
    common = [f"--kubeconfig={kubeconfig}", "--kube-api-qps=100", "--kube-api-burst=200"]
    driver = [f"--csi-address={socket}", "--timeout=60s"]
    retries = ["--retry-interval-start=500ms", "--retry-interval-max=5s"]
    flags = {
        "csi-provisioner": [*driver, *retries, "--extra-create-metadata", "--default-fstype=ext4"],
        "csi-attacher": [*driver, *retries, "--default-fstype=ext4"],
        "csi-resizer": [*driver, *retries],
        "csi-snapshotter": [*driver, *retries, "--extra-create-metadata"],
        "csi-snapshot-metadata": [
            *driver,
            f"--port={METADATA_PORT}",
            f"--tls-cert={serving.certificate}",
            f"--tls-key={serving.key}",
            f"--http-endpoint=:{_HEALTH_PORT}",
        ],
        "snapshot-controller": [*retries],
    }
    for name, own in flags.items():
        processes.start(name, where, [str(programs / name), *common, *own])


def metadata_served(host: str) -> bool:
    """Whether the service of block metadata has found its driver and answers."""
    connection = http.client.HTTPConnection(host, _HEALTH_PORT, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
