"""The emulated cluster as an environment of the scenario."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from tests.scenario.environment import Object, Storage, Write, phase_is

from . import files
from .cluster import EmbeddedCluster


class EmbeddedEnvironment:
    """Writes straight to the volumes' files; nothing else has them open between Jobs."""

    def __init__(self, cluster: EmbeddedCluster, storage_class: str = "bv-immediate") -> None:
        self.cluster, self.namespace, self.storage_class = cluster, cluster.namespace, storage_class
        s3 = cluster.s3
        self.storage = Storage(s3.endpoint, s3.region, s3.bucket, s3.access_key, s3.secret_key)

    def apply(self, *objects: Object) -> None:
        """Create or patch objects."""
        self.cluster.apply(*objects)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None."""
        return self.cluster.get(kind, name, namespace)

    def list(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return self.cluster.list(kind)

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Ask for an object's deletion."""
        self.cluster.delete(kind, name, namespace)

    def wait_for(
        self, kind: str, name: str, test: Callable[[Object | None], Any], *, timeout: float
    ) -> Object:
        """Wait until a test holds."""
        return self.cluster.wait_for(kind, name, test, timeout=timeout)

    def make_claim(self, name: str, size: int) -> None:
        """A raw claim, with a pod that has it where the class waits for one."""
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Block",
            "storageClassName": self.storage_class,
            "resources": {"requests": {"storage": str(size)}},
        }
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]
        self.apply(
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec},
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"{name}-user"},
                "spec": {"containers": [], "volumes": volumes},
            },
        )
        self.wait_for("pvc", name, phase_is("Bound"), timeout=10)

    def write(self, claim: str, writes: Sequence[Write]) -> None:
        """Write to the volume's file."""
        with self.cluster.volume_path(self.namespace, claim).open("r+b") as file:
            for write in writes:
                file.seek(write.offset)
                file.write(write.data)
            file.flush()
            os.fsync(file.fileno())

    def digest(self, claim: str, length: int) -> str:
        """SHA-256 of the volume's file."""
        return files.digest(self.cluster.volume_path(self.namespace, claim), length)
