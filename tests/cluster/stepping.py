"""The real cluster as a world of tests/steps: an operator that asks a director, and all that can be harmed here."""

from __future__ import annotations

import contextlib
import ctypes
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blockvault.core.conditions import timestamp
from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube, Object, WaitError, pod
from tests.cluster.lab import Cluster, LabError
from tests.cluster.lab.storage import MOUNT
from tests.cluster.test_contract import DEVICE, ClusterEnvironment
from tests.scenario.environment import Storage
from tests.steps import stepped
from tests.steps.director import Director
from tests.stores.faulty_server import FaultyServer

CLONE_NEWNET = 0x40000000
# Calls of the CSI driver that an operation needs.
CSI_CALLS = (
    "CreateVolume",
    "DeleteVolume",
    "CreateSnapshot",
    "DeleteSnapshot",
    "ControllerPublishVolume",
    "ControllerUnpublishVolume",
    "NodeStageVolume",
    "NodeUnstageVolume",
    "NodePublishVolume",
    "NodeUnpublishVolume",
)
CSI_FAULTS: dict[str, Object] = {
    "csi-fails": {"error": "UNAVAILABLE", "message": "the array is busy", "times": 2},
    "csi-hangs": {"hangSeconds": 8, "times": 1},
    "csi-lies": {"after": True, "times": 1},
}
# For how long the store is out of order.
S3_SECONDS = 12.0
SLOW_SECONDS = 0.4


def listener(cluster: Cluster) -> socket.socket:
    """A socket in the lab's network, where pods and this machine reach it."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:  # a thread's network can be changed without touching the others'
        try:
            with open(f"/proc/{cluster.nodes[1].where.pid}/ns/net") as place:
                if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server((cluster.address, 0), backlog=128))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        raise LabError(f"no socket in the lab's network: {failed[0]}")
    return made[0]


@contextmanager
def stepped_operator(cluster: Cluster, operator: Operator, director: Director) -> Iterator[None]:
    """The installed operator asks the director; at the end it is as it was."""
    kube, name = operator.kube, operator.deployment()
    code = Path(stepped.__file__).read_text()
    meta = {"name": "steps"}
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"stepped.py": code}})
    volume = {"name": "steps", "configMap": {"name": "steps"}}
    change = {
        "name": "operator",
        "command": ["python", "/steps/stepped.py"],
        "env": [{"name": "BLOCKVAULT_STEPS", "value": director.url}],
        "volumeMounts": [{"name": "steps", "mountPath": "/steps"}],
    }
    patch = {"spec": {"template": {"spec": {"containers": [change], "volumes": [volume]}}}}
    kube.kubectl("patch", "deployment", name, "--type=strategic", "-p", json.dumps(patch))
    _rolled_out(operator, name)
    try:
        yield
    finally:
        kube.kubectl("rollout", "undo", f"deployment/{name}")
        _rolled_out(operator, name)


def _rolled_out(operator: Operator, name: str) -> None:
    operator.kube.kubectl("rollout", "status", f"deployment/{name}", "--timeout=120s", seconds=130)
    operator.wait_available(120)


class Gateway:
    """A way to the store that can be out of order: all of these tests' buckets are reached by it."""

    def __init__(self, cluster: Cluster) -> None:
        self._until, self._how = 0.0, ""
        self._server = FaultyServer(cluster.s3.endpoint, self._plan, listener=listener(cluster))
        self.endpoint = self._server.endpoint

    def _plan(self, method: str, path: str, number: int) -> str | int | None:
        if time.monotonic() > self._until:
            return None
        if self._how == "s3-slow":
            time.sleep(SLOW_SECONDS)
        if self._how == "s3-refuses":
            return "InvalidAccessKeyId"
        return 503 if self._how == "s3-errors" and number % 3 else None

    def harm(self, how: str) -> None:
        """Be out of order for a while, from now on."""
        self._how, self._until = how, time.monotonic() + S3_SECONDS

    def close(self) -> None:
        """Stop serving."""
        self._server.close()


class ClusterWorld(ClusterEnvironment):
    """The real cluster."""

    size = 16 << 20
    patience = 300.0

    def __init__(self, cluster: Cluster, kube: Kube, operator: Operator, gateway: Gateway) -> None:
        super().__init__(cluster, kube, "bv-immediate")
        self.cluster, self.kube, self.operator, self.gateway = cluster, kube, operator, gateway
        self._there = self.storage  # as this machine and a check reach it
        near = self.storage
        self.storage = Storage(gateway.endpoint, near.region, near.bucket, near.access_key, near.secret_key)

    def wait_for(
        self, kind: str, name: str, test: Callable[[Object | None], Any], *, timeout: float
    ) -> Object:
        """Poll until a test holds. Raises WaitError with what the operator says, too."""
        try:
            return super().wait_for(kind, name, test, timeout=timeout)
        except WaitError as error:
            raise WaitError(f"{error}\n{self.operator.report()}") from error

    def workload(self, name: str, claim: str) -> Object:
        """A StatefulSet with one pod on a raw claim."""
        body = pod("x", block={claim: DEVICE})["spec"]
        body["restartPolicy"] = "Always"
        labels = {"app": name}
        spec = {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": body},
        }
        return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": spec}

    def let_go(self, claim: str) -> None:
        """Take the pod away by which a claim is reached."""
        self.kube.delete("pod", f"{claim}-user", seconds=60)

    def held(self) -> tuple[set[str], set[str]]:
        """What lies in the CSI driver's directories."""
        state = self.cluster.state / MOUNT
        found = self.cluster.run_in("ls", f"{state}/volumes", f"{state}/snapshots").stdout.split()
        volumes = {name for name in found if name.startswith("vol-")}
        return volumes, {name for name in found if name.startswith("snap-")}

    def move_clock(self, seconds: int) -> None:
        """Have upkeep be due: the last run was long ago."""
        ended = timestamp(datetime.now(UTC) - timedelta(days=2))
        for vault in self.kube.all("vaults"):
            name = vault["metadata"]["name"]
            self.kube.patch("vault", name, {"status": {"upkeep": {"run": 0, "endedAt": ended}}}, "status")
            self.kube.patch("vault", name, {"spec": {"tags": {"tidy": "now"}}})

    def kill_movers(self) -> None:
        """SIGKILL to all movers of this namespace that run."""
        system = self.kube.within(OPERATOR_NAMESPACE)
        for found in system.all("pods", "blockvault.dev/operation"):
            if (found["metadata"].get("annotations") or {}).get("blockvault.dev/namespace") == self.namespace:
                with contextlib.suppress(LabError):
                    system.kill_container(found["metadata"]["name"], "mover")

    def set_finalizer(self, kind: str, obj: Object, finalizer: str, there: bool) -> None:
        """Have a foreign finalizer on an object, or take it away; nothing where the object is gone."""
        meta = obj["metadata"]
        kube = self.kube.within(meta.get("namespace") or self.namespace)
        found = kube.get(kind, meta["name"])
        if found is not None:
            others = [f for f in found["metadata"].get("finalizers") or [] if f != finalizer]
            with contextlib.suppress(LabError):
                kube.patch(
                    kind,
                    meta["name"],
                    {"metadata": {"finalizers": [*others, finalizer] if there else others}},
                )

    def tend(self) -> None:
        """The kubelet does."""

    def harm(self, how: str) -> None:
        """Make a fault of the cluster, the storage or the store."""
        if how in CSI_FAULTS:
            self.cluster.set_faults({call: dict(CSI_FAULTS[how]) for call in CSI_CALLS})
        elif how.startswith("s3-"):
            self.gateway.harm(how)
        elif how == "snapshots-late":
            self.cluster.set_faults({"snapshotReadySeconds": 10})
        else:
            self.cluster.kill(how)
            time.sleep(2)
            self.cluster.restart(how)
