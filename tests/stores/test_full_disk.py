"""A disk that gets full at any write: what is there stays whole, and with room the same command succeeds."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blockvault.engine import BackupRequest, Repository, TargetUnwritable, markers
from blockvault.engine import target as targets
from blockvault.engine.exitcodes import exit_code
from blockvault.exitcodes import IO, REFUSED
from blockvault.stores import BlockvaultError, DirectoryStore, StoreFull, directory, durable, temporary
from tests.unit.engine.support import noise, shrink_scale

# What takes room on a disk, or may find out only then that there is none.
TAKES_ROOM = ("pwritev", "ftruncate", "mkdir", "link", "rename", "fsync", "fdatasync")


class FullDisk:
    """The module `os` on a disk that is full at call number `at` of those that take room, and after it if `lasting`.

    Syncs do nothing else, as no power is lost here.
    """

    def __init__(self, at: int, *, lasting: bool) -> None:
        self.at = at
        self.calls = 0
        self._lasting = lasting
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return self._counted(name) if name in TAKES_ROOM else getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and not os.path.exists(path):
            self._take()
        return os.open(path, flags, mode)

    def _counted(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._take()
            return None if name in ("fsync", "fdatasync") else getattr(os, name)(*arguments)

        return call

    def _take(self) -> None:
        with self._lock:
            self.calls += 1
            full = self.calls == self.at or (self._lasting and self.calls > self.at)
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, fd: int, data: memoryview) -> int:
        """Of the last room a part is written, before the rest is refused."""
        if self._lasting and self.calls + 1 == self.at and len(data) > 1:
            self.at += 1
            data = data[: len(data) // 2]
        self._take()
        return os.write(fd, data)

    @property
    def was_full(self) -> bool:
        """Whether anything was refused."""
        return self.calls >= self.at


def attempt(work: Callable[[], object]) -> BlockvaultError | None:
    """The error with which it ended, if it did."""
    try:
        work()
    except BlockvaultError as error:
        return error
    return None


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two backups of a small volume, of which more has changed since."""
    shrink_scale(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    source = tmp_path / "source"
    source.write_bytes(noise(7))
    repository = Repository.init(DirectoryStore(str(tmp_path / "template"), make=True))
    for part in range(2):
        repository.backup(BackupRequest(str(source), "v", operation_id=f"former-{part}", threads=1))
        (tmp_path / f"former-{part}").write_bytes(source.read_bytes())
        with open(source, "r+b") as file:
            file.seek(part * 3 * 4096)
            file.write(noise(3, 7 + part))
    return tmp_path


def opened(place: Path) -> Repository:
    return Repository.open(DirectoryStore(str(place / "store"), retry_seconds=5))


def back_up(place: Path) -> None:
    opened(place).backup(BackupRequest(str(place / "source"), "v", operation_id="new", threads=1))


def delete(place: Path) -> None:
    repository = opened(place)
    first = repository.find_operation("v", "former-0")
    if first is not None:
        repository.delete("v", first.backup_id)
    repository.collect()


def whole(place: Path) -> set[str]:
    """The operations of which there are backups; each must read back whole."""
    repository = opened(place)
    made = {}
    for operation in ("former-0", "former-1", "new"):
        result = repository.find_operation("v", operation)
        if result is not None:
            made[operation] = result.backup_id
    assert sorted(made.values()) == sorted(each["backupId"] for each in repository.list("v"))
    for operation, backup_id in made.items():
        target = place / "restored"
        target.unlink(missing_ok=True)
        repository.restore("v", str(target), backup_id)
        content = place / ("source" if operation == "new" else operation)
        assert target.read_bytes() == content.read_bytes()
    return set(made)


@pytest.mark.parametrize(
    ("work", "after", "lasting"),
    [
        (back_up, {"former-0", "former-1", "new"}, True),
        (back_up, {"former-0", "former-1", "new"}, False),
        (delete, {"former-1"}, True),
    ],
)
def test_the_store_is_whole_wherever_it_gets_full(
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Path], None],
    after: set[str],
    lasting: bool,
) -> None:
    failed = 0
    for at in itertools.count(1):
        shutil.rmtree(template / "store", ignore_errors=True)
        shutil.copytree(template / "template", template / "store")
        disk = FullDisk(at, lasting=lasting)
        with monkeypatch.context() as patch:
            patch.setattr(directory, "os", disk)
            patch.setattr(temporary, "os", disk)
            patch.setattr(durable, "os", disk)
            error = attempt(lambda: work(template))
        if error is not None:
            failed += 1
            assert isinstance(error, StoreFull)
            assert "No space left" in error.message
            assert "Free space" in error.remedy
            assert exit_code(error) == REFUSED
        assert opened(template).verify()["ok"]
        assert {"former-1"} <= whole(template) <= {"former-0", "former-1", "new"}
        if not disk.was_full:
            break
        work(template)
        assert whole(template) == after
    assert failed > 10


def test_a_restore_goes_on_wherever_the_target_gets_full(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(template / "template", template / "store")
    repository, target = opened(template), template / "restored"
    failed = 0
    for at in itertools.count(1):
        target.unlink(missing_ok=True)
        disk = FullDisk(at, lasting=True)
        with monkeypatch.context() as patch:
            patch.setattr(targets, "os", disk)
            patch.setattr(markers, "os", disk)
            patch.setattr(durable, "os", disk)
            error = attempt(lambda: repository.restore("v", str(target)))
        if error is not None:
            failed += 1
            assert isinstance(error, TargetUnwritable)
            assert str(target) in error.message
            assert "No space left" in error.message
            assert "Free space" in error.remedy
            assert exit_code(error) == IO
            repository.restore("v", str(target))
        assert target.read_bytes() == (template / "former-1").read_bytes()
        if not disk.was_full:
            break
    assert failed > 2
