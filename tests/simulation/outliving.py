"""After a root has gone bad: collect waits, the damaged backups are deleted, and everything else goes on."""

from __future__ import annotations

from blockvault.engine import Repository, StoredDataDamaged
from blockvault.engine.errors import EngineError, OwnedElsewhere
from blockvault.engine.state import RootEntry
from blockvault.engine.trash import in_trash
from tests.simulation.checks import check, collect_all
from tests.simulation.model import Wrong
from tests.simulation.server import Machine
from tests.simulation.world import World


def outlive(world: World, volume: str, touched: set[str], lost: set[str]) -> None:
    """Mend the backups `touched` by it, delete those that are `lost`, in any order; collect, and look at all.

    Raises Wrong when something is collected while nobody can tell what a backup needs, or when anything is lost
    besides.
    """
    chance = world.chance_of("outlive")
    repository = world.repository(Machine("healer"))
    before = {key for key in world.server.objects if "/commits/" not in key}
    errors: list[EngineError] = []
    repository.collect(volume, refused=lambda _, error: errors.append(error))
    told = [error for error in errors if not isinstance(error, OwnedElsewhere)]
    if bool(touched) != bool(told) or not all(isinstance(error, StoredDataDamaged) for error in told):
        raise Wrong(f"{touched} need what cannot be told, and a collect says {told}")
    if touched and before - world.server.objects.keys():
        raise Wrong("a collect deletes although it cannot be told what backups need")
    keep = chance.choice([0.0, 1.0])
    if any(entry.id in lost and in_trash(entry) for entry in _entries(repository, volume)):
        keep = 0.0  # what is in the trash already stays there for as long as it was told first
    first = chance.random() < 0.5
    if first:
        delete(world, volume, lost, keep)
    done = repository.rebuild(volume)
    if set(done.lost) != (set() if first and not keep else lost):
        raise Wrong(f"of {touched} it is said that {done.lost} cannot be mended")
    if done.roots:
        world.did("rot: a summary made anew")
    if not first:
        delete(world, volume, lost, keep)
    collect_all(world)
    check(world)


def _entries(repository: Repository, volume: str) -> list[RootEntry]:
    found = repository._volumes.find(volume)
    return [] if found is None else found.state.roots


def delete(world: World, volume: str, lost: set[str], keep: float) -> None:
    """Delete damaged backups: for good, or by way of the trash, to be kept there for so many seconds."""
    for backup_id in sorted(lost):
        world.model.doomed[backup_id] += 1
        world.model.deleted.add(backup_id)
        if not world.repository(Machine("healer")).delete(volume, backup_id, keep_seconds=keep):
            raise Wrong(f"damaged backup {backup_id} was not there when it was to be deleted")
        world.did("rot: a damaged backup deleted")
