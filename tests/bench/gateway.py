"""A Ceph gateway for a row, with what it counts: requests, and processor seconds of its programs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.rows import WorkFailed, say
from tests.servers import ceph
from tests.servers.local import missing_packages, rados_gateway


@dataclass(frozen=True)
class Counters:
    """What the store has done since it was started."""

    cpu: float  # seconds
    requests: int
    puts: int


@dataclass(frozen=True)
class Bucket:
    """One bucket."""

    name: str
    client: Any

    def _objects(self) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [found for page in pages for found in page.get("Contents", [])]

    def used(self) -> int:
        """Bytes of all its objects."""
        return sum(found["Size"] for found in self._objects())

    def empty(self) -> None:
        """Delete all its objects."""
        for found in self._objects():
            self.client.delete_object(Bucket=self.name, Key=found["Key"])


class Gateway:
    """The store, started for one row."""

    def __init__(self, store: ceph.S3, socket: Path) -> None:
        self._store, self._socket = store, socket
        self.endpoint = store.endpoint
        self.environment = {
            "AWS_ACCESS_KEY_ID": store.keys.access_key,
            "AWS_SECRET_ACCESS_KEY": store.keys.secret_key,
            "AWS_REGION": store.region,
            "AWS_DEFAULT_REGION": store.region,
            "AWS_ENDPOINT_URL": store.endpoint,
        }

    @classmethod
    @contextlib.contextmanager
    def started(cls) -> Iterator[Gateway]:
        """Raises WorkFailed where it is not installed."""
        if missing := missing_packages():
            raise WorkFailed(f"this row needs Ceph: apt-get install {' '.join(missing)}")
        say("starting Ceph")
        with rados_gateway() as store:
            yield cls(store, store.data.parent / "client.rgw.asok")

    @contextlib.contextmanager
    def bucket(self) -> Iterator[Bucket]:
        """A new bucket; its bytes are given back afterwards, as the store lies in memory."""
        made = Bucket(f"bench-{secrets.token_hex(4)}", self._store.client())
        self._store.make_bucket(made.name)
        try:
            yield made
        finally:
            made.empty()
            self._store.admin("gc", "process", "--include-all")

    def counters(self) -> Counters:
        """See Counters."""
        command = ["ceph", "daemon", str(self._socket), "perf", "dump", "rgw"]
        dump = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rgw"]
        return Counters(_cpu_of_children(), dump["req"], dump["put"])


def _cpu_of_children() -> float:
    """Processor seconds of the programs that this process has started and that still run: those of the store."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
