"""Servers on this machine, on loopback ports of their own; they end with the process that started them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.servers import ceph


class ServerError(Exception):
    """A server cannot be started or has ended; the message has its words."""


def _environment() -> dict[str, str]:
    """Without proxies: nothing here talks to the outside."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


class LocalHost:
    """Programs of this machine. Those that go on running are killed by the kernel when this process dies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *command: str, timeout: float | None = None) -> str:
        """See ceph.Host."""
        done = subprocess.run(command, text=True, capture_output=True, env=_environment(), timeout=timeout)
        if done.returncode != 0:
            raise ServerError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str, command: list[str]) -> None:
        """See ceph.Host. Call it from the main thread: the kernel ties the program to the calling thread."""
        with open(self.log(name), "ab") as log:
            self._running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """See ceph.Host."""
        return self._directory / f"{name}.log"

    def alive(self, name: str) -> bool:
        """See ceph.Host."""
        return self._running[name].poll() is None

    def check(self, name: str) -> None:
        """See ceph.Host."""
        if not self.alive(name):
            lines = self.log(name).read_text(errors="replace").splitlines()[-15:]
            raise ServerError(f"{name} has ended:\n" + "\n".join(lines))

    def signal(self, name: str, number: signal.Signals) -> None:
        """See ceph.Host."""
        if self.alive(name):
            self._running[name].send_signal(number)

    def kill(self, name: str) -> None:
        """See ceph.Host."""
        self._running[name].kill()
        self._running[name].wait(30)

    def close(self) -> None:
        """Kill everything that still runs."""
        for name in reversed(self._running):
            self.kill(name)


def free_ports(count: int) -> list[int]:
    """Loopback ports that were free a moment ago, below the range of outgoing connections."""
    found: list[int] = []
    for port in range(20000 + os.getpid() % 10000, 32000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
        if len(found) == count:
            return found
    raise ServerError("no free loopback ports")


def missing_packages() -> list[str]:
    """The Debian packages that Ceph's gateway needs and that are not here."""
    return [name for name, program in ceph.PACKAGES.items() if not Path(program).exists()]


@contextlib.contextmanager
def rados_gateway() -> Iterator[ceph.S3]:
    """A Ceph gateway on loopback; gone without a trace at the end."""
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="bv-ceph-", dir=memory if os.access(memory, os.W_OK) else None))
    host = LocalHost(directory)
    try:
        store = ceph.S3(host, directory, "127.0.0.1", bind="127.0.0.1", ports=ceph.Ports(*free_ports(3)))
        store.data.mkdir()
        store.start(directory)
        yield store
    finally:
        host.close()
        shutil.rmtree(directory, ignore_errors=True)
