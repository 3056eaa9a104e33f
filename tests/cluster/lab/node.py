"""One node of a lab: container runtime, kubelet, service proxy, CSI driver."""

import json
from pathlib import Path

import yaml

from tests.cluster.lab import cleanup, network, versions
from tests.cluster.lab.controlplane import ControlPlane
from tests.cluster.lab.images import PAUSE
from tests.cluster.lab.namespace import LabError, Namespaces, Processes, wait_until

KUBELET_DIR = Path("/var/lib/kubelet")

CONTAINERD = """\
version = 2
root = "{root}"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Lowering an OOM score needs a capability that a container host may lack; sandboxes fail without this.
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


class Node:
    """Node 1 shares the lab's first namespaces, node 2 has nested ones of its own."""

    def __init__(
        self,
        number: int,
        where: Namespaces,
        state: Path,
        cgroup: str,
        plane: ControlPlane,
        processes: Processes,
    ) -> None:
        self.number, self.name, self.where = number, f"node{number}", where
        self.address = network.NODE_ADDRESS[number]
        self._plane, self._processes = plane, processes
        self._state = state / self.name
        self._cgroup = f"{cgroup}/{self.name}"

    def component(self, program: str) -> str:
        """Name of this node's process of a program, as kill() and restart() take it."""
        return f"{program}-{self.name}"

    def prepare(self) -> None:
        """Mounts, directories and cgroups."""
        self._state.mkdir()
        kubelet, log = self._state / "kubelet", self._state / "var-log"
        kubelet.mkdir()
        log.mkdir()
        KUBELET_DIR.mkdir(exist_ok=True)
        run = self.where.run
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "tmpfs", "run", "/run")
        run("mount", "--bind", str(log), "/var/log")
        run("mount", "--bind", str(kubelet), str(KUBELET_DIR))
        run("mount", "--make-rshared", "/")
        if not Path("/sys/fs/cgroup/memory").is_dir():
            raise LabError("the lab needs cgroup v1 (boot with systemd.unified_cgroup_hierarchy=0)")
        for root in cleanup.cgroup_roots():
            directory = root / self._cgroup
            # A new cpuset is empty and takes no process; each level copies its parent's.
            for level in (directory.parent, directory):
                level.mkdir(exist_ok=True)
                for file in ("cpuset.cpus", "cpuset.mems"):
                    if (level / file).exists():
                        (level / file).write_text((level.parent / file).read_text())

    def start_runtime(self) -> None:
        """Start containerd; returns when it answers."""
        first, last = network.POD_RANGE[self.number]
        cni = self._state / "cni"
        cni.mkdir()
        allocation = {
            "type": "host-local",
            "dataDir": str(self._state / "cni-data"),
            "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [
                [
                    {
                        "subnet": network.POD_NETWORK,
                        "rangeStart": first,
                        "rangeEnd": last,
                        "gateway": self.address,
                    }
                ]
            ],
        }
        bridge = {"type": "bridge", "bridge": network.BRIDGE, "isGateway": True, "ipam": allocation}
        (cni / "lab.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": "lab", "plugins": [bridge]})
        )
        config = self._state / "containerd.toml"
        config.write_text(CONTAINERD.format(root=self._state / "containerd", pause=PAUSE, cni=cni))
        name = self.component("containerd")
        self._processes.start(
            name, self.where, ["containerd", "--config", str(config), "--log-level", "warn"]
        )

        def answers() -> bool:
            self._processes.check(name)
            return self.ctr("version", check=False) == 0

        wait_until(f"{name} answers", answers, 30)

    def ctr(self, *arguments: str, check: bool = True) -> int:
        """Run containerd's own client; returns its exit code."""
        done = self.where.run(
            "ctr", "-a", "/run/containerd/containerd.sock", "-n", "k8s.io", *arguments, check=False
        )
        if check and done.returncode != 0:
            raise LabError(f"ctr {' '.join(arguments)}: {done.stderr}")
        return done.returncode

    def import_image(self, archive: Path) -> None:
        """Load an image archive (OCI or Docker) into this node's runtime."""
        self.ctr("images", "import", "--snapshotter=overlayfs", str(archive))

    def start_kubelet(self, programs: Path) -> None:
        """Start kubelet and kube-proxy; the node becomes ready later."""
        serving = self._plane.serving(f"kubelet-{self.name}", self.name, self.address)
        resolv = self._state / "resolv.conf"
        resolv.write_text(f"nameserver {self.address}\n")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._plane.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._cgroup}",
            "cgroupsPerQOS": True,
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "maxOpenFiles": 10000,
            "localStorageCapacityIsolation": False,
            # There is no DNS in the lab: a look-up is refused at once and does not hang.
            "resolvConf": str(resolv),
            "clusterDNS": [self.address],
            "clusterDomain": "cluster.local",
            "registerNode": True,
            # The lease is renewed every quarter of this: well within the node monitor's grace period.
            "nodeLeaseDurationSeconds": 8,
            "nodeStatusUpdateFrequency": "2s",
            "syncFrequency": "10s",
            # Tests kill containers many times; the default doubles the wait up to five minutes.
            "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
            "serializeImagePulls": False,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "shutdownGracePeriod": "0s",
            "volumeStatsAggPeriod": "1m",
        }
        file = self._state / "kubelet.yaml"
        file.write_text(yaml.safe_dump(config))
        client = self._plane.client(f"kubelet-client-{self.name}", f"system:node:{self.name}", "system:nodes")
        self._processes.start(
            self.component("kubelet"),
            self.where,
            [
                str(programs / "kubelet"),
                f"--config={file}",
                f"--kubeconfig={client}",
                f"--root-dir={KUBELET_DIR}",
                f"--hostname-override={self.name}",
                f"--node-ip={self.address}",
            ],
        )
        proxy = self._plane.client(f"kube-proxy-{self.name}", "system:kube-proxy")
        self._processes.start(
            self.component("kube-proxy"),
            self.where,
            [
                str(programs / "kube-proxy"),
                f"--kubeconfig={proxy}",
                "--proxy-mode=nftables",
                f"--hostname-override={self.name}",
                # Pods share one bridge: an answer would otherwise go back past the translation.
                "--masquerade-all=true",
                "--conntrack-max-per-core=0",
            ],
        )

    def start_driver(self, driver: Path, shared: Path, faults: Path) -> Path:
        """Start the CSI driver of this node; returns its socket's path (as seen inside)."""
        plugin = KUBELET_DIR / "plugins" / versions.CSI_DRIVER
        self.where.run("mkdir", "-p", str(plugin), str(KUBELET_DIR / "plugins_registry"))
        socket = plugin / "csi.sock"
        self._processes.start(
            self.component("csi-driver"),
            self.where,
            [
                str(driver),
                f"--endpoint=unix://{socket}",
                f"--node-id={self.name}",
                f"--state-dir={shared}",
                f"--kubelet-dir={KUBELET_DIR}",
                f"--faults-file={faults}",
            ],
        )
        return socket
