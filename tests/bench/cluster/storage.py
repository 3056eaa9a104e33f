"""The claim that is backed up, and the buckets that take it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import images
from tests.bench.process import MIB
from tests.bench.rows import Bench, WorkFailed
from tests.cluster.kube import Kube, claim, pod
from tests.cluster.lab import Cluster

GIB = 1 << 30
DEVICE = "/dev/claim"
WRITE = """
import os
with open({device!r}, "r+b") as device:
    for number in range({count}):
        device.seek(number * {apart} + 4096 * number)
        device.write(os.urandom({unit}))
    device.flush()
    os.fsync(device.fileno())
"""


@dataclass(frozen=True)
class Sizes:
    """Of the claim, of the file system that its first bytes hold, of that one's files; and how many MiB change."""

    claim: int
    file_system: int
    files: int
    changes: int

    @property
    def apart(self) -> int:
        """From one change to the next."""
        return self.file_system // self.changes // MIB * MIB - 4 * MIB

    @classmethod
    def of(cls, bench: Bench) -> Sizes:
        """What a run measures."""
        return cls(4 * GIB, 3 * GIB, 2600 * MIB, 40) if bench.full else cls(GIB // 2, 384 * MIB, 300 * MIB, 8)


class Bucket:
    """A bucket of the lab's store."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        cluster.s3.make_bucket(name)
        self._client, self._name = cluster.s3.client(), name

    def size(self) -> int:
        """Bytes of all its objects."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name)
        return sum(entry["Size"] for page in pages for entry in page.get("Contents", []))


class Claim:
    """A raw claim with ordinary files at its beginning; no pod has it but while it is written or read."""

    name = "data"

    def __init__(self, kube: Kube, sizes: Sizes) -> None:
        self._kube, self._sizes = kube, sizes

    def fill(self, bench: Bench) -> tuple[str, ...]:
        """Make it; gives what is to be said of what it holds."""
        image = bench.scratch / "claim.img"
        notes = images.file_system(bench, image, self._sizes.file_system, self._sizes.files)
        self._kube.apply(claim(self.name, size=f"{self._sizes.claim >> 20}Mi"))
        copy = f"dd if=/image/{image.name} of={DEVICE} bs=4M conv=notrunc,sparse,fsync status=none"
        filling = pod("fill", ["sh", "-c", copy], block={self.name: DEVICE})
        where = {"name": "image", "hostPath": {"path": str(image.parent)}}
        filling["spec"]["volumes"].append(where)
        filling["spec"]["containers"][0]["volumeMounts"].append({"name": "image", "mountPath": "/image"})
        self._kube.run(filling, seconds=600)
        image.unlink()
        return notes

    def change(self) -> None:
        """Write random bytes at places all over what it holds."""
        code = WRITE.format(device=DEVICE, count=self._sizes.changes, apart=self._sizes.apart, unit=MIB)
        self._kube.python("change", code, seconds=300, block={self.name: DEVICE})


def digest(cluster: Cluster, namespace: str, name: str) -> str:
    """SHA-256 of a whole claim."""
    reading = pod("digest", ["sha256sum", DEVICE], block={name: DEVICE})
    return Kube(cluster, namespace).run(reading, seconds=600).split()[0]


def check(cluster: Cluster, namespace: str, name: str, wanted: str) -> None:
    """Raise WorkFailed if a claim has other bytes."""
    found = digest(cluster, namespace, name)
    if found != wanted:
        raise WorkFailed(f"claim {namespace}/{name} differs from what was backed up: {found} is not {wanted}")
