"""etcd and a kube-apiserver as plain processes on loopback: a real API without nodes and without controllers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from blockvault.cluster.resources import Resource
from tests.bench.rows import WorkFailed
from tests.cluster.lab import binaries
from tests.cluster.lab.pki import Authority, Pair

START_SECONDS = 180.0
# What the operator asks is counted, what the harness does is not.
OPERATOR, OPERATORS = "system:serviceaccount:blockvault-system:blockvault", "system:serviceaccounts"
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [OPERATOR]}, {"level": "None"}],
}
# Their controllers are not there, which would take back what these put on objects.
ADMISSION_OFF = ("ServiceAccount", "StorageObjectInUseProtection")


class Plane:
    """A running API server; `client` gives a user's certificate, `audit` is the operator's requests, a line of JSON each."""

    def __init__(self, folder: Path) -> None:
        self.audit = folder / "audit.log"
        self._folder = folder
        self.authority = Authority(folder / "pki")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._port, self._etcd, self._peer = _free_ports(3)
        self.server = f"https://127.0.0.1:{self._port}"
        self.admin = self.authority.issue("admin", "bench", group="system:masters")

    def client(self, file: str, name: str, group: str) -> Path:
        """A kubeconfig of that user."""
        return self.authority.kubeconfig(file, self.server, self.authority.issue(file, name, group=group))

    def trust(self, pair: Pair) -> ssl.SSLContext:
        """For requests by that certificate."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(str(pair.certificate), str(pair.key))
        return context

    def start(self) -> None:
        """Start both, and wait until the API says that it is ready. Raises WorkFailed with the end of a log."""
        programs, folder = binaries.programs("etcd", "kube-apiserver"), self._folder
        issue = self.authority.issue
        serving = issue("serving", "kube-apiserver", addresses=("127.0.0.1", "localhost", "kubernetes"))
        accounts, trusted = self.authority.signing_key("accounts"), self.authority.certificate
        policy = folder / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump(AUDIT_POLICY))
        etcd = f"http://127.0.0.1:{self._etcd}"
        self._run(
            [
                str(programs / "etcd"),
                f"--data-dir={folder}/etcd",
                "--unsafe-no-fsync",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{self._peer}",
                "--log-level=warn",
            ]
        )
        self._run(
            [
                str(programs / "kube-apiserver"),
                f"--etcd-servers={etcd}",
                f"--secure-port={self._port}",
                "--bind-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.96.0.0/24",
                "--authorization-mode=RBAC",
                f"--disable-admission-plugins={','.join(ADMISSION_OFF)}",
                f"--client-ca-file={trusted}",
                f"--tls-cert-file={serving.certificate}",
                f"--tls-private-key-file={serving.key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={accounts}",
                f"--service-account-key-file={accounts}",
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit}",
                "--profiling=false",
            ]
        )
        end = time.monotonic() + START_SECONDS
        while self.get("/readyz") is None:
            self.check()
            if time.monotonic() > end:
                raise WorkFailed(f"the API server is not ready after {START_SECONDS:g} s: {self._words()}")
            time.sleep(0.1)

    def _run(self, command: list[str]) -> None:
        name = Path(command[0]).name
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean
            )

    def _words(self) -> str:
        return "\n".join(
            (self._folder / f"{name}.log").read_text(errors="replace")[-1000:] for name in self._processes
        )

    def check(self) -> None:
        """Raise WorkFailed if one of the two has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise WorkFailed(f"{name} has ended with {process.returncode}: {self._words()}")

    def get(self, path: str) -> str | None:
        """GET as the administrator; None while the answer is not 200."""
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.trust(self.admin))
        )
        try:
            with opener.open(self.server + path, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return None

    def put(self, objects: Iterable[tuple[Resource, dict[str, Any]]]) -> None:
        """Write custom resources into etcd as the API server would have: whole, and without asking it.

        Tens of thousands through the API would be most of a run. Each by itself: no two objects have one version.
        """
        etcd = http.client.HTTPConnection("127.0.0.1", self._etcd, timeout=60)
        for resource, obj in objects:
            body = {"key": _coded(_key(resource, obj)), "value": _coded(json.dumps(obj))}
            etcd.request("POST", "/v3/kv/put", json.dumps(body))
            answer = etcd.getresponse()
            words = answer.read()
            if answer.status != 200:
                raise WorkFailed(f"etcd did not take {obj['metadata']['name']}: {words[:300]!r}")
        etcd.close()

    def etcd_bytes(self) -> int:
        """What etcd's database needs on its disk."""
        return sum(file.stat().st_size for file in (self._folder / "etcd").rglob("db"))

    def stop(self) -> None:
        """End both at once."""
        for process in self._processes.values():
            process.kill()
            process.wait()


@contextlib.contextmanager
def plane(folder: Path) -> Iterator[Plane]:
    """An API server in a folder, which is the caller's."""
    made = Plane(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def requests_of(audit: Path, since: float, until: float) -> list[dict[str, str]]:
    """The operator's requests that ended between two times (seconds since the epoch), watches that only go on not
    counted: verb, resource, name and moment of each."""
    found = []
    with audit.open(encoding="utf-8") as lines:
        for line in lines:
            if '"ResponseComplete"' not in line and '"ResponseStarted"' not in line:
                continue
            event = json.loads(line)
            if (event["verb"] == "watch") is (event["stage"] == "ResponseComplete"):
                continue  # of a watch its beginning counts, of all others their end
            at = _seconds(event["stageTimestamp"])
            if since <= at < until:
                ref = event.get("objectRef") or {}
                kind = "/".join(
                    filter(None, (ref.get("resource", event["requestURI"]), ref.get("subresource")))
                )
                found.append(
                    {"verb": event["verb"], "kind": kind, "name": ref.get("name", ""), "at": str(at)}
                )
    return found


def _key(resource: Resource, obj: dict[str, Any]) -> str:
    meta = obj["metadata"]
    parts = (resource.group, resource.plural, meta.get("namespace"), meta["name"])
    return "/".join(["/registry", *(part for part in parts if part)])


def _coded(text: str) -> str:
    return b64encode(text.encode()).decode()


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
