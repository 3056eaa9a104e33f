"""One run: everything that takes part in it, made from its seed."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from blockvault.engine import Repository, commits, runtime
from blockvault.engine.keys import KeyRing, VaultKey
from blockvault.engine.runtime import Runtime
from blockvault.engine.state import Outcome, State
from tests.simulation.faults import Faults
from tests.simulation.model import Device, Model
from tests.simulation.owners import Owners, refuse_trespass
from tests.simulation.scale import TINY, WHOLE, scaled
from tests.simulation.scheduler import EPOCH, Scheduler, TurnExecutor
from tests.simulation.server import Client, Machine, Server

DAY = 86_400.0
# Turns after which a run goes round in circles.
MOST_TURNS = 60_000
# One seed in so many runs with blocks and sectors of their true size.
WHOLE_EVERY = 16


# What a seed is about. Most are about everything; some make sure that what is rare occurs.
ALL, LISTS, PATCHES, TRASH, CLUSTERS = "everything", "lists", "patches", "trash", "clusters"
THEMES = (ALL, ALL, ALL, ALL, LISTS, PATCHES, TRASH, CLUSTERS)
EAST, WEST = "east", "west"


@dataclass
class World:
    """The store, the clock, the model.

    `hectic`: all do their work at the same time. `ring`: what whoever starts now is given. `target`: the key that a rotation under way leads to. `key_changes`:
    how often `ring` has changed; `given`: which of these rings each busy machine works with.
    """

    seed: int
    chance: random.Random
    scheduler: Scheduler
    server: Server
    model: Model
    ring: KeyRing
    theme: str = ALL
    hectic: bool = False
    target: VaultKey | None = None
    key_changes: int = 0
    given: dict[str, int] = field(default_factory=dict)
    # By volume, how many backups are being made.
    running: Counter[str] = field(default_factory=Counter)
    owners: Owners = field(default_factory=lambda: Owners((EAST, WEST)))
    # Where the machines stand whose cluster is certain.
    clusters: dict[str, str] = field(default_factory=dict)

    def hand_out(self, ring: KeyRing) -> None:
        """Let everybody who starts from now on have these keys."""
        self.ring = ring
        self.key_changes += 1

    def old_keys_useless(self, since: float) -> bool:
        """Whether listings made since then showed all volumes, and nobody works with older keys than those of now."""
        listed = all(
            stored.born <= since - self.server.lag
            for key, stored in self.server.objects.items()
            if key.startswith("volumes/")
        )
        return listed and all(version == self.key_changes for version in self.given.values())

    def chance_of(self, name: str) -> random.Random:
        """Randomness of one actor, which does not depend on what the others do."""
        return random.Random(f"{self.seed}/{name}")

    def repository(self, machine: Machine) -> Repository:
        """The store as a machine opens it."""
        self.given[machine.name] = self.key_changes
        actor = self.cluster_of(machine) if self.theme == CLUSTERS else None
        return Repository.open(self.client(machine), self.ring, actor=actor)

    def cluster_of(self, machine: Machine) -> str:
        """The cluster that a machine belongs to."""
        found = self.clusters.get(machine.name)
        return found or self.chance_of(f"{machine.name}/cluster").choice((EAST, WEST))

    def client(self, machine: Machine) -> Client:
        """The store as a machine reaches it."""
        return Client(self.server, machine)

    def calm(self) -> Repository:
        """The store as somebody opens it whom nothing can befall."""
        return self.repository(Machine("observer"))

    def did(self, action: str) -> None:
        """Count what was done, for the summary."""
        self.server.counts[action] += 1

    def path(self, name: str) -> str:
        """A place for a file."""
        return os.path.join(self.model.folder, name)


@contextmanager
def watched(world: World) -> Iterator[None]:
    """Look at whose the lineage is by the state that each commit follows, whoever makes it."""
    prepare = commits.Commits._prepare

    def looked(self: commits.Commits, state: State, following: State, outcome: Outcome) -> State:
        client = self._store
        if world.theme == CLUSTERS and isinstance(client, Client):
            refuse_trespass(state, outcome.action, world.cluster_of(client.machine))
        return prepare(self, state, following, outcome)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commits.Commits, "_prepare", looked)
        yield


@contextmanager
def world(seed: int, folder: str) -> Iterator[World]:
    """A fresh one, with the engine bound to it inside the block."""
    chance = random.Random(f"{seed}/world")
    troubles = Faults(random.Random(f"{seed}/faults"))
    sticky = chance.choice([0.0, 0.3, 0.7, 0.9, 0.97])
    scheduler = Scheduler(random.Random(f"{seed}/turns"), sticky, MOST_TURNS)
    server = Server(scheduler, random.Random(f"{seed}/server"), troubles)
    constants = WHOLE if seed % WHOLE_EVERY == 0 else TINY
    block, sector = int(constants["BLOCK_SIZE"]), int(constants["SECTOR_SIZE"])
    names = ["disk"] if chance.random() < 0.7 else ["disk", "logs"]
    theme = random.Random(f"{seed}/theme").choice(THEMES)
    devices = {
        name: Device(random.Random(f"{seed}/{name}"), block, sector, scattered=theme == PATCHES)
        for name in names
    }
    ring = KeyRing(VaultKey(chance.randbytes(32))) if chance.random() < 0.4 else KeyRing()
    pools = random.Random(f"{seed}/pools")
    bound = Runtime(
        wall=lambda: EPOCH + scheduler.now + skew_of(scheduler),
        monotonic=lambda: scheduler.now,
        random=random.Random(f"{seed}/engine").randbytes,
        executor=lambda threads, _: TurnExecutor(threads, pools),
        sleep=scheduler.pause,
    )
    skews = random.Random(f"{seed}/clocks")
    skewed = skews.random() < 0.3
    clocks: dict[str, float] = {}

    def skew_of(scheduler: Scheduler) -> float:
        """How wrong the clock of the machine is whose turn it is: up to two days."""
        if not skewed or scheduler.current is None:
            return 0.0
        return clocks.setdefault(scheduler.current.name, skews.uniform(-2, 2) * DAY)

    former = random.getstate()
    random.seed(seed)  # how long the product's patience waits between tries
    try:
        with scaled(constants), runtime.use(bound):
            made = World(
                seed, chance, scheduler, server, Model(folder, devices), ring, theme, chance.random() < 0.5
            )
            made.did(f"theme: {theme}")
            troubles.enabled = False
            Repository.init(Client(server, Machine("maker")), ring)
            troubles.enabled = True
            with watched(made):
                yield made
    finally:
        random.setstate(former)
