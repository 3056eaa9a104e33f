"""Sector patches against a model: every kind of list, damage and upkeep mixed; what is not damaged restores byte-equal."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from blockvault.engine import KeyRing, StoredDataDamaged, VaultKey
from blockvault.engine.rotation import Rotation
from tests.unit.engine.patchlists import BLOCK, COMPARED, MODES, SECTOR, block_count, block_of
from tests.unit.engine.patchmodel import PIECES, Lineage
from tests.unit.engine.support import Crash, CrashingStore, backup, places_around
from tests.unit.engine.test_compact import compact

SEEDS = st.integers(0, 1 << 32)
MOST_BLOCKS = 60
MOST_BACKUPS = 8
STORIES = 10
BETWEEN = ("backup", "nothing", "delete", "compact", "write")
DAMAGE = ("base", "patch", "digests", "base and digests")
BEFORE = (None, "base", "patch", "digests")


class Patches(RuleBasedStateMachine):
    """All that may happen to backups of one volume. A rule draws a seed: chance decides the rest, evenly."""

    met: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.model: Lineage
        self.operations = 0

    def teardown(self) -> None:
        self.model.close()

    @initialize(seed=SEEDS, encrypted=st.booleans())
    def start(self, seed: int, encrypted: bool) -> None:
        chance = random.Random(seed)
        self.model = Lineage(encrypted, self.met)
        self.model.source.write_bytes(
            chance.randbytes(chance.randint(5, 30) * BLOCK + chance.choice([0, 512, 4095]))
        )
        self.model.back_up(COMPARED, chance)

    def write(self, chance: random.Random) -> None:
        """Sectors here and there, most of them in few blocks, so that patches come upon patches; or larger parts."""
        data = bytearray(self.model.now)
        for _ in range(chance.randint(0, 4)):
            block = chance.choice([chance.randrange(4), chance.randrange(len(data) // BLOCK)])
            kind = chance.choice(["sectors", "sectors", "sectors", "half", "more", "text", "zero", "run"])
            places = chance.sample(
                range(64), {"sectors": chance.randint(1, 6), "half": 32, "more": 33}.get(kind, 1)
            )
            first, length = block * BLOCK, BLOCK
            if kind in ("sectors", "half", "more"):
                for place in places:
                    at = first + place * SECTOR + chance.randrange(SECTOR - 8)
                    data[at : at + 8] = chance.randbytes(8)
                continue
            if kind == "run":
                first, length = first + chance.randrange(BLOCK), chance.randint(1, 3 * BLOCK)
            length = max(0, min(length, len(data) - first))
            data[first : first + length] = {
                "text": b"text" * (length // 4) + bytes(length % 4),
                "zero": bytes(length),
                "run": chance.randbytes(length),
            }[kind]
        self.model.source.write_bytes(data)

    @rule(seed=SEEDS)
    def back_up(self, seed: int) -> None:
        chance = random.Random(seed)
        self.write(chance)
        self.model.back_up(chance.choice(MODES), chance)

    @rule(seed=SEEDS)
    def back_up_some(self, seed: int) -> None:
        """Hot sectors again and again: patches beyond the most."""
        chance = random.Random(seed)
        for _ in range(chance.randint(2, 5)):
            data = bytearray(self.model.now)
            at = chance.randrange(2) * BLOCK + chance.randrange(64) * SECTOR
            data[at : at + 8] = chance.randbytes(8)
            self.model.source.write_bytes(data)
            self.model.back_up(chance.choice(MODES[:5]), chance)

    @rule(seed=SEEDS, between=st.sampled_from(BETWEEN))
    def crash_and_resume(self, seed: int, between: str) -> None:
        """A run dies; something else may happen before it is repeated, also what gives it another parent."""
        chance = random.Random(seed)
        self.write(chance)
        self.operations += 1
        operation, mode = f"operation-{self.operations}", chance.choice(MODES)
        options, listed = self.model.options(mode, chance)
        dying = CrashingStore(self.model.objects, chance.randint(2, 20), after=chance.random() < 0.5)
        with suppress(Crash):
            result = backup(dying, self.model.source, operation_id=operation, **options)
            self.model.made(mode, listed, result)
            return
        made = self.model.repository.find_operation("v", operation)
        if made is not None:
            self.model.made(mode, listed, made)
            return
        self.model.met["resumed"] += 1
        if between == "backup":
            self.model.back_up(chance.choice(MODES), chance)
            self.model.met["resumed upon another parent"] += 1
        elif between == "delete" and self.model.living:
            self.remove(self.model.living[-1])
        elif between == "compact":
            self.compact(seed, known=False)
        elif between == "write":
            self.write(chance)
        options, listed = self.model.options(mode, chance)
        result = backup(self.model.store, self.model.source, operation_id=operation, **options)
        self.model.made(mode, listed, result)

    @rule(seed=SEEDS)
    def resize(self, seed: int) -> None:
        chance = random.Random(seed)
        size = len(self.model.now)
        more = chance.choice([-1, 1, 1, 1]) * chance.randint(1, 12 * BLOCK)
        fresh = min(max(size + more, 4 * BLOCK), MOST_BLOCKS * BLOCK)
        self.model.met["shrunk" if fresh < size else "grown"] += 1
        with open(self.model.source, "r+b") as file:
            file.truncate(fresh)

    def remove(self, backup_id: str) -> None:
        assert self.model.repository.delete("v", backup_id)
        del self.model.held[backup_id]
        self.model.check()

    @rule(seed=SEEDS)
    def delete(self, seed: int) -> None:
        if len(self.model.held) < 2:
            return
        chance = random.Random(seed)
        ids = list(self.model.held)
        for backup_id in {ids[0], chance.choice(ids)} if len(ids) > MOST_BACKUPS else {chance.choice(ids)}:
            self.model.met["deleted: the oldest" if backup_id == ids[0] else "deleted"] += 1
            self.remove(backup_id)

    @rule(seed=SEEDS)
    def trash_or_undelete(self, seed: int) -> None:
        if not self.model.held:
            return
        backup_id = random.Random(seed).choice(list(self.model.held))
        held = self.model.held[backup_id]
        if held.trash:
            assert self.model.repository.undelete("v", backup_id)
        else:
            self.model.repository.delete("v", backup_id, keep_seconds=9e6)
        held.trash = not held.trash
        self.model.met["trashed" if held.trash else "undeleted"] += 1
        self.model.check()

    @rule()
    def collect(self) -> None:
        self.model.repository.collect("v")
        self.model.spoiled &= self.model.objects.keys()
        self.model.check()

    @rule(seed=SEEDS, known=st.booleans())
    def compact(self, seed: int, known: bool) -> None:
        """What is damaged is left alone, and said where nobody knew it; only pages stop it."""
        if known and self.model.held:
            self.model.verify()
        spoiled = self.model.spoiled & self.model.objects.keys()
        try:
            done = compact(self.model.store, alive_share=random.Random(seed).choice([0.8, 1.1]))
            remembered = {str(item["object"]) for item in self.model.remembered}
            assert done.left.keys() <= spoiled
            assert not {key.rpartition("/")[2] for key in done.left} & remembered
            if done.left:
                self.model.met["compaction left damage"] += 1
            if done.segments:
                self.model.met["compacted, with damage" if spoiled else "compacted"] += 1
        except StoredDataDamaged as error:
            # By what nobody has found yet, or is no piece of a block; known damage is in nobody's way.
            key = error.parts[0]
            assert key in spoiled
            assert "/segments/" not in key
            assert key.rpartition("/")[2] not in {str(item["object"]) for item in self.model.remembered}
            self.model.met["compaction refused"] += 1
        self.model.check()

    @rule(seed=SEEDS, what=st.sampled_from(DAMAGE))
    def damage(self, seed: int, what: str) -> None:
        chance = random.Random(seed)
        found = self.model.items(*PIECES[what.partition(" ")[0]])
        if not found or len(self.model.spoiled) > 4:
            return
        item = chance.choice(found)
        items = [item]
        if what == "base and digests":
            # Those lie with the base's, wherever a backup has both.
            items += [
                other
                for other in self.model.items(*PIECES["digests"])
                if other.number == item.number and not other.mask
            ][:1]
        self.model.met[f"damaged {what}"] += 1
        self.model.spoil(items, chance)

    @rule(seed=SEEDS)
    def damage_around(self, seed: int) -> None:
        """A header or a trailer."""
        chance = random.Random(seed)
        items = self.model.items(*PIECES["base"], *PIECES["digests"])
        if not items or len(self.model.spoiled) > 4:
            return
        key = self.model.key_of(chance.choice(items))
        self.model.flip(key, chance.choice(places_around(self.model.objects[key])), chance)
        self.model.met["damaged around"] += 1
        self.model.check()

    @rule()
    def verify(self) -> None:
        if self.model.held:
            self.model.verify()

    @rule(seed=SEEDS, before=st.sampled_from(BEFORE), again=st.booleans())
    def mend(self, seed: int, before: str | None, again: bool) -> None:
        """Verify, a backup, heal: whatever the volume still holds is whole again in every backup that held it.

        `before`: what is damaged first. `again`: so is what the new backup has stored anew, which then mends nothing.
        """
        if not self.model.living:
            return
        if before is not None:
            self.damage(seed, before)
        self.model.verify()
        hurt = {one: held.hurt for one, held in self.model.held.items()}
        chance = random.Random(seed)
        made = self.model.held[self.model.back_up(chance.choice(MODES), chance)]
        assert not made.hurt
        anew = [
            item
            for number in sorted(set().union(*hurt.values()) & made.pieces.keys())
            for item in made.pieces[number]
            if item.kind in PIECES["base"]
        ]
        if again and anew:
            self.model.spoil(anew[:1], chance)
            self.model.met["what is to mend is damaged"] += 1
            self.model.repository.heal("v")
            self.model.check(mended=True)
            return
        self.model.repository.heal("v")
        self.model.check(mended=True)
        for backup_id, before in hurt.items():
            held = self.model.held[backup_id]
            for number in before & held.hurt:
                assert block_of(held.content, number) != block_of(
                    made.content, number
                ) or number >= block_count(made.content)
            self.model.met["mended"] += held.hurt < before

    @rule(seed=SEEDS, before=st.sampled_from(BEFORE), repair=st.booleans())
    def evacuate(self, seed: int, before: str | None, repair: bool) -> None:
        """What is damaged around its blocks is replaced; objects with damaged blocks in them stay."""
        if before is not None:
            self.damage(seed, before)
        if not self.model.held:
            return
        keys = sorted(self.model.spoiled)
        if repair:
            # As the command line does it.
            rows = self.model.verify()
            self.model.repository.heal("v")
            self.model.check(mended=True)
            keys = [str(row["object"]) for row in rows if not row["length"]]
        done = self.model.repository.evacuate("v", keys)
        self.model.met["evacuated"] += done.objects > 0
        self.model.met["not evacuated"] += bool(done.left)
        self.model.check(mended=True)
        for held in self.model.held.values():
            assert not held.needs & (set(keys) - done.left.keys())

    @rule()
    def rotate(self) -> None:
        if len(self.model.keys) < 2:
            return
        old = VaultKey(self.model.keys.pop(0))
        Rotation(self.model.store, KeyRing(VaultKey(self.model.keys[0]), old)).run()
        self.model.use_key()
        self.model.met["rotated"] += 1
        self.model.check()


# A mix that the fixed sample must reach, or it would prove little.
REACHED = {
    *MODES,
    *("a lie that is believed", "a lie that is found out", "lists are distrusted"),
    *("patches merged", "more than half of a block", "grown", "shrunk"),
    *("resumed", "resumed upon another parent"),
    *("deleted", "deleted: the oldest", "trashed", "undeleted"),
    *("damaged base", "damaged patch", "damaged digests", "damaged base and digests", "damaged around"),
    *("rotated", "salvaged", "mended", "what is to mend is damaged", "evacuated", "not evacuated"),
    *("compacted", "compacted, with damage", "compaction left damage"),
}


def tell(seed: int, steps: int, met: Counter[str]) -> None:
    """A story by chance in which each rule is as likely as any other, as it is not in what Hypothesis draws."""
    chance = random.Random(seed)
    story = Patches()
    story.met = met  # type: ignore[misc]

    def number() -> int:
        return chance.randrange(1 << 32)

    story.start(number(), encrypted=bool(seed % 2))
    acts: list[Callable[[], None]] = [
        lambda: story.back_up(number()),
        lambda: story.back_up_some(number()),
        lambda: story.crash_and_resume(number(), chance.choice(BETWEEN)),
        lambda: story.resize(number()),
        lambda: story.delete(number()),
        lambda: story.trash_or_undelete(number()),
        story.collect,
        lambda: story.compact(number(), known=chance.random() < 0.5),
        lambda: story.damage(number(), chance.choice(DAMAGE)),
        lambda: story.damage_around(number()),
        story.verify,
        lambda: story.mend(number(), chance.choice(BEFORE), again=chance.random() < 0.3),
        lambda: story.evacuate(number(), chance.choice(BEFORE), repair=chance.random() < 0.5),
        story.rotate,
    ]
    try:
        for _ in range(steps):
            chance.choice(acts)()
        story.model.check_usage()
    finally:
        story.teardown()


@pytest.mark.parametrize(
    "stories", [range(STORIES), pytest.param(range(1000), marks=pytest.mark.soak)], ids=len
)
def test_stories_about_patches(stories: range) -> None:
    """A fixed sample, so that a change is judged by itself. It must reach the whole mix, or it would prove little."""
    met: Counter[str] = Counter()
    for seed in stories:
        tell(seed, 30, met)
    assert met.keys() >= REACHED, REACHED - met.keys()


@pytest.mark.parametrize("examples", [5, pytest.param(2000, marks=pytest.mark.soak)])
def test_whatever_happens_to_patches(examples: int) -> None:
    """What Hypothesis thinks of, and makes short when it goes wrong."""
    asked = os.environ.get("BLOCKVAULT_MODEL_EXAMPLES")
    run_state_machine_as_test(
        Patches,
        settings=settings(
            max_examples=int(asked or examples),
            stateful_step_count=25,
            deadline=None,
            derandomize=asked is None and examples == 5,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
