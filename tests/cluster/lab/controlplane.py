"""etcd, API server, controller manager and scheduler of a lab."""

import json
import ssl
import urllib.request
from pathlib import Path

import yaml

from tests.cluster.lab import network
from tests.cluster.lab.namespace import Namespaces, Processes, wait_until
from tests.cluster.lab.pki import Authority, Pair

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # Service accounts of what is tested, whole: tests/cluster/audit.py reads them.
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:blockvault-system"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}, {"group": "events.k8s.io"}]},
        {"level": "None", "resources": [{"group": "", "resources": ["events"]}]},
        {"level": "Metadata"},
    ],
}
# A lost node is to be noticed in a test's time: the defaults are 50 s and 300 s.
NODE_GRACE_SECONDS = 10
TOLERATION_SECONDS = 5


class ControlPlane:
    """Starts the control plane on node 1 and gives kubeconfigs for it."""

    def __init__(self, state: Path, logs: Path, programs: Path, number: int) -> None:
        self._state, self._logs, self._programs = state, logs, programs
        there = network.outside_addresses(number)[1]
        self.server_inside = f"https://{network.NODE_ADDRESS[1]}:443"
        self.server = f"https://{there}:443"
        self.authority = Authority(state / "pki")
        issue = self.authority.issue
        self._serving = issue(
            "apiserver",
            "kube-apiserver",
            addresses=(
                network.SERVICE_API, network.NODE_ADDRESS[1], there, "127.0.0.1", "localhost",
                "kubernetes", "kubernetes.default", "kubernetes.default.svc",
            ),
        )  # fmt: skip
        self._admin = issue("admin", "admin", group="system:masters")
        self._accounts = self.authority.signing_key("service-accounts")
        self.kubeconfig = self.authority.kubeconfig("admin", self.server, self._admin)

    def client(self, name: str, user: str, group: str = "") -> Path:
        """Kubeconfig of a component inside the lab."""
        return self.authority.kubeconfig(
            name, self.server_inside, self.authority.issue(name, user, group=group)
        )

    def serving(self, file: str, name: str, address: str) -> Pair:
        """Certificate under which a program serves at an IP address or by its name."""
        return self.authority.issue(file, name, addresses=(name, address))

    def start_api(self, where: Namespaces, processes: Processes) -> None:
        """Start etcd (in memory) and the API server; returns before they answer."""
        data = self._state / "etcd"
        data.mkdir()
        where.run("mount", "-t", "tmpfs", "-o", "size=1g", "etcd", str(data))
        processes.start(
            "etcd",
            where,
            [
                str(self._programs / "etcd"),
                f"--data-dir={data}/data",
                "--unsafe-no-fsync",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--log-level=warn",
            ],
        )
        policy = self._state / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(AUDIT_POLICY))
        authority = self.authority.certificate
        processes.start(
            "kube-apiserver",
            where,
            [
                str(self._programs / "kube-apiserver"),
                "--etcd-servers=http://127.0.0.1:2379",
                "--secure-port=443",
                "--bind-address=0.0.0.0",
                f"--advertise-address={network.NODE_ADDRESS[1]}",
                f"--service-cluster-ip-range={network.SERVICE_NETWORK}",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged=true",
                "--enable-admission-plugins=NodeRestriction",
                # Without it `kubectl logs` would look the node's name up in DNS.
                "--kubelet-preferred-address-types=InternalIP",
                f"--client-ca-file={authority}",
                f"--tls-cert-file={self._serving.certificate}",
                f"--tls-private-key-file={self._serving.key}",
                f"--kubelet-client-certificate={self._admin.certificate}",
                f"--kubelet-client-key={self._admin.key}",
                f"--kubelet-certificate-authority={authority}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={self._accounts}",
                f"--service-account-key-file={self._accounts}",
                f"--default-not-ready-toleration-seconds={TOLERATION_SECONDS}",
                f"--default-unreachable-toleration-seconds={TOLERATION_SECONDS}",
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self._logs}/audit.log",
                "--profiling=false",
            ],
        )

    def wait_api(self, processes: Processes, seconds: float = 60) -> None:
        """Wait until the API server says that it is ready."""

        def ready() -> bool:
            processes.check("etcd")
            processes.check("kube-apiserver")
            return self.get("/readyz") is not None

        wait_until(f"API server ready (see {processes.log('kube-apiserver')})", ready, seconds)

    def get(self, path: str) -> str | None:
        """GET a path of the API as the administrator; None while it does not answer 200."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(str(self._admin.certificate), str(self._admin.key))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(self.server + path, timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return None

    def start_controllers(self, where: Namespaces, processes: Processes) -> None:
        """Start the controller manager and the scheduler."""
        rates = ["--kube-api-qps=200", "--kube-api-burst=400"]
        controllers = self.client("controller-manager", "system:kube-controller-manager")
        processes.start(
            "kube-controller-manager",
            where,
            [
                str(self._programs / "kube-controller-manager"),
                f"--kubeconfig={controllers}",
                f"--service-account-private-key-file={self._accounts}",
                f"--root-ca-file={self.authority.certificate}",
                f"--cluster-signing-cert-file={self.authority.certificate}",
                f"--cluster-signing-key-file={self.authority.key}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--controllers=*,-node-ipam-controller,-node-route-controller,-cloud-node-lifecycle-controller",
                f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
                "--node-monitor-period=2s",
                "--node-eviction-rate=10",
                "--attach-detach-reconcile-sync-period=5s",
                "--pvclaimbinder-sync-period=5s",
                *rates,
            ],
        )
        scheduler = self.client("scheduler", "system:kube-scheduler")
        processes.start(
            "kube-scheduler",
            where,
            [
                str(self._programs / "kube-scheduler"),
                f"--kubeconfig={scheduler}",
                "--leader-elect=false",
                *rates,
            ],
        )

    def nodes_ready(self) -> set[str]:
        """Names of the nodes whose Ready condition is True."""
        text = self.get("/api/v1/nodes")
        ready = set()
        for node in json.loads(text)["items"] if text else ():
            for condition in node["status"].get("conditions", ()):
                if condition["type"] == "Ready" and condition["status"] == "True":
                    ready.add(node["metadata"]["name"])
        return ready
