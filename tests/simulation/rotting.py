"""After the end of a run, one object goes bad: it is found and named, and the next backup does not build on it."""

from __future__ import annotations

import random

from blockvault.engine import StoredDataDamaged, VolumeNotFound
from tests.simulation.actors import back_up, restore_one
from tests.simulation.model import Operation, Wrong
from tests.simulation.server import Machine
from tests.simulation.world import World

# One seed in so many.
EVERY = 3


def rot(world: World) -> None:
    """Damage one object that backups need. Raises Wrong when that goes unnoticed, or takes more than it must."""
    chance = world.chance_of("rot")
    if chance.randrange(EVERY):
        return
    repository = world.calm()
    volume = chance.choice(sorted(world.model.devices))
    try:
        table = repository.list(volume)
    except VolumeNotFound:
        return
    if not table:
        return
    lineage = repository._volumes.find(volume)
    assert lineage is not None
    folders = tuple(lineage.lineage.paths.folders.values())
    key = chance.choice(sorted(key for key in world.server.objects if key.startswith(folders)))
    spoil(world, key, chance)
    found = repository.verify(volume)
    named = {row["object"] for row in found["damaged"]}
    if not found["ok"] and not any(key.endswith(name) for name in named):
        raise Wrong(f"{key} is damaged, and verify names {named}")
    spoiled = 0
    for row in table:
        operation = world.model.known(row["operationId"])
        try:
            restore_one(world, repository, operation, row["backupId"], "observer")
        except StoredDataDamaged:
            spoiled += 1
    # Bytes of an object that no backup reaches any more may be bad without harm.
    if found["ok"] and spoiled:
        raise Wrong(f"{key} is damaged, {spoiled} backups do not restore, and verify has found nothing")
    world.did("rot: backups spoiled" if spoiled else "rot: nothing lost")
    heal(world, volume, chance)


def spoil(world: World, key: str, chance: random.Random) -> None:
    """One bit, or the end of it, or all of it."""
    stored = world.server.objects[key]
    how = chance.choice(["bit", "end", "gone"])
    world.server.note("rot", f"{key}: {how}")
    world.did(f"rot: {how}")
    if how == "gone":
        del world.server.objects[key]
    elif how == "end":
        stored.data = stored.data[: chance.randrange(len(stored.data))]
    else:
        data = bytearray(stored.data)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        stored.data = bytes(data)


def heal(world: World, volume: str, chance: random.Random) -> None:
    """The next backup holds what the volume holds, whatever is damaged."""
    operation: Operation = world.model.snapshot(volume)
    back_up(world, Machine("healer"), operation, chance, plain=True)
    if operation.backup_id is None:
        raise Wrong(f"{volume} cannot be backed up any more")
    restore_one(world, world.calm(), operation, operation.backup_id, "observer")
    world.did("rot: healed")
