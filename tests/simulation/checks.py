"""The end of a run: the store healed, everything finished, and all that must be true looked at."""

from __future__ import annotations

from collections import Counter

from blockvault.engine import VolumeNotFound, commitlog
from blockvault.engine.collect import ATTEMPT_SECONDS, Collected
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import EngineError, OwnedElsewhere
from blockvault.engine.names import ObjectName
from blockvault.engine.root import Roots
from blockvault.engine.trash import in_trash
from blockvault.engine.volumes import Volume
from blockvault.stores import ObjectStore
from tests.simulation.actors import back_up, restore_one
from tests.simulation.model import Wrong
from tests.simulation.needs import live_bytes, needs_of
from tests.simulation.server import Machine
from tests.simulation.upkeep import rotate
from tests.simulation.world import DAY, EAST, WEST, World


def finish(world: World) -> None:
    """Heal the store and let most of what was begun be finished; the rest was given up for ever."""
    world.server.heal()
    chance = world.chance_of("finish")
    machine = Machine("finisher")
    if world.target is not None:
        rotate(world, machine, chance)
    owners = owners_now(world)
    for operation in list(world.model.operations.values()):
        if operation.volume in owners:
            world.clusters[machine.name] = owners[operation.volume]
        if operation.backup_id is None and chance.random() < 0.7:
            back_up(world, machine, operation, chance)
            if operation.backup_id is None:
                back_up(world, machine, operation, chance, plain=True)  # its parent had been deleted
            if operation.backup_id is None:
                raise Wrong(f"{operation.id} cannot be made although nothing goes wrong any more")


def owners_now(world: World) -> dict[str, str]:
    """By volume, the cluster that it belongs to."""
    return {row["volume"]: row["owner"]["cluster"] for row in world.calm().usage() if row["owner"]}


def collect_all(world: World) -> None:
    """When runs of before count as dead, a collect leaves nothing but what the backups need."""
    world.scheduler.pause(ATTEMPT_SECONDS + 5 * DAY)  # clocks may be wrong by two days
    for volume in sorted(world.model.devices):
        collect(world, volume)
        again = collect(world, volume)
        if again:
            raise Wrong(f"a second collect finds more: {again}")


def collect(world: World, volume: str) -> list[Collected]:
    """Collect by each cluster what is its own: a volume and those deleted before it may have had other owners."""
    done = []

    def refused(_: str, error: EngineError) -> None:
        if not isinstance(error, OwnedElsewhere):
            raise error

    for cluster in (EAST, WEST):
        world.clusters["observer"] = cluster
        done += world.calm().collect(volume, refused=refused)
    return [one for one in done if one.deleted_objects]


def check(world: World) -> None:
    """Everything that must be true in the end. Raises Wrong."""
    model = world.model
    repository = world.calm()
    listed: set[str] = set()
    used = {row["volume"]: row["usedBytes"] for row in repository.usage()}
    for volume in sorted(model.devices):
        try:
            table = repository.list(volume)
        except VolumeNotFound:
            continue
        operations = Counter(row["operationId"] for row in table)
        twice = [operation for operation, count in operations.items() if count > 1]
        if twice:
            raise Wrong(f"operations with more than one backup: {twice}")
        # Before anything is restored: a pin is a commit, so reading adds some that no collect has trimmed yet.
        named = check_usage(world, repository.store, repository._volumes.find(volume), used.get(volume))
        check_orphans(world, repository._volumes.find(volume), named)
        for row in table:
            operation = model.known(row["operationId"])
            backup_id = row["backupId"]
            model.succeeded(operation, backup_id)
            listed.add(backup_id)
            shown = repository.show(volume, backup_id)
            if (shown["size"], shown["rootHash"]) != (row["size"], row["rootHash"]):
                raise Wrong(f"list and show disagree about {backup_id}")
            if operation.volume != volume or row["size"] != len(operation.content):
                raise Wrong(f"{backup_id} is not a backup of {operation.id}")
            restore_one(world, repository, operation, backup_id, "observer")
    wanted = {o.backup_id: o.id for o in model.operations.values() if o.backup_id}
    lost = [name for backup_id, name in wanted.items() if backup_id not in listed | model.doomed.keys()]
    if lost:
        raise Wrong(f"backups were reported and are lost: {lost}")
    if listed & model.deleted:
        raise Wrong(f"deleted backups are back: {listed & model.deleted}")


def check_usage(world: World, store: ObjectStore, volume: Volume | None, reported: int | None) -> set[str]:
    """The summaries name exactly what the trees reach, it is really there, and used bytes are its size."""
    assert volume is not None
    state, lineage = volume.state, volume.lineage
    paths = lineage.paths
    roots = Roots(store, lineage)
    named: dict[str, int] = {}
    living: set[str] = set()
    for entry in state.roots:
        mine: dict[str, int] = {}
        name = ObjectName.parse(entry.object)
        summary = roots.summary(name)
        live = {used: usage.live for used, usage in summary.items()}
        needs = needs_of(store, lineage, roots.read(entry))
        for what in {need.what for need in needs}:
            world.did(f"needed: {what}")
        if live != live_bytes(needs):
            raise Wrong(f"the summary of {entry.id} does not name what its tree reaches")
        for used, usage in summary.items():
            mine[paths.segment(used) if usage.kind == Kind.SEGMENT else paths.pages(used)] = usage.size
        base: tuple[ObjectName, int] | None = (name, entry.object_bytes)
        while base is not None:
            mine[paths.root(base[0])] = base[1]
            base = roots._read(base[0]).base
        named.update(mine)
        if not in_trash(entry):
            living.update(mine)
    for key, size in named.items():
        if store.stat(key).size != size:
            raise Wrong(f"{key} has another size than its summaries say")
    if not sum(named.values()) == state.used_bytes == reported:
        raise Wrong(f"used bytes: {state.used_bytes}, {reported}; there are {sum(named.values())}")
    trash = sum(size for key, size in named.items() if key not in living)
    if trash != state.trash_bytes:
        raise Wrong(f"bytes of the trash: {state.trash_bytes}; there are {trash}")
    if trash:
        world.did("bytes of the trash")
    return set(named)


def check_orphans(world: World, volume: Volume | None, named: set[str]) -> None:
    """After the last collect, nothing is there but what is needed, and few commits."""
    assert volume is not None
    paths, number = volume.lineage.paths, volume.state.number
    for key in world.server.objects:
        if key.startswith((paths.segments, paths.page_objects, paths.roots)) and key not in named:
            raise Wrong(f"{key} is needed by nobody, and is still there")
        if key.startswith(paths.commits):
            n = int(key.rpartition("/")[2])
            if n <= number - 2 * commitlog.MILESTONE and n % commitlog.MILESTONE:
                raise Wrong(f"{key} was not trimmed; the newest is {number}")
