"""A recording layer over files, and every state of the disk that a loss of power may leave.

`RecordingOs` stands in for the module `os` in the directory store: it does everything for real and notes it.
`states` replays a prefix of what was noted. What fsync of a file covered is there; other bytes of it are
lost, there in part, or zeros. What fsync of a directory covered is there; each other change of an entry
happened or not, whatever happened to the changes before and after it under other names. Nothing is assumed
about order.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Names below it are sampled, not enumerated: no object has one.
TEMPORARY = ".tmp"
A_DIRECTORY = -1


class Killed(BaseException):
    """The process is gone: this call, and all after it, never return."""


@dataclass(frozen=True)
class Note:
    """One change: `what` is make, write (at the end), overwrite (at `offset`), resize (to `offset`), sync, sync-dir,
    enter, remove, or mark (of a test)."""

    what: str
    path: str = ""
    file: int = 0
    data: Any = b""
    offset: int = 0


class RecordingOs:
    """The module `os` for files below `root`. Dies before change number `kill_at`, if that is given."""

    def __init__(self, root: Path, kill_at: int | None = None) -> None:
        self.notes: list[Note] = []
        self.kill_at = kill_at
        self._root = str(root)
        self._lock = threading.RLock()
        self._files: dict[str, int] = {}
        self._open: dict[int, int | str] = {}
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def mark(self, data: Any) -> None:
        """Note that something was promised here."""
        with self._lock:
            self.notes.append(Note("mark", data=data))

    def adopt(self, path: str) -> None:
        """A file that was there before, and is durable."""
        with self._lock:
            self._count += 1
            self._files[path] = self._count
            self._note("make", path, self._count)
            self._note("write", file=self._count, data=Path(path).read_bytes())
            self._note("sync", file=self._count)
            self._note("enter", path, self._count)
            self._note("sync-dir", os.path.dirname(path))

    def _note(self, what: str, path: str = "", file: int = 0, data: bytes = b"", offset: int = 0) -> None:
        self.notes.append(Note(what, path, file, data, offset))

    def _live(self) -> None:
        if self.kill_at is not None and len(self.notes) >= self.kill_at:
            raise Killed

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        with self._lock:
            self._live()
            fd = os.open(path, flags, mode)
            if flags & os.O_DIRECTORY:
                self._open[fd] = path
            elif flags & os.O_CREAT and (path not in self._files or flags & os.O_TRUNC):
                self._count += 1
                self._files[path] = self._open[fd] = self._count
                self._note("make", path, self._count)
                self._note("enter", path, self._count)
            elif path in self._files:
                self._open[fd] = self._files[path]
            return fd

    def close(self, fd: int) -> None:
        with self._lock:
            self._open.pop(fd, None)
            os.close(fd)

    def write(self, fd: int, data: Any) -> int:
        with self._lock:
            self._live()
            written = os.write(fd, data)
            self._note("write", file=int(self._open[fd]), data=bytes(data[:written]))
            return written

    def pwritev(self, fd: int, buffers: Sequence[Any], offset: int) -> int:
        with self._lock:
            self._live()
            written = os.pwritev(fd, buffers, offset)
            data = b"".join(bytes(buffer) for buffer in buffers)[:written]
            self._note("overwrite", file=int(self._open[fd]), data=data, offset=offset)
            return written

    def ftruncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._live()
            os.ftruncate(fd, size)
            self._note("resize", file=int(self._open[fd]), offset=size)

    def fdatasync(self, fd: int) -> None:
        self.fsync(fd)

    def fsync(self, fd: int) -> None:
        with self._lock:
            self._live()
            what = self._open[fd]
            if isinstance(what, str):
                self._note("sync-dir", what)
            else:
                self._note("sync", file=what)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with self._lock:
            self._live()
            os.mkdir(path, mode)
            self._note("enter", path, A_DIRECTORY)

    def link(self, old: str, new: str) -> None:
        with self._lock:
            self._live()
            os.link(old, new)
            self._files[new] = self._files[old]
            self._note("enter", new, self._files[new])

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            self._live()
            os.rename(old, new)
            self._files[new] = self._files.pop(old)
            self._note("enter", new, self._files[new])
            self._note("remove", old)

    def unlink(self, path: str) -> None:
        with self._lock:
            self._live()
            os.unlink(path)
            self._files.pop(path, None)
            self._note("remove", path)


@dataclass
class Disk:
    """What is durable, and what may be: per name, the states since its directory was synced, oldest first."""

    root: str
    entries: dict[str, list[int | None]] = field(default_factory=dict)
    durable: dict[int, bytes] = field(default_factory=dict)
    written: dict[int, bytes] = field(default_factory=dict)
    # Changes in place since the file was synced.
    pending: dict[int, list[Note]] = field(default_factory=dict)

    def apply(self, note: Note) -> None:
        """Let one change happen."""
        if note.what == "make":
            self.durable[note.file] = self.written[note.file] = b""
        elif note.what == "write":
            self.written[note.file] += note.data
        elif note.what in ("overwrite", "resize"):
            self.pending.setdefault(note.file, []).append(note)
            self.written[note.file] = _changed(self.written[note.file], note)
        elif note.what == "sync":
            self.durable[note.file] = self.written[note.file]
            self.pending.pop(note.file, None)
        elif note.what == "enter":
            self.entries.setdefault(note.path, [None]).append(note.file)
        elif note.what == "remove":
            self.entries.setdefault(note.path, [None]).append(None)
        elif note.what == "sync-dir":
            for path, states in self.entries.items():
                if os.path.dirname(path) == note.path:
                    del states[:-1]

    def states(self, most: int, chance: random.Random) -> Iterator[dict[str, int]]:
        """Up to `most` maps from path to file: all there are, or the extremes and a sample of the rest."""
        choices = {path: list(dict.fromkeys(s)) for path, s in self.entries.items()}
        named = [path for path in choices if f"/{TEMPORARY}" not in path and len(choices[path]) > 1]
        count = 1
        for path in named:
            count *= len(choices[path])
        picks: Iterator[tuple[int | None, ...]]
        if count <= most:
            picks = itertools.product(*(choices[path] for path in named))
        else:
            extremes = [tuple(choices[p][0] for p in named), tuple(choices[p][-1] for p in named)]
            sample = [tuple(chance.choice(choices[p]) for p in named) for _ in range(most - 2)]
            picks = iter([*extremes, *sample])
        for pick in picks:
            fixed = dict(zip(named, pick, strict=True))
            state = {path: fixed.get(path, chance.choice(choices[path])) for path in choices}
            yield {path: file for path, file in state.items() if file is not None}

    def bytes_of(self, file: int, chance: random.Random) -> bytes:
        """What a file holds after the loss."""
        durable, written = self.durable[file], self.written[file]
        if pending := self.pending.get(file):
            return _some(durable, pending, chance)
        if durable == written:
            return durable
        return chance.choice([durable, written, written[: len(written) // 2], bytes(len(written))])

    def lay_out(self, state: Mapping[str, int], target: Path, chance: random.Random) -> None:
        """Make the state below `target`, as files; what lies in directories that are lost is lost."""
        first: dict[int, Path] = {}
        for path in sorted(state):
            place = target / os.path.relpath(path, self.root)
            if not place.parent.is_dir():
                continue
            if state[path] == A_DIRECTORY:
                place.mkdir()
            elif state[path] in first:
                os.link(first[state[path]], place)
            else:
                place.write_bytes(self.bytes_of(state[path], chance))
                first[state[path]] = place


def _changed(data: bytes, note: Note, length: int | None = None) -> bytes:
    """The file after a change in place, of which so many bytes have come to the disk."""
    change = note.data[:length]
    if note.what == "resize" or len(data) < note.offset:
        data = data[: note.offset].ljust(note.offset, b"\0")
    if note.what == "resize":
        return data
    return data[: note.offset] + change + data[note.offset + len(change) :]


def _some(data: bytes, pending: list[Note], chance: random.Random) -> bytes:
    """Each change is there, or not, or in part. Before its new size a file shows nothing behind the old one."""
    share = chance.choice([0.0, 0.5, 0.9, 1.0])
    for note in pending:
        here = chance.random() < share
        if note.what == "resize" and not here:
            return data
        if here:
            data = _changed(data, note)
        elif chance.random() < 0.3:
            data = _changed(data, note, len(note.data) // 2)
    return data
