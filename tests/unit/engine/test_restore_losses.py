"""Restores that go on past damage, and after they were killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from blockvault.engine import BackupRequest, Repository, StoredDataDamaged
from blockvault.engine import writeback as writebacks
from blockvault.engine.hashing import Buffer
from blockvault.engine.pages import name_of
from blockvault.engine.target import Target
from blockvault.stores import DirectoryStore
from tests.unit.engine.support import MemoryStore, backup, marker, restore, tree_of, volume_of

BLOCK = 4096
MIB = 1024 * 1024

# ---- salvage


@pytest.mark.parametrize("dirty", [False, True])
def test_salvage_goes_on_past_damage_and_says_what_was_lost(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, dirty: bool
) -> None:
    store, content, backup_id = kept
    key = sorted(key for key in store.objects if "/segments/" in key)[1]
    del store.objects[key]
    target = tmp_path / "target"
    if dirty:
        target.write_bytes(b"\xff" * len(content))
    with pytest.raises(StoredDataDamaged, match=key):
        restore(store, target, backup_id, force=True)
    result = restore(store, target, backup_id, force=True, salvage=True)
    assert {item["object"] for item in result.lost} == {key}
    assert all(item["cause"] == "segment is missing" for item in result.lost)
    wanted = bytearray(content)
    for item in result.lost:
        wanted[item["offset"] : item["offset"] + item["length"]] = bytes(item["length"])
    assert 0 < sum(item["length"] for item in result.lost) < len(content)
    assert target.read_bytes() == wanted


def test_one_bad_block_costs_one_block(kept: tuple[MemoryStore, bytes, str], tmp_path: Path) -> None:
    store, content, backup_id = kept
    key = min(key for key in store.objects if "/segments/" in key)
    data = bytearray(store.objects[key])
    data[128 + BLOCK + 5] ^= 1
    store.objects[key] = bytes(data)
    result = restore(store, tmp_path / "target", backup_id, salvage=True)
    assert [(item["offset"], item["length"]) for item in result.lost] == [(BLOCK, BLOCK)]
    assert (tmp_path / "target").read_bytes() == content[:BLOCK] + bytes(BLOCK) + content[2 * BLOCK :]


def key_of_first_leaf(store: MemoryStore, backup_id: str) -> str:
    found = volume_of(store)
    entry = found.state.root(backup_id)
    assert entry is not None
    return found.lineage.paths.pages(name_of(tree_of(store, entry).inner(1, 0).entries[0]))


@pytest.mark.parametrize("pages", ["some", "all"])
def test_salvage_where_pages_are_damaged(
    kept: tuple[MemoryStore, bytes, str], tmp_path: Path, pages: str
) -> None:
    store, content, backup_id = kept
    keys = sorted(key for key in store.objects if "/pages/" in key)
    assert len(keys) > 1
    for key in keys if pages == "all" else [key_of_first_leaf(store, backup_id)]:
        del store.objects[key]
    result = restore(store, tmp_path / "target", backup_id, salvage=True)
    assert {item["cause"] for item in result.lost} == {"page object is missing"}
    restored = (tmp_path / "target").read_bytes()
    lost = sum(item["length"] for item in result.lost)
    assert lost == len(content) if pages == "all" else 0 < lost < len(content)
    for item in result.lost:
        part = slice(item["offset"], item["offset"] + item["length"])
        assert not any(restored[part])
        restored = restored[: part.start] + content[part] + restored[part.stop :]
    assert restored == content


# ---- killed


@pytest.mark.disk
def test_a_restore_that_is_killed_fetches_little_again(tmp_path: Path) -> None:
    """kill -9 of a real process, several times: what was written before is not fetched again."""
    source, store = tmp_path / "source", tmp_path / "store"
    content = random.Random(3).randbytes(192 * MIB)
    source.write_bytes(content)
    made = DirectoryStore(str(store), make=True)
    backup_id = Repository.init(made).backup(BackupRequest(str(source), "v")).backup_id
    target = tmp_path / "target"
    program = (
        "import sys, json\n"
        "from blockvault.engine import Repository\n"
        "from blockvault.stores import DirectoryStore\n"
        "def note(progress):\n"
        "    print(progress.bytes_written, flush=True)\n"
        "result = Repository.open(DirectoryStore(sys.argv[1])).restore('v', sys.argv[2], sys.argv[3], note)\n"
        "print(json.dumps({'read': result.bytes_read, 'kept': result.bytes_kept}), flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(store), str(target), backup_id]
    for least in (30 * MIB, 60 * MIB):
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert run.stdout is not None
        written = 0
        for line in run.stdout:
            written = int(line)
            if written >= least:
                break
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert marker(target).exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["kept"] >= 90 * MIB
    assert result["read"] <= len(content) - 90 * MIB + 64 * MIB
    assert target.read_bytes() == content


@pytest.mark.disk  # what is written while a sync runs counts
def test_at_most_64_mib_are_not_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine's power takes away is what was written since the sync before the last."""
    content = random.Random(4).randbytes(160 * MIB)
    (tmp_path / "source").write_bytes(content)
    store = MemoryStore()
    Repository.init(store)
    made = backup(store, tmp_path / "source")
    worst = written = durable = 0
    write, sync = Target.write, Target.sync

    def writing(self: Target, offset: int, buffers: list[Buffer]) -> None:
        nonlocal written, worst
        write(self, offset, buffers)
        written += sum(len(buffer) for buffer in buffers)
        worst = max(worst, written - durable)

    def syncing(self: Target) -> None:
        nonlocal durable
        before = written
        sync(self)
        durable = before

    monkeypatch.setattr(Target, "write", writing)
    monkeypatch.setattr(Target, "sync", syncing)
    restore(store, tmp_path / "target", made.backup_id)
    assert writebacks.SYNC_EVERY < worst <= 64 * MIB
