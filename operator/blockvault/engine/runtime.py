"""What the engine takes from the machine besides files: time, randomness and threads, in one place.

Everything here can be replaced at once (`use`), so that a whole run, with several actors, can be repeated
exactly from a seed. Nothing that keeps data safe is decided by `wall`: it is for people.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime


def _threads(count: int, name: str) -> Executor:
    return ThreadPoolExecutor(count, thread_name_prefix=name)


@dataclass(frozen=True)
class Runtime:
    """`wall`: seconds since 1970; `monotonic`: seconds that never go back; `random`: that many random bytes;
    `executor`: a pool of so many threads, of that name; `sleep`: seconds."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[int], bytes] = secrets.token_bytes
    executor: Callable[[int, str], Executor] = _threads
    sleep: Callable[[float], None] = time.sleep


_current = Runtime()


@contextmanager
def use(runtime: Runtime) -> Iterator[None]:
    """Let the whole process use another runtime inside the block."""
    global _current
    former, _current = _current, runtime
    try:
        yield
    finally:
        _current = former


def wall() -> float:
    """Seconds since 1970."""
    return _current.wall()


def now() -> str:
    """The time as it stands in stored objects: UTC, whole seconds."""
    return time_of(_current.wall())


def time_of(seconds: float) -> str:
    """Seconds since 1970 as they stand in stored objects."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """Seconds since 1970 of a time as `now` gives it. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def monotonic() -> float:
    """Seconds that never go back."""
    return _current.monotonic()


def random(count: int) -> bytes:
    """`count` bytes that nobody can guess."""
    return _current.random(count)


def random_id() -> str:
    """32 random hex digits: ids of stores, lineages, commits, attempts and backups."""
    return _current.random(16).hex()


def executor(threads: int, name: str) -> Executor:
    """A pool of threads."""
    return _current.executor(threads, name)


def sleep(seconds: float) -> None:
    """Wait."""
    _current.sleep(seconds)
