"""A directory as a store, as real as S3: durable when a call returns, and exclusive where it says so.

A new object is written to a temporary file, fsynced, and only then given its name: by link(2), which fails
when the name is taken, or by rename(2). The directory is fsynced as well, or a crash could forget the name.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from blockvault.stores.base import Data, ObjectInfo, Patience, Traffic
from blockvault.stores.errors import (
    AccessDenied,
    AlreadyExists,
    BucketNotFound,
    NoConditionalCreate,
    ObjectNotFound,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
    TooManyOpenFiles,
)
from blockvault.stores.ratelimit import RateLimit

T = TypeVar("T")
TEMPORARY = ".tmp-"

_KINDS: dict[int, type[StoreError]] = {
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EACCES: AccessDenied,
    errno.EPERM: AccessDenied,
    errno.EROFS: AccessDenied,
    errno.EIO: StoreUnreachable,
    errno.ESTALE: StoreUnreachable,
    errno.ETIMEDOUT: StoreUnreachable,
    errno.EMFILE: TooManyOpenFiles,
    errno.ENFILE: TooManyOpenFiles,
    errno.ENOTDIR: StoreRefused,
    errno.ENAMETOOLONG: StoreRefused,
}


class DirectoryStore:
    """Objects as files below `directory`. The directory itself must exist, unless `make` is given."""

    def __init__(
        self,
        directory: str,
        *,
        retry_seconds: float = 300.0,
        make: bool = False,
        limit: RateLimit | None = None,
    ) -> None:
        self.url = "file://" + directory
        self.traffic = Traffic()
        self._root = directory
        self._patience = Patience(retry_seconds)
        self._limit = limit
        if make:
            self._call(directory, lambda: os.makedirs(directory, exist_ok=True))
        if not os.path.isdir(directory):
            raise BucketNotFound(
                f"directory {directory} does not exist",
                remedy=f"Create or mount {directory}, or correct the store's URL.",
            )

    @property
    def requests(self) -> dict[str, int]:
        """Calls so far, by kind, as for S3."""
        return dict(self.traffic.requests)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See ObjectStore."""

        def work() -> bytes:
            with open(self._path(key), "rb") as file:
                if start:
                    file.seek(start)
                return file.read() if length is None else file.read(length)

        self.traffic.count("get")
        data = self._call(key, work)
        self._moved("", down=len(data))
        return data

    def put(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._moved("put", up=len(data))
        self._call(key, lambda: self._write(key, data, exclusive=False))

    def create(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._moved("create", up=len(data))

        def work() -> None:
            try:
                self._write(key, data, exclusive=True)
            except AlreadyExists:
                # Ours after all, if a former try made the link and failed while making it durable.
                with open(self._path(key), "rb") as file:
                    if file.read() != bytes(data):
                        raise

        self._call(key, work)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore. Like S3, the prefix is one of characters, not of directories."""
        self.traffic.count("list")
        folder = prefix.rpartition("/")[0]
        found = self._call(prefix, lambda: list(self._walk(folder)))
        return iter([info for info in found if info.key.startswith(prefix)])

    def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore."""
        for key in keys:
            self.traffic.count("delete")

            def work(key: str = key) -> None:
                with suppress(FileNotFoundError):
                    os.unlink(self._path(key))

            self._call(key, work)

    def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        self.traffic.count("head")
        return self._call(key, lambda: _info(key, os.stat(self._path(key))))

    def lock_until(self, key: str) -> datetime | None:
        """See ObjectStore. A directory has no locks."""
        self.stat(key)
        return None

    def extend_lock(self, keys: Iterable[str], until: datetime) -> None:
        """See ObjectStore. A directory has no locks."""
        raise StoreRefused(f"{self.url}: a directory has no object lock", remedy="Use an S3 bucket for it.")

    def _moved(self, kind: str, *, up: int = 0, down: int = 0) -> None:
        self.traffic.count(kind, up=up, down=down)
        if self._limit is not None:
            self._limit.take(up + down)

    def _path(self, key: str) -> str:
        parts = key.split("/")
        if any(part in ("", ".", "..") or part.startswith(TEMPORARY) for part in parts):
            raise StoreRefused(
                f"{key!r} is no name for an object", remedy="Report this: names are made by us."
            )
        return os.path.join(self._root, *parts)

    def _call(self, key: str, work: Callable[[], T]) -> T:
        def attempt() -> T:
            try:
                return work()
            except FileNotFoundError as error:
                if not os.path.isdir(self._root):
                    raise BucketNotFound(
                        f"directory {self._root} has gone", remedy="Mount or restore it, then repeat."
                    ) from error
                raise ObjectNotFound(f"{self.url}/{key} does not exist") from error
            except OSError as error:
                kind = _KINDS.get(error.errno or 0, StoreRefused)
                raise kind(f"{self.url}/{key}: {error.strerror or error}") from error

        return self._patience.call(attempt)

    def _write(self, key: str, data: Data, *, exclusive: bool) -> None:
        path = self._path(key)
        folder = os.path.dirname(path)
        self._make_folder(folder)
        temporary = os.path.join(folder, TEMPORARY + secrets.token_hex(8))
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            if exclusive:
                self._link(temporary, path, key)
            else:
                os.rename(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_folder(folder)

    def _link(self, temporary: str, path: str, key: str) -> None:
        try:
            os.link(temporary, path)
        except FileExistsError as error:
            raise AlreadyExists(f"{self.url}/{key} exists already") from error
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                raise NoConditionalCreate(
                    f"the file system of {self._root} has no hard links ({error.strerror})",
                    remedy="Use a file system with hard links (ext4, xfs, NFS), or an S3 store.",
                ) from error
            raise

    def _make_folder(self, folder: str) -> None:
        if os.path.isdir(folder) or folder == self._root:
            return
        self._make_folder(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder, 0o750)
        _sync_folder(os.path.dirname(folder))

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        try:
            entries = sorted(os.scandir(os.path.join(self._root, folder)), key=lambda entry: entry.name)
        except FileNotFoundError:
            if folder and os.path.isdir(self._root):
                return
            raise
        for entry in entries:
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key)
            elif not entry.name.startswith(TEMPORARY):
                with suppress(FileNotFoundError):  # deleted since the directory was read
                    yield _info(key, entry.stat(follow_symlinks=False))


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
