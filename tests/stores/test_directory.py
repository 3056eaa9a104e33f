"""What makes a directory as real as S3: durable, exclusive, and honest when full."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from blockvault.stores import (
    AlreadyExists,
    BucketNotFound,
    DirectoryStore,
    NoConditionalCreate,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
    temporary,
)


def test_an_absent_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BucketNotFound, match="absent"):
        DirectoryStore(str(tmp_path / "absent"))


def test_a_directory_that_went_is_no_absent_object(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = DirectoryStore(str(tmp_path / "store"))
    (tmp_path / "store").rmdir()
    with pytest.raises(BucketNotFound):
        store.get("x")
    with pytest.raises(BucketNotFound):
        list(store.list(""))


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(str(tmp_path))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreFull):
        store.create("a/b", b"data")
    assert list((tmp_path / "a").iterdir()) == []


def test_file_and_directories_are_synced_before_a_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(fd: int) -> None:
        name = os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path)
        events.append("sync " + (".tmp" if name.startswith(".tmp/") else name))
        fsync(fd)

    def noted_link(source: str, target: str) -> None:
        events.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    DirectoryStore(str(tmp_path)).create("a/b/c", b"data")
    assert events == ["sync ..", "sync .", "sync a", "sync .tmp", "link", "sync a/b"]


def test_a_file_system_without_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(NoConditionalCreate, match="hard links"):
        DirectoryStore(str(tmp_path)).create("x", b"")


def test_a_creation_that_failed_after_the_link_is_still_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(str(tmp_path), retry_seconds=5)
    fsync, failures = os.fsync, [OSError(5, "Input/output error")]

    def flaky(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path) and failures:
            raise failures.pop()
        fsync(fd)

    monkeypatch.setattr(os, "fsync", flaky)
    store.create("x", b"mine")
    assert not failures
    with pytest.raises(AlreadyExists):
        store.create("x", b"theirs")


def test_half_written_files_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "0123").write_bytes(b"half")
    assert list(DirectoryStore(str(tmp_path)).list("")) == []


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x", "a//b", ".tmp/x", ""])
def test_keys_stay_inside(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreRefused):
        DirectoryStore(str(tmp_path)).put(key, b"")


def leave(root: Path, name: str, data: bytes = b"half", hours: float = 2) -> Path:
    """A temporary file that was written to last so many hours ago."""
    file = root / ".tmp" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    then = time.time() - hours * 3600
    os.utime(file, (then, then))
    return file


def test_what_dead_writers_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    old, young, alive = leave(tmp_path, "old"), leave(tmp_path, "young", hours=0.5), leave(tmp_path, "alive")
    with open(alive, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store = DirectoryStore(str(tmp_path))
        list(store.list(""))
        assert old.exists(), "readers remove nothing"
        store.put("x", b"1")
    assert not old.exists()
    assert young.exists()
    assert alive.exists()
    DirectoryStore(str(tmp_path)).put("y", b"1")
    assert sorted(p.name for p in (tmp_path / ".tmp").iterdir()) == ["young"]


def test_writers_hold_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the former test's lock is what a writer really has."""
    link, seen = os.link, []

    def checked(name: str, path: str) -> None:
        with open(name, "rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append(name)
        link(name, path)

    monkeypatch.setattr(os, "link", checked)
    DirectoryStore(str(tmp_path)).put("x", b"1")
    assert len(seen) == 1
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_a_name_that_may_not_be_durable_is_made_so_before_its_sign_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer died between link and fsync, long ago."""
    store = DirectoryStore(str(tmp_path))
    store.put("a/b", b"whole")
    os.link(tmp_path / "a" / "b", tmp_path / ".tmp" / "0~a%2Fb")
    os.utime(tmp_path / "a" / "b", (0, 0))
    os.link(tmp_path / "a" / "b", tmp_path / ".tmp" / "nobody-knows-where")
    events, fsync, unlink = [], os.fsync, os.unlink

    def noted_fsync(fd: int) -> None:
        events.append("sync " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))
        fsync(fd)

    def noted_unlink(path: str) -> None:
        events.append("unlink " + os.path.basename(path))
        unlink(path)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "unlink", noted_unlink)
    temporary.tidy(str(tmp_path))
    assert [event for event in events if event in ("sync a", "unlink 0~a%2Fb")] == [
        "sync a",
        "unlink 0~a%2Fb",
    ]
    assert [p.name for p in (tmp_path / ".tmp").iterdir()] == ["nobody-knows-where"]
    assert store.get("a/b") == b"whole"


def test_a_name_whose_sync_failed_keeps_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(str(tmp_path), retry_seconds=0)
    store.put("a/x", b"1")
    fsync = os.fsync

    def broken(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / "a"):
            raise OSError(5, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreUnreachable) as caught:
        store.create("a/y", b"2")
    assert "dmesg" in caught.value.remedy
    assert os.stat(tmp_path / "a" / "y").st_nlink == 2
    with pytest.raises(StoreUnreachable):  # nobody builds on it while it cannot be made durable
        store.get("a/y")


def test_a_temporary_file_that_was_removed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by somebody to whom the file server does not show the lock."""
    link, removed = os.link, []

    def late(name: str, path: str) -> None:
        if not removed:
            removed.append(name)
            os.unlink(name)
        link(name, path)

    monkeypatch.setattr(os, "link", late)
    store = DirectoryStore(str(tmp_path), retry_seconds=5)
    store.create("a/x", b"1")
    assert store.get("a/x") == b"1"
    assert removed


def test_directories_that_were_removed_are_made_again(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path), retry_seconds=5)
    store.put("a/b/x", b"1")
    store.delete(["a/b/x"])
    (tmp_path / "a" / "b").rmdir()
    (tmp_path / "a").rmdir()
    (tmp_path / ".tmp").rmdir()
    store.put("a/b/y", b"2")
    assert store.get("a/b/y") == b"2"


def test_a_store_is_made_with_all_its_directories_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, fsync = [], os.fsync

    def noted(fd: int) -> None:
        events.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    DirectoryStore(str(tmp_path / "x" / "y"), make=True)
    assert events == [".", "x"]
