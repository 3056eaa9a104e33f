"""Compaction: every backup stays byte-equal, whatever happens in between; what is freed is freed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository, VaultKey, packs, runtime
from blockvault.engine.commits import Commits
from blockvault.engine.compact import Compaction, Rewritten
from blockvault.engine.envelope import Kind
from blockvault.engine.errors import AttemptFenced, StoredDataDamaged
from blockvault.engine.names import ObjectName
from blockvault.engine.root import Roots
from tests.unit.engine import support
from tests.unit.engine.support import (
    Crash,
    CrashingStore,
    MemoryStore,
    at_call,
    backup,
    check_usage,
    noise,
    opened,
    repeatable,
    restored,
    volume_of,
)

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096


def history(store: MemoryStore, folder: Path, rounds: int = 14, seed: int = 1) -> dict[str, bytes]:
    """Backups of a volume of which a part changes each time, half of them deleted again."""
    chance = random.Random(seed)
    source = folder / "source"
    source.write_bytes(chance.randbytes(60 * BLOCK))
    contents = {}
    for _ in range(rounds):
        with open(source, "r+b") as file:
            for _ in range(chance.randrange(1, 12)):
                file.seek(chance.randrange(60 * BLOCK - 3 * BLOCK))
                file.write(chance.choice([bytes, chance.randbytes])(chance.choice([10, 500, 3 * BLOCK])))
        contents[backup(store, source).backup_id] = source.read_bytes()
    # By their order, not by their random ids: the same history every time.
    for backup_id in chance.sample(list(contents), rounds // 2):
        opened(store).delete("v", backup_id)
        del contents[backup_id]
    return contents


def compact(store: MemoryStore, **options: object) -> Rewritten:
    found = volume_of(store)
    options.setdefault("budget", 1 << 40)
    return Compaction(store, found.lineage).run(found.state, **options)  # type: ignore[arg-type]


def check(store: MemoryStore, folder: Path, contents: dict[str, bytes]) -> None:
    assert sorted(entry["backupId"] for entry in opened(store).list("v")) == sorted(contents)
    for backup_id, content in contents.items():
        assert restored(store, folder, backup_id) == content
    check_usage(store)


def segments(store: MemoryStore) -> set[str]:
    """Keys of all segments that some backup needs."""
    found = volume_of(store)
    roots = Roots(store, found.lineage)
    return {
        found.lineage.paths.segment(name)
        for entry in found.state.roots
        for name, usage in roots.summary(ObjectName.parse(entry.object)).items()
        if usage.kind == Kind.SEGMENT
    }


def segment_bytes(store: MemoryStore) -> int:
    """Sizes of all segments that some backup needs."""
    return sum(len(store.objects[key]) for key in segments(store))


def flip(objects: dict[str, bytes], key: str, at: int) -> None:
    """Another bit at that place."""
    data = bytearray(objects[key])
    data[at] ^= 1
    objects[key] = bytes(data)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_every_backup_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, encrypted: bool
) -> None:
    monkeypatch.setattr(support, "RING", KeyRing(VaultKey(bytes(32))) if encrypted else KeyRing())
    store = MemoryStore()
    Repository.init(store, support.RING)
    contents = history(store, tmp_path, seed=seed)
    hashes = {entry["backupId"]: entry["rootHash"] for entry in opened(store).list("v")}
    before = segment_bytes(store)
    done = compact(store, alive_share=0.8)
    assert done.segments > 0
    assert done.roots > 0
    check(store, tmp_path, contents)
    assert {entry["backupId"]: entry["rootHash"] for entry in opened(store).list("v")} == hashes
    assert segment_bytes(store) == before - done.freed_bytes + done.copied_bytes
    assert done.copied_bytes < done.freed_bytes
    # Once more: what was copied is alive, so there is nothing left to do; and backups go on upon it.
    assert compact(store, alive_share=0.8).segments < done.segments
    source = tmp_path / "source"
    contents[backup(store, source).backup_id] = source.read_bytes()
    check(store, tmp_path, contents)


def test_nothing_to_do_costs_no_commit(store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(random.Random(1).randbytes(20 * BLOCK))
    backup(store, tmp_path / "source")
    before = set(store.objects)
    assert compact(store) == Rewritten()
    assert set(store.objects) == before


def test_the_budget_bounds_what_is_copied(store: MemoryStore, tmp_path: Path) -> None:
    contents = history(store, tmp_path)
    whole = compact(MemoryStore(dict(store.objects)), alive_share=0.8)
    some = compact(store, alive_share=0.8, budget=whole.copied_bytes // 3)
    assert 0 < some.segments < whole.segments
    assert some.copied_bytes < whole.copied_bytes // 2
    check(store, tmp_path, contents)


def test_a_crash_at_every_request(store: MemoryStore, tmp_path: Path) -> None:
    contents = history(store, tmp_path, rounds=8)
    counting = MemoryStore(dict(store.objects))
    compact(counting, alive_share=0.8)
    moment = runtime.wall()
    left: list[dict[str, bytes]] = []
    for at in range(1, counting.calls + 1):
        for after in (False, True):
            objects = dict(store.objects)
            with pytest.raises(Crash), repeatable(moment):
                compact(CrashingStore(objects, at, after=after), alive_share=0.8)  # type: ignore[arg-type]
            if objects not in left:
                left.append(objects)
                check(MemoryStore(dict(objects)), tmp_path, contents)
    # As it was, and after each of its writes.
    writes = sum(counting.requests.get(kind, 0) for kind in ("put", "create", "delete"))
    assert len(left) >= writes + 1 > 5
    again = MemoryStore(left[-1])
    compact(again, alive_share=0.8)
    check(again, tmp_path, contents)


def test_a_backup_and_a_deletion_in_the_middle(store: MemoryStore, tmp_path: Path) -> None:
    """At every request of the compaction: a root that came meanwhile stands, one that went stays gone."""
    contents = history(store, tmp_path, rounds=8)
    counting = MemoryStore(dict(store.objects))
    compact(counting, alive_share=0.8)
    source = tmp_path / "source"
    for at in range(1, counting.calls + 1, 3):
        racing = MemoryStore(dict(store.objects))
        left = dict(contents)

        def rival(racing: MemoryStore = racing, left: dict[str, bytes] = left) -> None:
            other = MemoryStore(racing.objects)
            victim = min(left)
            opened(other).delete("v", victim)
            del left[victim]
            left[backup(other, source).backup_id] = source.read_bytes()

        racing.before = at_call(at, rival)
        compact(racing, alive_share=0.8)
        racing.before = lambda *_: None
        check(racing, tmp_path, left)


def test_a_backup_that_began_before_and_ends_after(store: MemoryStore, tmp_path: Path) -> None:
    """Its pin is of the old revision, and what it names stays alive."""
    contents = history(store, tmp_path)
    source = tmp_path / "source"
    slow = MemoryStore(store.objects)

    def at_the_first_upload(number: int, kind: str, key: str) -> None:
        if kind == "put":
            slow.before = lambda *_: None
            compact(MemoryStore(store.objects), alive_share=0.8)

    slow.before = at_the_first_upload
    with open(source, "r+b") as file:
        file.write(b"changed meanwhile")
    contents[backup(slow, source).backup_id] = source.read_bytes()
    check(store, tmp_path, contents)


def test_a_compaction_that_was_given_up_cannot_commit(store: MemoryStore, tmp_path: Path) -> None:
    contents = history(store, tmp_path)
    racing = MemoryStore(store.objects)

    def at_the_first_upload(number: int, kind: str, key: str) -> None:
        if kind == "put":
            racing.before = lambda *_: None
            found = opened(MemoryStore(store.objects))._volumes.find("v")
            assert found is not None

            def forget(state):  # type: ignore[no-untyped-def]
                from blockvault.engine.attempts import give_up

                return give_up(state, state.attempts[-1].id)

            Commits(MemoryStore(store.objects), found.lineage).update(forget, found.state)

    racing.before = at_the_first_upload
    with pytest.raises(AttemptFenced):
        compact(racing, alive_share=0.8)
    check(store, tmp_path, contents)


def test_a_damaged_victim_is_not_copied(store: MemoryStore, tmp_path: Path) -> None:
    """Inputs are verified: damage is not given a fresh checksum, it is named, and all stays as it was."""
    contents = history(store, tmp_path)
    copy = dict(store.objects)
    for key in [key for key in copy if "/segments/" in key]:
        flip(copy, key, 200)
    commits = {key for key in copy if "/commits/" in key}
    done = compact(MemoryStore(copy), alive_share=0.8)
    assert done == Rewritten(left=done.left)
    assert done.left
    assert all("/segments/" in key for key in done.left)
    found = opened(MemoryStore(copy))._volumes.find("v")
    assert found is not None
    assert found.state.attempts == []
    assert all(root.revision == 1 for root in found.state.roots)
    assert len({key for key in copy if "/commits/" in key} - commits) == 2
    assert sorted(root.id for root in found.state.roots) == sorted(contents)


@pytest.mark.parametrize("where", [200, -8])
def test_a_damaged_victim_is_in_no_other_ones_way(store: MemoryStore, tmp_path: Path, where: int) -> None:
    """Nobody has reported it: it is met in an item that is to be copied, or in a directory. The others are rewritten."""
    contents = history(store, tmp_path)
    whole = compact(MemoryStore(dict(store.objects)), alive_share=0.8)
    needed = segments(store)
    after = dict(store.objects)
    compact(MemoryStore(after), alive_share=0.8)
    victim = min(key for key in needed if key not in segments(MemoryStore(after)))
    sound = store.objects[victim]
    flip(store.objects, victim, where)
    done = compact(store, alive_share=0.8)
    assert list(done.left) == [victim]
    assert done.segments == whole.segments - 1
    assert victim in segments(store)
    assert store.objects[victim] != sound
    store.objects[victim] = sound
    check(store, tmp_path, contents)
    assert opened(store).verify("v")["ok"]


def test_what_was_collected_meanwhile_is_no_damage(store: MemoryStore, tmp_path: Path) -> None:
    """A rival deletes and collects while victims are chosen: nothing is said to be damaged."""
    contents = history(store, tmp_path)
    racing = MemoryStore(store.objects)

    def at_the_first_directory(number: int, kind: str, key: str) -> None:
        if kind == "get" and "/segments/" in key:
            racing.before = lambda *_: None
            for backup_id in contents:
                opened(store.view()).delete("v", backup_id)
            opened(store.view()).collect("v")

    racing.before = at_the_first_directory
    assert compact(racing, alive_share=0.8) == Rewritten()
    assert segments(store) == set()


def test_a_backup_that_came_and_went_in_the_middle_is_no_damage(store: MemoryStore, tmp_path: Path) -> None:
    """It was not there when victims were chosen, and is when they are rewritten; then a rival deletes and collects it."""
    contents = history(store, tmp_path)
    (tmp_path / "late").write_bytes(noise(3, 77))
    racing, late = MemoryStore(store.objects), []

    def before(number: int, kind: str, key: str) -> None:
        if kind == "create" and "/commits/" in key and not late:
            late.append(backup(store.view(), tmp_path / "late", full=True).backup_id)
        elif kind == "put" and "/segments/" in key and len(late) == 1:
            late.append("gone")
            opened(store.view()).delete("v", late[0])
            opened(store.view()).collect("v")

    racing.before = before
    assert compact(racing, alive_share=0.8) == Rewritten()
    assert late[1:] == ["gone"]
    assert volume_of(store).state.attempts == []
    check(store, tmp_path, contents)


def test_a_label_given_in_the_middle_stays(store: MemoryStore, tmp_path: Path) -> None:
    """A compaction replaces the tree of a root; all else is that of the state it follows."""
    contents = history(store, tmp_path, rounds=8)
    racing = MemoryStore(store.objects)

    def at_the_first_upload(number: int, kind: str, key: str) -> None:
        if kind == "put":
            racing.before = lambda *_: None
            for backup_id in contents:
                opened(store).delete("v", backup_id, keep_seconds=3600)

    racing.before = at_the_first_upload
    assert compact(racing, alive_share=1.1).roots > 0
    found = volume_of(store)
    assert all("trash" in entry.labels for entry in found.state.roots)
    assert 2 in {entry.revision for entry in found.state.roots}


def test_a_copy_that_goes_wrong_is_not_relied_on(store: MemoryStore, tmp_path: Path) -> None:
    """Copies are read back before any root names them."""
    contents = history(store, tmp_path, rounds=8)

    class Spoiling(MemoryStore):
        def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
            spoiled = bytearray(data)
            if "/segments/" in key:
                spoiled[200] ^= 1
            super().put(key, spoiled)

    with pytest.raises(StoredDataDamaged, match="segments/"):
        compact(Spoiling(store.objects), alive_share=0.8)
    check(store, tmp_path, contents)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 blocks, which lie in one segment once they are backed up."""
    monkeypatch.setattr(packs, "SEGMENT_SIZE", 1_000_000)
    (tmp_path / "source").write_bytes(noise(40, 1))
    return tmp_path / "source"


def overwritten(source: Path, blocks: range, seed: int) -> None:
    content = bytearray(source.read_bytes())
    for block in blocks:
        content[block * BLOCK : (block + 1) * BLOCK] = noise(1, 1000 * seed + block)
    source.write_bytes(content)


def test_what_only_older_backups_need_is_waited_for(store: MemoryStore, tmp_path: Path, source: Path) -> None:
    """It goes with them, and would be copied in vain."""
    first = backup(store, source).backup_id
    overwritten(source, range(20), 2)
    second = backup(store, source).backup_id
    overwritten(source, range(20, 24), 3)
    contents = {backup(store, source).backup_id: source.read_bytes()}
    opened(store).delete("v", first)
    # Of the first segment 20 blocks of 40 are alive, of which the newest backup does not need 4: a fifth at most.
    before = segments(store)
    copy = MemoryStore(dict(store.objects))
    assert compact(copy).segments == 1
    overwritten(source, range(24, 26), 4)
    contents[backup(store, source).backup_id] = source.read_bytes()
    assert compact(store).segments == 0
    opened(store).delete("v", second)
    done = compact(store)
    assert done.segments == 1
    assert len(before - segments(store)) == 1
    check(store, tmp_path, contents)


def test_what_old_backups_keep_does_not_hold_the_rest_for_ever(
    store: MemoryStore, tmp_path: Path, source: Path
) -> None:
    """At two thirds of the share a segment is rewritten, whoever needs what is left of it."""
    first = backup(store, source).backup_id
    contents = {}
    for seed, blocks in ((2, range(28)), (3, range(28, 34))):
        overwritten(source, blocks, seed)
        contents[backup(store, source).backup_id] = source.read_bytes()
    opened(store).delete("v", first)
    assert compact(store).segments == 1
    check(store, tmp_path, contents)


def test_what_only_older_backups_need_lies_apart(store: MemoryStore, tmp_path: Path, source: Path) -> None:
    """So that a segment of it goes as a whole, and nothing of it is copied again."""
    contents = {}
    for seed, blocks in ((2, range(26)), (3, range(26, 28)), (4, range(26, 28))):
        contents[backup(store, source).backup_id] = source.read_bytes()
        overwritten(source, blocks, seed)
    last = backup(store, source).backup_id
    contents[last] = source.read_bytes()
    first, *others = contents
    opened(store).delete("v", first)
    del contents[first]
    before = segments(store)
    done = compact(store)
    assert done.segments > 0
    made = segments(store) - before
    assert len(made) == 2
    for backup_id in others[:-1]:
        opened(store).delete("v", backup_id)
        del contents[backup_id]
    assert len(made & segments(store)) == 1
    check(store, tmp_path, contents)
