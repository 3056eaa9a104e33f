"""The operator's processes, watched from outside: memory and processor time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from tests.bench.rows import WorkFailed

from .fill import OPERATOR_NAMESPACE

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
SAMPLE_SECONDS = 0.5
TICKS = os.sysconf("SC_CLK_TCK")


class Operator:
    """One run of the operator. `peak`: MiB of all its processes together, shared pages counted once."""

    def __init__(self, kubeconfig: Path, log: Path, extra: dict[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("AWS_", "BLOCKVAULT_", "KUBE")) and not key.lower().endswith("_proxy")
        }
        # As the chart's Deployment has them, but for the address of the store.
        environment = clean | {
            "KUBECONFIG": str(kubeconfig),
            "BLOCKVAULT_NAMESPACE": OPERATOR_NAMESPACE,
            "BLOCKVAULT_IMAGE": "blockvault:bench",
            "BLOCKVAULT_HTTP_PORT": str(self._port),
            "BLOCKVAULT_ALLOW_LOCAL_ENDPOINTS": "true",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}",
        } | (extra or {})  # fmt: skip
        self._log = log
        self.started = time.time()
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.scale.stubbed"],
                env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        self.peak = 0.0
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, self.memory())

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def _pids(self) -> list[int]:
        found, waiting = [], [self._process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    waiting += [int(child) for child in task.read_text().split()]
                except OSError:
                    continue
        return found

    def memory(self) -> float:
        """MiB of all its processes now."""
        return sum(self.memories().values())

    def memories(self) -> dict[int, float]:
        """The same of each."""
        return {pid: _pss(pid) / MIB for pid in self._pids()}

    def cpu(self) -> float:
        """Processor seconds of all its processes so far."""
        total = 0.0
        for pid in self._pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += (int(fields[11]) + int(fields[12])) / TICKS
        return total

    def ready(self) -> bool:
        """Whether it says that it is ready."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def check(self) -> None:
        """Raise WorkFailed with its last words if it has ended."""
        if self._process.poll() is not None:
            words = self._log.read_text(errors="replace")[-3000:]
            raise WorkFailed(f"the operator has ended with {self._process.returncode}: {words}")

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        self._over.set()
        self._sampler.join()
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
