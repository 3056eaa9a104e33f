"""The lab itself: what the other tests in the cluster rely on."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.cluster.kube import Kube, claim, pod, snapshot
from tests.cluster.lab import Cluster, binaries, cleanup, versions
from tests.cluster.lab.namespace import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

WRITE = """
import os
with open({path!r}, {mode!r}) as f:
    f.seek({offset})
    f.write(b"blockvault" * 1000)
    f.flush()
    os.fsync(f.fileno())
"""
READ = "f = open({path!r}, 'rb'); f.seek({offset}); print(f.read(10000) == b'blockvault' * 1000)"


def test_every_node_is_ready_at_the_wanted_version(cluster: Cluster) -> None:
    nodes = Kube(cluster).all("nodes")
    assert [node["metadata"]["name"] for node in nodes] == [f"node{n}" for n in sorted(cluster.nodes)]
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes} == {versions.KUBERNETES}


def test_a_pod_reaches_the_api_and_s3(cluster: Cluster, namespace: Kube) -> None:
    code = (
        "import ssl, urllib.request as r, urllib.error as e\n"
        "print(r.urlopen('https://10.96.0.1/readyz', context=ssl._create_unverified_context()).read())\n"
        f"print(r.urlopen('{cluster.s3.endpoint}').status)"
    )
    assert namespace.python("reach", code).split() == ["b'ok'", "200"]


@pytest.mark.parametrize("storage_class", ["bv-immediate", "bv-wait"])
def test_block_volume_snapshot_and_clone_have_the_bytes(namespace: Kube, storage_class: str) -> None:
    device, offset = "/dev/volume", 3 * 2**20 + 512
    namespace.apply(claim("data", storage_class=storage_class))
    if storage_class == "bv-immediate":
        namespace.wait_phase("pvc", "data", "Bound")
    written = WRITE.format(path=device, mode="r+b", offset=offset)
    namespace.python("writer", written, block={"data": device})
    namespace.apply(snapshot("shot", "data"))
    namespace.wait("volumesnapshot", "shot", lambda found: found.get("status", {}).get("readyToUse"))
    # What is written after the snapshot is not in the clone.
    namespace.python("later", WRITE.format(path=device, mode="r+b", offset=0), block={"data": device})
    source = {"kind": "VolumeSnapshot", "name": "shot"}
    namespace.apply(claim("clone", storage_class=storage_class, source=source))
    reads = READ.format(path=device, offset=offset) + "; f.seek(0); print(f.read(10000) == bytes(10000))"
    assert namespace.python("reader", reads, block={"clone": device}).split() == ["True", "True"]


@pytest.mark.parametrize("storage_class", ["bv-immediate", "bv-wait-xfs"])
def test_file_system_volume_is_read_as_a_device_from_its_snapshot(
    namespace: Kube, storage_class: str
) -> None:
    """C2: the same bytes in both modes, so that a Filesystem claim can be backed up as blocks."""
    size = "400Mi" if "xfs" in storage_class else "64Mi"
    namespace.apply(claim("files", storage_class=storage_class, mode="Filesystem", size=size))
    write = WRITE.format(path="/data/file", mode="wb", offset=0)
    namespace.python("writer", write, files={"files": "/data"})
    namespace.apply(snapshot("shot", "files"))
    found = namespace.wait("volumesnapshot", "shot", lambda s: s.get("status", {}).get("readyToUse"))
    content = found["status"]["boundVolumeSnapshotContentName"]
    allow = {"metadata": {"annotations": {"snapshot.storage.kubernetes.io/allow-volume-mode-change": "true"}}}
    namespace.patch("volumesnapshotcontent", content, allow)
    source = {"kind": "VolumeSnapshot", "name": "shot"}
    namespace.apply(claim("device", storage_class=storage_class, size=size, source=source))
    code = (
        "data = open('/dev/volume', 'rb').read()\n"
        "print('ext4' if data[1080:1082] == b'\\x53\\xef' else 'xfs' if data[:4] == b'XFSB' else data[:4])\n"
        "print(b'blockvault' * 400 in data)"
    )
    kind = "xfs" if "xfs" in storage_class else "ext4"
    assert namespace.python("reader", code, block={"device": "/dev/volume"}).split() == [kind, "True"]


class BlockMetadata:
    """The SnapshotMetadataService of the cluster, found and asked as a backup program does it."""

    def __init__(self, kube: Kube, directory: Path) -> None:
        found = kube.get("snapshotmetadataservice", versions.CSI_DRIVER)
        assert found is not None
        self.kube, self.spec = kube, found["spec"]
        self.authority = directory / "service.crt"
        self.authority.write_bytes(base64.b64decode(self.spec["caCert"]))

    def ask(self, snapshot_name: str, *arguments: str, audience: str = "") -> tuple[list[Any], str]:
        """Messages (type, capacity, tuples) and the error that ended the stream, empty for a good end."""
        wanted = audience or self.spec["audience"]
        token = self.kube.kubectl("create", "token", "default", f"--audience={wanted}").strip()
        done = subprocess.run(
            [
                str(binaries.metadata_client()),
                *("--address", self.spec["address"], "--ca", str(self.authority)),
                *("--namespace", self.kube.namespace, "--snapshot", snapshot_name),
                *arguments,
            ],
            env={**os.environ, "TOKEN": token},
            text=True,
            capture_output=True,
            timeout=90,
        )
        messages = [json.loads(line) for line in done.stdout.splitlines()]
        return [(m["type"], m["capacity"], m["tuples"]) for m in messages], done.stderr

    def handle(self, snapshot_name: str) -> str:
        """CSI handle of a snapshot, once it is ready."""
        ready = self.kube.wait(
            "volumesnapshot", snapshot_name, lambda s: s.get("status", {}).get("readyToUse")
        )
        content = self.kube.get("volumesnapshotcontent", ready["status"]["boundVolumeSnapshotContentName"])
        assert content is not None
        return str(content["status"]["snapshotHandle"])


def test_changed_blocks_are_told_by_the_real_service(
    cluster: Cluster, namespace: Kube, tmp_path: Path
) -> None:
    """F1: the ranges between two snapshots of a raw volume, through Kubernetes' own sidecar, to the byte."""
    size, device = 64 << 20, "/dev/volume"
    namespace.apply(claim("data"))
    first = WRITE.format(path=device, mode="r+b", offset=(3 << 20) + 512)
    namespace.python("writer", first, block={"data": device})
    namespace.apply(snapshot("one", "data"))
    service = BlockMetadata(namespace, tmp_path)
    base = service.handle("one")
    writes = (WRITE.format(path=device, mode="r+b", offset=offset) for offset in (4096, 40 << 20))
    namespace.python("later", "".join(writes), block={"data": device})
    namespace.apply(snapshot("two", "data"))
    service.handle("two")
    namespace.delete("pvc", "data")  # not needed any more

    messages, error = service.ask("two")
    assert (messages, error.partition(":")[0]) == ([], "PermissionDenied")
    role = ("--verb=get", "--resource=volumesnapshots.snapshot.storage.k8s.io")
    namespace.kubectl("create", "role", "reader", *role)
    account = f"--serviceaccount={namespace.namespace}:default"
    namespace.kubectl("create", "rolebinding", "reader", "--role=reader", account)
    _, error = service.ask("two", audience="another")
    assert error.startswith("Unauthenticated")

    # Of 10000 bytes each, in whole blocks of 4 KiB.
    written, changed = [3 << 20, 12288], [[4096, 12288], [40 << 20, 12288]]
    assert service.ask("one") == ([("VARIABLE_LENGTH", size, [written])], "")
    allocated = [changed[0], written, changed[1]]
    assert service.ask("two") == ([("VARIABLE_LENGTH", size, allocated)], "")
    assert service.ask("two", "--base", base) == ([("VARIABLE_LENGTH", size, changed)], "")
    rest = [[8192, 8192], changed[1]]
    resumed = service.ask("two", "--base", base, "--offset", "8192", "--max-results=1")
    assert resumed == ([("VARIABLE_LENGTH", size, [one]) for one in rest], "")

    cut = {"error": "ABORTED", "message": "cut", "afterMessages": 1, "metadata": {"perMessage": 1}}
    cluster.set_faults({"GetMetadataDelta": cut})
    try:
        messages, error = service.ask("two", "--base", base)
        assert messages == [("VARIABLE_LENGTH", size, changed[:1])]
        assert error.startswith("Aborted: ")
        assert "cut" in error
    finally:
        cluster.set_faults({})
    namespace.delete("volumesnapshot", "one")
    wait_until("base gone", lambda: service.ask("two", "--base", base)[1].startswith("NotFound"), 30, 1)


def test_a_pod_reaches_the_service_of_block_metadata(namespace: Kube, tmp_path: Path) -> None:
    """F1: a mover asks it from its own pod, and trusts nothing but the certificate in the object."""
    spec = BlockMetadata(namespace, tmp_path).spec
    host, _, port = spec["address"].rpartition(":")
    code = (
        "import base64, socket, ssl\n"
        f"trust = ssl.create_default_context(cadata=base64.b64decode({spec['caCert']!r}).decode())\n"
        "trust.set_alpn_protocols(['h2'])\n"
        f"plain = socket.create_connection(({host!r}, {port}))\n"
        f"print(trust.wrap_socket(plain, server_hostname={host!r}).selected_alpn_protocol())"
    )
    assert namespace.python("reach", code).strip() == "h2"


def test_a_used_volume_has_an_attachment_that_goes(namespace: Kube) -> None:
    namespace.apply(claim("data"))
    bound = namespace.wait_phase("pvc", "data", "Bound")
    volume = bound["spec"]["volumeName"]

    def attached() -> list[bool]:
        found = namespace.all("volumeattachments")
        return [
            a["status"]["attached"] for a in found if a["spec"]["source"]["persistentVolumeName"] == volume
        ]

    namespace.start(pod("user", block={"data": "/dev/volume"}))
    assert attached() == [True]
    namespace.delete("pod", "user")
    wait_until("detached", lambda: not attached(), 60)


def test_a_volume_grows_while_mounted(namespace: Kube) -> None:
    """XFS: growing a mounted ext4 needs a capability that a container host may lack."""
    namespace.apply(claim("data", mode="Filesystem", storage_class="bv-immediate-xfs", size="320Mi"))
    namespace.start(pod("user", files={"data": "/data"}))
    df = ("python3", "-c", "import os; s = os.statvfs('/data'); print(s.f_blocks * s.f_frsize >> 20)")
    before = int(namespace.exec("user", *df))
    namespace.patch("pvc", "data", {"spec": {"resources": {"requests": {"storage": "1Gi"}}}})
    wait_until("file system grown", lambda: int(namespace.exec("user", *df)) > 2 * before, 90, 1)


def test_conditional_creation_has_one_winner(cluster: Cluster) -> None:
    bucket = cluster.s3.make_bucket("races")
    outcomes: list[str] = []
    clients = [cluster.s3.client() for _ in range(8)]

    def create(number: int, key: str) -> None:
        try:
            body = str(number).encode()
            clients[number].put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
            outcomes.append("created")
        except botocore.exceptions.ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    for race in range(5):
        outcomes.clear()
        threads = [threading.Thread(target=create, args=(n, f"key-{race}")) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["PreconditionFailed"] * 7 + ["created"]


@pytest.mark.parametrize("hang", [False, True])
def test_s3_outage_ends_with_all_data_there(cluster: Cluster, hang: bool) -> None:
    client = cluster.s3.client()
    bucket = cluster.s3.make_bucket(f"outage-{str(hang).lower()}")
    client.put_object(Bucket=bucket, Key="key", Body=b"kept")
    cluster.s3.stop(hang=hang)
    try:
        assert not cluster.s3.serves()
    finally:
        cluster.s3.resume()
    assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"kept"


def test_a_killed_component_comes_back(cluster: Cluster) -> None:
    cluster.kill("kube-scheduler")
    assert not cluster.processes.alive("kube-scheduler")
    cluster.restart("kube-scheduler")
    assert cluster.processes.alive("kube-scheduler")


def test_requests_are_audited(cluster: Cluster) -> None:
    assert '"level":"Metadata"' in (cluster.logs / "audit.log").read_text()


def test_a_volume_of_a_lost_node_comes_back_on_the_other() -> None:
    with Cluster(nodes=2) as cluster:
        kube = Kube(cluster)
        kube.apply(claim("data"))
        kube.start(pod("writer", block={"data": "/dev/volume"}, node="node2"))
        written = WRITE.format(path="/dev/volume", mode="r+b", offset=0)
        kube.exec("writer", "python3", "-c", written)
        cluster.lose_node2(out_of_service=True)
        kube.wait_gone("pod", "writer", 90)
        read = READ.format(path="/dev/volume", offset=0)
        assert kube.python("reader", read, block={"data": "/dev/volume"}, seconds=90).strip() == "True"


LAB_AND_VOLUME = """
import sys, time
from tests.cluster.kube import Kube, claim, pod
from tests.cluster.lab import Cluster
with Cluster() as cluster:
    kube = Kube(cluster)
    kube.apply(claim("a"), claim("b", mode="Filesystem"))
    kube.start(pod("user", block={"a": "/dev/a"}, files={"b": "/b"}))
    print(cluster.number, flush=True)
    sys.stdin.read()
"""


def _left(number: int) -> list[str]:
    """What of a lab is on this machine: processes, mounts, loop devices, cgroups, wire, files but logs."""
    state, name = Path("/var/tmp/blockvault-labs", str(number)), f"blockvault-lab-{number}"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_text() + (process / "cgroup").read_text()
        except OSError:
            continue
        if f"{state}/" in text or f"/{name}" in text:
            found.append(f"process {process.name}: {text[:100]}")
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(state) in line]
    found += cleanup.lab_loops(state)
    found += [str(root / name) for root in cleanup.cgroup_roots() if (root / name).exists()]
    found += [str(path) for path in Path("/sys/class/net").glob(f"bvlab{number}")]
    found += [str(path) for path in state.iterdir() if path.name != cleanup.KEPT]
    return found


@pytest.mark.parametrize("end", ["exit", "SIGKILL", "first process SIGKILL"])
def test_a_second_lab_leaves_nothing_behind(cluster: Cluster, end: str) -> None:
    """Beside the session's lab; also when its launcher or its first process is killed."""
    second = subprocess.Popen(
        [sys.executable, "-c", LAB_AND_VOLUME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=versions.ROOT,
        text=True,
    )
    assert second.stdin is not None
    assert second.stdout is not None
    try:
        lines = iter(second.stdout.readline, "")
        number = next((int(line) for line in lines if line.strip().isdigit()), -1)
        assert number not in (-1, cluster.number), "the second lab did not start"
        assert _left(number), "a running lab is seen by the search"
        # The file system under all volumes, one for each volume, and the kubelet's own for the block volume.
        assert len(cleanup.lab_loops(Path("/var/tmp/blockvault-labs", str(number)))) == 4
        if end == "exit":
            second.stdin.close()
            assert second.wait(60) == 0
            assert _left(number) == []
        elif end == "SIGKILL":
            second.kill()
            wait_until("clean-up without a launcher", lambda: not _left(number), 30)
        else:
            first = next(
                int(process.name)
                for process in Path("/proc").glob("[0-9]*")
                if f"-m\0tests.cluster.lab.init\0/var/tmp/blockvault-labs/{number}\0" in _command(process)
                and not _command(process).startswith("unshare")
            )
            os.kill(first, signal.SIGKILL)
            second.kill()
            second.wait(30)
            time.sleep(1)
            # Nobody could clean up: the next lab of that number does.
            assert (
                cleanup.clean(Path("/var/tmp/blockvault-labs", str(number)), f"blockvault-lab-{number}") == []
            )
            assert _left(number) == []
    finally:
        second.kill()
        second.wait(30)


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
