"""Who looks after the backups: deletes them, brings them back, collects, compacts, rotates keys."""

from __future__ import annotations

import random

from blockvault.engine import BackupNotFound
from blockvault.engine.collect import ATTEMPT_SECONDS
from blockvault.engine.commits import Commits
from blockvault.engine.errors import (
    AttemptFenced,
    ListingImplausible,
    OwnedElsewhere,
    VolumeDeleted,
    VolumeNotFound,
)
from blockvault.engine.keys import KeyRing, VaultKey
from blockvault.engine.rotation import Rotation
from blockvault.engine.state import Outcome
from blockvault.stores import BlockvaultError
from tests.simulation.actors import Before
from tests.simulation.model import Wrong
from tests.simulation.server import Machine
from tests.simulation.world import TRASH, World

# Of what is in the trash for so long, nothing may be lost before the end. Seconds.
FOR_LONG = 1e9


def delete(world: World, mine: Machine, chance: random.Random) -> None:
    """Delete a backup: at once, or into the trash."""
    volume = chance.choice(sorted(world.model.devices))
    there = backups_of(world, volume)
    if there:
        keep = chance.choice([0.0, 0.0, 10 ** chance.uniform(0, 4), FOR_LONG])
        if world.theme == TRASH and chance.random() < 0.8:
            keep = chance.choice([10 ** chance.uniform(0, 2), FOR_LONG])
        remove(world, mine, volume, chance.choice(there), keep)


def pull_the_rug(world: World, mine: Machine, chance: random.Random) -> None:
    """Delete what a running backup may build on, and collect while it runs."""
    volume = chance.choice(sorted(world.model.devices))
    for _ in range(200):
        if world.running[volume] and backups_of(world, volume):
            break
        world.scheduler.pause(chance.uniform(0.01, 0.2))
    for backup_id in backups_of(world, volume)[-chance.choice([0, 1, 1, 9]) :]:
        if backup_id not in world.model.deleted:
            remove(world, mine, volume, backup_id, 0.0)
    collect(world, mine, chance, volume=volume, patience=ATTEMPT_SECONDS)


def backups_of(world: World, volume: str) -> list[str]:
    """Ids of a volume's backups that were reported, in the order of their snapshots."""
    return [o.backup_id for o in world.model.operations.values() if o.backup_id and o.volume == volume]


def is_born(world: World, volume: str) -> bool:
    """Whether a volume has a backup that stays."""
    return any(not world.model.doomed[backup_id] for backup_id in backups_of(world, volume))


def remove(world: World, mine: Machine, volume: str, backup_id: str, keep: float) -> None:
    """Delete one backup; keep it in the trash for so many seconds."""
    model = world.model
    if keep != FOR_LONG:
        model.doomed[backup_id] += 1
        if not is_born(world, volume):
            world.owners.empties(volume)
    before = Before.now(world, mine)
    try:
        was_there = world.repository(mine).delete(volume, backup_id, keep_seconds=keep)
    except BlockvaultError as error:
        before.excuse(error)
        return
    if was_there:
        before.may_change(volume)
    if not was_there and model.doomed[backup_id] <= (keep != FOR_LONG):
        raise Wrong(f"backup {backup_id} was not there when it was to be deleted")
    world.did("delete into the trash" if keep else "delete")
    world.server.note(mine.name, f"deleted {backup_id[:8]}, kept for {keep:.0f} s: {was_there}")
    if keep:
        model.in_trash.add(backup_id)
    else:
        model.deleted.add(backup_id)


def undelete(world: World, mine: Machine, chance: random.Random) -> None:
    """Bring a backup back."""
    model = world.model
    volume = chance.choice(sorted(model.devices))
    there = backups_of(world, volume)
    if not there:
        return
    in_trash = [backup_id for backup_id in there if backup_id in world.model.in_trash]
    backup_id = chance.choice(in_trash if in_trash and chance.random() < 0.8 else there)
    before = Before.now(world, mine)
    try:
        was_in = world.repository(mine).undelete(volume, backup_id)
    except (BackupNotFound, VolumeNotFound) as error:
        if backup_id not in model.doomed:
            raise Wrong(f"undelete of {backup_id}: {error}") from error
        return
    except BlockvaultError as error:
        before.excuse(error)
        return
    before.may_change(volume)
    world.did("undelete" if was_in else "undelete: not in the trash")


def delete_volume(world: World, mine: Machine, chance: random.Random) -> None:
    """Delete all of a volume's backups for good."""
    model = world.model
    volume = chance.choice(sorted(model.devices))
    known = [o.backup_id for o in model.operations.values() if o.backup_id and o.volume == volume]
    model.doomed.update(known)
    model.volume_deletions[volume] += 1
    model.deleting[volume] += 1
    before = Before.now(world, mine)
    try:
        with world.owners.deletes(volume):
            world.repository(mine).delete_volume(volume)
    except OwnedElsewhere as error:
        before.excuse(error)
        model.deleting[volume] -= 1
        return
    except BlockvaultError as error:
        before.excuse(error)
        return  # it may still happen, so it stays under way for the model
    before.may_change(volume)
    model.deleted.update(known)
    model.deleting[volume] -= 1
    world.did("delete a volume")


def collect_some(world: World, mine: Machine, chance: random.Random) -> None:
    """Free what nobody needs, and give attempts up sooner than one would."""
    volume = chance.choice([None, *sorted(world.model.devices)])
    patience = chance.choice([0.0, 10 ** chance.uniform(0, 4), ATTEMPT_SECONDS])
    collect(world, mine, chance, volume=volume, patience=patience)


def collect(
    world: World, mine: Machine, chance: random.Random, *, volume: str | None, patience: float
) -> None:
    """One collect. `patience`: seconds after which an attempt counts as dead."""
    before = Before.now(world, mine)
    dry_run = chance.random() < 0.1
    try:
        for done in world.repository(mine).collect(volume, dry_run=dry_run, attempt_seconds=patience):
            if volume is not None:
                before.may_change(volume)
            if dry_run:
                world.did("collect: dry run")
                continue
            world.did("collect" if done.deleted_objects else "collect: nothing to do")
            for what, count in (
                ("collect: trash emptied", len(done.emptied)),
                ("collect: attempts given up", len(done.given_up)),
                ("collect: commits trimmed", done.trimmed_commits),
            ):
                if count:
                    world.did(what)
    except ListingImplausible as error:
        # Listings that lag, and others who delete at the same time, look like this; it is right to stop then.
        world.server.note(mine.name, f"failed: {error.reason}: {error}")
        world.did("collect: ListingImplausible")
        if not world.server.faults.enabled:
            raise Wrong(f"a collect stops although nothing is wrong: {error}") from error
    except BlockvaultError as error:
        before.excuse(error)


def verify(world: World, mine: Machine, chance: random.Random) -> None:
    """Read back what is stored. Nothing is damaged, whatever happens on the way."""
    before = Before.now(world, mine)
    volume = chance.choice([None, *sorted(world.model.devices)])
    sample, budget = chance.choice([(None, None), (0.3, None), (None, 20_000)])
    try:
        result = world.repository(mine).verify(volume, sample=sample, budget_bytes=budget)
    except VolumeNotFound:
        return
    except BlockvaultError as error:
        before.excuse(error)
        return
    if result["damaged"]:
        raise Wrong(f"verify finds damage where there is none: {result['damaged'][:3]}")
    world.did("verify")


def compact(world: World, mine: Machine, chance: random.Random) -> None:
    """Rewrite what is mostly dead."""
    before = Before.now(world, mine)
    volume = chance.choice(sorted(world.model.devices))
    try:
        done = world.repository(mine).compact(volume, budget=chance.choice([None, 5_000, 10**9]))
        before.may_change(volume)
        if done.left:
            raise Wrong(f"compact finds damage where there is none: {done.left}")
        world.did("compact" if done.roots else "compact: nothing to do")
    except (AttemptFenced, VolumeDeleted, VolumeNotFound) as error:
        world.did(f"compact: {error.reason}")
    except BlockvaultError as error:
        before.excuse(error)


def rotate(world: World, mine: Machine, chance: random.Random) -> None:
    """Rotate the vault's key, or help a rotation on. The old key is given away once it is of no use."""
    ring = world.ring
    if ring.current is None:
        return
    if world.target is None:
        # A volume that listings do not show yet keeps its old wrap, so the old key has to be kept for so long.
        world.scheduler.pause(world.server.lag if chance.random() < 0.7 else 0.0)
        if world.target is None:
            world.target = VaultKey(chance.randbytes(32))
            world.hand_out(KeyRing(world.target, world.ring.current))
    ring, target, began = world.ring, world.target, world.scheduler.now
    before = Before.now(world, mine)
    try:
        result = Rotation(world.client(mine), ring).run()
    except BlockvaultError as error:
        before.excuse(error)
        return
    world.did("rotate" if result.old_key_removed else "rotate: waits for older runs")
    if result.old_key_removed and world.target is target and world.old_keys_useless(began):
        world.target = None
        world.hand_out(KeyRing(target))


def take_over(world: World, mine: Machine, chance: random.Random) -> None:
    """Let a volume belong to the machine's cluster from now on."""
    volume = chance.choice(sorted(world.model.devices))
    before = Before.now(world, mine)
    cluster = world.cluster_of(mine)
    try:
        with world.owners.takes_over(volume, cluster, born=is_born(world, volume)):
            world.repository(mine).take_over(volume, cluster)
    except (VolumeNotFound, VolumeDeleted):
        return
    except BlockvaultError as error:
        before.excuse(error)
        return
    world.did("take over")


def commit_often(world: World, mine: Machine, chance: random.Random) -> None:
    """Many commits that change nothing, so that numbers which sleepers know are trimmed meanwhile."""
    before = Before.now(world, mine)
    volume = chance.choice(sorted(world.model.devices))
    try:
        found = world.repository(mine)._volumes.find(volume)
        if found is None:
            return
        state = found.state
        for _ in range(chance.randrange(1, 20)):
            state = Commits(world.client(mine), found.lineage).update(
                lambda s: (s, Outcome("", "note")), state
            )
            world.did("commit that changes nothing")
    except BlockvaultError as error:
        before.excuse(error)
