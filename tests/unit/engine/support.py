"""Stores in memory that fail on demand, and the engine at a small scale."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import BackupNotFound, BackupRequest, BackupResult, KeyRing, Repository, runtime
from blockvault.engine import target as targets
from blockvault.engine.commits import Commits
from blockvault.engine.envelope import Kind, ObjectChecksum
from blockvault.engine.hashing import Buffer
from blockvault.engine.items import overhead
from blockvault.engine.leaf import Leaf
from blockvault.engine.lineage import Lineage
from blockvault.engine.names import ObjectName
from blockvault.engine.pages import PATCHED, Inner, name_of
from blockvault.engine.progress import RestoreResult
from blockvault.engine.restore import RestoreRequest, RestoreRun
from blockvault.engine.root import Root, Roots
from blockvault.engine.state import Outcome, RootEntry, State
from blockvault.engine.target import Target
from blockvault.engine.tree import TreeReader
from blockvault.engine.volumes import Volume
from blockvault.stores import AlreadyExists, ObjectInfo, ObjectNotFound, Traffic

Hook = Callable[[int, str, str], None]


class MemoryStore:
    """Objects in a dictionary. `before` and `after` are called around each request with its number, kind, key."""

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.url = "memory:"
        # The store's own; as a rule it agrees with the machine's.
        self.clock: Callable[[], float] = runtime.wall
        self.traffic = Traffic()
        self.objects: dict[str, bytes] = {} if objects is None else objects
        self.before: Hook = lambda number, kind, key: None
        self.after: Hook = lambda number, kind, key: None
        self._lock = threading.Lock()
        self.calls = 0

    def view(self) -> MemoryStore:
        """The same objects through another client, without hooks."""
        return MemoryStore(self.objects)

    @property
    def requests(self) -> dict[str, int]:
        return dict(self.traffic.requests)

    def _request(self, kind: str, key: str, work: Callable[[], bytes | None]) -> bytes:
        with self._lock:
            self.calls += 1
            number = self.calls
        self.traffic.count(kind)
        self.before(number, kind, key)
        try:
            with self._lock:
                result = work()
        finally:
            self.after(number, kind, key)
        return result or b""

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        def work() -> bytes:
            if key not in self.objects:
                raise ObjectNotFound(f"{key} does not exist")
            return self.objects[key][start : None if length is None else start + length]

        return self._request("get", key, work)

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        def work() -> None:
            assert key not in self.objects, f"{key} would be overwritten"
            self.objects[key] = bytes(data)

        self._request("put", key, work)

    def create(self, key: str, data: bytes | bytearray | memoryview) -> None:
        def work() -> None:
            if self.objects.setdefault(key, bytes(data)) != bytes(data):
                raise AlreadyExists(f"{key} exists already")

        self._request("create", key, work)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found: list[ObjectInfo] = []

        def work() -> None:
            found.extend(
                ObjectInfo(k, len(v), hashlib.md5(v).hexdigest())
                for k, v in list(self.objects.items())
                if k.startswith(prefix)
            )

        self._request("list", prefix, work)
        return iter(found)

    def folders(self, prefix: str) -> set[str]:
        found: set[str] = set()

        def work() -> None:
            below = [key[len(prefix) :] for key in list(self.objects) if key.startswith(prefix)]
            found.update(rest.partition("/")[0] for rest in below if "/" in rest)

        self._request("list", prefix, work)
        return found

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._request("delete", key, lambda key=key: self.objects.pop(key, None))  # type: ignore[misc]

    def stat(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(self.get(key)), modified=self.clock())


class Crash(RuntimeError):
    """The process is dead: this request, and all that come after it, never return."""


class CrashingStore(MemoryStore):
    """Dies at request number `at`, before or after its effect."""

    def __init__(self, objects: dict[str, bytes], at: int, *, after: bool) -> None:
        super().__init__(objects)
        self.before = self._before
        self.after = self._after
        self._at = at
        self._late = after

    def _before(self, number: int, kind: str, key: str) -> None:
        if number > self._at or (number == self._at and not self._late):
            raise Crash(f"{kind} {key}")

    def _after(self, number: int, kind: str, key: str) -> None:
        if number >= self._at:
            raise Crash(f"{kind} {key}")


@contextmanager
def repeatable(moment: float) -> Iterator[None]:
    """Runs inside begin at the same time and with the same random numbers: equal ones leave equal stores.

    Most requests only read, so runs that are stopped at each in turn leave few stores that differ. Those alone need
    to be looked at, as nothing else goes from one run to the next.
    """
    with runtime.use(runtime.Runtime(wall=lambda: moment, random=random.Random(1).randbytes)):
        yield


def at_call(wanted: int, action: Callable[[], object]) -> Hook:
    """A hook that acts once, at request number `wanted`."""

    def hook(number: int, kind: str, key: str) -> None:
        if number == wanted:
            action()

    return hook


def stand_in_ioctl(fd: int, request: int, argument: bytes | bytearray) -> int:
    """What the kernel does for a disk, where a file passes for one."""
    if request == targets.BLKROGET:
        return 0  # it may be written
    assert request == targets.BLKZEROOUT
    offset, length = struct.unpack("<QQ", argument)
    os.pwrite(fd, bytes(length), offset)
    return 0


SMALL = {
    "BLOCK_SIZE": 4096,
    "SECTOR_SIZE": 64,
    "FANOUT": 4,
    "BATCH_BLOCKS": 2,
    "BATCH_SIZE": 2 * 4096,
    "SEGMENT_SIZE": 10_000,
    "PAGES_SIZE": 3_000,
    "GAP": 1_000,
    "LARGEST_READ": 9_000,
    "MAX_DEPTH": 3,
    "MAX_PATCHES": 3,
    "FIRST_READ": 200,
    # Pages of four slots are hardly larger than the reference in a patch: at the real share there would be none.
    "PATCH_SHARE": 1.5,
    "PENDING": 5,
    "CHUNK": 3,
    "TOGETHER": 2,
    "SPARED_AFTER": 8 * 4096,
}


def shrink_scale(patch: pytest.MonkeyPatch) -> None:
    """Small blocks, pages, segments and summaries, so that small volumes reach every branch of the code."""
    for name, module in list(sys.modules.items()):
        if name.startswith("blockvault.engine."):
            for constant, value in SMALL.items():
                if hasattr(module, constant):
                    patch.setattr(module, constant, value)


def places_around(data: bytes) -> list[int]:
    """Places of a segment or page object that belong to none of its items: in its header, directory and trailer."""
    # An object of sector digests alone has no lines in its directory.
    lines = [-60] if int.from_bytes(data[-40:-36], "little") else []
    return [0, 57, 100, *lines, -40, -1]


# The keys that these helpers open stores with.
RING = KeyRing()


def opened(store: MemoryStore) -> Repository:
    """The store, opened with the keys of the test."""
    return Repository.open(store, RING)


def volume_of(store: MemoryStore, volume: str = "v") -> Volume:
    """A volume that is there: its lineage and its newest state."""
    found = opened(store)._volumes.find(volume)
    assert found is not None
    return found


def state_of(store: MemoryStore, volume: str = "v") -> State:
    """The newest state of a volume that is there."""
    return volume_of(store, volume).state


def tree_of(store: MemoryStore, entry: RootEntry) -> TreeReader:
    """The tree of a backup."""
    lineage = volume_of(store).lineage
    root = Roots(store, lineage).read(entry)
    return TreeReader(store, lineage, root.top, root.levels)


def note(state: State) -> tuple[State, Outcome]:
    """A decision that changes nothing."""
    return state, Outcome("", "note")


def commit(store: MemoryStore, change: Callable[[State], object] = lambda state: None) -> None:
    """A commit that changes the state in some way."""
    found = volume_of(store)

    def decide(state: State) -> tuple[State, Outcome]:
        change(state)
        return state, Outcome("", "test")

    Commits(store, found.lineage).update(decide, found.state)


def noise(blocks: int, seed: int = 1) -> bytes:
    """Small blocks that do not compress."""
    return random.Random(seed).randbytes(blocks * SMALL["BLOCK_SIZE"])


def backup(store: MemoryStore, source: Path, volume: str = "v", **options: object) -> BackupResult:
    """One backup with few threads."""
    request = BackupRequest(str(source), volume, threads=2)
    for name, value in options.items():
        assert hasattr(request, name)
        setattr(request, name, value)
    return opened(store).backup(request)


def restored(store: MemoryStore, folder: Path, backup_id: str, volume: str = "v") -> bytes:
    """The bytes of a backup, read without a pin, so that looking changes nothing."""
    target = folder / "restored"
    target.unlink(missing_ok=True)
    found = opened(store)._volumes.find(volume)
    entry = None if found is None else found.state.root(backup_id)
    if found is None or entry is None:
        raise BackupNotFound(f"volume {volume!r} has no backup {backup_id}")
    RestoreRun(store, found, entry, RestoreRequest(str(target))).run()
    return target.read_bytes()


def check_usage(store: MemoryStore, volume: str = "v") -> None:
    """The summaries name exactly what the trees reach, it is really there, and used bytes are its size."""
    found = opened(store)._volumes.find(volume)
    assert found is not None
    state, lineage = found.state, found.lineage
    paths = lineage.paths
    roots = Roots(store, lineage)
    named: dict[str, int] = {}
    living: set[str] = set()
    for entry in state.roots:
        mine: dict[str, int] = {}
        name = ObjectName.parse(entry.object)
        summary = roots.summary(name)
        assert {used: usage.live for used, usage in summary.items()} == reached(
            store, lineage, roots.read(entry)
        )
        for used, usage in summary.items():
            mine[paths.segment(used) if usage.kind == Kind.SEGMENT else paths.pages(used)] = usage.size
        base: tuple[ObjectName, int] | None = (name, entry.object_bytes)
        while base is not None:
            mine[paths.root(base[0])] = base[1]
            base = roots._read(base[0]).base
        named.update(mine)
        if "trash" not in entry.labels:
            living.update(mine)
    assert {key: len(store.objects[key]) for key in named} == named
    assert sum(named.values()) == state.used_bytes
    assert sum(size for key, size in named.items() if key not in living) == state.trash_bytes


def reached(store: MemoryStore, lineage: Lineage, root: Root) -> dict[ObjectName, int]:
    """For each object, how many of its bytes the root's tree reaches, found by walking all of it."""
    found: Counter[ObjectName] = Counter()
    reader = TreeReader(store, lineage, root.top, root.levels)
    extra = overhead(lineage)

    def count(page: Leaf | Inner | None) -> None:
        if page is not None and page.origin is not None:
            origin = page.origin
            found[name_of(origin.ref)] += int(origin.ref["length"])
            if origin.ref["kind"] == PATCHED:
                found[name_of(origin.base)] += int(origin.base["length"])

    leaves = -(-root.size // (SMALL["BLOCK_SIZE"] * SMALL["FANOUT"]))
    for level in range(1, root.levels + 1):
        for index in range(-(-leaves // SMALL["FANOUT"] ** level)):
            count(reader.inner(level, index))
    for _, leaf in reader.leaves(range(leaves)):
        count(leaf)
        for slot in range(SMALL["FANOUT"]) if leaf else ():
            for piece in leaf.pieces(slot):
                found[piece.name] += piece.length
                assert piece.digests is not None
                found[piece.digests.name] += 8 * (piece.mask.bit_count() or 64) + extra
    return dict(found)


def restore(store: MemoryStore, target: Path, backup_id: str, **how: Any) -> RestoreResult:
    """A backup of volume v, to a file."""
    return opened(store).restore("v", str(target), backup_id, **how)


def marker(target: Path) -> Path:
    """The note beside a file that is being restored to."""
    return Path(f"{target}.blockvault-partial")


def interrupted(store: MemoryStore, target: Path, backup_id: str, at: int, **how: Any) -> None:
    """A restore that dies at a write."""
    writes = 0

    def write(self: Target, offset: int, buffers: list[Buffer]) -> None:
        nonlocal writes
        writes += 1
        if writes > at:
            raise KeyboardInterrupt
        original(self, offset, buffers)

    original = Target.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Target, "write", write)
        with pytest.raises(KeyboardInterrupt):
            restore(store, target, backup_id, threads=1, **how)


def with_feature(data: bytes, key: str, offset: int) -> bytes:
    """The object with an unknown feature and a right checksum, as a later version would write it."""
    head = bytearray(data[:96])
    head[offset] |= 0x80
    checksum = ObjectChecksum()
    checksum.update(data[128:])
    return bytes(head) + checksum.finish(bytes(head), key) + data[128:]
