"""The emulated cluster as a whole, for tests and for the demo."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import aiohttp.web
import yaml

from . import files
from .api import Api, Asked, merged
from .faults import Faults
from .files import Files
from .jobs import JobController
from .kinds import BUILT_IN, CLAIMS, CSI_DRIVERS, CUSTOM_RESOURCES, NAMESPACES, NODES, VOLUMES, Object
from .s3 import S3
from .selectors import label_test
from .snapshots import SnapshotController
from .store import ApiError, Store, now
from .volumes import DRIVER, NODE_NAMES, VolumeController
from .workloads import WorkloadController

ROOT = Path(__file__).parents[2]
OPERATOR_NAMESPACE = "blockvault-system"
T = TypeVar("T")


class Program(Protocol):
    """A running operator: what of subprocess.Popen is used of it."""

    returncode: int | None

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """SIGKILL."""

    def terminate(self) -> None:
        """SIGTERM."""


def launch_program(
    environment: dict[str, str], directory: Path, log: Path, arguments: Sequence[str] = ()
) -> Program:
    """The operator by its own entry point."""
    command = [sys.executable, "-m", "blockvault", "operator", *arguments]
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=directory, env=environment, stdout=file, stderr=file)


class EmbeddedCluster:
    """An emulated cluster in a thread of its own; use it as a context manager.

    Its methods can be called from any other thread. All that it makes lies in `directory`, which goes
    with it, like every process it started.
    """

    def __init__(self, *, namespace: str = "default", crds: Path = ROOT / "crds") -> None:
        self.namespace = namespace
        self.faults = Faults()
        self._crds = crds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedded cluster", daemon=True)
        self._operator: Program | None = None
        self._port = 0
        # How the operator's process is made, of its environment, working directory and log.
        self.launch: Callable[[dict[str, str], Path, Path], Program] = launch_program

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="blockvault-"))
        self.kubeconfig = self.directory / "kubeconfig"
        self.operator_log = self.directory / "operator.log"
        self.files = Files(self.directory)
        self._thread.start()
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory)
            stack.callback(self._stop_loop)
            self.s3 = stack.enter_context(S3())
            self._call(self._start())
            stack.callback(lambda: self._call(self._stop()))
            stack.callback(self.kill_operator)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # The server and its controllers

    async def _start(self) -> None:
        self.api = Api(log_directory=str(self.directory / "logs"), faults=self.faults)
        store = self.store = self.api.store
        for kind in BUILT_IN:
            store.register(kind)
        for name in dict.fromkeys(("default", "kube-system", OPERATOR_NAMESPACE, self.namespace)):
            store.create(NAMESPACES, {"metadata": {"name": name}})
        for path in sorted(self._crds.glob("*.yaml")):
            for definition in filter(None, yaml.safe_load_all(path.read_text())):
                store.create(CUSTOM_RESOURCES, definition)
        store.create(CSI_DRIVERS, {"metadata": {"name": DRIVER}, "spec": {"attachRequired": True}})
        for name in NODE_NAMES:
            store.create(NODES, _node(name, "True"))
        for manifest in storage_manifests():
            store.create(store.kind_of(manifest), manifest)
        self._jobs = JobController(store, self.files, self.faults, self.directory)
        controllers = (
            VolumeController(store, self.files, self.faults),
            SnapshotController(store, self.files, self.faults),
            WorkloadController(store, self.files, self.faults),
            self._jobs,
        )
        self._tasks = [asyncio.create_task(c.run(), name=type(c).__name__) for c in controllers]
        self._clock = asyncio.create_task(self._tick())
        await self.api.__aenter__()
        self._runner = aiohttp.web.ServerRunner(aiohttp.web.Server(self.api), shutdown_timeout=1.0)
        await self._runner.setup()
        site = aiohttp.web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])
        self.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(self.url)))

    async def _tick(self) -> None:
        while True:  # some things are due by time and not by a change
            await asyncio.sleep(1.0)
            self.store.wake_all()

    async def _stop(self) -> None:
        self.api.closing = True
        self.store.wake_all()
        failed = [t for t in self._tasks if t.done()]
        for task in (self._clock, *self._tasks):
            task.cancel()
        await asyncio.gather(self._clock, *self._tasks, return_exceptions=True)
        await self._runner.cleanup()
        await self.api.__aexit__(None, None, None)
        for task in failed:  # a defect of the emulation must not be silent
            task.result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def within(self, work: Callable[[Store], T]) -> T:
        """Run a function on the store, in the cluster's thread."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(work(self.store))
            except BaseException as error:  # noqa: BLE001  it is raised where it was asked for
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(timeout=60)

    # Objects

    def apply(self, *manifests: str | Object) -> list[Object]:
        """Create or merge-patch objects, given as YAML or as dicts. Raises ApiError."""
        objects = _objects(manifests)
        return self.within(lambda store: [_applied(store, obj, self.namespace) for obj in objects])

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """An object, None when there is none. The kind as a person types it: `pvc`, `backups`, `Vault`."""
        return self.within(lambda s: s.find(s.kind_named(kind), namespace or self.namespace, name))

    def list(self, kind: str, namespace: str | None = None, labels: str = "") -> list[Object]:
        """The objects of a kind, in one namespace or in all."""
        return self.within(lambda s: s.list(s.kind_named(kind), namespace, label_test(labels)))

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Ask for an object's deletion. Raises ApiError 404."""
        self.within(lambda s: s.delete(s.kind_named(kind), namespace or self.namespace, name))

    def history(self, kind: str, name: str, namespace: str | None = None) -> Sequence[Object | None]:
        """All versions that an object has had; None stands for its deletion."""

        def read(store: Store) -> Sequence[Object | None]:
            found = store.kind_named(kind)
            key = (found.resource, (namespace or self.namespace) if found.namespaced else None, name)
            versions = self.api.objects[key].history if key in self.api.objects else []
            return [None if v is None else v.raw for v in versions]

        return self.within(read)

    def requests(self, verb: str = "*", resource: str = "*") -> Sequence[Asked]:
        """What was asked of the API over HTTP so far."""
        return [a for a in list(self.api.asked) if verb in ("*", a.verb) and resource in ("*", a.resource)]

    def until(self, test: Callable[[], Any], what: str, timeout: float = 30.0) -> None:
        """Wait until a test holds.

        Raises TimeoutError with the latest events and the operator's last words, RuntimeError when the
        operator has ended meanwhile, and whatever went wrong in a controller of the emulation.
        """
        end = time.monotonic() + timeout
        while not test():
            if time.monotonic() > end:
                raise TimeoutError(f"after {timeout:g} s: {what}\n{self.story()}")
            if self._operator is not None and self._operator.poll() is not None:
                raise RuntimeError(f"the operator has ended with {self._operator.returncode}\n{self.story()}")
            for task in self._tasks:
                if task.done():
                    task.result()
            time.sleep(0.05)

    def wait_for(
        self,
        kind: str,
        name: str,
        test: Callable[[Object | None], Any],
        *,
        timeout: float = 30.0,
        namespace: str | None = None,
    ) -> Object:
        """Wait until a test of an object (None: there is none) holds, and return it. Raises as `until`."""
        found: Object | None = None

        def holds() -> Any:
            nonlocal found
            found = self.get(kind, name, namespace)
            return test(found)

        try:
            self.until(holds, f"{kind} {name}", timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{kind} {name} is {(found or {}).get('status')} {error}") from error
        return found or {}

    def story(self) -> str:
        """What a person would look at when something hangs."""
        events = [f"{e['involvedObject']['kind']} {e['involvedObject']['name']}: {e['message']}"
                  for e in self.within(lambda s: s.list(s.kind_named("events")))]  # fmt: skip
        log = self.operator_log.read_text(errors="replace").splitlines() if self.operator_log.exists() else []
        return "\n".join(["-- events", *events[-15:], "-- operator", *log[-40:]])

    # Volumes

    def volume_path(self, namespace: str, claim: str) -> Path:
        """Where the bytes of a bound claim are. Raises LookupError while it is not bound."""

        def find(store: Store) -> Path:
            found = store.get(CLAIMS, namespace, claim)
            if (found.get("status") or {}).get("phase") != "Bound":
                raise LookupError(f"claim {namespace}/{claim} is not bound")
            volume = store.get(VOLUMES, None, found["spec"]["volumeName"])
            return self.files.volume(volume["spec"]["csi"]["volumeHandle"])

        return self.within(find)

    def digest(self, claim: str, length: int | None = None, namespace: str | None = None) -> str:
        """SHA-256 of a claim's bytes, or of the first of them."""
        return files.digest(self.volume_path(namespace or self.namespace, claim), length)

    # Movers

    def movers(self) -> dict[str, int]:
        """The movers that run now: pod name and process id."""
        return self.within(
            lambda s: {n: p.pid for n, p in self._jobs.processes.items() if p.returncode is None}
        )

    def kill_movers(self, signum: int = signal.SIGKILL) -> int:
        """Send a signal to every mover; returns to how many."""
        pids = self.movers().values()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        return len(pids)

    # Nodes

    def lose_node(self, name: str) -> None:
        """Nobody hears of a node any more, and an administrator has said that it is off; what runs there goes on."""
        self.faults.lost_nodes.add(name)
        self.apply(_node(name, "Unknown", "node.kubernetes.io/out-of-service"))

    def node_is_back(self, name: str) -> None:
        """A lost node answers again: its kubelet does what was asked of it meanwhile."""
        self.apply(_node(name, "True"))
        self.faults.lost_nodes.discard(name)

    # The operator

    def start_operator(self, **environment: str) -> None:
        """Start the real operator by its own entry point and wait until it says that it is ready."""
        if self._operator is not None:
            raise RuntimeError("the operator is running already")
        self._port = _free_port()
        env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("AWS_", "BLOCKVAULT_", "KUBE"))
        }
        env |= {
            "KUBECONFIG": str(self.kubeconfig),
            "BLOCKVAULT_NAMESPACE": OPERATOR_NAMESPACE,
            "BLOCKVAULT_IMAGE": "blockvault:embedded",
            "BLOCKVAULT_HTTP_PORT": str(self._port),
            "BLOCKVAULT_ALLOW_LOCAL_ENDPOINTS": "true",
        } | environment  # fmt: skip
        self._operator = self.launch(env, self.directory, self.operator_log)
        end = time.monotonic() + 30
        while not self._ready():
            if self._operator.poll() is not None:
                raise RuntimeError(f"the operator has ended with {self._operator.returncode}\n{self.story()}")
            if time.monotonic() > end:
                raise TimeoutError(f"the operator is not ready after 30 s\n{self.story()}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metrics(self) -> str:
        """What the operator says on /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def stop_operator(self, timeout: float = 20.0) -> int:
        """Ask the operator to stop; returns its exit code. Raises subprocess.TimeoutExpired."""
        assert self._operator is not None
        self._operator.terminate()
        code = self._operator.wait(timeout)
        self._operator = None
        return code

    @property
    def operator_runs(self) -> bool:
        """Whether the operator's process is there."""
        return self._operator is not None and self._operator.poll() is None

    def strike_operator(self) -> None:
        """Kill the operator in this very moment, from any thread; `kill_operator` tidies up after it."""
        if self._operator is not None:
            self._operator.kill()

    def kill_operator(self) -> None:
        """Kill the operator as a crash would; nothing happens when it does not run."""
        if self._operator is not None:
            self._operator.kill()
            self._operator.wait()
            self._operator = None


def storage_manifests() -> list[Object]:
    """The storage and snapshot classes of the test driver, as the real cluster of the tests has them."""
    classes: list[Object] = [
        {
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": f"bv-{word}{suffix}"},
            "provisioner": DRIVER, "reclaimPolicy": "Delete", "volumeBindingMode": mode,
            "allowVolumeExpansion": True, "parameters": {"csi.storage.k8s.io/fstype": fs},
        }
        for word, mode in (("immediate", "Immediate"), ("wait", "WaitForFirstConsumer"))
        for suffix, fs in (("", "ext4"), ("-xfs", "xfs"))
    ]  # fmt: skip
    snapshot_class: Object = {
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
        "metadata": {"name": "bv-snapshots"}, "driver": DRIVER, "deletionPolicy": "Delete",
    }  # fmt: skip
    return [*classes, snapshot_class]


def _node(name: str, ready: str, *taints: str) -> Object:
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": now()}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"taints": [{"key": key, "effect": "NoExecute"} for key in taints]},
        "status": {"conditions": [condition]},
    }  # fmt: skip


def _applied(store: Store, obj: Object, namespace: str) -> Object:
    kind = store.kind_of(obj)
    where = obj["metadata"].get("namespace") or namespace
    try:
        return store.create(kind, obj, where)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
    return store.update(kind, where, obj["metadata"]["name"], lambda old: merged(old, obj))


def _objects(manifests: Iterable[str | Object]) -> list[Object]:
    found: list[Object] = []
    for manifest in manifests:
        found += filter(None, yaml.safe_load_all(manifest)) if isinstance(manifest, str) else [manifest]
    return found


def _kubeconfig(url: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "embedded",
        "clusters": [{"name": "embedded", "cluster": {"server": url}}],
        "users": [{"name": "embedded", "user": {"token": "embedded"}}],
        "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": "embedded"}}],
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
