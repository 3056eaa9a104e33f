"""A store in memory with object lock, and a clock that is set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from blockvault.engine import Repository, runtime
from blockvault.engine.names import STORE, ObjectName
from blockvault.engine.root import Roots
from blockvault.engine.state import RootEntry
from blockvault.engine.volumes import Volume
from blockvault.stores import ObjectLock, ObjectLocked, ObjectNotFound
from blockvault.stores.base import UNLOCKED
from tests.unit.engine.support import MemoryStore, volume_of

DAY = 24 * 3600.0
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Clock:
    """Seconds since 1970."""

    def __init__(self) -> None:
        self.now = START

    @contextmanager
    def use(self) -> Iterator[None]:
        """Let the engine go by it."""
        with runtime.use(runtime.Runtime(wall=lambda: self.now, sleep=lambda seconds: None)):
            yield


class LockingStore(MemoryStore):
    """`ends`: when the lock of each key ends. `moved`, `asked`: how often each was extended, and asked for."""

    def __init__(self, clock: Clock, former: LockingStore | None = None) -> None:
        super().__init__(former.objects if former else None)
        self.set_clock = clock
        self.ends: dict[str, float] = former.ends if former else {}
        self.moved: Counter[str] = former.moved if former else Counter()
        self.asked: Counter[str] = former.asked if former else Counter()
        self.refused: Counter[str] = former.refused if former else Counter()
        self.lock: ObjectLock | None = None

    def view(self) -> LockingStore:
        return LockingStore(self.set_clock, self)

    def lock_new(self, lock: ObjectLock) -> None:
        self.lock = lock

    def check_locks(self) -> None:
        self.traffic.count("head")

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        super().put(key, data)
        self._lock_it(key)

    def create(self, key: str, data: bytes | bytearray | memoryview) -> None:
        super().create(key, data)
        self._lock_it(key)

    def _lock_it(self, key: str) -> None:
        if self.lock is not None and not key.startswith(UNLOCKED):
            self.ends.setdefault(key, self.set_clock.now + self.lock.days * DAY)

    def delete(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        locked = [key for key in wanted if self.ends.get(key, 0.0) > self.set_clock.now]
        self.refused.update(locked)
        super().delete(key for key in wanted if key not in locked)
        if locked:
            raise ObjectLocked(f"{locked[0]}: locked")

    def lock_until(self, key: str) -> datetime | None:
        self.asked[key] += 1
        self.stat(key)
        return datetime.fromtimestamp(self.ends[key], UTC) if key in self.ends else None

    def extend_lock(self, keys: Iterable[str], until: datetime) -> None:
        assert self.lock is not None
        missing = []
        for key in keys:
            if key not in self.objects:
                missing.append(key)
            elif self.ends.get(key, 0.0) < until.timestamp():
                self.traffic.count("put")
                self.moved[key] += 1
                self.ends[key] = until.timestamp()
        if missing:
            raise ObjectNotFound(missing[0])


def made(clock: Clock, days: int = 30) -> LockingStore:
    """A store whose backups are locked for so long."""
    store = LockingStore(clock)
    Repository.init(store, lock=ObjectLock("Compliance", days))
    return store


def volume_in(store: MemoryStore) -> Volume:
    return volume_of(store)


def needed(
    store: MemoryStore, found: Volume, entries: list[RootEntry], roots: Roots | None = None
) -> set[str]:
    """Keys of all that these backups take, from the store's own record on, to the newest commit."""
    paths = found.lineage.paths
    roots = roots or Roots(store, found.lineage)
    objects = roots.objects(ObjectName.parse(entry.object) for entry in entries)
    records = {key for key in store.objects if key.startswith("volumes/")}
    return {STORE, paths.commit(found.state.number), *records, *objects.keys(paths)}


def write(path: Path, content: bytearray, at: int, data: bytes) -> None:
    """Change a volume."""
    content[at : at + len(data)] = data
    path.write_bytes(content)
