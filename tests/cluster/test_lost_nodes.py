"""A whole node dies under its movers, or does not answer while they live on (F2): each test has two nodes of its own.

`node1` has the control plane, the operator and the users of the claims; movers are sent to `node2`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from blockvault.engine import Repository
from blockvault.stores import open_store
from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object
from tests.cluster.lab import Cluster
from tests.cluster.lab.cluster import OUT_OF_SERVICE
from tests.cluster.lab.namespace import wait_until
from tests.cluster.test_contract import ClusterEnvironment
from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MIB = 1 << 20
SIZE = 256 * MIB
# The node is noticed after 10 s, and given up a minute later.
GIVEN_UP_SECONDS = 100


class Shop:
    """Two nodes, the operator, a Vault, a claim of which backup `one` is there; movers run on node 2 from then on."""

    def __init__(self, cluster: Cluster, operator: Operator) -> None:
        self.cluster, self.operator = cluster, operator
        self.kube, self.system = Kube(cluster, "shop"), Kube(cluster, OPERATOR_NAMESPACE)
        self._s3 = cluster.s3.client()
        cluster.kubectl("create", "namespace", "shop")
        self.kube.wait("serviceaccount", "default", bool, 30)
        cluster.kubectl("cordon", "node2")
        self.env = ClusterEnvironment(cluster, self.kube, "bv-immediate")
        self.env.apply(*manifests.vault_class("v", self.env.storage, "v"), manifests.vault("v", "v"))
        self.env.make_claim("data", SIZE)
        self.env.write("data", [Write(0, SIZE // 2, seed=1)])
        self.kube.wait("vault", "v", phase_is("Available"), 60)
        self.kube.apply(manifests.backup("one", "v", "data"))
        self.kube.wait("backup", "one", phase_is("Available"), 120)
        self.first = self.env.digest("data", SIZE)
        # So much is new that the mover sends for a while.
        self.env.write("data", [Write(SIZE // 2, SIZE // 2, seed=2), Write(0, 4096, seed=3)])
        self.send_movers_to(2)

    def send_movers_to(self, node: int) -> None:
        """Let new pods start on that node only."""
        self.cluster.kubectl("uncordon", f"node{node}")
        self.cluster.kubectl("cordon", f"node{3 - node}")

    def mover(self, kind: str, name: str) -> Callable[[], Object | None]:
        """Finds the running pod of an operation's mover."""
        found = self.kube.get(kind, name)
        assert found is not None
        selector = f"blockvault.dev/operation={found['metadata']['uid']}"

        def running() -> Object | None:
            for pod in self.system.all("pods", selector):
                states = pod["status"].get("containerStatuses", [])
                if any("running" in s["state"] for s in states):
                    assert pod["spec"]["nodeName"] == "node2"
                    return pod
            return None

        return running

    def stop_in_the_middle(self, kind: str, name: str, has_begun: Callable[[Object], bool]) -> str:
        """Stop a mover once it has begun; returns its container's id.

        By a signal: what the freezer holds cannot be killed, and so would hold the whole lab.
        """
        running = self.mover(kind, name)
        pod = wait_until(f"mover of {kind} {name}", running, 90, 0.1)
        wait_until(f"mover of {kind} {name} in its middle", lambda: has_begun(pod), 60, 0.05)
        container = str(pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://"))
        self.cluster.nodes[2].ctr("task", "kill", "--signal", "SIGSTOP", container)
        return container

    def sends(self, _: Object) -> bool:
        """Whether the second backup has sent anything: more segments than the first one's."""
        return len(self.segments()) > self._first_segments

    def segments(self) -> list[str]:
        """Keys of the segments in the store."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.env.storage.bucket)
        return [o["Key"] for page in pages for o in page.get("Contents", []) if "/segments/" in o["Key"]]

    def start_both(self) -> tuple[str, str]:
        """A Backup and a Restore, stopped in their middle on node 2: their containers."""
        self._first_segments = len(self.segments())
        # Another class than the snapshot's: all comes from the store.
        self.kube.apply(manifests.restore("back", "one", "copy", "bv-wait", str(SIZE)))
        restore = self.stop_in_the_middle("restore", "back", lambda _: True)
        self.kube.apply(manifests.backup("two", "v", "data"))
        backup = self.stop_in_the_middle("backup", "two", self.sends)
        return backup, restore

    def check_both(self) -> None:
        """Both have ended well, by their second movers, and each byte is right."""
        backup = self.kube.wait("backup", "two", phase_is("Available", "Error"), GIVEN_UP_SECONDS + 60)
        restore = self.kube.wait("restore", "back", phase_is("Completed", "Error"), 60)
        for found in (backup, restore):
            assert found["status"]["phase"] != "Error", f"{found['status']}\n{self.operator.report()}"
            assert found["status"]["attempt"] == 2
        assert "NodeLost" in self.kube.kubectl("get", "events.events.k8s.io", "-o", "jsonpath={..reason}")
        assert self.env.digest("copy", SIZE) == self.first
        self.check_the_store()

    def check_the_store(self) -> None:
        """One backup for one operation, and its bytes."""
        vault = self.kube.get("vault", "v")
        assert vault is not None
        repository = Repository.open(open_store(self.env.storage.at(vault["status"]["location"])))
        assert len(repository.list("shop/data")) == 2
        self.kube.apply(manifests.restore("again", "two", "again", "bv-immediate", str(SIZE)))
        self.kube.wait("restore", "again", phase_is("Completed"), 120)
        assert self.env.digest("again", SIZE) == self.env.digest("data", SIZE)

    def check_nothing_is_left(self, seconds: float = 90) -> None:
        """No pod, claim, Secret or attachment of a mover is left, wherever it was."""

        def left() -> list[str]:
            kinds = "pods,persistentvolumeclaims,secrets"
            made = self.system.all(kinds, "blockvault.dev/operation")
            attached = self.kube.all("volumeattachments")
            gone = [a["metadata"]["name"] for a in attached if a["spec"]["nodeName"] == "node2"]
            return [f"{o['kind']} {o['metadata']['name']}" for o in made] + gone

        try:
            wait_until("everything gone that movers had", lambda: not left(), seconds, 0.5)
        except Exception as error:
            raise AssertionError(f"left: {left()}") from error


@pytest.fixture
def shop(install_operator: Callable[[Cluster], Operator]) -> Iterator[Shop]:
    """Two nodes of the test's own."""
    with Cluster(nodes=2) as cluster:
        yield Shop(cluster, install_operator(cluster))


@pytest.mark.soak  # until it has been seen steady in whole runs
def test_f2_a_backup_and_a_restore_whose_node_dies_end_well_on_another(shop: Shop) -> None:
    """Nobody waits for the node; what it holds goes when an administrator says that it is off."""
    shop.start_both()
    shop.cluster.lose_node2()
    shop.cluster.kubectl("uncordon", "node1")
    shop.check_both()
    movers = shop.system.all("pods", "blockvault.dev/operation")
    assert movers, "the dead node still holds its pods"
    assert all("deletionTimestamp" in pod["metadata"] for pod in movers)
    shop.cluster.kubectl("taint", "nodes", "node2", OUT_OF_SERVICE)
    shop.check_nothing_is_left()


@pytest.mark.soak
def test_f2_a_mover_that_lives_on_changes_nothing(shop: Shop) -> None:
    """Only the kubelet is gone: the movers wake when others have done their work, and the node comes back."""
    containers = shop.start_both()
    shop.cluster.kill("kubelet-node2")
    shop.cluster.kubectl("uncordon", "node1")
    shop.check_both()
    for container in containers:
        shop.cluster.nodes[2].ctr("task", "kill", "--signal", "SIGCONT", container)
    wait_until("the movers have ended", lambda: not _running(shop.cluster, containers), 120, 0.5)
    shop.cluster.restart("kubelet-node2")
    shop.check_nothing_is_left()
    shop.check_the_store()
    assert shop.env.digest("copy", SIZE) == shop.first


def _running(cluster: Cluster, containers: tuple[str, ...]) -> list[str]:
    ctr = ("ctr", "-a", "/run/containerd/containerd.sock", "-n", "k8s.io", "task", "ls")
    lines = cluster.run_in(*ctr, node=2).stdout.splitlines()
    return [line for line in lines if line.split()[0] in containers and "STOPPED" not in line]


@pytest.mark.soak
def test_f3_cancelling_and_deleting_wait_for_no_dead_node(shop: Shop) -> None:
    """What is cancelled ends while its mover is out of reach, and that commits nothing when it is back."""
    containers = shop.start_both()
    shop.cluster.kill("kubelet-node2")
    shop.cluster.kubectl("uncordon", "node1")
    shop.kube.patch("backup", "two", {"spec": {"cancel": True}})
    shop.kube.delete("restore", "back", wait=False)
    ended = shop.kube.wait("backup", "two", phase_is("Error"), GIVEN_UP_SECONDS)
    assert ended["status"]["reason"] == "Cancelled"
    assert "node2" in ended["status"]["message"]
    shop.kube.wait_gone("restore", "back", GIVEN_UP_SECONDS)
    assert shop.kube.get("pvc", "copy") is None
    for container in containers:
        shop.cluster.nodes[2].ctr("task", "kill", "--signal", "SIGCONT", container)
    wait_until("the movers have ended", lambda: not _running(shop.cluster, containers), 120, 0.5)
    shop.cluster.restart("kubelet-node2")
    shop.check_nothing_is_left()
    vault = shop.kube.get("vault", "v")
    assert vault is not None
    repository = Repository.open(open_store(shop.env.storage.at(vault["status"]["location"])))
    assert len(repository.list("shop/data")) == 1


@pytest.mark.soak
def test_f2_a_node_that_is_rebooted_goes_on_by_the_same_job(shop: Shop) -> None:
    """Its mover died with it; it is back before it is given up."""
    containers = shop.start_both()
    shop.cluster.kill("kubelet-node2")
    for container in containers:
        shop.cluster.nodes[2].ctr("task", "kill", "--signal", "SIGKILL", container)
    time.sleep(20)
    shop.cluster.restart("kubelet-node2")
    shop.cluster.kubectl("uncordon", "node1")
    backup = shop.kube.wait("backup", "two", phase_is("Available", "Error"), 180)
    restore = shop.kube.wait("restore", "back", phase_is("Completed", "Error"), 120)
    for found in (backup, restore):
        assert found["status"]["phase"] != "Error", found["status"]
        assert "attempt" not in found["status"]
    assert shop.env.digest("copy", SIZE) == shop.first
    shop.check_the_store()
    shop.check_nothing_is_left()
