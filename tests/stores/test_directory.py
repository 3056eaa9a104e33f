"""What makes a directory as real as S3: durable, exclusive, and honest when full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blockvault.stores import (
    AlreadyExists,
    BucketNotFound,
    DirectoryStore,
    NoConditionalCreate,
    StoreFull,
    StoreRefused,
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
        events.append("sync " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path).split("-")[0])
        fsync(fd)

    def noted_link(source: str, target: str) -> None:
        events.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    DirectoryStore(str(tmp_path)).create("a/b/c", b"data")
    assert events == ["sync .", "sync a", "sync a/b/.tmp", "link", "sync a/b"]


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
    (tmp_path / ".tmp-0123").write_bytes(b"half")
    assert list(DirectoryStore(str(tmp_path)).list("")) == []


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x", "a//b", ".tmp-x", ""])
def test_keys_stay_inside(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreRefused):
        DirectoryStore(str(tmp_path)).put(key, b"")
