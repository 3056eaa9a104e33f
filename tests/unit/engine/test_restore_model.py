"""Restores to one target, again and again: killed at any step, told what it holds, over whatever lies there.

Whatever happens, a restore that is complete has left exactly the backup's bytes, and without `force` nothing was
overwritten that no restore had written.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from blockvault.engine import Repository, TargetNotEmpty
from blockvault.engine import target as targets
from blockvault.engine.markers import Marker
from blockvault.engine.target import Target
from tests.disks import memory
from tests.unit.engine.support import MemoryStore, backup, restore, shrink_scale, stand_in_ioctl

BLOCK = 4096
SIZE = 70 * BLOCK
Ranges = list[tuple[int, int]]
# Where, how long, and what is written there.
WRITES = st.lists(
    st.tuples(
        st.floats(0, 0.999), st.integers(1, 8 * BLOCK), st.sampled_from(["noise", "zero", "byte"]), st.integers(1, 99)
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


class Killed(BaseException):
    """The process is gone: this step, and all after it, never come to their end."""


class Steps:
    """Counts what a restore does to the disk, and dies at step `last`: before it, or (`torn`) in its middle."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int | None, *, torn: bool) -> None:
        self.taken = 0
        self._last = last
        self._torn = torn
        for owner, name in [(Marker, "put"), (Marker, "remove"), (Target, "begin"), (Target, "finish")]:
            patch.setattr(owner, name, self._step(getattr(owner, name)))
        patch.setattr(Target, "write", self._step(Target.write, _half_a_write))
        patch.setattr(Target, "zero", self._step(Target.zero, _half_a_zero))

    def _step(self, original: Any, half: Any = None) -> Any:
        def step(*arguments: Any) -> None:
            self.taken += 1
            if self._last is not None and self.taken >= self._last:
                if self._torn and half is not None and self.taken == self._last:
                    half(original, *arguments)
                raise Killed
            original(*arguments)

        return step


def _half_a_write(write: Any, target: Target, offset: int, buffers: list[Any]) -> None:
    data = b"".join(buffers)
    write(target, offset, [data[: len(data) // 2]])


def _half_a_zero(zero: Any, target: Target, offset: int, length: int) -> None:
    zero(target, offset, length // 2)


def scribble(image: bytearray, writes: list[tuple[float, int, str, int]]) -> Ranges:
    """Write to an image; where."""
    ranges = []
    for place, length, fill, seed in writes:
        offset = int(place * len(image))
        length = min(length, len(image) - offset)
        noise = random.Random(seed).randbytes(length)
        image[offset : offset + length] = {"noise": noise, "zero": bytes(length), "byte": b"7" * length}[fill]
        ranges.append((offset, length))
    return ranges


class Restores(RuleBasedStateMachine):
    """A volume with its backups, and a file to which they are restored."""

    device = False

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        shrink_scale(self.patch)
        # Few samples: what a restore believes must not hang on many.
        self.patch.setattr("blockvault.engine.compare.SAMPLED", 2)
        self.patch.setattr("blockvault.engine.compare.PATIENCE", 6)
        self.folder = Path(tempfile.mkdtemp(dir=memory()))
        self.patch.setenv("XDG_STATE_HOME", str(self.folder / "state"))
        self.target = self.folder / "target"
        self.store = MemoryStore()
        Repository.init(self.store)
        self.image = bytearray()
        self.backups: dict[str, bytes] = {}
        # What the target holds for certain: a backup, but for these ranges.
        self.held: tuple[str, Ranges] | None = None
        # The restore that was interrupted last, and whether the target is still as that one left it.
        self.noted: tuple[str, str | None, Ranges] | None = None
        self.untouched = False
        # Whether it was not forced, and no write was torn.
        self.plain = False
        # Whether it holds something that no backup has anywhere.
        self.precious = False

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    @initialize(blocks=st.integers(0, 40), tail=st.sampled_from([0, 512, 4095]), writes=WRITES)
    def start(self, blocks: int, tail: int, writes: list[tuple[float, int, str, int]]) -> None:
        self.image = bytearray(max(512, blocks * BLOCK + tail))
        self.back_up(writes, 0)
        if self.device:
            self.lay("zeros", 0, in_place=False)

    @rule(writes=WRITES, more=st.sampled_from([0, 0, 512, 5 * BLOCK]))
    def back_up(self, writes: list[tuple[float, int, str, int]], more: int) -> None:
        self.image.extend(bytes(min(more, SIZE - len(self.image))))
        scribble(self.image, writes)
        (self.folder / "source").write_bytes(self.image)
        self.backups[backup(self.store, self.folder / "source").backup_id] = bytes(self.image)

    @rule(
        what=st.sampled_from(["gone", "zeros", "ones", "noise", "backup", "backup", "mixture"]),
        pick=st.integers(0, 9),
        in_place=st.booleans(),
    )
    def lay(self, what: str, pick: int, *, in_place: bool) -> None:
        """Something else is put there: into the same file, or as another one."""
        chosen = list(self.backups.items())[pick % len(self.backups)]
        whole = bytearray(chosen[1].ljust(SIZE, b"\xee" if pick % 2 else b"\0"))
        if what == "mixture":
            other = list(self.backups.values())[-1].ljust(SIZE, b"\0")
            for block in range(pick % 3, SIZE // BLOCK, 2):
                whole[block * BLOCK : (block + 1) * BLOCK] = other[block * BLOCK : (block + 1) * BLOCK]
        data = {"zeros": bytes(SIZE), "ones": b"\xff" * SIZE, "noise": random.Random(1000).randbytes(SIZE)}
        if not in_place:
            self.target.unlink(missing_ok=True)
        if what != "gone" or self.device:
            with open(self.target, "r+b" if self.target.exists() else "wb") as file:
                file.write(data.get(what, bytes(SIZE) if what == "gone" else bytes(whole)))
        else:
            self.target.unlink(missing_ok=True)
        self.held = (chosen[0], []) if what == "backup" else None
        self.untouched = False
        self.precious = what in ("ones", "noise")

    @precondition(lambda self: self.held)
    @rule(writes=WRITES)
    def drift(self, writes: list[tuple[float, int, str, int]]) -> None:
        """An application writes to what was restored."""
        assert self.held is not None
        data = bytearray(self.target.read_bytes())
        ranges = scribble(data, writes)
        with open(self.target, "r+b") as file:
            file.write(data)
        self.held = (self.held[0], [*self.held[1], *ranges])
        self.untouched = False

    @rule(
        pick=st.integers(0, 9),
        claim=st.sampled_from(["nothing", "truth", "truth", "another"]),
        force=st.booleans(),
        resume=st.sampled_from([True, True, True, False]),
        last=st.one_of(st.none(), st.integers(1, 12)),
        torn=st.booleans(),
    )
    def restore(
        self, pick: int, claim: str, *, force: bool, resume: bool, last: int | None, torn: bool
    ) -> None:
        backup_id, content = list(self.backups.items())[pick % len(self.backups)]
        have, changed = None, []
        if claim == "truth" and self.held is not None:
            have, changed = self.held
        elif claim == "another" and self.noted is not None:
            # As long as a note tells of something else, what is said about the target is not believed.
            have = self.noted[1] if force else list(self.backups)[pick % 3 % len(self.backups)]
        self._restore(
            backup_id, have, _clipped(changed, len(content)), force=force, resume=resume, last=last, torn=torn
        )

    @precondition(lambda self: self.noted and self.untouched)
    @rule(last=st.one_of(st.none(), st.integers(1, 12)), torn=st.booleans(), forget=st.booleans())
    def go_on(self, last: int | None, *, torn: bool, forget: bool) -> None:
        """The same again; or almost, as the list of changes was forgotten."""
        assert self.noted is not None
        backup_id, have, changed = self.noted
        force = not self.plain or (forget and have is not None)
        self._restore(
            backup_id, have, [] if forget else changed, force=force, resume=True, last=last, torn=torn
        )

    @precondition(lambda self: self.noted)
    @rule(what=st.sampled_from(["ones", "noise"]), in_place=st.booleans())
    def another_came_in_its_place(self, what: str, *, in_place: bool) -> None:
        """And the same restore is begun again, without force."""
        assert self.noted is not None
        self.lay(what, 0, in_place=in_place)
        self._restore(*self.noted, force=False, resume=True, last=None, torn=False)

    @precondition(lambda self: len(self.backups) > 1)
    @rule(writes=WRITES, last=st.integers(3, 9))
    def drifted_and_killed(self, writes: list[tuple[float, int, str, int]], last: int) -> None:
        """The way to most of the trouble: onto another backup, with a list of what changed, and interrupted."""
        older, newer = list(self.backups)[-2:]
        self.lay("backup", len(self.backups) - 2, in_place=True)
        assert self.held == (older, [])
        self.drift(writes)
        changed = _clipped(self.held[1], len(self.backups[newer]))
        self._restore(newer, older, changed, force=True, resume=True, last=last, torn=False)

    def _restore(
        self,
        backup_id: str,
        have: str | None,
        changed: Ranges,
        *,
        force: bool,
        resume: bool,
        last: int | None,
        torn: bool,
    ) -> None:
        content = self.backups[backup_id]
        if 0 < len(self.now()) < len(content):
            os.truncate(self.target, len(content))  # it is grown first
        before = self.now()
        wanted = (backup_id, have, changed)
        truth = self.held is not None and (have, changed) == (
            self.held[0], _clipped(self.held[1], len(content)))  # fmt: skip
        if have is not None and wanted == self.noted and not (self.untouched or truth):
            return  # the target was changed since it was said: a lie, which only samples may find
        empty = (
            not any(before) if self.device else not self.target.exists() or self.target.stat().st_blocks == 0
        )
        goes_on = wanted == self.noted and self.untouched and self.plain and have is None
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(patch, last, torn=torn)
            try:
                how: dict[str, Any] = {"have": have, "changed": changed if have else None, "threads": 1}
                restore(self.store, self.target, backup_id, force=force, resume=resume, **how)
            except TargetNotEmpty:
                assert not force
                assert not empty
                assert not goes_on, "an interrupted restore does not go on"
                assert self.now() == before
                return
            except Killed:
                assert force or not self.precious or empty
                self._interrupted(wanted, steps.taken, plain=not (force or torn))
                return
        assert force or not self.precious or empty, "overwritten without force"
        assert self.target.read_bytes() == content + before[len(content) :]
        self.held, self.noted, self.untouched, self.precious = (backup_id, []), None, False, False

    def _interrupted(self, wanted: tuple[str, str | None, Ranges], steps: int, *, plain: bool) -> None:
        if steps <= 1:
            return  # not even the note was made
        self.plain = plain and (self.plain or wanted != self.noted or not self.untouched)
        self.noted, self.untouched = wanted, True
        if steps > 2:
            self.held, self.precious = None, False

    def now(self) -> bytes:
        return self.target.read_bytes() if self.target.exists() else b""


def _clipped(ranges: Ranges, size: int) -> Ranges:
    return [(offset, min(length, size - offset)) for offset, length in ranges if offset < size]


class DeviceRestores(Restores):
    """The same with a file that passes for a disk without a name of its own."""

    device = True

    def __init__(self) -> None:
        super().__init__()

        self.patch.setattr(fcntl, "ioctl", stand_in_ioctl)
        self.patch.setattr(targets.identity, "of_device", lambda number: None)
        self.patch.setattr(targets.stat, "S_ISBLK", lambda mode: True)
        self.patch.setattr(
            targets, "_EDGE", SIZE
        )  # all of it is looked at: none is taken for empty by chance


TestRestores = Restores.TestCase
TestDeviceRestores = DeviceRestores.TestCase
EXAMPLES = os.environ.get("BLOCKVAULT_MODEL_EXAMPLES")
TestRestores.settings = TestDeviceRestores.settings = settings(
    max_examples=int(EXAMPLES or 40),
    stateful_step_count=15,
    deadline=None,
    derandomize=EXAMPLES is None,
    suppress_health_check=list(HealthCheck),
)
