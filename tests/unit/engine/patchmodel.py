"""One volume whose backups are made of patches, what damages it, and what must be left of each backup at any time."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blockvault.engine import (
    BackupResult,
    ChangedList,
    KeyRing,
    Repository,
    StoredDataDamaged,
    VaultKey,
    rotation,
    samples,
)
from blockvault.engine.restore import RestoreRequest, RestoreRun
from tests.unit.engine import support
from tests.unit.engine.decoder import BLOCK as BASE
from tests.unit.engine.decoder import BLOCK_PATCH, DIGESTS, Item, Scale, text_of
from tests.unit.engine.patchlists import (
    BLOCK,
    LEAVES_BLOCKS_OUT,
    LISTS,
    WHOLE,
    Listed,
    block_count,
    block_of,
    list_of,
    patches_after,
    with_zeros,
)
from tests.unit.engine.support import SMALL, MemoryStore, backup, check_usage, opened, shrink_scale
from tests.unit.engine.survey import Survey

SCALE = Scale(SMALL["BLOCK_SIZE"], SMALL["SECTOR_SIZE"], SMALL["FANOUT"])
KEYS = [bytes([number]) * 32 for number in range(1, 9)]
# Few enough that some lies are found out and others are not.
FEW_SAMPLES = {"KEEP_STORED": 3, "KEEP_ZERO": 1, "KEEP_EDGES": 1, "CHECKED": 3}

Blocks = set[int]


@dataclass
class Held:
    """A backup. `seen`: the volume when it was made; `content`: what the backup holds, which a lie makes another.

    As the store has it now: `lost` and `unfit` blocks; `pieces` of each block; `patches`, masks; `needs`, keys of
    objects; and at what it was looked at.
    """

    seen: bytes
    content: bytes
    trash: bool = False
    looked: object = None
    needs: set[str] = field(default_factory=set)
    lost: Blocks = field(default_factory=set)
    unfit: Blocks = field(default_factory=set)
    pieces: dict[int, list[Item]] = field(default_factory=dict)
    patches: dict[int, list[int]] = field(default_factory=dict)

    @property
    def hurt(self) -> Blocks:
        return self.lost | self.unfit


class Lineage:
    """The volume, its backups, and a store. `met`: what came to pass, by name."""

    def __init__(self, encrypted: bool, met: Counter[str]) -> None:
        self.patch = pytest.MonkeyPatch()
        shrink_scale(self.patch)
        for name, value in FEW_SAMPLES.items():
            self.patch.setattr(samples, name, value)
        # Else a run could not be repeated: which blocks are samples is left to chance.
        seeds = itertools.count()
        self.patch.setattr(samples, "random", SimpleNamespace(Random=lambda _: random.Random(next(seeds))))
        self.patch.setattr(rotation, "QUIET_SECONDS", 0.0)
        # In memory, where there is such a place: a restore syncs what it writes.
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.source = self.folder / "volume"
        self.keys = list(KEYS) if encrypted else []
        self.objects: dict[str, bytes] = {}
        self.held: dict[str, Held] = {}
        # Objects with changed bytes, and blocks that were hit since the last verify.
        self.spoiled: set[str] = set()
        self.unknown: Blocks = set()
        self.remembered: list[dict[str, Any]] = []
        self.spoils = 0
        self.met = met
        self.use_key()
        Repository.init(self.store, support.RING)

    def close(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    def check_usage(self) -> None:
        """Used bytes, also of the trash, by a walk with the engine's own reader."""
        if self.held:
            check_usage(self.store)

    def use_key(self) -> None:
        self.patch.setattr(support, "RING", KeyRing(VaultKey(self.keys[0]) if self.keys else None))

    @property
    def store(self) -> MemoryStore:
        return MemoryStore(self.objects)

    @property
    def repository(self) -> Repository:
        return opened(self.store)

    @property
    def now(self) -> bytes:
        return self.source.read_bytes()

    @property
    def living(self) -> list[str]:
        return [one for one, held in self.held.items() if not held.trash]

    def parent(self, size: int, mode: str) -> str | None:
        """What a backup that is made now builds on."""
        if not self.living or mode == WHOLE or len(self.held[self.living[-1]].seen) > size:
            return None
        return self.living[-1]

    def options(self, mode: str, chance: random.Random) -> tuple[dict[str, object], Listed | None]:
        parent = self.parent(len(self.now), mode)
        if mode not in LISTS or parent is None:
            return {"full": mode == WHOLE}, None
        listed = list_of(mode, self.held[parent].seen, self.now, chance)
        return {"changed": ChangedList(listed.ranges)}, listed

    def back_up(self, mode: str, chance: random.Random) -> str:
        """A backup of the volume as it is, which must hold what it should."""
        options, listed = self.options(mode, chance)
        return self.made(mode, listed, backup(self.store, self.source, **options))

    def made(self, mode: str, listed: Listed | None, result: BackupResult) -> str:
        """Take a backup into the model, and look at it."""
        now = self.now
        parent_id = self.parent(len(now), mode)
        parent = None if parent_id is None else self.held[parent_id]
        assert result.type == ("full" if parent is None else "incremental")
        believed = listed is not None and result.changed_block_source == "List"
        left = self.left_out(listed, parent, now) if believed and listed and parent else set()
        if (
            listed is not None
            and parent is not None
            and mode != LEAVES_BLOCKS_OUT
            and parent.seen == parent.content
        ):
            # Lists that say the truth of blocks are used, unless one was found out since the last comparison.
            assert believed or result.fallback_reason == "ListsDistrusted"
        content = now
        if left and parent is not None:
            content = b"".join(
                block_of(parent.content if n in left else now, n) for n in range(block_count(now))
            )[: len(now)]
        if believed and content != now:
            self.met["a lie that is believed"] += 1
        if result.fallback_reason == "ListWasWrong":
            self.met["a lie that is found out"] += 1
        if result.fallback_reason == "ListsDistrusted":
            self.met["lists are distrusted"] += 1
        self.met[mode if parent is not None or mode == WHOLE else "first"] += 1
        self.held[result.backup_id] = Held(now, content)
        # What was found damaged is stored anew, what was not cannot be known.
        inherited = parent.hurt & self.unknown if parent is not None else set()
        self.check(fresh={result.backup_id: inherited})
        if parent is not None:
            self.check_patches(self.held[result.backup_id], parent, left)
        return result.backup_id

    def left_out(self, listed: Listed, parent: Held, now: bytes) -> Blocks:
        """The blocks that nobody looks at: not named, in the parent, and not known to be damaged."""
        known = {int(block) for item in self.remembered for block in item["blocks"]}
        inside = set(range(len(parent.seen) // BLOCK))
        return (set(range(block_count(now))) & inside) - listed.named - known

    def check_patches(self, made: Held, parent: Held, left: Blocks) -> None:
        """Each block is stored as it must be: as it was, as one patch more, as one in place of all, or whole."""
        hurt = parent.hurt | made.hurt
        for number in range(block_count(made.seen)):
            if number in hurt:
                continue
            before = parent.patches.get(number)
            old, new = block_of(parent.content, number), block_of(made.content, number)
            wanted = before if number in left else patches_after(before, old, new)
            found = made.patches.get(number)
            assert found == wanted, f"block {number}: patches {found}, not {wanted}"
            if found and before and len(before) == SMALL["MAX_PATCHES"] and len(found) == 1:
                self.met["patches merged"] += 1
            if before is not None and wanted == [] and old != new:
                self.met["more than half of a block"] += 1

    def check(self, fresh: dict[str, Blocks] | None = None, *, mended: bool = False) -> None:
        """Every backup holds what it should, but for what was damaged; nothing is lost beyond that, or hidden.

        `fresh`: backups that are new or were hit, and blocks that may be hurt in them. `mended`: blocks may be whole
        again.
        """
        fresh = fresh or {}
        if not self.held:
            return
        survey = Survey(self.objects, "v", self.keys[0] if self.keys else None, SCALE)
        self.key_of, self.remembered = survey.key_of, survey.state["damaged"]
        roots = {entry["id"]: entry["object"] for entry in survey.state["roots"]}
        assert sorted(roots) == sorted(self.held)
        assert survey.used_bytes() == survey.state["usedBytes"]
        for backup_id, held in self.held.items():
            # The same stored bytes would give the same again.
            looked = (roots[backup_id], self.spoils, self.keys[:1])
            if held.looked == looked and held.needs <= self.objects.keys():
                continue
            content = survey.survey(backup_id)
            assert content == with_zeros(held.content, survey.lost)
            hurt = survey.lost | survey.unfit
            assert hurt <= held.hurt | fresh.get(backup_id, set())
            if backup_id not in fresh and not mended:
                assert (survey.lost, survey.unfit) == (held.lost, held.unfit)
            for number in hurt:
                # Damage is not copied into an object that looks sound.
                assert {survey.key_of(item) for item in survey.pieces[number]} & self.spoiled
            held.lost, held.unfit, held.looked = survey.lost, survey.unfit, looked
            held.pieces, held.patches = dict(survey.pieces), survey.masks()
            held.needs = {f"{survey.base}{folder}/{text_of(name)}" for folder, name in survey.live}
            self.check_restore(backup_id, held)

    def check_restore(self, backup_id: str, held: Held) -> None:
        """The engine restores it, or refuses and salvages."""
        if held.lost:
            with pytest.raises(StoredDataDamaged):
                self.restore(backup_id)
            lost = self.restore(backup_id, salvage=True)
            assert lost == held.lost
            self.met["salvaged"] += 1
        else:
            assert self.restore(backup_id) == set()
        wanted = with_zeros(held.content, held.lost)
        assert (self.folder / "target").read_bytes() == wanted

    def restore(self, backup_id: str, *, salvage: bool = False) -> Blocks:
        """Restore, read without a pin, so that looking changes nothing. The blocks that are lost."""
        for path in self.folder.glob("target*"):
            path.unlink()
        found = opened(self.store)._volumes.find("v")
        assert found is not None
        entry = found.state.root(backup_id)
        assert entry is not None
        request = RestoreRequest(str(self.folder / "target"), salvage=salvage, threads=2)
        rows = RestoreRun(self.store, found, entry, request).run().lost
        return {
            n
            for row in rows
            for n in range(row["offset"] // BLOCK, -(-(row["offset"] + row["length"]) // BLOCK))
        }

    def items(self, *kinds: int) -> list[Item]:
        """The pieces of these kinds that backups need, each once, in an order that is the same in each run."""
        found = {
            item: None
            for held in self.held.values()
            for number in sorted(held.pieces)
            for item in held.pieces[number]
            if item.kind in kinds
        }
        return list(found)

    def spoil(self, items: list[Item], chance: random.Random) -> None:
        """Flip a bit in each. Not in the first bytes: a frame's header could ask for any amount of memory."""
        for item in items:
            at = item.offset + chance.randrange(min(10, item.length - 1), item.length)
            self.flip(self.key_of(item), at, chance)
        numbers = {item.number for item in items}
        self.unknown |= numbers
        hit = {
            backup_id: {n for n in numbers if set(held.pieces.get(n, ())) & set(items)}
            for backup_id, held in self.held.items()
        }
        self.check(fresh=hit)

    def flip(self, key: str, at: int, chance: random.Random) -> None:
        data = bytearray(self.objects[key])
        data[at] ^= 1 << chance.randrange(8)
        self.objects[key] = bytes(data)
        self.spoiled.add(key)
        self.spoils += 1

    def verify(self) -> list[dict[str, Any]]:
        """Names what is damaged, of the backups that it touches, and nothing else. The rows."""
        rows = self.repository.verify("v")["damaged"]
        told: dict[str, Blocks] = {backup_id: set() for backup_id in self.held}
        for row in rows:
            assert row["backupId"] in told, row
            first, end = row["offset"] // BLOCK, -(-(row["offset"] + row["length"]) // BLOCK)
            blocks = set(range(first, end)) if row["length"] else set()
            told[row["backupId"]] |= blocks
            assert row["object"] in self.spoiled | self.suspects(row["backupId"], blocks), row
        assert told == {backup_id: held.hurt for backup_id, held in self.held.items()}
        self.unknown = set()
        self.check()
        return list(rows)

    def suspects(self, backup_id: str, blocks: Blocks) -> set[str]:
        """Objects that may be blamed for others: of blocks in which more than one thing is damaged, and bases of
        which patches cover the damage, so that only their digests tell of it."""
        held = self.held[backup_id]
        found = set()
        for number in blocks:
            keys = {self.key_of(item) for item in held.pieces.get(number, ())}
            if len(keys & self.spoiled) > 1 or number not in held.lost:
                found |= keys
        return found


PIECES = {"base": (BASE,), "patch": (BLOCK_PATCH,), "digests": (DIGESTS,)}
