"""A directory as a store, as real as S3: durable when a call returns, and exclusive where it says so.

A new object is written to a temporary file, fsynced, and only then given its name by link(2), which fails when
the name is taken. Then its directory is fsynced, or a loss of power could forget the name, and only then the
temporary name goes. So a file with two names is one that may not be durable yet: whoever finds one syncs its
directory before anything is built on it, because the writer may have been killed in between.

Assumed of the file system: fsync of a file keeps its bytes, fsync of a directory keeps its entries, link and
rename are atomic. Nothing is assumed about the order in which unsynced changes reach the disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

from blockvault.stores import durable, temporary
from blockvault.stores.base import Data, ObjectInfo, Patience, Traffic
from blockvault.stores.errors import (
    AccessDenied,
    AlreadyExists,
    BucketNotFound,
    NoConditionalCreate,
    ObjectNotFound,
    ObjectUnreadable,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
    TooManyOpenFiles,
)
from blockvault.stores.location import ObjectLock
from blockvault.stores.ratelimit import RateLimit

T = TypeVar("T")

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
_REMEDIES: dict[int, str] = {
    errno.EIO: "Look at the disk, or at the file server and the mount (dmesg); the operation can be repeated.",
    errno.ESTALE: "Mount the directory anew.",
    errno.EACCES: "Give this user the right to read, write and delete in the directory.",
    errno.EPERM: "Give this user the right to read, write and delete in the directory.",
    errno.EROFS: "Mount the file system for writing.",
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
        self._patience = Patience(retry_seconds, retried=self.traffic.retried)
        self._limit = limit
        # Directories that are durable, as far as this process is concerned.
        self._durable: set[str] = set()
        if make:
            self._call("", lambda: _make(directory))
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
        """See ObjectStore. Raises ObjectUnreadable where the disk has lost a part of it."""
        self.traffic.count("get")
        data = self._call(key, lambda: self._read(key, start, length))
        self._moved("", down=len(data))
        return data

    def put(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._moved("put", up=len(data))
        self._call(key, lambda: self._write(key, data, exclusive=False))

    def create(self, key: str, data: Data) -> None:
        """See ObjectStore."""
        self._moved("create", up=len(data))
        self._patience.create(
            lambda: self._attempt(key, lambda: self._write(key, data, exclusive=True)),
            lambda: self._attempt(key, lambda: self._read(key)),
            data,
            f"{self.url}/{key}",
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore. Like S3, the prefix is one of characters, not of directories."""
        self.traffic.count("list")
        folder = prefix.rpartition("/")[0]
        found = self._call(prefix, lambda: list(self._walk(folder)))
        return iter([info for info in found if info.key.startswith(prefix)])

    def folders(self, prefix: str) -> set[str]:
        """See ObjectStore."""
        self.traffic.count("list")
        path = os.path.join(self._root, prefix)

        def work() -> set[str]:
            with suppress(FileNotFoundError), os.scandir(path) as entries:
                return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
            self._check_root(FileNotFoundError(path))
            return set()

        return {name for name in self._call(prefix, work) if not name.startswith(temporary.PREFIX)}

    def delete(self, keys: Iterable[str]) -> None:
        """See ObjectStore."""
        folders = set()
        for key in keys:
            self.traffic.count("delete")
            path = self._path(key)

            def work(path: str = path) -> bool:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                    return True
                return False

            if self._call(key, work):
                folders.add(os.path.dirname(path))
        for folder in sorted(folders):
            self._call(folder, partial(durable.sync_folder, folder))

    def stat(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        self.traffic.count("head")

        def work() -> ObjectInfo:
            path = self._path(key)
            found = os.stat(path)
            if found.st_nlink > 1:
                _sync_seen(os.path.dirname(path))
            return _info(key, found)

        return self._call(key, work)

    def lock_new(self, lock: ObjectLock) -> None:
        """See ObjectStore. A directory has no locks."""
        raise self._no_locks()

    def check_locks(self) -> None:
        """See ObjectStore. A directory has no locks."""
        raise self._no_locks()

    def lock_until(self, key: str) -> datetime | None:
        """See ObjectStore. A directory has no locks."""
        self.stat(key)
        return None

    def extend_lock(self, keys: Iterable[str], until: datetime) -> None:
        """See ObjectStore. A directory has no locks."""
        raise self._no_locks()

    def _no_locks(self) -> StoreRefused:
        return StoreRefused(f"{self.url}: a directory has no object lock", remedy="Use an S3 bucket for it.")

    def _moved(self, kind: str, *, up: int = 0, down: int = 0) -> None:
        self.traffic.count(kind, up=up, down=down)
        if self._limit is not None:
            self._limit.take(up + down)

    def _path(self, key: str) -> str:
        parts = key.split("/")
        if any(part in ("", ".", "..") or part.startswith(temporary.PREFIX) for part in parts):
            raise StoreRefused(
                f"{key!r} is no name for an object", remedy="Report this: names are made by us."
            )
        return os.path.join(self._root, *parts)

    def _call(self, key: str, work: Callable[[], T]) -> T:
        return self._patience.call(lambda: self._attempt(key, work))

    def _attempt(self, key: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except FileNotFoundError as error:
            self._check_root(error)
            raise ObjectNotFound(f"{self.url}/{key} does not exist") from error
        except OSError as error:
            number = error.errno or 0
            kind = _KINDS.get(number, StoreRefused)
            where = f"{self.url}/{key}" if key else self.url
            raise kind(f"{where}: {error.strerror or error}", remedy=_REMEDIES.get(number)) from error

    def _check_root(self, error: OSError) -> None:
        if not os.path.isdir(self._root):
            raise BucketNotFound(
                f"directory {self._root} has gone", remedy="Mount or restore it, then repeat."
            ) from error

    def _read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        path = self._path(key)
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_nlink > 1:
                _sync_seen(os.path.dirname(path))
            try:
                if start:
                    file.seek(start)
                return file.read() if length is None else file.read(length)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                os.statvfs(self._root)  # fails as well when it is the whole store that does not answer
                raise ObjectUnreadable(f"{self.url}/{key}: {error.strerror}") from error

    def _write(self, key: str, data: Data, *, exclusive: bool) -> None:
        path = self._path(key)
        folder = os.path.dirname(path)
        try:
            self._prepare(folder)
            with temporary.written(self._root, key, data) as made:
                self._give_name(made.path, path, key, exclusive=exclusive)
                made.kept = True
                durable.sync_folder(folder)
                made.kept = False
        except FileNotFoundError as error:
            # A directory was removed below us, or the temporary file: both are made again.
            self._check_root(error)
            self._durable.clear()
            raise StoreUnreachable(f"{self.url}/{key}: {error.filename} has gone") from error

    def _give_name(self, name: str, path: str, key: str, *, exclusive: bool) -> None:
        try:
            os.link(name, path)
        except FileExistsError as error:
            if exclusive:
                raise AlreadyExists(f"{self.url}/{key} exists already") from error
            os.rename(name, path)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                raise NoConditionalCreate(
                    f"the file system of {self._root} has no hard links ({error.strerror})",
                    remedy="Use a file system with hard links (ext4, xfs, NFS), or an S3 store.",
                ) from error
            raise

    def _prepare(self, folder: str) -> None:
        """Make the directory and see that its name is durable, which its maker may not have got to."""
        if folder in self._durable:
            return
        above = os.path.dirname(folder)
        if folder == self._root:
            temporary.tidy(self._root)
            with suppress(OSError):  # the directory above may be closed to us
                durable.sync_folder(above)
        else:
            self._prepare(above)
            with suppress(FileExistsError):
                os.mkdir(folder, 0o750)
            durable.sync_folder(above)
        self._durable.add(folder)

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        path = os.path.join(self._root, folder)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except FileNotFoundError:
            if folder and os.path.isdir(self._root):
                return
            raise
        synced = False
        for entry in entries:
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(temporary.PREFIX):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key)
                continue
            with suppress(FileNotFoundError):  # deleted since the directory was read
                found = entry.stat(follow_symlinks=False)
                if found.st_nlink > 1 and not synced:
                    _sync_seen(path)
                    synced = True
                yield _info(key, found)


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    tag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return ObjectInfo(key, found.st_size, tag, found.st_mtime)


def _make(folder: str) -> None:
    """Make a directory and those above it, each of them durable."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    _make(above)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o750)
    durable.sync_folder(above)


def _sync_seen(folder: str) -> None:
    """Sync for a reader, who may have no right to: then he cannot build on it either."""
    try:
        durable.sync_folder(folder)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
