"""A volume is taken over by one cluster while the other collects and compacts it: nothing else, so that it is dense."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import traceback

from blockvault.engine import AttemptFenced, BackupRequest
from blockvault.engine.errors import OwnedElsewhere
from tests.simulation.checks import check, collect_all
from tests.simulation.server import Machine
from tests.simulation.upkeep import remove
from tests.simulation.world import CLUSTERS, EAST, WEST, World, world

BACKUPS = 5
# Both work through what there is to do as many times.
ROUNDS = 3


def taken_over(seed: int) -> str | None:
    """One story: what went wrong in it, or None."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = tempfile.mkdtemp(prefix="takeovers-", dir=place)
    try:
        with world(seed, folder) as made:
            made.theme = CLUSTERS
            made.server.heal()
            try:
                _play(made)
            except Exception:  # noqa: BLE001 - whatever it is, it belongs to this seed
                return traceback.format_exc()
            return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _play(made: World) -> None:
    volume, chance = min(made.model.devices), made.chance_of("takeovers")
    made.clusters.update({"writer": EAST, "collector": EAST, "compactor": EAST, "taker": WEST})
    writer = Machine("writer")
    for _ in range(BACKUPS):
        made.model.devices[volume].live()
        operation = made.model.snapshot(volume)
        request = BackupRequest(operation.path, volume, operation.id, threads=1)
        made.owners.backs_up(volume, EAST)
        made.model.succeeded(operation, made.repository(writer).backup(request).backup_id)
    kept = [o.backup_id for o in made.model.operations.values() if o.backup_id]
    for number, backup_id in enumerate(chance.sample(kept, BACKUPS - 2)):
        remove(made, writer, volume, backup_id, 1e-9 if number else 0.0)
    made.scheduler.pause(2.0)
    made.scheduler.add("collector", lambda: _upkeep(made, "collector", volume))
    made.scheduler.add("compactor", lambda: _upkeep(made, "compactor", volume))
    made.scheduler.add("taker", lambda: _take(made, volume, made.chance_of("taker")))
    made.scheduler.run()
    collect_all(made)
    check(made)


def _upkeep(made: World, name: str, volume: str) -> None:
    """Until it belongs to the other cluster. A run that was given up repeats nothing that matters here."""
    for _ in range(ROUNDS):
        one = made.repository(Machine(name))
        try:
            if name == "collector":
                one.collect(volume)
            else:
                one.compact(volume, budget=10**9)
        except OwnedElsewhere:
            return
        except AttemptFenced:
            continue


def _take(made: World, volume: str, chance: random.Random) -> None:
    made.scheduler.pause(10 ** chance.uniform(-2, 0.5))
    with made.owners.takes_over(volume, WEST, born=True):
        made.repository(Machine("taker")).take_over(volume, WEST)
