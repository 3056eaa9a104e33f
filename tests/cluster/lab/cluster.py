"""A whole lab as a context manager: Kubernetes, CSI driver, S3."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.cluster.lab import binaries, images, network, packages, storage
from tests.cluster.lab.ceph import S3
from tests.cluster.lab.controlplane import ControlPlane
from tests.cluster.lab.namespace import LabError, Namespaces, Processes, Slot, wait_until
from tests.cluster.lab.node import Node

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


class Cluster:
    """A Kubernetes cluster with real pods, volumes and S3 on this machine; gone without a trace at its end.

    Needs root. Several may run at a time. `nodes` is 1 or 2; control plane, CSI controllers and S3 are on
    node1.
    """

    def __init__(self, nodes: int = 1, *, verbose: bool = False) -> None:
        if nodes not in (1, 2):
            raise LabError(f"a lab has one node or two, not {nodes}")
        self._wanted, self._verbose = nodes, verbose
        self.timings: dict[str, float] = {}

    def __enter__(self) -> "Cluster":
        if os.geteuid() != 0:
            raise LabError("a lab makes namespaces, mounts and loop devices: run it as root")
        packages.install()
        self.programs, self.helm = binaries.kubernetes(), binaries.helm() / "helm"
        driver = binaries.csi_driver()
        archives = [images.pause(), images.base()]
        started = time.monotonic()
        self._slot = Slot()
        self.number, self.state = self._slot.number, self._slot.directory
        self.logs = self.state / "logs"
        self.logs.mkdir(exist_ok=True)
        for old in self.logs.iterdir():
            old.unlink()
        self._namespaces = Namespaces(self._slot, self.logs / "init.log")
        self.processes = Processes(self.logs)
        try:
            self._boot(driver, archives)
        except BaseException:
            self.close()
            raise
        self.timings["boot"] = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Tear everything down; LabError if something of it stays on the machine."""
        code = self._namespaces.close()
        self._slot.release()
        if code != 0:
            raise LabError(f"the lab did not go away wholly: see {self.logs}/left-behind.txt and init.log")

    def _timed(self, what: str, step: Callable[[], Any]) -> Any:
        started = time.monotonic()
        result = step()
        self.timings[what] = time.monotonic() - started
        if self._verbose:
            print(f"{what}: {self.timings[what]:.1f} s", flush=True)
        return result

    def _boot(self, driver: Path, archives: list[Path]) -> None:
        where, number = self._namespaces, self.number
        self._plane = ControlPlane(self.state, self.logs, self.programs, number)
        self.kubeconfig = self._plane.kubeconfig
        self.faults_file = self.state / "faults.json"
        self.set_faults({})
        first = Node(1, where, self.state, self._slot.cgroup, self._plane, self.processes)
        self.nodes = {1: first}
        first.prepare()
        network.first_node(where, number)
        self.address = network.outside_addresses(number)[1]
        self.s3 = S3(self.state, where, self.processes, self.address)
        self._driver = driver
        with ThreadPoolExecutor(8) as pool:
            # What depends on nothing goes on beside the rest; the first failure is raised at the end.
            first.start_runtime()
            # The kubelet can start beside the import: until the pause image is there, it would retry.
            beside = [
                pool.submit(self._timed, "images", lambda: self._import(first, archives)),
                pool.submit(self._timed, "S3", self.s3.start),
            ]
            self._timed("API server", self._start_plane)
            volumes = self._timed("volumes", lambda: storage.make_file_system(self.state, where))
            self._volumes = volumes
            beside.append(pool.submit(self._timed, "storage", lambda: self._start_storage(first)))
            first.start_kubelet(self.programs)
            if self._wanted == 2:
                second = self.nodes[2] = self._timed("node2", self._start_second)
                beside.append(
                    pool.submit(self._timed, "images of node2", lambda: self._import(second, archives))
                )
            self._timed("nodes ready", self._wait_nodes)
            for step in beside:
                step.result()
        self._timed("driver ready", self._wait_driver)

    def _start_plane(self) -> None:
        self._plane.start_api(self._namespaces, self.processes)
        self._plane.wait_api(self.processes)
        self._plane.start_controllers(self._namespaces, self.processes)

    def _import(self, node: Node, archives: list[Path]) -> None:
        for archive in archives:
            node.import_image(archive)

    def _start_storage(self, node: Node) -> None:
        socket = node.start_driver(self._driver, self._volumes, self.faults_file)
        self.kubectl("apply", "--server-side", "-f", "-", stdin=storage.crd_manifest())
        kinds = {
            "snapshot.storage.k8s.io/v1": (
                "volumesnapshots",
                "volumesnapshotcontents",
                "volumesnapshotclasses",
            ),
            "cbt.storage.k8s.io/v1beta1": ("snapshotmetadataservices",),
        }

        def served() -> bool:
            return all(
                f'"name":"{kind}"' in (self._plane.get(f"/apis/{version}") or "")
                for version, names in kinds.items()
                for kind in names
            )

        wait_until("snapshot APIs served", served, 30)
        authority = self._plane.authority.certificate
        self.kubectl("apply", "-f", "-", stdin=storage.object_manifest(self.address, authority))
        name = "csi-snapshot-metadata"
        serving = self._plane.serving(name, name, self.address)
        storage.start_sidecars(
            self._namespaces, self.processes, self.programs, self.kubeconfig, socket, serving
        )

    def _start_second(self) -> Node:
        where = Namespaces(self._slot, self.logs / "init-node2.log", inside=self._namespaces)
        node = Node(2, where, self.state, self._slot.cgroup, self._plane, self.processes)
        node.prepare()
        network.second_node(self._namespaces, where)
        node.start_runtime()
        node.start_kubelet(self.programs)
        node.start_driver(self._driver, self._volumes, self.faults_file)
        return node

    def _wait_nodes(self) -> None:
        names = {node.name for node in self.nodes.values()}

        def ready() -> bool:
            for node in self.nodes.values():
                self.processes.check(node.component("kubelet"))
            return names <= self._plane.nodes_ready()

        wait_until(f"nodes {', '.join(sorted(names))} ready (see {self.logs})", ready, 90)
        # Before it exists, every pod is refused.
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_until("default service account", lambda: self._plane.get(path), 30)

    def _wait_driver(self) -> None:
        def registered() -> bool:
            for name in self.processes.names():
                self.processes.check(name)
            paths = [f"/apis/storage.k8s.io/v1/csinodes/{node.name}" for node in self.nodes.values()]
            return all("test.csi.blockvault.dev" in (self._plane.get(path) or "") for path in paths)

        wait_until(f"CSI driver registered on every node (see {self.logs})", registered, 60)
        served = f"block metadata served (see {self.processes.log('csi-snapshot-metadata')})"
        wait_until(served, lambda: storage.metadata_served(self.address), 30)

    def environment(self) -> dict[str, str]:
        """Variables for programs on this machine: KUBECONFIG, PATH with kubectl and helm, S3 and its keys."""
        path = f"{self.programs}:{self.helm.parent}:{os.environ.get('PATH', '')}"
        here = f"{self.address},{network.NODE_ADDRESS[1]}"
        return {
            **os.environ,
            "PATH": path,
            "KUBECONFIG": str(self.kubeconfig),
            "NO_PROXY": here,
            "no_proxy": here,
            "S3_ENDPOINT": self.s3.endpoint,
            "AWS_ENDPOINT_URL": self.s3.endpoint,
            "AWS_REGION": self.s3.region,
            "AWS_ACCESS_KEY_ID": self.s3.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.keys.secret_key,
            "BLOCKVAULT_LAB_LOGS": str(self.logs),
        }

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, seconds: float = 120
    ) -> str:
        """Run kubectl as the administrator; returns its output, LabError with its words when it fails."""
        done = subprocess.run(
            [str(self.programs / "kubectl"), *arguments],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=seconds,
            env=self.environment(),
        )
        if check and done.returncode != 0:
            raise LabError(
                f"kubectl {' '.join(arguments)}: exit {done.returncode}: {done.stderr or done.stdout}"
            )
        return done.stdout

    def run_in(self, *command: str, node: int = 1, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run a program inside a node's namespaces (its mounts, network and processes)."""
        return self.nodes[node].where.run(*command, **options)

    def import_image(self, archive: Path) -> None:
        """Load an image archive on every node."""
        for node in self.nodes.values():
            node.import_image(archive)

    def set_faults(self, faults: dict[str, Any]) -> None:
        """Tell the CSI driver which calls fail or hang from now on (csidriver/README.md); {} for none."""
        partial = self.faults_file.with_suffix(".partial")
        partial.write_text(json.dumps(faults))
        partial.rename(self.faults_file)

    def components(self) -> list[str]:
        """Names that kill() and restart() take."""
        return self.processes.names()

    def kill(self, component: str) -> None:
        """Kill one program of the lab without warning, for instance `csi-snapshotter` or `kubelet-node1`."""
        self.processes.kill(component)

    def restart(self, component: str) -> None:
        """Start a program again with the same command; kills it first if it runs."""
        self.processes.restart(component)

    def keep_etcd(self, name: str) -> None:
        """Keep the API server's data as they are now, for set_back_etcd; it does not answer for a moment."""
        self.kill("etcd")
        data = self.state / "etcd"
        self.run_in("cp", "-a", f"{data}/data", f"{data}/{name}")
        self.restart("etcd")
        self._plane.wait_api(self.processes)

    def set_back_etcd(self, name: str) -> None:
        """Restore the API server's data as after a disaster: all that watches it is started anew, as the guide says.

        Pods, volumes and the S3 store are as they are now, and know nothing of it.
        """
        self.kill("kube-apiserver")
        self.kill("etcd")
        data = self.state / "etcd"
        self.run_in("rm", "-rf", f"{data}/data")
        self.run_in("cp", "-a", f"{data}/{name}", f"{data}/data")
        self.restart("etcd")
        self.restart("kube-apiserver")
        self._plane.wait_api(self.processes)
        watching = (
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet-",
            "kube-proxy-",
            "csi-",
            "snapshot-",
        )
        for component in self.components():
            if component.startswith(watching) and not component.startswith("csi-driver-"):
                self.restart(component)
        wait_until("nodes ready again", lambda: self._plane.nodes_ready() >= {"node1"}, 90)

    def lose_node2(self, out_of_service: bool = False) -> None:
        """Node 2 is gone at once, with all its processes and pods.

        With `out_of_service` an administrator says so by a taint, after the node was noticed to be lost: its
        pods are then removed and its volumes detached without the usual six minutes of waiting.
        """
        if 2 not in self.nodes:
            raise LabError("there is no node 2: Cluster(nodes=2)")
        lost = self.nodes.pop(2).where
        lost.kill()
        self.processes.forget(lost)
        if out_of_service:
            wait_until("node2 noticed as lost", lambda: "node2" not in self._plane.nodes_ready(), 60)
            self.kubectl("taint", "nodes", "node2", OUT_OF_SERVICE, "--overwrite")
