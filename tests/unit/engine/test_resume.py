"""A run of an operation that died is gone on with: what it had sent is not sent again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blockvault.engine import ChangedList, KeyRing, Repository, VaultKey
from blockvault.stores import StoreLocation, open_store
from tests.unit.engine import support
from tests.unit.engine.support import (
    Crash,
    CrashingStore,
    MemoryStore,
    backup,
    check_usage,
    opened,
    restored,
    volume_of,
)

BLOCK = 262144


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("mode", ["full", "compare", "list"])
def test_what_was_sent_is_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, encrypted: bool
) -> None:
    """At whichever request it dies: all segments that had arrived are used again, and nothing else is lost."""
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(32))) if encrypted else KeyRing())
    store = MemoryStore()
    Repository.init(store, support.RING)
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(60 * 4096))
    options: dict[str, object] = {"operation_id": "op"}
    if mode != "full":
        backup(store, source)
        with open(source, "r+b") as file:
            for number in range(50):
                file.seek(number * 4096 + 64 * (number % 60))
                file.write(random.Random(number).randbytes(64 * (1 + number % 40)))
    if mode == "list":
        options["changed"] = ChangedList([(0, 60 * 4096)])
    counting = MemoryStore(dict(store.objects))
    backup(counting, source, **options)
    adopted = 0
    for at in range(1, counting.calls + 1):
        objects = dict(store.objects)
        with pytest.raises(Crash):
            backup(CrashingStore(objects, at, after=True), source, **options)
        there = {key for key in objects if "/segments/" in key} - set(store.objects)
        again = MemoryStore(objects)
        result = backup(again, source, **options)
        made = {key for key in objects if "/segments/" in key} - set(store.objects) - there
        named = {str(name) for name in summary_of(again)}
        assert {key for key in there if key.rpartition("/")[2] not in named} == set()
        adopted += len(there)
        # Together they hold what one run would have sent, but for what was under way.
        assert (
            sum(len(objects[key]) for key in there | made)
            < 1.4
            * sum(
                len(data)
                for key, data in counting.objects.items()
                if "/segments/" in key and key not in store.objects
            )
            + 20_000
        )
        assert restored(again, tmp_path, result.backup_id) == source.read_bytes()
        check_usage(again)
    assert adopted > 10


def summary_of(store: MemoryStore) -> list[object]:
    from blockvault.engine.names import ObjectName
    from blockvault.engine.root import Roots

    found = volume_of(store)
    return list(Roots(store, found.lineage).summary(ObjectName.parse(found.state.roots[-1].object)))


@pytest.mark.usefixtures("small")
def test_a_source_that_changed_meanwhile(tmp_path: Path, store: MemoryStore) -> None:
    """What was sent is adopted only where the block just read is the same."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(60 * 4096))
    with pytest.raises(Crash):
        backup(CrashingStore(store.objects, 18, after=True), source, operation_id="op")
    with open(source, "r+b") as file:
        for number in range(0, 60, 3):
            file.seek(number * 4096 + 10)
            file.write(b"changed")
    result = backup(store, source, operation_id="op")
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
    check_usage(store)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_directory_that_is_damaged_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    """Its blocks are sent again, in whatever way it is damaged: a place in it, its length, its hash, its end."""
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(32))) if encrypted else KeyRing())
    store = MemoryStore()
    Repository.init(store, support.RING)
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(60 * 4096))
    counting = MemoryStore(dict(store.objects))
    backup(counting, source, operation_id="op")
    with pytest.raises(Crash):
        backup(CrashingStore(store.objects, counting.calls - 8, after=True), source, operation_id="op")
    dead = sorted(key for key in store.objects if "/segments/" in key)
    assert len(dead) > 10
    assert opened(store).list("v") == []
    for number, key in enumerate(dead):
        data = bytearray(store.objects[key])
        if number % 4 == 3:
            del data[-7:]
        else:
            data[(-104, -40, -5)[number % 4]] ^= 1
        store.objects[key] = bytes(data)
    result = backup(store, source, operation_id="op")
    assert not {str(name) for name in summary_of(store)} & {key.rpartition("/")[2] for key in dead}
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
    assert opened(store).verify("v", every_byte=True)["ok"]


PROGRAM = """
import sys
from blockvault.engine import BackupRequest, Repository
from blockvault.stores import StoreLocation, open_store
store = open_store(StoreLocation("file://" + sys.argv[1]))
result = Repository.open(store).backup(BackupRequest(sys.argv[2], "v", operation_id="op"))
print(result.backup_id, store.traffic.bytes_up, result.peak_memory_bytes)
"""


def stored_in(place: Path) -> int:
    """Bytes of whole segments in a directory store."""
    return sum(path.stat().st_size for path in place.glob("lineages/*/segments/*") if ".tmp" not in path.name)


def killed_at_random(tmp_path: Path, size: int, kills: int) -> None:
    """kill -9 of a real process, again and again: in all at most 64 MiB more is sent each time than is needed."""
    source, place = tmp_path / "source", tmp_path / "store"
    with open(source, "wb") as file:
        file.writelines(random.Random(number).randbytes(1 << 20) for number in range(size // (1 << 20)))
    store = open_store(StoreLocation(f"file://{place}"), make=True)
    Repository.init(store)
    command = [sys.executable, "-c", PROGRAM, str(place), str(source)]
    chance, killed = random.Random(11), 0
    for number in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        # By what is stored, not by the time: a fast machine would be done before it is killed.
        wanted = max(stored_in(place), number * size // (kills + 2)) + chance.randrange(
            2 * size // (kills + 2)
        )
        began = time.monotonic()
        while process.poll() is None and stored_in(place) <= wanted and time.monotonic() < began + 60:
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    segments = stored_in(place)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    backup_id, sent, memory = done.stdout.split()
    assert killed >= kills // 3
    assert int(sent) <= size * 1.01 - segments + (64 << 20) or segments >= size
    assert stored_in(place) <= size * 1.01 + killed * (64 << 20)
    assert int(memory) <= 300 << 20
    Repository.open(store).restore("v", str(tmp_path / "restored"), backup_id)
    assert subprocess.run(["cmp", str(source), str(tmp_path / "restored")], check=False).returncode == 0


def test_killed_at_random(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 400 << 20, kills=4)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_a_hundred_times(tmp_path: Path) -> None:
    """Also with a hundred dead epochs to adopt from, the last run needs no more memory than any other."""
    killed_at_random(tmp_path, 2 << 30, kills=100)
