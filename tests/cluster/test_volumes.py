"""Volumes between the modes, judged by what the storage itself holds, and movers judged by the kernel.

Nothing here asks the operator or the engine what the right answer is: bytes, snapshots and volumes are read
from the CSI driver's state, rights from the running process, requests from the API server's audit log.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object, claim, pod
from tests.cluster.lab import Cluster
from tests.cluster.lab.namespace import wait_until
from tests.cluster.test_contract import ClusterEnvironment
from tests.cluster.test_filesystems import CHANGE, LIST, SIZE, WRITE, python, restored_volume
from tests.scenario import manifests
from tests.scenario.environment import gone, phase_is
from tests.scenario.incremental import BLOCK, check_incremental, check_nothing_is_left, touched_compressed

# In soak until whole runs beside the other files have shown it to be steady.
pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(600)]

MIB = 1 << 20
OPERATION = "blockvault.dev/operation"


class Storage:
    """The CSI driver's own volumes and snapshots, as far as they came up after this was made."""

    def __init__(self, cluster: Cluster) -> None:
        inside = f"/proc/{cluster.nodes[1].where.pid}/root"
        self._state = Path(f"{inside}{cluster.state}/volumes")
        self._before = {kind: self._all(kind) for kind in ("volumes", "snapshots")}

    def _all(self, kind: str) -> set[str]:
        return {path.parent.name for path in (self._state / kind).glob("*/meta.json")}

    def new(self, kind: str) -> set[str]:
        """Handles of the volumes or snapshots that are new."""
        return self._all(kind) - self._before[kind]

    def only_snapshot(self) -> str:
        """The handle of the one snapshot that is new."""
        found = self.new("snapshots")
        assert len(found) == 1, f"the storage holds {len(found)} new snapshots, not one: {sorted(found)}"
        return found.pop()

    def snapshot(self, handle: str) -> bytes:
        """The bytes of a snapshot."""
        return (self._state / "snapshots" / handle / "data").read_bytes()


def mover_process(uid: str) -> Path:
    """/proc of the mover's process in a pod of this uid."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                f"pod{uid}" in (process / "cgroup").read_text()
                and b"mover" in (process / "cmdline").read_bytes()
            ):
                return process
        except OSError:  # it has ended meanwhile
            continue
    raise AssertionError(f"no process of a mover runs in the pod {uid}")


def check_running_mover(system: Kube, operation: str, image: str) -> None:
    """What the kernel grants the mover of an operation, and what it can see: no right, and no token for the API."""

    def running() -> Object | None:
        for found in system.all("pods", f"{OPERATION}={operation}"):
            if any("running" in s["state"] for s in found["status"].get("containerStatuses", [])):
                return found
        return None

    found = wait_until("a running mover", running, 60)
    assert [s["imageID"] for s in found["status"]["containerStatuses"]] == [image]
    process = mover_process(found["metadata"]["uid"])
    status = dict(
        line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line
    )
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, f"{kind} {status[kind]}"
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2", "no seccomp filter"
    assert not (process / "root/var/run/secrets/kubernetes.io").exists(), (
        "a service account's token is mounted"
    )


def back_up(kube: Kube, name: str, vault: str, claim_name: str) -> Object:
    """Apply a Backup, wait until it is Available, and return its status."""
    kube.apply(manifests.backup(name, vault, claim_name))
    return backed_up(kube, name)


def backed_up(kube: Kube, name: str) -> Object:
    """A Backup's status once it is Available."""
    return kube.wait("backup", name, phase_is("Available"), 240)["status"]  # type: ignore[no-any-return]


def restore(name: str, backup_name: str, storage_class: str, mode: str, size: int) -> Object:
    """A Restore to a new claim of its own name."""
    obj = manifests.restore(name, backup_name, name, storage_class, str(size))
    obj["spec"]["target"]["newClaim"]["volumeMode"] = mode
    return obj


def check_figures(status: Object, before: bytes, after: bytes) -> None:
    """A status says what the storage says: all, or all that the driver told of, was read, and what differs was found."""
    volume = status["volumes"][0]
    starts = range(0, len(after), BLOCK)
    changed = sum(before[s : s + BLOCK] != after[s : s + BLOCK] for s in starts)
    by_list = volume["changedBlockSource"] == "SnapshotMetadata"
    assert (volume["size"], volume["bytesScanned"]) == (
        len(after),
        changed * BLOCK if by_list else len(after),
    )
    assert volume["bytesChanged"] == changed * BLOCK, (volume, changed)
    assert status["progress"]["percent"] == 100


def command(cluster: Cluster, *words: str) -> Object:
    """The command line on this machine, with nothing but the store's endpoint and keys; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "blockvault.cli", *words, "--output", "json"],
        env={k: v for k, v in cluster.environment().items() if k != "KUBECONFIG"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def check_without_a_cluster(
    cluster: Cluster, location: str, status: Object, image: bytes, folder: Path
) -> None:
    """The bucket, its keys and the command line suffice: the one backup is listed, and gives its bytes back."""
    volume = status["volumes"][0]
    listed = command(cluster, "list", location, "--volume", volume["lineageVolume"])["backups"]
    assert [(b["backupId"], b["size"], b["bytesStored"]) for b in listed if "trash" not in b["labels"]] == [
        (volume["backupId"], len(image), volume["bytesStored"])
    ]
    target = folder / "image"
    result = command(cluster, "restore", location, str(target), "--volume", volume["lineageVolume"])
    assert result["backupId"] == volume["backupId"]
    assert target.read_bytes() == image
    target.unlink()


def drop(kube: Kube, claim_name: str, user: str) -> None:
    """Delete a pod and its claim, as a user does who has seen enough."""
    found = kube.get("pvc", claim_name)
    assert found is not None
    volume = found["spec"]["volumeName"]
    kube.delete("pod", user)

    def detached() -> bool:
        used = [a["spec"]["source"]["persistentVolumeName"] for a in kube.all("volumeattachments")]
        return volume not in used

    # The provisioner would try an attached volume again with growing pauses.
    wait_until(f"{claim_name} detached", detached, 90)
    kube.delete("pvc", claim_name, seconds=90)
    kube.wait_gone("pv", volume, seconds=120)


@pytest.mark.parametrize(
    ("file_system", "storage_class", "size"),
    [("ext4", "bv-immediate", 128 * MIB), ("xfs", "bv-wait-xfs", 320 * MIB)],
)
def test_from_files_to_a_device_and_back(
    cluster: Cluster,
    namespace: Kube,
    installed_operator: Operator,
    tmp_path: Path,
    file_system: str,
    storage_class: str,
    size: int,
) -> None:
    """C2, C3, C4, D2: mounted claim -> raw claim -> mounted claim, larger; what was made by us goes wholly."""
    kube, name, storage = namespace, f"vol-{namespace.namespace[-4:]}", Storage(cluster)
    system = kube.within(OPERATOR_NAMESPACE)
    environment = ClusterEnvironment(cluster, kube, storage_class)
    environment.apply(*manifests.vault_class(name, environment.storage, name), manifests.vault(name, name))
    kube.apply(claim("data", size=str(size), storage_class=storage_class, mode="Filesystem"))
    kube.start(pod("writer", files={"data": "/data"}), seconds=90)
    python(kube, "writer", WRITE)
    location = environment.wait_for("vault", name, phase_is("Available"), timeout=60)["status"]["location"]

    # While the store hangs, its mover cannot end and can be looked at.
    kube.apply(manifests.backup("first", name, "data"))
    uid = environment.wait_for("backup", "first", phase_is("Creating"), timeout=60)["metadata"]["uid"]
    cluster.s3.stop(hang=True)
    try:
        image = installed_operator.pods()[0]["status"]["containerStatuses"][0]["imageID"]
        check_running_mover(system, uid, image)
    finally:
        cluster.s3.resume()
    first = backed_up(kube, "first")
    snapshot = storage.only_snapshot()
    before = storage.snapshot(snapshot)
    check_figures(first, bytes(len(before)), before)

    python(kube, "writer", CHANGE)
    expected = python(kube, "writer", LIST)
    second = back_up(kube, "second", name, "data")
    assert [first["type"], second["type"]] == ["Full", "Incremental"]
    former, snapshot = snapshot, storage.only_snapshot()
    assert snapshot != former, "the snapshot of the first backup is still the one that is kept"
    after = storage.snapshot(snapshot)
    check_figures(second, before, after)
    check_incremental(second, touched_compressed(before, after))
    assert kube.all("volumesnapshots") == [], "the tenant's namespace holds snapshots of ours"
    del before

    environment.delete("backup", "first")
    environment.wait_for("backup", "first", gone, timeout=120)
    check_without_a_cluster(cluster, location, second, after, tmp_path)

    # A mounted claim comes back as the very bytes of its snapshot; and that claim is one like any other.
    kube.apply(restore("raw", "second", storage_class, "Block", size))
    environment.wait_for("restore", "raw", phase_is("Completed"), timeout=240)
    assert environment.digest("raw", size) == hashlib.sha256(after).hexdigest()
    volume = restored_volume(cluster, kube, "raw")["spec"]
    assert (volume["volumeMode"], volume.get("mountOptions", []), volume["csi"].get("fsType")) == (
        "Block",
        [],
        None,
    )
    third = back_up(kube, "third", name, "raw")
    assert (third["type"], third["volumes"][0]["fileSystem"]) == ("Full", file_system)

    kube.apply(restore("files", "third", storage_class, "Filesystem", 2 * size))
    environment.wait_for("restore", "files", phase_is("Completed"), timeout=240)
    kube.start(pod("reader", files={"files": "/data"}), seconds=90)
    assert python(kube, "reader", LIST) == expected
    assert int(python(kube, "reader", SIZE)) > 1.5 * size, "the file system has not grown with its claim"
    for newest in ("second", "third"):
        check_nothing_is_left(environment, newest)

    for claim_name, user in (("raw", "raw-user"), ("files", "reader")):
        drop(kube, claim_name, user)
    source = restored_volume(cluster, kube, "data")["spec"]["csi"]["volumeHandle"]
    wait_until("the storage has the source only", lambda: storage.new("volumes") == {source}, 30)
    assert len(storage.new("snapshots")) == 2, "one for each claim that was backed up"
    jobs = {job["metadata"]["labels"][OPERATION] for job in system.all("jobs", OPERATION)}
    assert jobs >= {o["metadata"]["uid"] for kind in ("backup", "restore") for o in kube.all(kind)}


def test_no_request_of_the_operator_was_refused_and_no_mover_made_one(
    cluster: Cluster, installed_operator: Operator
) -> None:
    """The rights of the chart suffice and are kept to, in all tests of this session before this one."""
    account = f"system:serviceaccount:{OPERATOR_NAMESPACE}:"
    users: set[str] = set()
    wrong = []
    text = (cluster.logs / "audit.log").read_text()
    for line in text[: text.rindex("\n")].splitlines():  # the last line may be half written
        event = json.loads(line)
        user = event["user"].get("username", "")
        if not user.startswith(account):
            continue
        users.add(user.removeprefix(account))
        target = event.get("objectRef", {})
        refused = event.get("annotations", {}).get("authorization.k8s.io/decision") != "allow"
        # A tenant's Secrets are read, one by one by its name, and no more.
        elsewhere = target.get("resource") == "secrets" and target.get("namespace") != OPERATOR_NAMESPACE
        if refused or (elsewhere and event["verb"] != "get"):
            wrong.append((user, event["verb"], event["requestURI"]))
    assert not wrong, wrong[:10]
    assert users == {"blockvault"}, "only the operator itself speaks to the API"
