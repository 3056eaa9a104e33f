"""F1: changed-block lists are believed only as far as they can be checked (and cost nothing when nothing changed)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from blockvault.engine import (
    SNAPSHOT_METADATA,
    AttemptFenced,
    ChangedList,
    KeyRing,
    Repository,
    VaultKey,
    samples,
)
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


def volume(path: Path, blocks: int, used: int) -> Path:
    with open(path, "wb") as file:
        file.truncate(blocks * BLOCK)
        for number in range(used):
            file.seek(number * (blocks // used) * BLOCK)
            file.write(random.Random(number).randbytes(1000))
    return path


@pytest.mark.parametrize("blocks", [10, 5_000, 4_000_000])
@pytest.mark.parametrize("encrypted", [False, True])
def test_nothing_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, encrypted: bool
) -> None:
    """At most ten requests, whatever the volume's size (one more for the key of an encrypted lineage)."""
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(32))) if encrypted else KeyRing())
    store = MemoryStore()
    Repository.init(store, support.RING)
    source = volume(tmp_path / "source", blocks, min(blocks, 40))
    first = backup(store, source)
    for _ in range(20):
        fresh = store.view()
        result = backup(fresh, source, changed=ChangedList([]))
        assert (result.changed_block_source, result.bytes_changed, result.type) == ("List", 0, "incremental")
        assert result.root_hash == first.root_hash
        assert fresh.traffic.total_requests == result.requests
        assert result.requests <= 10 + encrypted
        assert fresh.requests["create"] == fresh.requests["put"] == 1
    if blocks < 10_000:
        assert restored(store, tmp_path, result.backup_id) == source.read_bytes()


@pytest.mark.usefixtures("small")
def test_nothing_changed_and_a_crash_at_every_request(tmp_path: Path, store: MemoryStore) -> None:
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(30 * 4096))
    backup(store, source)
    counting = MemoryStore(dict(store.objects))
    backup(counting, source, changed=ChangedList([]), operation_id="op")
    for at in range(1, counting.calls + 1):
        for after in (False, True):
            objects = dict(store.objects)
            with pytest.raises(Crash):
                backup(
                    CrashingStore(objects, at, after=after),
                    source,
                    changed=ChangedList([]),
                    operation_id="op",
                )
            result = backup(MemoryStore(objects), source, changed=ChangedList([]), operation_id="op")
            assert restored(MemoryStore(objects), tmp_path, result.backup_id) == source.read_bytes()
            assert len(opened(MemoryStore(objects)).list("v")) == 2
            check_usage(MemoryStore(objects))


@pytest.mark.usefixtures("small")
def test_nothing_changed_while_another_commits(tmp_path: Path, store: MemoryStore) -> None:
    """The root that no attempt protects does not count then; the run begins again in the ordinary way."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(30 * 4096))
    backup(store, source)
    racing = MemoryStore(store.objects)

    def rival(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key:
            racing.before = lambda *_: None
            backup(MemoryStore(store.objects), source, changed=ChangedList([]))

    racing.before = rival
    result = backup(racing, source, changed=ChangedList([]), operation_id="op")
    found = volume_of(store)
    assert [outcome.action for outcome in found.state.outcomes[-3:]] == ["backup", "begin", "backup"]
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()


def test_a_list_that_leaves_changes_out_is_found_out(tmp_path: Path, store: MemoryStore) -> None:
    """The run compares instead, and says why; lists are believed again after one more comparing run."""
    source = volume(tmp_path / "source", 400, 200)
    backup(store, source)
    with open(source, "r+b") as file:
        for number in range(0, 400, 2):
            file.seek(number * BLOCK)
            file.write(b"not in the list")
    result = backup(store, source, changed=ChangedList([(0, BLOCK)]))
    assert (result.changed_block_source, result.fallback_reason) == ("Compare", "ListWasWrong")
    assert result.bytes_changed == 200 * BLOCK
    assert restored(store, tmp_path, result.backup_id) == source.read_bytes()
    again = backup(store, source, changed=ChangedList([]))
    assert (again.changed_block_source, again.fallback_reason) == ("Compare", "ListsDistrusted")
    believed = backup(store, source, changed=ChangedList([]))
    assert (believed.changed_block_source, believed.fallback_reason) == ("List", None)


def test_a_list_believed_before_another_was_found_out(tmp_path: Path, store: MemoryStore) -> None:
    """What a run by list began meanwhile does not commit: repeated, it compares."""
    source = volume(tmp_path / "source", 400, 200)
    parent = backup(store, source)
    racing = MemoryStore(store.objects)

    def found_out(number: int, kind: str, key: str) -> None:
        if kind == "put" and "/roots/" in key:
            racing.before = lambda *_: None
            with open(source, "r+b") as file:
                for number in range(0, 400, 2):
                    file.seek(number * BLOCK)
                    file.write(b"in no list")
            assert backup(store, source, changed=ChangedList([])).fallback_reason == "ListWasWrong"

    racing.before = found_out
    with open(source, "r+b") as file:
        file.write(b"in the list")
    listed = ChangedList([(0, BLOCK)], parent.backup_id)
    with pytest.raises(AttemptFenced, match="not believed any more") as raised:
        backup(racing, source, operation_id="op", changed=listed)
    assert raised.value.retryable
    again = backup(store, source, operation_id="op", changed=listed)
    assert again.changed_block_source == "Compare"
    assert restored(store, tmp_path, again.backup_id) == source.read_bytes()


@pytest.mark.parametrize("blocks", [4096, 20_000, 400_000])
def test_samples_find_one_wrong_block_in_two_hundred(blocks: int) -> None:
    """Of blocks left out with this share, 1,024 samples miss all once in 170 runs; 60 runs are looked at."""
    chance = random.Random(3)
    missed = 0
    sampler = samples.Sampler(blocks, {})
    hashes = bytes([1]) * 32 * 128
    for first in range(0, blocks, 128):
        sampler.leaf(first, min(128, blocks - first), hashes)
    kept = sampler.finish()
    assert {0, blocks - 1} <= set(kept)
    for _ in range(60):
        wrong = set(chance.sample(range(blocks), blocks // 200))
        missed += not any(block in wrong for block, _ in samples.to_check(kept, []))
    assert missed <= 3


def test_samples_lie_beside_what_changed() -> None:
    """Lists are wrong by rounding, so that what is left out lies beside what is named."""
    sampler = samples.Sampler(1280, {})
    changed = range(40, 60)
    for first in range(0, 1280, 128):
        sampler.leaf(first, 128, bytes([1]) * 32 * 128, changed if first == 256 else ())
    assert {256 + 39, 256 + 60} <= set(sampler.finish())


def test_samples_follow_the_volume(tmp_path: Path, store: MemoryStore) -> None:
    """What a backup carries on from its parent has the hashes of its own blocks: no false alarm, ever."""
    source = volume(tmp_path / "source", 700, 100)
    backup(store, source)
    chance = random.Random(5)
    for step in range(12):
        changes = []
        with open(source, "r+b") as file:
            for _ in range(30):
                offset = chance.randrange(700 * BLOCK - 5000)
                file.seek(offset)
                file.write(bytes(5000) if step % 3 == 0 else chance.randbytes(5000))
                changes.append((offset, 5000))
        result = backup(store, source, changed=ChangedList(changes))
        assert (result.changed_block_source, result.fallback_reason) == ("List", None)
        assert restored(store, tmp_path, result.backup_id) == source.read_bytes()


@pytest.mark.usefixtures("small")
def test_a_backup_says_whose_list_it_was_or_why_there_was_none(tmp_path: Path, store: MemoryStore) -> None:
    """The words stay with the backup: asked for it again, the same is said."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(30 * 4096))
    first = backup(store, source, no_list="NoBase")
    # There was nothing to compare with.
    assert (first.changed_block_source, first.fallback_reason) == ("Full", None)
    for changes in ([], [(0, 4096)]):
        listed = ChangedList(changes, opened(store).list("v")[-1]["backupId"], SNAPSHOT_METADATA)
        made = backup(store, source, changed=listed)
        assert (made.changed_block_source, made.fallback_reason) == ("SnapshotMetadata", None)
    other = ChangedList([], first.backup_id, SNAPSHOT_METADATA)
    made = backup(store, source, changed=other, operation_id="op")
    assert (made.changed_block_source, made.fallback_reason) == ("Compare", "ListOfAnotherBackup")
    again = backup(store, source, no_list="BaseGone", operation_id="op")
    assert (again.backup_id, again.fallback_reason) == (made.backup_id, "ListOfAnotherBackup")
    made = backup(store, source, no_list="BaseGone")
    assert (made.changed_block_source, made.fallback_reason) == ("Compare", "BaseGone")
    assert backup(store, source, full=True, no_list="BaseGone").fallback_reason is None


@pytest.mark.usefixtures("small")
def test_what_a_volume_has_grown_by_counts_as_changed(tmp_path: Path, store: MemoryStore) -> None:
    """F1: a list about the old part, or without any word of the new one, leaves nothing out."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(30 * 4096 + 100))
    first = backup(store, source)
    with open(source, "ab") as file:
        file.write(random.Random(2).randbytes(20 * 4096))
    made = backup(store, source, changed=ChangedList([], first.backup_id, SNAPSHOT_METADATA))
    assert (made.changed_block_source, made.type) == ("SnapshotMetadata", "incremental")
    assert restored(store, tmp_path, made.backup_id) == source.read_bytes()
