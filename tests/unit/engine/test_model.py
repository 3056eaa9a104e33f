"""The engine against a reference model: whatever happens, every committed backup restores byte-equal."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blockvault.engine import ChangedList, KeyRing, Repository, VaultKey
from tests.unit.engine import support
from tests.unit.engine.nonces import Audit
from tests.unit.engine.support import (
    Crash,
    CrashingStore,
    MemoryStore,
    at_call,
    backup,
    check_usage,
    opened,
    restored,
    shrink_scale,
)

BLOCK = 4096
MODES = st.sampled_from(["compare", "list", "full"])
WRITES = st.lists(
    st.tuples(
        st.floats(0, 0.999),
        st.integers(1, 12 * BLOCK),
        st.sampled_from(["noise", "noise", "text", "zero"]),
        st.integers(1, 255),
    ),
    max_size=4,
)


class Engine(RuleBasedStateMachine):
    """One volume, its backups, and everything that may happen to them."""

    ring = KeyRing()

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        shrink_scale(self.patch)
        self.patch.setattr(support, "RING", self.ring)
        # In memory, where there is such a place: a restore syncs what it writes.
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.source = self.folder / "volume"
        self.objects: dict[str, bytes] = {}
        Repository.init(self.store, self.ring)
        self.backups: dict[str, bytes] = {}
        self.newest: str | None = None
        self.changed: list[tuple[int, int]] = []
        self.operations = 0

    @property
    def store(self) -> MemoryStore:
        return MemoryStore(self.objects)

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    @initialize(blocks=st.integers(0, 40), tail=st.sampled_from([0, 512, 4095]))
    def start(self, blocks: int, tail: int) -> None:
        self.source.write_bytes(b"")
        self.resize(blocks * BLOCK + tail)

    def resize(self, size: int) -> None:
        with open(self.source, "r+b") as file:
            file.truncate(size)

    def operation(self) -> str:
        self.operations += 1
        return f"operation-{self.operations}"

    def options(self, mode: str) -> dict[str, object]:
        if mode == "list":
            return {"changed": ChangedList(self.changed)} if self.newest else {}
        return {"full": mode == "full"}

    def committed(self, backup_id: str, content: bytes) -> None:
        self.backups[backup_id] = content
        self.newest = backup_id
        self.changed = []

    def write(self, writes: list[tuple[float, int, str, int]]) -> None:
        size = self.source.stat().st_size
        for at, length, fill, seed in writes:
            offset = int(at * size)
            length = min(length, size - offset)
            noise = random.Random(seed).randbytes(length)
            data = {"noise": noise, "text": bytes([seed]) * length, "zero": bytes(length)}[fill]
            with open(self.source, "r+b") as file:
                file.seek(offset)
                file.write(data)
            self.changed.append((offset, length))

    @rule(at=st.floats(0, 0.999), blocks=st.integers(1, 30))
    def discard(self, at: float, blocks: int) -> None:
        size = self.source.stat().st_size
        offset = int(at * size)
        length = min(blocks * BLOCK, size - offset)
        with open(self.source, "r+b") as file:
            file.seek(offset)
            file.write(bytes(length))
        self.changed.append((offset, length))

    @rule(more=st.integers(1, 70 * BLOCK))
    def grow(self, more: int) -> None:
        self.resize(min(self.source.stat().st_size + more, 300 * BLOCK))

    @rule(writes=WRITES, mode=MODES)
    def back_up(self, writes: list[tuple[float, int, str, int]], mode: str) -> None:
        self.write(writes)
        content = self.source.read_bytes()
        result = backup(self.store, self.source, operation_id=self.operation(), **self.options(mode))
        assert result.type == ("incremental" if self.newest and mode != "full" else "full")
        self.committed(result.backup_id, content)

    @rule(writes=WRITES, mode=MODES, at=st.integers(1, 60), after=st.booleans())
    def crash_and_repeat(
        self, writes: list[tuple[float, int, str, int]], mode: str, at: int, after: bool
    ) -> None:
        self.write(writes)
        content, operation = self.source.read_bytes(), self.operation()
        dying = CrashingStore(self.objects, at, after=after)
        try:
            first = backup(dying, self.source, operation_id=operation, **self.options(mode)).backup_id
        except Crash:
            found = opened(self.store).find_operation("v", operation)
            first = found.backup_id if found else ""
        result = backup(self.store, self.source, operation_id=operation, **self.options(mode))
        assert first in ("", result.backup_id)
        self.committed(result.backup_id, content)

    @rule(writes=WRITES, mode=MODES, at=st.integers(1, 40), same=st.booleans())
    def two_writers(self, writes: list[tuple[float, int, str, int]], mode: str, at: int, same: bool) -> None:
        """A second run begins and ends in the middle of the first; of the same operation, or of another."""
        self.write(writes)
        content, operation = self.source.read_bytes(), self.operation()
        options = self.options(mode)
        done: list[str] = []

        def rival() -> None:
            other = operation if same else self.operation()
            done.append(backup(self.store, self.source, operation_id=other, **options).backup_id)

        store = self.store
        store.before = at_call(at, rival)
        first = backup(store, self.source, operation_id=operation, **options).backup_id
        if same and done:
            assert first == done[0]
        for backup_id in {first, *done}:
            self.committed(backup_id, content)
        self.newest = opened(self.store).list("v")[-1]["backupId"]

    @precondition(lambda self: self.backups)
    @rule(pick=st.integers(0, 100), at=st.integers(0, 30), after=st.booleans())
    def delete(self, pick: int, at: int, after: bool) -> None:
        backup_id = sorted(self.backups)[pick % len(self.backups)]
        store = CrashingStore(self.objects, at, after=after) if at else self.store
        try:
            assert opened(store).delete("v", backup_id)
        except Crash:
            opened(self.store).delete("v", backup_id)
        del self.backups[backup_id]
        left = opened(self.store).list("v")
        if backup_id == self.newest:
            # Later lists would have to be made from what is the newest now.
            self.newest = left[-1]["backupId"] if left else None
            self.changed = [(0, self.source.stat().st_size)]

    @invariant()
    def every_backup_restores(self) -> None:
        if not self.backups:
            return
        listed = [entry["backupId"] for entry in opened(self.store).list("v")]
        assert sorted(listed) == sorted(self.backups)
        for backup_id, content in self.backups.items():
            assert restored(self.store, self.folder, backup_id) == content
        check_usage(self.store)


class EncryptedEngine(Engine):
    """The same with a key; no nonce comes twice."""

    ring = KeyRing(VaultKey(bytes(range(32))))

    def __init__(self) -> None:
        audited = pytest.MonkeyPatch()
        Audit(audited)
        super().__init__()
        self.audited = audited

    def teardown(self) -> None:
        super().teardown()
        self.audited.undo()


TestEngine = Engine.TestCase
TestEncryptedEngine = EncryptedEngine.TestCase
# A fixed sample here, so that a change is judged by itself; as many random ones as asked for in a soak.
EXAMPLES = os.environ.get("BLOCKVAULT_MODEL_EXAMPLES")
TestEngine.settings = TestEncryptedEngine.settings = settings(
    max_examples=int(EXAMPLES or 30),
    stateful_step_count=20,
    deadline=None,
    derandomize=EXAMPLES is None,
    suppress_health_check=list(HealthCheck),
)
