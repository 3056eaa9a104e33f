"""A directory store after a loss of power at any moment, in every state that its fsyncs allow."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blockvault.stores import AlreadyExists, DirectoryStore, ObjectNotFound, ObjectStore
from tests.stores.power.conftest import RECORDED, Record
from tests.stores.power.disk import Disk, Killed, Note, RecordingOs

BIG = random.Random(0).randbytes(5000)
# What every object may hold, if it is there at all.
WHOLE = {
    "blockvault": {b"store"},
    "a/one": {b"one" * 500, BIG},
    "a/b/two": {BIG},
    "a/b/three": {b"ours"},
    "c/d/e/four": {b"four"},
}


def run(store: ObjectStore, promise: Callable[[str, bytes | None], None]) -> None:
    """What engines do to stores; `promise(key, data)` after each call that has returned."""

    def put(key: str, data: bytes) -> None:
        store.put(key, data)
        promise(key, data)

    def create(key: str, data: bytes) -> None:
        store.create(key, data)
        promise(key, data)

    create("blockvault", b"store")
    put("a/one", b"one" * 500)
    put("a/b/two", BIG)
    create("a/b/three", b"ours")
    with pytest.raises(AlreadyExists):
        store.create("a/b/three", b"theirs")
    create("a/b/three", b"ours")
    put("a/one", BIG)  # again, as after a lost answer
    store.delete(["a/b/two"])
    promise("a/b/two", None)
    create("c/d/e/four", b"four")


def losses(
    notes: list[Note], root: Path, scratch: Path, most: int
) -> Iterator[tuple[Path, dict[str, bytes | None]]]:
    """A directory for each state after each prefix, and what was promised by then."""
    disk, promised, seen = Disk(str(root)), {}, set()  # type: ignore[var-annotated]
    chance = random.Random(len(notes))
    for number, note in enumerate([Note("start"), *notes]):
        if note.what == "mark":
            promised[note.data[0]] = note.data[1]
        disk.apply(note)
        for count, state in enumerate(disk.states(most, chance)):
            target = scratch / f"{number}-{count}"
            target.mkdir()
            disk.lay_out(state, target, chance)
            looks = (
                frozenset(
                    (str(p.relative_to(target)), p.read_bytes() if p.is_file() else b"")
                    for p in target.rglob("*")
                ),
                frozenset(promised),
            )
            if looks not in seen:
                seen.add(looks)
                yield target, promised
            shutil.rmtree(target)


def check(store: ObjectStore, promised: dict[str, bytes | None]) -> None:
    listed = {info.key: info.size for info in store.list("")}
    for key in listed:
        assert store.get(key) in WHOLE[key]
    for key, data in promised.items():
        if data is None:
            assert key not in listed
        elif key == "a/b/two":  # its deletion may be under way
            assert _got(store, key) in (data, None)
        elif key == "a/one":  # its second storing may be under way
            assert store.get(key) in (data, BIG)
        else:
            assert store.get(key) == data


def _got(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectNotFound:
        return None


@pytest.fixture
def recorded(tmp_path: Path, record: Record) -> tuple[Path, list[Note]]:
    root = tmp_path / "store"
    root.mkdir()
    recorder = record(root, None)
    run(DirectoryStore(str(root)), lambda key, data: recorder.mark((key, data)))
    return root, recorder.notes


def test_what_was_promised_is_whole_in_every_state(
    recorded: tuple[Path, list[Note]], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, notes = recorded
    monkeypatch.undo()
    count = 0
    for place, promised in losses(notes, root, scratch, most=256):
        store = DirectoryStore(str(place), retry_seconds=0.1)
        check(store, promised)
        store.create("after/the/loss", b"works")
        assert store.get("after/the/loss") == b"works"
        count += 1
    assert count > 50


class Careless(RecordingOs):
    """Does one thing not that the store relies on."""

    def __init__(self, root: Path, leave_out: str) -> None:
        super().__init__(root)
        self._leave_out = leave_out

    def fsync(self, fd: int) -> None:
        what = self._open[fd]
        kind = "file" if isinstance(what, int) else "above" if what == self._root else "directory"
        if kind != self._leave_out:
            super().fsync(fd)


@pytest.mark.parametrize("leave_out", ["file", "directory", "above"])
def test_without_one_of_the_fsyncs_something_is_lost(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, leave_out: str
) -> None:
    """The replay finds what it is there to find."""
    root = tmp_path / "store"
    root.mkdir()
    recorder = Careless(root, leave_out)
    with monkeypatch.context() as patched:
        for module in RECORDED:
            patched.setattr(module, "os", recorder)
        run(DirectoryStore(str(root)), lambda key, data: recorder.mark((key, data)))

    def check_all() -> None:
        for place, promised in losses(recorder.notes, root, scratch, most=64):
            check(DirectoryStore(str(place), retry_seconds=0.1), promised)

    with pytest.raises((AssertionError, ObjectNotFound)):
        check_all()


def test_what_a_reader_saw_of_a_killed_writer_stays(tmp_path: Path, scratch: Path, record: Record) -> None:
    """The writer dies at any moment; what somebody else then sees, and builds upon, or stores, survives the loss."""

    def started(number: int, kill_at: int | None) -> tuple[Path, RecordingOs, bool]:
        root = tmp_path / str(number)
        root.mkdir()
        recorder = record(root, kill_at)
        try:
            store = DirectoryStore(str(root))
            store.put("a/segment", BIG)
            store.create("a/commit", b"ours")
        except Killed:
            return root, recorder, False
        return root, recorder, True

    def look(how: str, store: ObjectStore) -> dict[str, bytes]:
        if how == "put":  # what another writer stores beside it survives as well
            store.put("a/other", BIG)
            return {"a/other": BIG}
        if how == "create":
            with pytest.raises(AlreadyExists):
                store.create("a/commit", b"theirs")
            return {"a/commit": b"ours"}
        if how == "list":
            return {
                key: {"a/segment": BIG, "a/commit": b"ours"}[key] for key in [i.key for i in store.list("a/")]
            }
        seen = {}
        for key, data in (("a/segment", BIG), ("a/commit", b"ours")):
            try:
                assert store.get(key) == data if how == "get" else store.stat(key).size == len(data)
                seen[key] = data
            except ObjectNotFound:
                pass
        return seen

    moments, saw = 0, 0
    for kill_at in range(200):
        root, recorder, ended = started(moments, kill_at)
        recorder.kill_at = None
        for how in ("get", "stat", "list", "create", "put"):
            before = len(recorder.notes)
            reader = DirectoryStore(str(root))
            if how == "create" and not (root / "a" / "commit").exists():
                continue
            seen = look(how, reader)
            saw += len(seen)
            disk, chance = Disk(str(root)), random.Random(kill_at)
            for note in recorder.notes:
                disk.apply(note)
            for count, state in enumerate(disk.states(16, chance)):
                target = scratch / f"{moments}-{how}-{count}"
                target.mkdir()
                disk.lay_out(state, target, chance)
                for key, data in seen.items():
                    assert (target / key).read_bytes() == data
            del recorder.notes[before:]  # as if this one had not been there
            (root / "a" / "other").unlink(missing_ok=True)
        moments += 1
        if ended:
            break
    else:
        pytest.fail("the writer never came to its end")
    assert moments > 10
    assert saw > 20
