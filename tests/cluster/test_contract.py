"""The scenario on the real cluster; tests/embedded/test_contract.py is its twin on the emulated one."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube, Object, WaitError, claim, pod
from tests.cluster.lab import Cluster, LabError
from tests.scenario.environment import Storage, Write, phase_is
from tests.scenario.incremental import back_up_change_restore

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

DEVICE = "/dev/data"
# Reads a line of offsets and lengths, then the bytes, from its standard input.
WRITE = f"""
import json, os, sys
source = sys.stdin.buffer
with open("{DEVICE}", "r+b") as device:
    for offset, length in json.loads(source.readline()):
        device.seek(offset)
        device.write(source.read(length))
    device.flush()
    os.fsync(device.fileno())
"""
DIGEST = f"""
import hashlib, sys
left, total = int(sys.argv[1]), hashlib.sha256()
with open("{DEVICE}", "rb") as device:
    while left and (data := device.read(min(left, 1 << 20))):
        total.update(data)
        left -= len(data)
print(total.hexdigest())
"""


class ClusterEnvironment:
    """The real cluster as an environment of the scenario: raw devices are reached through pods."""

    def __init__(self, cluster: Cluster, kube: Kube, storage_class: str) -> None:
        self._kube, self.namespace, self.storage_class = kube, kube.namespace, storage_class
        s3, bucket = cluster.s3, f"contract-{kube.namespace}"
        s3.make_bucket(bucket)
        self.storage = Storage(s3.endpoint, s3.region, bucket, s3.keys.access_key, s3.keys.secret_key)

    def apply(self, *objects: Object) -> None:
        """Create or patch objects, each in its own namespace."""
        for obj in objects:
            self._kube.within(obj["metadata"].get("namespace", self.namespace)).apply(obj)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None."""
        return self._kube.within(namespace or self.namespace).get(kind, name)

    def list(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return self._kube.all(kind, everywhere=True)

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Ask for an object's deletion."""
        self._kube.within(namespace or self.namespace).delete(kind, name, wait=False)

    def wait_for(
        self, kind: str, name: str, test: Callable[[Object | None], Any], *, timeout: float
    ) -> Object:
        """Poll until a test holds; an API server that is away is asked again. Raises WaitError with object and events."""
        end = time.monotonic() + timeout
        found: Object | None = None
        while True:
            with contextlib.suppress(LabError):
                found = self.get(kind, name)
                if test(found):
                    return found or {}
            if time.monotonic() > end:
                status = (found or {}).get("status")
                raise WaitError(f"{kind} {name} after {timeout:g} s: {status}\n{self._kube.events(name)}")
            time.sleep(0.3)

    def make_claim(self, name: str, size: int) -> None:
        """A raw claim, and the pod that has it."""
        self.apply(claim(name, size=str(size), storage_class=self.storage_class))
        self._user(name)
        self.wait_for("pvc", name, phase_is("Bound"), timeout=60)

    def write(self, claim: str, writes: Sequence[Write]) -> None:
        """Write through the pod's raw device, and flush."""
        head = json.dumps([(write.offset, write.length) for write in writes]).encode() + b"\n"
        data = head + b"".join(write.data for write in writes)
        self._kube.exec(self._user(claim), "python3", "-c", WRITE, stdin=data)

    def digest(self, claim: str, length: int) -> str:
        """SHA-256 of the raw device, seen from a pod."""
        return self._kube.exec(self._user(claim), "python3", "-c", DIGEST, str(length)).decode().strip()

    def _user(self, claim_name: str) -> str:
        name = f"{claim_name}-user"
        if self._kube.get("pod", name) is None:
            self._kube.start(pod(name, block={claim_name: DEVICE}), seconds=90)
        return name


@pytest.mark.parametrize("storage_class", ["bv-immediate", "bv-wait"])
def test_back_up_change_restore(
    cluster: Cluster, namespace: Kube, installed_operator: Operator, storage_class: str
) -> None:
    """C4, D2: full, incremental, deletion and restore, with counts and without leftovers."""
    environment = ClusterEnvironment(cluster, namespace, storage_class)
    report = back_up_change_restore(environment, name=f"walk-{namespace.namespace[-4:]}", timeout=180)
    assert report.volumes[1]["bytesStored"] < report.volumes[0]["bytesStored"] / 4
