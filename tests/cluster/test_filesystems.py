"""Filesystem claims on the real cluster: written by a running pod, backed up as raw blocks, mounted again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from blockvault.engine import Repository
from blockvault.stores import open_store
from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube, Object, claim, pod
from tests.cluster.lab import Cluster
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import gone, phase_is
from tests.scenario.incremental import check_incremental, check_nothing_is_left, touched_compressed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

MIB = 1 << 20
# Files of many sizes, modes and owners, half compressible; the seed makes them the same in every run.
WRITE = """
import os, random
noise = random.Random(1)
for i in range(300):
    folder = f"/data/d{i % 7}"
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/f{i}"
    with open(path, "wb") as f:
        half = noise.randbytes(noise.randrange(1, 100_000))
        f.write(half + half[::-1])
    os.chmod(path, 0o600 + i % 64)
    os.chown(path, i % 5, i % 3)
os.symlink("d0/f0", "/data/link")
os.sync()
"""
CHANGE = """
import os, random
noise = random.Random(2)
for i in range(0, 300, 30):
    path = f"/data/d{i % 7}/f{i}"
    with open(path, "r+b") as f:
        f.write(noise.randbytes(2000))
        f.flush()
        os.fsync(f.fileno())
with open("/data/new", "wb") as f:
    f.write(noise.randbytes(100_000))
os.remove("/data/d1/f1")
os.sync()
"""
LIST = """
import hashlib, os
for folder, folders, files in sorted(os.walk("/data")):
    for name in sorted(folders + files):
        path = os.path.join(folder, name)
        s = os.lstat(path)
        body = os.readlink(path) if os.path.islink(path) else ""
        if os.path.isfile(path) and not body:
            body = hashlib.sha256(open(path, "rb").read()).hexdigest()
        print(path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_size if body else "", body)
"""
SIZE = 'import os; s = os.statvfs("/data"); print(s.f_blocks * s.f_frsize)'


def python(kube: Kube, name: str, code: str) -> str:
    """Run Python in a running pod."""
    return kube.exec(name, "python3", "-c", code).decode()


def stored_image(environment: ClusterEnvironment, location: str, volume: Object) -> bytes:
    """A backup's bytes, read from the bucket alone."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "image"
        repository = Repository.open(open_store(environment.storage.at(location)))
        repository.restore(volume["lineageVolume"], str(target), backup_id=volume["backupId"])
        return target.read_bytes()


@pytest.mark.parametrize(("file_system", "storage_class"), [("ext4", "bv-wait"), ("xfs", "bv-immediate-xfs")])
def test_files_come_back_beside_their_source(
    cluster: Cluster, namespace: Kube, installed_operator: Operator, file_system: str, storage_class: str
) -> None:
    """C3, C4, D2, D10: full, incremental, deletion, restore to the same and to a larger size, all files equal."""
    kube, name = namespace, f"fs-{namespace.namespace[-4:]}"
    environment = ClusterEnvironment(cluster, kube, storage_class)
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    kube.apply(claim("data", size="400Mi", storage_class=storage_class, mode="Filesystem"))
    kube.start(pod("writer", files={"data": "/data"}), seconds=90)
    python(kube, "writer", WRITE)

    first = back_up(kube, "first", name)
    python(kube, "writer", CHANGE)
    expected = python(kube, "writer", LIST)
    second = back_up(kube, "second", name)
    volumes = [status["volumes"][0] for status in (first, second)]
    assert [first["type"], second["type"]] == ["Full", "Incremental"]
    assert [volume["fileSystem"] for volume in volumes] == [file_system] * 2
    location = kube.get("vault", name)["status"]["location"]  # type: ignore[index]
    before, after = (stored_image(environment, location, volume) for volume in volumes)
    check_incremental(second, touched_compressed(before, after))
    check_nothing_is_left(environment, newest="second")

    environment.delete("backup", "first")
    environment.wait_for("backup", "first", gone, timeout=120)
    sizes = {"same": "400Mi", "larger": "800Mi"}
    for target, size in sizes.items():
        restore = manifests.restore(target, "second", target, storage_class, size)
        kube.apply(restore)
    for target in sizes:
        environment.wait_for("restore", target, phase_is("Completed"), timeout=240)
        # The writer still runs: two copies of one file system are mounted on one node.
        kube.start(pod(f"reader-{target}", files={target: "/data"}), seconds=90)
        assert python(kube, f"reader-{target}", LIST) == expected
        volume = restored_volume(cluster, kube, target)
        assert volume["spec"].get("mountOptions", []) == (["nouuid"] if file_system == "xfs" else [])
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    assert (
        int(python(kube, "reader-same", SIZE))
        < 420 * MIB
        < 700 * MIB
        < int(python(kube, "reader-larger", SIZE))
    )
    check_nothing_is_left(environment, newest="second")

    volume = restored_volume(cluster, kube, "same")["metadata"]["name"]
    kube.delete("pod", "reader-same")
    kube.delete("pvc", "same", seconds=90)
    # The provisioner tries again with growing pauses while the volume is still attached.
    kube.wait_gone("pv", volume, seconds=180)


def back_up(kube: Kube, name: str, vault: str) -> Object:
    """Apply a Backup of the claim and return its status when it is Available."""
    kube.apply(manifests.backup(name, vault, "data"))
    return kube.wait("backup", name, phase_is("Available"), 240)["status"]  # type: ignore[no-any-return]


def restored_volume(cluster: Cluster, kube: Kube, target: str) -> Object:
    """The PersistentVolume of a restored claim."""
    found = kube.get("pvc", target)
    assert found is not None
    volume = kube.get("pv", found["spec"]["volumeName"])
    assert volume is not None
    return volume
