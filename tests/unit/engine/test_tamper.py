"""Every kind of object, in clear and in encrypted stores: bits flipped, cut, lengthened, swapped, replayed, set back.

Whatever is done, `verify` names the object, and a restore gives the right bytes or names it as well. What cannot be told
from the store alone, because it is a whole older state of it, is told by what was seen before.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blockvault.engine import KeyRing, Repository, StoredDataDamaged, VaultKey, envelope, runtime
from blockvault.engine.envelope import HEADER_SIZE, Kind
from blockvault.engine.rollback import Seen
from blockvault.engine.rotation import Rotation
from blockvault.stores import BlockvaultError
from tests.unit.engine import support
from tests.unit.engine.support import MemoryStore, backup

pytestmark = pytest.mark.usefixtures("small")

BLOCK = 4096
OLD, NEW = VaultKey(b"o" * 32), VaultKey(b"n" * 32)
KINDS = {
    "clear": ["store", "volume", "commit", "root", "pages", "segment"],
    "encrypted": ["store", "generation", "volume", "key", "commit", "root", "pages", "segment"],
}
PACKED = ("pages", "segment")
CASES = [(mode, kind) for mode, kinds in KINDS.items() for kind in kinds]
# Bits that are flipped in each region of each object, beyond those of small objects, which are all flipped.
SAMPLE = 2
# Of so many objects of each kind.
OBJECTS = 3


@dataclass
class Kept:
    """A store with two volumes, what is in their backups, and the keys that open it."""

    store: MemoryStore
    ring: KeyRing
    target: Path
    contents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    # A copy from before the last two backups and the rotation.
    former: dict[str, bytes] = field(default_factory=dict)
    # Commits of `v` up to its last backup.
    last: int = 0

    def keys(self, kind: str, lineage: str = "") -> list[str]:
        """Of all objects of a kind, in order."""
        return sorted(key for key in self.store.objects if kind_of(key) == kind and lineage in key)

    def lineage(self, volume: str) -> str:
        found = Repository.open(self.store, self.ring)._volumes.find(volume)
        assert found is not None
        return found.lineage.id


def kind_of(key: str) -> str:
    if key == "blockvault":
        return "store"
    folder = key.split("/")[-2]
    names = {"commits": "commit", "roots": "root", "segments": "segment", "keys": "key"}
    if key.startswith("keys/"):
        return "generation"
    return "volume" if key.startswith("volumes/") else names.get(folder, folder)


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Second looks do not wait."""
    with runtime.use(runtime.Runtime(sleep=lambda seconds: None)):
        yield


@pytest.fixture
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    return build(request.param, tmp_path, monkeypatch)


def build(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Two volumes; `v` has patches, and blocks that no backup needs any more."""
    made = Kept(MemoryStore(), KeyRing(OLD) if mode == "encrypted" else KeyRing(), tmp_path / "restored")
    monkeypatch.setattr(support, "RING", made.ring)
    Repository.init(made.store, made.ring)
    source, noise = tmp_path / "source", random.Random(1)

    def take(volume: str, *changes: tuple[int, bytes]) -> str:
        with open(source, "r+b") as file:
            for offset, data in changes:
                file.seek(offset)
                file.write(data)
        taken = backup(made.store, source, volume).backup_id
        made.contents[volume, taken] = source.read_bytes()
        return taken

    source.write_bytes(noise.randbytes(12 * BLOCK) + b"text" * 4 * BLOCK + bytes(3 * BLOCK))
    take("w")
    first = take("v")
    take("v", (2 * BLOCK + 70, b"patched"), (5 * BLOCK, noise.randbytes(BLOCK)))
    made.former = dict(made.store.objects)
    if mode == "encrypted":
        made.ring = KeyRing(NEW, OLD)
        Rotation(made.store, made.ring).run()
        monkeypatch.setattr(support, "RING", made.ring)
    take("v", (6 * BLOCK, noise.randbytes(BLOCK)))
    take("v", (6 * BLOCK + 7, b"patched twice"))
    made.last = len(made.keys("commit", made.lineage("v")))
    Repository.open(made.store, made.ring).delete("v", first)
    del made.contents["v", first]
    Repository.open(made.store, made.ring).take_over("v", "east")
    assert verdict(made, {}) == ""
    assert restores(made, {}) == ""
    return made


def verdict(kept: Kept, changes: dict[str, bytes | None], *, every_byte: bool = True, **more: object) -> str:
    """What verify says of the store with these objects instead of its own (None: without them): names and causes."""
    try:
        opened = Repository.open(MemoryStore(changed(kept, changes)), kept.ring)
        result = opened.verify(every_byte=every_byte, **more)  # type: ignore[arg-type]
    except BlockvaultError as error:
        return str(error)
    assert result["ok"] == (not result["damaged"])
    return "\n".join(f"{row['object']}: {row['cause']}" for row in result["damaged"])


def changed(kept: Kept, changes: dict[str, bytes | None]) -> dict[str, bytes]:
    objects = dict(kept.store.objects)
    for key, data in changes.items():
        if data is None:
            del objects[key]
        else:
            objects[key] = data
    return objects


def restores(kept: Kept, changes: dict[str, bytes | None]) -> str:
    """The errors of restoring every backup; what is restored without one is what was backed up."""
    said, objects, target = [], changed(kept, changes), kept.target
    for (volume, backup_id), content in kept.contents.items():
        try:
            Repository.open(MemoryStore(dict(objects)), kept.ring).restore(volume, str(target), backup_id)
        except BlockvaultError as error:
            said.append(str(error))
        else:
            assert target.read_bytes() == content, f"{volume} {backup_id}: other bytes than were backed up"
        target.unlink(missing_ok=True)
    return "\n".join(said)


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def regions(kind: str, data: bytes) -> dict[str, range]:
    """Bytes of an object, by what they are."""
    if kind not in PACKED:
        return {"header": range(HEADER_SIZE), "rest": range(HEADER_SIZE, len(data))}
    directory = struct.unpack_from("<Q", data, len(data) - 48)[0]
    return {
        "header": range(96),
        "checksum": range(96, HEADER_SIZE),
        "items": range(HEADER_SIZE, directory),
        "directory": range(directory, len(data) - 48),
        "trailer": range(len(data) - 48, len(data)),
    }


@pytest.mark.parametrize(("kept", "kind"), CASES, indirect=["kept"])
def test_every_single_bit(kept: Kept, kind: str) -> None:
    """Of objects that are read whole: what all their readers do first finds each one."""
    kinds = {"key": Kind.KEY, "store": Kind.STORE, "generation": Kind.GENERATION, "volume": Kind.VOLUME,
             "commit": Kind.COMMIT, "root": Kind.ROOT, "pages": Kind.PAGES, "segment": Kind.SEGMENT}  # fmt: skip
    count = 0
    for key in kept.keys(kind):
        data = kept.store.objects[key]
        bits: list[int] | range = range(8 * len(data))
        if len(data) > 3000:
            bits = random.Random(key).sample(range(8 * len(data)), 3000)
        for bit in bits:
            with pytest.raises(StoredDataDamaged, match=key):  # a bit of the version as well
                envelope.split(kinds[kind], key, flipped(data, bit))
            count += 1
    assert count >= 2000


@pytest.mark.parametrize(("kept", "kind"), CASES, indirect=["kept"])
def test_flipped_bits_in_every_region(kept: Kept, kind: str) -> None:
    """From end to end. What backups need is found without reading every byte as well."""
    unseen = set()
    chance = random.Random(kind)
    for key in kept.keys(kind)[-OBJECTS:]:
        data = kept.store.objects[key]
        for name, where in regions(kind, data).items():
            for bit in [8 * (where.stop - 35)] * (name == "trailer") + chance.sample(
                range(8 * where.start, 8 * where.stop), min(SAMPLE, 8 * len(where))
            ):
                changes: dict[str, bytes | None] = {key: flipped(data, bit)}
                assert key in verdict(kept, changes), f"bit {bit} ({name}) of {key}"
                said = restores(kept, changes)
                assert not said or key in said
                if key not in verdict(kept, changes, every_byte=False):
                    assert not said
                    unseen.add(name)
    assert unseen <= ({"checksum", "items"} if kind in PACKED else set())


@pytest.mark.parametrize(("kept", "kind"), CASES, indirect=["kept"])
def test_cut_and_lengthened(kept: Kept, kind: str) -> None:
    for key in kept.keys(kind)[-2:]:
        data = kept.store.objects[key]
        lengths = {0, 1, 95, 96, 127, 128, 129, len(data) // 2, len(data) - 49, len(data) - 48, len(data) - 1}
        cut = [data[:length] for length in sorted(lengths) if length < len(data)]
        for other in [*cut, data + b"\0", data * 2]:
            changes: dict[str, bytes | None] = {key: other}
            assert key in verdict(kept, changes, every_byte=False), f"{len(other)} bytes of {key}"
            said = restores(kept, changes)
            assert not said or key in said


def pairs(kept: Kept, kind: str) -> Iterator[tuple[str, str]]:
    """Two objects of a kind: of one lineage, and of two."""
    mine, theirs = kept.lineage("v"), kept.lineage("w")
    own, other = kept.keys(kind, mine), kept.keys(kind, theirs)
    if len(own) > 1:
        yield own[-1], own[-2]
    if own and other:
        yield own[-1], other[-1]
    if kind == "volume":
        one, two = kept.keys(kind)
        yield one, two


@pytest.mark.parametrize(
    ("kept", "kind"), [case for case in CASES if case[1] not in ("store", "generation")], indirect=["kept"]
)
def test_swapped(kept: Kept, kind: str) -> None:
    """Two whole, valid objects in each other's place, and one of them in both."""
    count = 0
    for one, two in pairs(kept, kind):
        first, second = kept.store.objects[one], kept.store.objects[two]
        for changes in ({one: second, two: first}, {one: second}, {two: first}):
            wrong = dict[str, bytes | None](changes)
            found = verdict(kept, wrong, every_byte=False)
            assert all(key in found for key in wrong), found
            said = restores(kept, wrong)
            assert not said or any(key in said for key in wrong)
            count += 1
    assert count >= 3


@pytest.mark.parametrize(("kept", "kind"), CASES, indirect=["kept"])
def test_replayed(kept: Kept, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older object of its kind under a newer one's name; of a kind that is there once, that of another store."""
    if kind in ("store", "generation"):
        mode = "encrypted" if kept.ring.current else "clear"
        (tmp_path / "other").mkdir()
        other = build(mode, tmp_path / "other", monkeypatch)
        target = kept.keys(kind)[-1]
        changes: dict[str, bytes | None] = {target: other.store.objects[target]}
        found = verdict(kept, changes)
        # The store's own record is what all others are measured by: then they are called those of another store.
        assert target in found
        assert restores(kept, changes) or kind == "generation"
        return
    older = [key for key in kept.former if kind_of(key) == kind]
    count = 0
    for key in kept.keys(kind)[-3:]:
        for old in older[-3:]:
            if old != key:
                replay: dict[str, bytes | None] = {key: kept.former[old]}
                assert key in verdict(kept, replay, every_byte=False)
                said = restores(kept, replay)
                assert not said or key in said
                count += 1
    assert count


@pytest.mark.parametrize("kept", KINDS, indirect=True)
def test_commits_set_back(kept: Kept) -> None:
    """Lost commits show in what later runs have left, or in the predecessor that is not there."""
    commits = kept.keys("commit", kept.lineage("v"))
    numbers = {kept.lineage("v"): Seen(len(commits))}
    # What came after the last backup: a deletion, and a new owner.
    after = len(commits) - kept.last
    assert after >= 2
    for back in range(1, after + 4):
        gone: dict[str, bytes | None] = dict.fromkeys(commits[-back:])
        assert f"{commits[-1]}: commit {len(commits)} was seen before" in verdict(kept, gone, seen=numbers)
        restores(kept, gone)  # fewer backups, none of them wrong
        told = verdict(kept, gone)
        assert (f"{commits[-back - 1]}: does not know of" in told) == (back >= after + 2), (
            "a backup's two commits"
        )
    assert commits[-1] in verdict(kept, {commits[-2]: None})
    assert verdict(kept, {}, seen=numbers) == ""


@pytest.mark.parametrize("kept", KINDS, indirect=True)
def test_a_whole_older_state(kept: Kept) -> None:
    """A lineage as it was, with nothing of what came later: only what was seen before tells."""
    mine = kept.lineage("v")
    number = len(kept.keys("commit", mine))
    objects: dict[str, bytes | None] = {
        key: kept.former.get(key) for key in kept.store.objects if mine in key and kind_of(key) != "key"
    }
    assert verdict(kept, objects) == ""
    assert "was set back" in verdict(kept, objects, seen={mine: Seen(number)})


@pytest.mark.parametrize("kept", KINDS, indirect=True)
def test_records_and_keys_that_are_gone(kept: Kept) -> None:
    """A volume must not vanish without a word."""
    named = set()
    for record in kept.keys("volume"):
        found = verdict(kept, {record: None})
        (volume,) = (name for name in "vw" if f"no record of volume {name!r} leads to this lineage" in found)
        assert f"lineages/{kept.lineage(volume)}/" in found
        named.add(volume)
    assert named == {"v", "w"}
    for wrap in kept.keys("key"):
        assert "is wrapped under none of the keys given" in verdict(kept, {wrap: None})


@pytest.mark.parametrize("kept", KINDS, indirect=True)
def test_the_first_of_two_records(kept: Kept) -> None:
    """Without it nobody finds the second, although a listing shows it."""
    former = kept.lineage("w")
    repository = Repository.open(kept.store, kept.ring)
    repository.delete_volume("w")
    kept.target.write_bytes(b"again" * BLOCK)
    backup(kept.store, kept.target, "w")
    assert kept.lineage("w") != former
    assert verdict(kept, {}) == ""
    first = next(
        key for key in kept.keys("volume") if key.replace("00000001", "00000002") in kept.keys("volume")
    )
    assert first.endswith("00000001")
    assert f"lineages/{kept.lineage('w')}/: no record of volume 'w'" in verdict(kept, {first: None})
