"""The operator in a grown cluster: memory, what it asks in idle, how soon it is there after a restart, and one slot."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blockvault.cluster.resources import BACKUPS, CLAIMS, POLICIES, VAULTS
from blockvault.core.naming import POLICY_ANNOTATION
from tests.bench.rows import WorkFailed, say

from .client import Client, Object
from .fill import Size, copies, fill, finished, policy
from .plane import OPERATOR, OPERATORS, Plane, plane, requests_of
from .running import Operator
from .stand_in import StandIn

LARGE, SMALL = Size(10, 50, 256, 10_000), Size(2, 5, 64, 1_000)
# Longer than anything in the operator sleeps, so that each loop has its look.
IDLE_SECONDS = 660.0
# It is at rest again when each Vault was checked, and so many seconds pass with no more requests than that.
STEADY_SECONDS, STEADY_REQUESTS = 5.0, 5
LIMIT_SECONDS = 1200.0


@dataclass
class Figures:
    """What was found. Memory in MiB, times in seconds, requests by verb and kind."""

    memory_peak: float = 0.0
    memory_steady: float = 0.0
    memories: list[float] = field(default_factory=list)
    restart: float = 0.0
    restart_cpu: float = 0.0
    restart_requests: Counter[str] = field(default_factory=Counter)
    idle: Counter[str] = field(default_factory=Counter)
    idle_seconds: float = 0.0
    idle_cpu: float = 0.0
    slot_made: float = 0.0
    slot_done: float = 0.0
    slot: Counter[str] = field(default_factory=Counter)
    slot_memory: float = 0.0
    slot_cpu: float = 0.0
    etcd_mib: float = 0.0

    @property
    def idle_rate(self) -> float:
        """Requests in a second."""
        return self.idle.total() / self.idle_seconds


class Trial:
    """One API server with its operator."""

    def __init__(self, folder: Path, size: Size, server: Plane, client: Client, stand_in: StandIn) -> None:
        self.size, self.server, self.client, self.stand_in = size, server, client, stand_in
        self._log = folder / "operator.log"
        self._kubeconfig = server.client("operator", OPERATOR, OPERATORS)
        self.operator: Operator | None = None

    def start(self) -> Operator:
        """Start the operator."""
        self.operator = Operator(self._kubeconfig, self._log)
        return self.operator

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.operator is not None:
            self.operator.stop()
            self.operator = None

    def requests(self, since: float, until: float) -> list[dict[str, str]]:
        """The operator's between two moments."""
        return requests_of(self.server.audit, since, until)

    async def until(self, test: Callable[[], Any], what: str, seconds: float = LIMIT_SECONDS) -> None:
        """Wait until a coroutine function says so. Raises WorkFailed."""
        end = time.monotonic() + seconds
        while not await test():
            if self.operator is not None:
                self.operator.check()
            self.stand_in.check()
            if time.monotonic() > end:
                raise WorkFailed(f"not within {seconds:g} s: {what}")
            await asyncio.sleep(0.5)

    async def prepare(self) -> None:
        """Fill the cluster: all but the finished Backups at first, then one that the operator makes, and copies of it."""
        say(f"filling: {self.size.vaults} Vaults of {self.size.claims} claims")
        await fill(self.client, self.size, OPERATOR)
        await self.add_backups()

    async def add_backups(self) -> None:
        """Those that have ended."""
        size, client = self.size, self.client
        self.start()
        started = time.monotonic()
        await self.until(self._vaults_are_available, "all Vaults Available")
        say(f"all Vaults are Available after {time.monotonic() - started:.0f} s")
        namespace, name = next(size.places())
        made = {
            "metadata": {"name": "model", "namespace": namespace},
            "spec": {
                "vaultRef": {"name": name},
                "resource": {"kind": CLAIMS.kind, "name": size.claim(name, 0)},
            },
        }
        await client.create(BACKUPS, made)

        async def done() -> bool:
            obj = await client.get(BACKUPS, "model", namespace)
            phase = ((obj or {}).get("status") or {}).get("phase")
            if phase == "Error":
                raise WorkFailed(f"the first Backup failed: {(obj or {})['status']}")
            return bool(phase == "Available")

        await self.until(done, "the first Backup", 120)
        self.stop()
        say(f"copying Backups: {size.backups}")
        model = await finished(client, namespace, "model")
        await asyncio.to_thread(self.server.put, copies(size, model))

    async def _vaults_are_available(self) -> bool:
        listed = await self.client.list(VAULTS)
        return all(
            (v.get("status") or {}).get("phase") == "Available" and "nextRun" in v["status"]
            for v in listed["items"]
        )

    async def restart(self, found: Figures) -> None:
        """Start the operator and wait until it is at rest."""
        operator = self.start()

        async def steady() -> bool:
            now = time.time()
            if not await asyncio.to_thread(operator.ready) or now - operator.started < STEADY_SECONDS:
                return False
            all_of_it = self.requests(operator.started, now)
            checked = {
                each["name"] for each in all_of_it if each["verb"] + each["kind"] == "patchvaults/status"
            }
            last = [each for each in all_of_it if float(each["at"]) > now - STEADY_SECONDS]
            return len(checked) >= self.size.vaults and len(last) <= STEADY_REQUESTS

        await self.until(steady, "at rest after a restart")
        until = time.time()
        found.restart = until - STEADY_SECONDS - operator.started
        found.restart_requests = kinds(self.requests(operator.started, until))
        found.restart_cpu = operator.cpu()
        say(f"steady after {found.restart:.1f} s, {found.restart_requests.total()} requests")

    async def idle(self, found: Figures, seconds: float) -> None:
        """Let it alone."""
        operator = self.operator
        assert operator is not None
        since, cpu = time.time(), operator.cpu()
        await asyncio.sleep(seconds)
        until = time.time()
        found.idle_seconds, found.idle_cpu = until - since, operator.cpu() - cpu
        found.idle = kinds(self.requests(since, until))
        found.memories = list(operator.memories().values())
        found.memory_steady, found.memory_peak = sum(found.memories), operator.peak
        say(f"idle: {found.idle_rate:.2f} requests/s, {found.idle.most_common(8)}, memory {found.memories}")

    async def slot(self, found: Figures) -> None:
        """Let the claims of one Vault come due at one time."""
        operator = self.operator
        assert operator is not None
        namespace, name = next(self.size.places())
        at = (datetime.now(UTC) + timedelta(seconds=80)).replace(second=0, microsecond=0)
        await self.client.create(POLICIES, policy("slot", namespace, at.hour, at.minute))
        listed = await self.client.list(BACKUPS, namespace, limit="1")
        made: dict[str, float] = {}
        done: dict[str, float] = {}
        watching = asyncio.create_task(self._watch_slot(listed["metadata"]["resourceVersion"], made, done))
        vault = VAULTS.path(namespace, name)
        await self.client.ask("PATCH", vault, {"spec": {"policyRef": {"name": "slot"}}})
        await asyncio.sleep(max(0.0, at.timestamp() - time.time()))
        since, cpu = at.timestamp(), operator.cpu()

        async def all_made() -> bool:
            if watching.done():
                watching.result()
            return len(made) >= self.size.claims

        async def all_done() -> bool:
            if watching.done():
                watching.result()
            return len(done) >= self.size.claims

        await self.until(all_made, "all Backups of a slot")
        found.slot_made = max(made.values()) - since
        say(f"slot: {len(made)} Backups after {found.slot_made:.1f} s")
        await self.until(all_done, "all Backups of a slot ended")
        found.slot_done = max(done.values()) - since
        found.slot = kinds(self.requests(since, time.time()))
        found.slot_memory, found.slot_cpu = operator.peak, operator.cpu() - cpu
        say(
            f"slot: done after {found.slot_done:.1f} s, {found.slot.total()} requests, {found.slot.most_common(12)}"
        )
        watching.cancel()

    async def _watch_slot(self, since: str, made: dict[str, float], done: dict[str, float]) -> None:
        async for _, obj in self.client.watch(BACKUPS, since):
            meta = obj["metadata"]
            if (meta.get("annotations") or {}).get(POLICY_ANNOTATION) != "slot":
                continue
            made.setdefault(meta["name"], time.time())
            phase = (obj.get("status") or {}).get("phase")
            if phase == "Error":
                raise WorkFailed(f"Backup {meta['name']} failed: {obj['status'].get('message')}")
            if phase == "Available":
                done.setdefault(meta["name"], time.time())


def kinds(requests: list[dict[str, str]]) -> Counter[str]:
    """How many of each verb and kind."""
    return Counter(f"{each['verb']} {each['kind']}" for each in requests)


async def run(folder: Path, size: Size, idle_seconds: float) -> Figures:
    """The whole of it."""
    found = Figures()
    with plane(folder) as server:
        await define(server)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(server.server, server.trust(server.admin)))
            stand_in = await stack.enter_async_context(StandIn(client))
            trial = Trial(folder, size, server, client, stand_in)
            stack.callback(trial.stop)
            await trial.prepare()
            await trial.restart(found)
            await trial.idle(found, idle_seconds)
            await trial.slot(found)
            found.etcd_mib = server.etcd_bytes() / (1 << 20)
    return found


async def define(server: Plane) -> None:
    """Make the definitions of all kinds known, and wait until they are served."""
    from .fill import definitions

    async with Client(server.server, server.trust(server.admin)) as client:
        paths = [await _define(client, each) for each in definitions()]
        for path in paths:
            while server.get(path) is None:
                await asyncio.sleep(0.2)


async def _define(client: Client, definition: Object) -> str:
    await client.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    spec = definition["spec"]
    version = next(v["name"] for v in spec["versions"] if v["storage"])
    return f"/apis/{spec['group']}/{version}/{spec['names']['plural']}?limit=1"
