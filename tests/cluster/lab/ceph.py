"""The lab's S3 store: Ceph's RADOS Gateway inside of the lab's namespaces, seen by pods and by this machine."""

import signal
from pathlib import Path

from tests.cluster.lab.namespace import Namespaces, Processes
from tests.servers import ceph
from tests.servers.ceph import Keys

__all__ = ["S3", "Keys"]


class _Inside:
    """The lab as a host of Ceph's programs."""

    def __init__(self, where: Namespaces, processes: Processes) -> None:
        self._where, self._processes = where, processes
        self.check, self.alive = processes.check, processes.alive
        self.kill, self.log = processes.kill, processes.log

    def run(self, *command: str, timeout: float | None = None) -> str:
        return str(self._where.run(*command, timeout=timeout).stdout)

    def start(self, name: str, command: list[str]) -> None:
        self._processes.start(name, self._where, command)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes.signal(name, number)


class S3(ceph.S3):
    """The store of one lab."""

    def __init__(self, state: Path, where: Namespaces, processes: Processes, address: str) -> None:
        super().__init__(_Inside(where, processes), state / "ceph", address)
        self._where = where

    def start(self, run: Path = Path("/run/ceph")) -> None:
        """Start the store; returns when it serves."""
        self.data.mkdir(parents=True)
        self._where.run("mkdir", "-p", str(run))
        self._where.run("mount", "-t", "tmpfs", "-o", "size=1g", "ceph", str(self.data))
        super().start(run)
