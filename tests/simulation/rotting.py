"""After the end of a run, something in the store goes bad: what verify, restores and the next backup make of it.

What must be found follows from a walk through all trees before the damage, which shares no code with verify.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from blockvault.engine import Repository, StoredDataDamaged, VolumeNotFound, pages
from blockvault.engine.envelope import HEADER_SIZE
from blockvault.engine.names import ObjectName
from blockvault.engine.packs import TRAILER_SIZE
from blockvault.engine.pages import blocks_in
from blockvault.engine.root import Root, Roots
from blockvault.engine.verification import CURSOR
from tests.simulation import needs
from tests.simulation.actors import back_up, restore_one
from tests.simulation.checks import owners_now
from tests.simulation.model import Operation, Wrong
from tests.simulation.needs import Need, needs_of
from tests.simulation.outliving import outlive
from tests.simulation.server import Machine
from tests.simulation.world import EAST, World

# One seed in so many.
EVERY = 2
ROOT = "a root"
ANYTHING = "anything"
AROUND = "what lies around"
TARGETS = (ROOT, ANYTHING, AROUND, *needs.KINDS)
# Runs of verify with a budget, after which all has been looked at.
MOST_RUNS = 60


@dataclass
class Backup:
    """A backup, as it was before the damage. `based`: keys of its root and of those that its summary builds on."""

    id: str
    operation: Operation
    root: Root
    based: list[str]
    needs: list[Need]

    @property
    def blocks(self) -> int:
        """Of its volume."""
        return blocks_in(self.root.size)


@dataclass
class Damage:
    """What was done to one object. `at`: where the bit is, or where it was cut; 0 with `whole` when all is gone."""

    key: str
    how: str
    at: int = 0

    def hits(self, need: Need) -> bool:
        """Whether these very bytes are not what they were."""
        if need.key != self.key:
            return False
        if self.how == "bit":
            return need.offset <= self.at < need.offset + need.length
        return self.how == "gone" or need.offset + need.length > self.at

    def condemns(self, need: Need) -> bool:
        """Whether they count as damaged: pieces of an object that is not whole all do."""
        return self.hits(need) or (
            need.key == self.key and self.how != "bit" and need.what not in needs.PAGES
        )


@dataclass
class Expected:
    """Of one backup: blocks whose damage must be told, by object, and blocks that are lost.

    `covered`: what is lost may not be needed after all, as patches that came later lie on it. `pieces`: it is blocks
    that are damaged, and neither pages nor the root.
    """

    must: dict[str, set[int]] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    covered: bool = False
    pieces: bool = False


def rot(world: World) -> None:
    """Damage something that backups need. Raises Wrong when that goes unnoticed, or takes more than it must."""
    chance = world.chance_of("rot")
    if chance.randrange(EVERY):
        return
    volume = chance.choice(sorted(world.model.devices))
    repository = world.calm()
    try:
        backups = read_all(world, repository, volume)
    except VolumeNotFound:
        return
    if not backups:
        return
    damage = spoil(world, repository, volume, backups, chance)
    expected = {backup.id: expect(backup, damage) for backup in backups}
    around = look(world, repository, volume, backups, damage, expected, chance)
    salvage(world, repository, volume, backups, expected)
    operation = heal(world, repository, volume, chance)
    mend(world, repository, volume, backups, expected, operation)
    if around:
        replace(world, volume, backups, damage)
    if any(damage.key in backup.based for backup in backups):
        outlive(
            world, volume, {b.id for b in backups if expected[b.id].must}, lost_of(backups, damage, expected)
        )


def lost_of(backups: list[Backup], damage: Damage, expected: dict[str, Expected]) -> set[str]:
    """Backups whose own root is damaged, so that nothing is left of them."""
    return {b.id for b in backups if damage.key == b.based[0] and expected[b.id].must}


def read_all(world: World, repository: Repository, volume: str) -> list[Backup]:
    """All backups of a volume with all that they need."""
    found = repository._volumes.find(volume)
    if found is None:
        raise VolumeNotFound(volume)
    roots = Roots(repository.store, found.lineage)
    backups = []
    for entry in found.state.roots:
        root = roots.read(entry)
        name, based = ObjectName.parse(entry.object), [entry.object]
        while (base := roots._read(name).base) is not None:
            name = base[0]
            based.append(str(name))
        keys = [found.lineage.paths.root(ObjectName.parse(one)) for one in based]
        operation = world.model.known(entry.operation)
        backups.append(
            Backup(entry.id, operation, root, keys, needs_of(repository.store, found.lineage, root))
        )
    return backups


def spoil(
    world: World, repository: Repository, volume: str, backups: list[Backup], chance: random.Random
) -> Damage:
    """Flip a bit of something chosen, cut its object, or take it away."""
    everything = [need for backup in backups for need in backup.needs]
    target = chance.choice(
        [t for t in TARGETS if t in (ROOT, ANYTHING, AROUND, *{n.what for n in everything})]
    )
    how = chance.choice(["bit", "bit", "end", "gone"])
    at = None
    if target == ROOT:
        key = chance.choice(chance.choice(backups).based)
    elif target == ANYTHING:
        key = chance.choice(sorted({need.key for need in everything} | {b.based[0] for b in backups}))
    elif target == AROUND:
        key, how = chance.choice(sorted({need.key for need in everything}) or backups[0].based), "bit"
        size = len(world.server.objects[key].data)
        at = chance.choice([chance.randrange(HEADER_SIZE), size - 1 - chance.randrange(TRAILER_SIZE)])
    else:
        need = chance.choice([need for need in everything if need.what == target])
        key, at = need.key, chance.randrange(need.offset, need.offset + need.length)
    stored = world.server.objects[key]
    damage = Damage(key, how, chance.randrange(len(stored.data)) if at is None else at)
    world.server.note("rot", f"{key}: {target}, {how}, {damage.at}")
    world.did(f"rot: {target}")
    world.did(f"rot: {how}")
    if how == "gone":
        del world.server.objects[key]
    elif how == "end":
        stored.data = stored.data[: damage.at]
    else:
        data = bytearray(stored.data)
        data[damage.at] ^= 1 << chance.randrange(8)
        stored.data = bytes(data)
    return damage


def expect(backup: Backup, damage: Damage) -> Expected:
    """What this does to one backup."""
    found = Expected()
    everything = set(range(backup.blocks))
    if damage.key in backup.based:
        found.must[damage.key] = everything
        if damage.key == backup.based[0]:
            found.lost = everything
            return found
    hit = {(n.level, n.index) for n in backup.needs if n.what in needs.PAGES and damage.hits(n)}
    told: set[int] = set()
    for need in backup.needs:
        if not damage.condemns(need) or need.below(hit, backup.root.levels):
            continue
        blocks = set(need.blocks(backup.blocks))
        found.must.setdefault(need.key, set()).update(blocks)
        told |= blocks
        if damage.hits(need) and need.what != needs.DIGESTS:
            found.lost |= blocks
            found.pieces = need.what not in needs.PAGES
            found.covered = damage.how == "bit" and need.what in (needs.UNDER, needs.PATCH)
    return found


def look(
    world: World,
    repository: Repository,
    volume: str,
    backups: list[Backup],
    damage: Damage,
    expected: dict[str, Expected],
    chance: random.Random,
) -> bool:
    """Verify in every way. Raises Wrong for what is found where nothing is, and for what is not found.

    Says whether the object is damaged around what backups need, and nowhere else.
    """
    part = repository.verify(volume, sample=0.5)["damaged"]
    compare(part, damage, expected)
    daily: list[dict[str, Any]] = []
    ends = 0  # the first run goes on from where one before the damage stopped
    for _ in range(MOST_RUNS):
        daily += repository.verify(volume, budget_bytes=chance.choice([500, 5_000, 50_000]))["damaged"]
        found = repository._volumes.find(volume)
        ends += found is None or not found.state.extra.get(CURSOR, {}).get("nextLeaf")
        if ends == 2:
            break
    compare(daily, damage, expected)
    every_byte = chance.random() < 0.5
    whole = repository.verify(volume, every_byte=every_byte)["damaged"]
    compare(whole, damage, expected)
    for backup in backups:
        told, wanted = ranges(whole, backup), expected[backup.id].must
        if told == wanted:
            if ranges(daily, backup) != wanted:
                raise Wrong(f"{backup.id}: budgets find {ranges(daily, backup)}, not {wanted}")
            continue
        # A bit may make no difference: nothing is said then, and everything can be restored.
        if damage.how != "bit" or told:
            raise Wrong(f"{damage}: verify finds {told} of {backup.id} and not {wanted}")
        expected[backup.id] = Expected()
    named = any(row["object"] == damage.key for row in whole)
    if not named and (damage.how != "bit" or every_byte):
        raise Wrong(f"{damage}: verify finds nothing")
    world.did("rot: named" if named else "rot: makes no difference")
    return named and all(row["backupId"] and not row["length"] for row in whole)


def ranges(rows: list[dict[str, Any]], backup: Backup) -> dict[str, set[int]]:
    """By object, the blocks that are said to be touched."""
    found: dict[str, set[int]] = {}
    for row in rows:
        if row["backupId"] == backup.id and row["length"]:
            end = -(-(row["offset"] + row["length"]) // pages.BLOCK_SIZE)
            found.setdefault(row["object"], set()).update(range(row["offset"] // pages.BLOCK_SIZE, end))
    return found


def compare(rows: list[dict[str, Any]], damage: Damage, expected: dict[str, Expected]) -> None:
    """Nothing is said of what is sound."""
    for row in rows:
        if row["object"] != damage.key or row["backupId"] not in expected:
            raise Wrong(f"{damage}: verify names {row}")
        end = -(-(row["offset"] + row["length"]) // pages.BLOCK_SIZE)
        blocks = set(range(row["offset"] // pages.BLOCK_SIZE, end))
        if not blocks <= expected[row["backupId"]].must.get(row["object"], set()):
            raise Wrong(f"{damage}: verify says that too much is damaged: {row}")


def salvage(
    world: World,
    repository: Repository,
    volume: str,
    backups: list[Backup],
    expected: dict[str, Expected],
) -> None:
    """What is not damaged can be restored, and a restore that is not told to go on past damage does not."""
    for backup in backups:
        lost = expected[backup.id].lost
        try:
            restore_one(world, repository, backup.operation, backup.id, "observer")
        except StoredDataDamaged as error:
            if not lost:
                raise Wrong(f"{backup.id} is sound, and is not restored: {error}") from error
        else:
            if lost and not expected[backup.id].covered:
                raise Wrong(f"{backup.id} lost blocks {sorted(lost)}, and was restored")
            continue
        found = left_of(world, repository, volume, backup)
        if found != lost:
            raise Wrong(f"{backup.id}: lost are {found} instead of {lost}")
        world.did("rot: salvaged")


def left_of(world: World, repository: Repository, volume: str, backup: Backup) -> set[int]:
    """Restore what can be had of a backup, and see that it is right. Returns the blocks that are lost."""
    path = world.path("salvaged")
    with suppress(FileNotFoundError):
        os.unlink(path)
    try:
        lost = told_lost(repository.restore(volume, path, backup.id, salvage=True).lost)
    except StoredDataDamaged:
        return set(range(backup.blocks))
    with open(path, "rb") as file:
        found = file.read()
    wanted = [backup.operation.content, *backup.operation.lied]
    if not any(found == with_zeros(content, lost) for content in wanted):
        raise Wrong(f"{backup.id}: what is left of it was not restored")
    return lost


def told_lost(rows: list[dict[str, Any]]) -> set[int]:
    """The blocks of what a restore lists as lost."""
    return {block for row in rows for block in blocks_of(row["offset"], row["length"])}


def blocks_of(offset: int, length: int) -> Iterator[int]:
    """The blocks that a range touches."""
    yield from range(offset // pages.BLOCK_SIZE, -(-(offset + length) // pages.BLOCK_SIZE))


def with_zeros(content: bytes, lost: set[int]) -> bytes:
    """The content with zeros in the place of these blocks."""
    data = bytearray(content)
    for block in lost:
        part = data[block * pages.BLOCK_SIZE : (block + 1) * pages.BLOCK_SIZE]
        data[block * pages.BLOCK_SIZE : (block + 1) * pages.BLOCK_SIZE] = bytes(len(part))
    return bytes(data)


def heal(world: World, repository: Repository, volume: str, chance: random.Random) -> Operation:
    """The next backup holds what the volume holds, whatever is damaged, and nothing of it is damaged."""
    if chance.random() < 0.5:
        world.model.devices[volume].live()
    operation = world.model.snapshot(volume)
    world.clusters["healer"] = owners_now(world).get(volume, EAST)
    back_up(world, Machine("healer"), operation, chance, plain=True)
    if operation.backup_id is None:
        raise Wrong(f"{volume} cannot be backed up any more")
    restore_one(world, world.calm(), operation, operation.backup_id, "observer")
    found = world.calm().verify(volume, operation.backup_id)
    bad = [row for row in found["damaged"] if row["backupId"] == operation.backup_id and row["length"]]
    if bad:
        raise Wrong(f"the backup that was to heal is damaged itself: {bad[:3]}")
    world.did("rot: healed")
    return operation


def mend(
    world: World,
    repository: Repository,
    volume: str,
    backups: list[Backup],
    expected: dict[str, Expected],
    operation: Operation,
) -> None:
    """Old backups get back what the new one has stored anew, where they held the same, and nothing else changes."""
    try:
        repository = world.repository(Machine("healer"))
        repository.heal(volume)
    except StoredDataDamaged:
        world.did("rot: damage in the way of mending")
        return
    for backup in backups:
        before = expected[backup.id].lost
        after = left_of(world, repository, volume, backup)
        if not after <= before:
            raise Wrong(f"{backup.id}: mending lost {after - before}")
        same = {b for b in before if block_of(backup.operation.content, b) == block_of(operation.content, b)}
        if expected[backup.id].pieces and not backup.operation.lied and after & same:
            raise Wrong(f"{backup.id}: blocks {after & same} were stored anew, and are not mended")
        if after < before:
            world.did("rot: an old backup mended")


def replace(world: World, volume: str, backups: list[Backup], damage: Damage) -> None:
    """What is damaged around its blocks is replaced: nothing of it is needed any more, and nothing is lost by that."""
    world.clusters["healer"] = owners_now(world).get(volume, EAST)
    done = world.repository(Machine("healer")).evacuate(volume, [damage.key])
    if done.left:
        raise Wrong(f"{damage}: was not replaced: {done.left}")
    found = world.calm().verify(volume, every_byte=True)
    if not found["ok"]:
        raise Wrong(f"{damage}: was replaced, and there is damage: {found['damaged'][:3]}")
    for backup in backups:
        restore_one(world, world.calm(), backup.operation, backup.id, "observer")
    world.did("rot: replaced")


def block_of(content: bytes, number: int) -> bytes:
    """One block, with zeros behind the end."""
    return content[number * pages.BLOCK_SIZE : (number + 1) * pages.BLOCK_SIZE].ljust(pages.BLOCK_SIZE, b"\0")
