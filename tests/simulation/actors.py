"""Who takes part: each is a machine that does one thing after another, dies, comes back, and goes on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

from blockvault.engine import (
    AttemptFenced,
    BackupNotFound,
    BackupRequest,
    ChangedList,
    ParentNotFound,
    Repository,
    StoredDataDamaged,
    VolumeDeleted,
    VolumeNotFound,
    pages,
)
from blockvault.engine.backup import LIST
from blockvault.engine.errors import KeyMissing, KeyRotated, OwnedElsewhere, ReadOvertaken, WrongKey
from blockvault.stores import BlockvaultError, InvalidCredentials, StoreThrottled, StoreUnreachable
from tests.simulation import faults
from tests.simulation.model import Operation, Wrong, left_out, ranges_between
from tests.simulation.needs import KINDS
from tests.simulation.server import Crash, Machine
from tests.simulation.world import CLUSTERS, LISTS, PATCHES, World

Step = Callable[[World, Machine, random.Random], None]

# What must have happened somewhere in the fixed seeds, beside every kind of fault.
ACTIONS = (
    "backup: full, Full", "backup: incremental, Compare", "backup: incremental, List", "backup repeated",
    "backup: AttemptFenced", "backup: ParentNotFound", "collect", "collect: attempts given up",
    "collect: commits trimmed", "collect: trash emptied", "collect: ListingImplausible", "compact", "delete",
    "delete a volume", "delete into the trash", "failed: InvalidCredentials", "failed: KeyRotated",
    "failed: OwnedElsewhere", "failed: StoreUnreachable", "fallback: ListOfAnotherBackup",
    "fallback: ListWasWrong", "fallback: ListsDistrusted", "fallback: ParentDamaged", "list", "list of sectors",
    "list of blocks", "list of more", "list that lies", "restore", "restore of a backup that a list spoiled",
    "rotate", "take over", "undelete", "verify", "rot: bit", "rot: end", "rot: gone", "rot: a root",
    "rot: a damaged backup deleted", "rot: a summary made anew", "bytes of the trash",
    "rot: an old backup mended", "rot: named", "rot: salvaged", "rot: healed",
    *(f"{verb}: {what}" for verb in ("needed", "rot") for what in KINDS),
)  # fmt: skip

GIVEN_UP = "collect: attempts given up"

# What may happen to a backup without anybody's fault.
TROUBLE = (StoreUnreachable, StoreThrottled, InvalidCredentials)
OTHER_KEY = (KeyRotated, WrongKey, KeyMissing)
OVERTAKEN = (AttemptFenced, ParentNotFound, VolumeDeleted)


def machine(world: World, name: str, step: Step, steps: int) -> Callable[[], None]:
    """The life of one machine."""

    def live() -> None:
        chance = world.chance_of(name)
        mine = Machine(name)
        for _ in range(steps):
            world.scheduler.pause(10 ** chance.uniform(-2, 0.3 if world.hectic else 2.5))
            mine.boot()
            try:
                step(world, mine, chance)
            except Crash:
                world.server.note(name, "is dead")
            finally:
                world.given.pop(name, None)

    return live


@dataclass(frozen=True)
class Before:
    """How things stood when something was begun, to judge its failure by."""

    world: World
    mine: Machine
    troubled: int
    key_changes: int
    rotating: bool
    marks: dict[str, int]
    commits: int

    @classmethod
    def now(cls, world: World, mine: Machine) -> Before:
        """As they stand now."""
        marks = {volume: world.owners.mark(volume) for volume in world.model.devices}
        rotating = world.target is not None
        return cls(world, mine, mine.troubled, world.key_changes, rotating, marks, mine.commits)

    def excuse(self, error: BlockvaultError) -> None:
        """An error must have a cause: trouble on the way to the store, or keys that changed. Raises Wrong otherwise.

        Bodies that were spoiled on their way are no cause: nothing is believed to be damaged before a second look.
        """
        world, mine = self.world, self.mine
        world.server.note(mine.name, f"failed: {error.reason}: {error}")
        rotated = self.rotating or world.key_changes > self.key_changes
        if isinstance(error, OwnedElsewhere) and self._anothers():
            world.did(f"failed: {error.reason}")
            return
        trouble = isinstance(error, TROUBLE) and mine.troubled > self.troubled
        if not trouble and not (rotated and isinstance(error, OTHER_KEY)):
            raise Wrong(f"{mine.name}: {error.reason} without cause: {error}") from error
        world.did(f"failed: {error.reason}")

    def may_change(self, volume: str) -> None:
        """What it did to a volume went well. Raises Wrong when that is another cluster's for certain."""
        world, cluster = self.world, self.world.cluster_of(self.mine)
        if self.mine.commits == self.commits:
            return  # it found everything done already
        if world.theme == CLUSTERS and not world.owners.may_have_been(volume, cluster, self.marks[volume]):
            raise Wrong(f"{self.mine.name} of {cluster} changed what belongs to another cluster")

    def _anothers(self) -> bool:
        """Whether some volume may have been another's since then; or ever, where listings lag behind."""
        world, cluster = self.world, self.world.cluster_of(self.mine)
        lags = faults.LAGGING in world.server.faults.rates
        return any(
            world.owners.may_have_been_anothers(volume, cluster, 0 if lags else since)
            for volume, since in self.marks.items()
        )


def write(world: World, mine: Machine, chance: random.Random) -> None:
    """Back a volume up: a new operation, or one that was begun already, here or elsewhere."""
    model = world.model
    volume = chance.choice(sorted(model.devices))
    begun = [o for o in model.operations.values() if o.volume == volume and not o.backup_id]
    if begun and chance.random() < 0.6:
        operation = chance.choice(begun)
        world.did("backup repeated")
    else:
        model.devices[volume].live()
        operation = model.snapshot(volume)
    back_up(world, mine, operation, chance)


def back_up(
    world: World, mine: Machine, operation: Operation, chance: random.Random, *, plain: bool = False
) -> None:
    """One run of an operation. `plain`: in the way that depends on nothing."""
    request = BackupRequest(operation.path, operation.volume, operation.id, threads=1)
    if not plain:
        request = request_for(world, operation, chance)
    before = Before.now(world, mine)
    deletions = world.model.volume_deletions[operation.volume]
    deleting = world.model.deleting[operation.volume] > 0
    world.running[operation.volume] += 1
    operation.runs += 1
    world.owners.backs_up(operation.volume, world.cluster_of(mine))
    try:
        result = world.repository(mine).backup(request)
    except OVERTAKEN as error:
        world.server.note(mine.name, f"{operation.id}: {error.reason}: {error}")
        world.did(f"backup: {error.reason}")
        return
    except BlockvaultError as error:
        before.excuse(error)
        return
    finally:
        world.running[operation.volume] -= 1
    if operation.runs == 1:  # else another run, of another cluster, may have made it
        before.may_change(operation.volume)
    world.server.note(mine.name, f"{operation.id} is backup {result.backup_id[:8]}")
    if result.size != len(operation.content):
        raise Wrong(f"{operation.id}: size {result.size} instead of {len(operation.content)}")
    world.did(f"backup: {result.type}, {result.changed_block_source}")
    if result.fallback_reason:
        world.did(f"fallback: {result.fallback_reason}")
    if result.changed_block_source != LIST:
        operation.lied.clear()
    model = world.model
    if deleting or model.volume_deletions[operation.volume] > deletions:
        model.doomed[result.backup_id] += 1  # it may have been made just before all went
    model.succeeded(operation, result.backup_id)


def request_for(world: World, operation: Operation, chance: random.Random) -> BackupRequest:
    """How the operation is asked for this time."""
    request = BackupRequest(operation.path, operation.volume, operation.id, threads=chance.choice([1, 2, 3]))
    former = [
        o
        for o in world.model.operations.values()
        if o.backup_id and o.stored and o.volume == operation.volume
    ]
    mode = chance.choice(["compare", "compare", "list", "list", "list", "full"])
    if world.theme in (LISTS, PATCHES) and chance.random() < 0.7:
        mode = "list"
    if mode == "full":
        request.full = True
    elif mode == "list" and former:
        parent = (
            former[-1] if chance.random() < (0.9 if world.theme == LISTS else 0.6) else chance.choice(former)
        )
        assert parent.backup_id is not None
        step = chance.choice([pages.SECTOR_SIZE, pages.SECTOR_SIZE, pages.BLOCK_SIZE, 16 * pages.BLOCK_SIZE])
        grain = "sectors" if step == pages.SECTOR_SIZE else "blocks" if step == pages.BLOCK_SIZE else "more"
        world.did(f"list of {grain}")
        ranges = ranges_between(parent.content, operation.content, step, chance)
        if parent.content == operation.content and chance.random() < 0.8:
            ranges = []
        if chance.random() < (0.5 if world.theme == LISTS else 0.2):
            left = chance.choice([0.1, 0.8])
            ranges = [r for r in ranges if chance.random() < left]
            believed = left_out(parent.content, operation.content, ranges, pages.BLOCK_SIZE)
            if believed != operation.content:
                operation.lied.append(believed)
                world.did("list that lies")
        request.changed = ChangedList(ranges, parent.backup_id)
        if chance.random() < 0.5:
            request.parent = parent.backup_id
    request.meta = {"operation": operation.id}
    return request


def read(world: World, mine: Machine, chance: random.Random) -> None:
    """List the backups and restore one of them."""
    model = world.model
    volume = chance.choice(sorted(model.devices))
    gone = set(model.deleted)
    present = {o.backup_id: o for o in model.operations.values() if o.backup_id and o.volume == volume}
    before = Before.now(world, mine)
    givings_up = world.server.counts[GIVEN_UP]
    wanted = None
    try:
        repository = world.repository(mine)
        try:
            table = repository.list(volume)
        except VolumeNotFound:
            table = []
        listed = {row["backupId"]: model.known(row["operationId"]) for row in table}
        if gone & listed.keys():
            raise Wrong(f"listed after their deletion: {gone & listed.keys()}")
        missing = present.keys() - listed.keys() - model.doomed.keys()
        if missing:
            raise Wrong(f"not listed: {missing}")
        world.did("list")
        if not listed:
            return
        wanted = chance.choice(sorted(listed))
        restore_one(world, repository, listed[wanted], wanted, mine.name)
        world.did("restore")
    except (BackupNotFound, VolumeDeleted, VolumeNotFound) as error:
        if wanted not in model.doomed and not model.volume_deletions[volume]:
            raise Wrong(f"restore of {wanted}: {error}") from error
        world.did("restore: deleted meanwhile")
    except (StoredDataDamaged, ReadOvertaken) as error:
        # What is pinned stays, even if it is deleted; unless the pin was not made, or given up as too old. What was
        # overtaken is there still, so it need not be one that was deleted.
        given_up = world.server.counts[GIVEN_UP] > givings_up
        unpinned = given_up or mine.troubled > before.troubled or model.volume_deletions[volume] > 0
        overtaken = isinstance(error, ReadOvertaken)
        if not unpinned or not (overtaken or wanted in model.doomed):
            before.excuse(error)
        world.did("restore: overtaken" if overtaken else "restore: deleted meanwhile")
    except BlockvaultError as error:
        before.excuse(error)


def restore_one(world: World, repository: Repository, operation: Operation, backup_id: str, who: str) -> None:
    """Restore a backup to a new file and compare."""
    path = world.path(f"restored-{who}")
    if os.path.exists(path):
        os.unlink(path)
    repository.restore(operation.volume, path, backup_id)
    with open(path, "rb") as file:
        found = file.read()
    os.unlink(path)
    if found in operation.lied:
        world.did("restore of a backup that a list spoiled")
    elif found != operation.content:
        at = next(
            (i for i, (a, b) in enumerate(zip(found, operation.content, strict=False)) if a != b), "the end"
        )
        raise Wrong(f"backup {backup_id} of {operation.id} restores other bytes, from {at} on")
