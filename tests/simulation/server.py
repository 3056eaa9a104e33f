"""A simulated object store: single requests, each of which may go wrong; and a client with the product's patience."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from blockvault.stores.base import Data, ObjectInfo, Patience, Traffic
from blockvault.stores.errors import (
    AlreadyExists,
    InvalidCredentials,
    ObjectNotFound,
    StoreThrottled,
    StoreUnreachable,
)
from tests.simulation import faults
from tests.simulation.faults import Faults
from tests.simulation.scheduler import EPOCH, Scheduler

# How long a client goes on without success, in simulated seconds.
PATIENCE = 60.0
# Requests of a machine between two answers that are spoiled on their way.
QUIET = 20

_LINEAGE = re.compile(r"lineages/(\w{4})\w{28}")


class Crash(BaseException):
    """The machine is dead: nothing that it does any more has an effect."""


def tag(data: bytes) -> str:
    """An ETag."""
    return blake3(data).hexdigest(8)


@dataclass
class _Stored:
    data: bytes
    born: float


class Machine:
    """Where an actor runs. `troubled`: how often something went wrong on its way to the store.

    `commits`: how many it made.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.expired_until = 0.0
        self.dead = False
        self.troubled = 0
        self.requests = 0
        self.commits = 0
        self._spoiled_at = -QUIET

    def boot(self) -> None:
        """After a crash, or with fresh credentials."""
        self.dead = False
        self.expired_until = 0.0

    def spoil(self) -> bool:
        """Whether what is read now may be spoiled: noise does not come twice where something is read again."""
        if self.requests - self._spoiled_at < QUIET:
            return False
        self._spoiled_at = self.requests
        return True


class Server:
    """Objects, and what happens on the way to them."""

    def __init__(self, scheduler: Scheduler, chance: random.Random, troubles: Faults) -> None:
        self.scheduler = scheduler
        self.faults = troubles
        self.objects: dict[str, _Stored] = {}
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self._gone: dict[str, tuple[ObjectInfo, float]] = {}
        self._chance = chance
        self._outage_until = 0.0
        self.lag = 10 ** chance.uniform(-1, 6)

    def note(self, who: str, text: str) -> None:
        """One line of the log."""
        short = _LINEAGE.sub(r"\1", text)
        self.log.append(f"{self.scheduler.now:14.3f} {who:12} {short}")

    def digest(self) -> str:
        """The hash of the whole log: equal for two runs of one seed."""
        return blake3("\n".join(self.log).encode()).hexdigest()

    def heal(self) -> None:
        """Nothing goes wrong any more, and all that was on its way lands."""
        self.faults.enabled = False
        self._outage_until = 0.0
        self.scheduler.settle()

    def request(
        self, machine: Machine, kind: str, key: str, work: Callable[[], bytes], data: Data = b""
    ) -> bytes:
        """One request: its fault, its effect, its answer."""
        if machine.dead:
            raise Crash
        machine.requests += 1
        self.scheduler.pause(self._chance.uniform(0.001, 0.05))
        fault = self.faults.draw(kind, key)
        if fault == faults.SLEEP:
            self._count(machine, fault, kind, key)
            self.scheduler.pause(10 ** self._chance.uniform(0, 6))
            fault = None
        now = self.scheduler.now
        if fault == faults.EXPIRED:
            machine.expired_until = now + self._chance.uniform(1, 600)
        if fault == faults.OUTAGE:
            self._outage_until = now + 10 ** self._chance.uniform(0, 2.5)
        if self.faults.enabled and now < machine.expired_until:
            self._count(machine, faults.EXPIRED, kind, key)
            raise InvalidCredentials(f"{key}: the token has expired")
        if now < self._outage_until:
            self._count(machine, faults.OUTAGE, kind, key)
            raise StoreUnreachable(f"{key}: connection refused")
        if fault is None:
            return self._done(machine, kind, key, work, data)
        if fault in (faults.TRUNCATED, faults.FLIPPED) and not machine.spoil():
            return self._done(machine, kind, key, work, data)
        self._count(machine, fault, kind, key)
        return self._fault(machine, fault, kind, key, work, data)

    def _fault(
        self, machine: Machine, fault: str, kind: str, key: str, work: Callable[[], bytes], data: Data
    ) -> bytes:
        if fault == faults.CRASH_BEFORE:
            machine.dead = True
            raise Crash
        if fault in (faults.LOST_REQUEST, faults.ERROR):
            raise StoreUnreachable(f"{key}: {fault}")
        if fault == faults.SLOW_DOWN:
            raise StoreThrottled(f"{key}: slow down")
        if fault == faults.CONFLICT:
            raise AlreadyExists(f"{key}: conflicting operation")
        if fault == faults.LATE:
            self._later(machine, kind, key, work)
            raise StoreUnreachable(f"{key}: timed out")
        answer = self._done(machine, kind, key, work, data)
        if fault == faults.CRASH_AFTER:
            machine.dead = True
            raise Crash
        if fault == faults.LOST_ANSWER:
            raise StoreUnreachable(f"{key}: connection reset")
        if fault == faults.OWN_412:
            raise AlreadyExists(f"{key}: exists")
        if fault == faults.DUPLICATE:
            self._later(machine, kind, key, work)
        if fault == faults.TRUNCATED:
            return answer[: self._chance.randrange(len(answer) + 1)]
        if fault == faults.FLIPPED and answer:
            flipped = bytearray(answer)
            flipped[self._chance.randrange(len(answer))] ^= 1 << self._chance.randrange(8)
            return bytes(flipped)
        return answer

    def _count(self, machine: Machine, fault: str, kind: str, key: str) -> None:
        machine.troubled += 1
        self.counts[fault] += 1
        self.note(machine.name, f"{kind} {key}: {fault}")

    def _done(self, machine: Machine, kind: str, key: str, work: Callable[[], bytes], data: Data) -> bytes:
        mark = f" {blake3(data).hexdigest()[:8]} {len(data)}" if kind in ("put", "create") else ""
        try:
            answer = work()
        except (ObjectNotFound, AlreadyExists) as error:
            self.note(machine.name, f"{kind} {key}{mark}: {error.reason}")
            raise
        self.note(machine.name, f"{kind} {key}{mark}")
        machine.commits += kind == "create" and "/commits/" in key
        return answer

    def _later(self, machine: Machine, kind: str, key: str, work: Callable[[], bytes]) -> None:
        def land() -> None:
            self.note(machine.name, f"{kind} {key}: lands now")
            try:
                work()
                machine.commits += kind == "create" and "/commits/" in key
            except (ObjectNotFound, AlreadyExists):
                self.note(machine.name, f"{kind} {key}: too late")

        self.scheduler.at(self.scheduler.now + 10 ** self._chance.uniform(-2, 4), land)

    def get(self, key: str) -> bytes:
        """The effect of a GET."""
        stored = self.objects.get(key)
        if stored is None:
            raise ObjectNotFound(f"{key} does not exist")
        return stored.data

    def put(self, key: str, data: bytes) -> bytes:
        """The effect of a PUT. Nothing that matters is ever overwritten by other bytes."""
        former = self.objects.get(key)
        assert former is None or former.data == data, f"{key} was overwritten by other bytes"
        self.objects[key] = _Stored(data, self.scheduler.now)
        return b""

    def create(self, key: str, data: bytes) -> bytes:
        """The effect of a PUT with If-None-Match."""
        if key in self.objects:
            raise AlreadyExists(f"{key} exists")
        return self.put(key, data)

    def delete(self, key: str) -> bytes:
        """The effect of a DELETE."""
        stored = self.objects.pop(key, None)
        if stored is not None:
            self._gone[key] = ObjectInfo(key, len(stored.data), tag(stored.data)), self.scheduler.now
        return b""

    def list(self, prefix: str, *, lagging: bool) -> list[ObjectInfo]:
        """The effect of a LIST: what is young may be missing, what went lately may still be shown."""
        horizon = self.scheduler.now - self.lag
        # Either as it was some time ago, or with anything young left out: two halves of a store that differ.
        past = self._chance.random() < 0.5
        likely = 1.0 if past else 0.5
        if past:
            horizon = max(horizon, self.scheduler.now - 10 ** self._chance.uniform(-2, 6))
        found = []
        for key in sorted(self.objects):
            if key.startswith(prefix):
                stored = self.objects[key]
                if lagging and stored.born >= horizon and self._chance.random() < likely:
                    self.counts[faults.LAGGING] += 1
                    continue
                found.append(ObjectInfo(key, len(stored.data), tag(stored.data)))
        for key, (info, died) in sorted(self._gone.items()) if lagging else ():
            shown = key.startswith(prefix) and key not in self.objects and died >= horizon
            if shown and self._chance.random() < likely:
                self.counts[faults.LAGGING] += 1
                found.append(info)
        return found


class Client:
    """An ObjectStore over the simulated server, patient as the real ones are."""

    def __init__(self, server: Server, machine: Machine) -> None:
        self.url = "simulated:"
        self.traffic = Traffic()
        self._server = server
        self.machine = machine
        scheduler = server.scheduler
        self._patience = Patience(PATIENCE, sleep=scheduler.pause, clock=lambda: scheduler.now)

    @property
    def requests(self) -> dict[str, int]:
        """See ObjectStore."""
        return dict(self.traffic.requests)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ObjectStore."""

        def tried() -> bytes:
            announced = 0

            def work() -> bytes:
                nonlocal announced
                data = self._server.get(key)[start : None if length is None else start + length]
                announced = len(data)
                return data

            data = self._request("get", key, work)
            if len(data) != announced:
                raise StoreUnreachable(f"{key}: {len(data)} bytes came instead of {announced}")
            return data

        return self._patience.call(tried)

    def put(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        whole = bytes(data)
        self._patience.call(lambda: self._request("put", key, lambda: self._server.put(key, whole), whole))

    def create(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        whole = bytes(data)
        self._patience.create(
            lambda: self._request("create", key, lambda: self._server.create(key, whole), whole),
            lambda: self._request("get", key, lambda: self._server.get(key)),
            whole,
            key,
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        found: list[ObjectInfo] = []

        def work() -> bytes:
            found[:] = self._server.list(prefix, lagging=self._server.faults.lagging())
            return b""

        self._patience.call(lambda: self._request("list", prefix, work))
        return iter(found)

    def folders(self, prefix: str) -> set[str]:
        """See ObjectStore."""
        below = (info.key[len(prefix) :] for info in self.list(prefix))
        return {rest.partition("/")[0] for rest in below if "/" in rest}

    def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore."""
        for key in keys:
            self._patience.call(
                lambda key=key: self._request("delete", key, lambda: self._server.delete(key))  # type: ignore[misc]
            )

    def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        found = self._patience.call(lambda: self._request("head", key, lambda: self._server.get(key)))
        stored = self._server.objects.get(key)
        return ObjectInfo(key, len(found), tag(found), EPOCH + (stored.born if stored else 0.0))

    def _request(self, kind: str, key: str, work: Callable[[], bytes], data: Data = b"") -> bytes:
        self.traffic.count(kind)
        return self._server.request(self.machine, kind, key, work, data)
