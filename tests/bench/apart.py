"""Work in a process of its own, so that its peak of memory is its own: functions, and verbs of the command line."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from blockvault.cli import options
from blockvault.cli.main import run
from blockvault.engine import memory
from blockvault.engine.newroot import peak_memory
from blockvault.stores import ObjectStore

T = TypeVar("T")
MIB = 1 << 20


@dataclass(frozen=True)
class Apart(Generic[T]):
    """What a function gave, its wall seconds without the start of the process, and the process's peak in MiB."""

    result: T
    seconds: float
    peak: float


@dataclass(frozen=True)
class Verb:
    """What a verb printed as JSON, its requests by kind, and its payload in bytes."""

    printed: Any
    requests: dict[str, int]
    sent: int
    received: int

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())


def apart(work: Callable[..., T], *arguments: Any) -> Apart[T]:
    """Call it in a fresh process. Raises what it raises."""
    # Spawned, not forked: a fork begins with the memory of this process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured, work, arguments).result()


def _measured(work: Callable[..., T], arguments: tuple[Any, ...]) -> Apart[T]:
    started = time.perf_counter()
    result = work(*arguments)
    return Apart(result, time.perf_counter() - started, peak_memory() / MIB)


def verb(scratch: Path, arguments: list[str], opened: Callable[[], ObjectStore] | None = None) -> Apart[Verb]:
    """A command line in a process of its own. Raises RuntimeError with its words when it fails.

    `opened` gives the store in place of the one that the arguments name. `scratch`: where it keeps its local state.
    """
    return apart(_verb, arguments, {"XDG_STATE_HOME": str(scratch / "state")}, opened)


def _verb(
    arguments: list[str], environment: dict[str, str], opened: Callable[[], ObjectStore] | None
) -> Verb:
    os.environ.update(environment)
    memory.keep_little()  # as `main` does
    stores: list[ObjectStore] = []
    former = options.open_store

    def opening(*given: Any, **named: Any) -> ObjectStore:
        stores.append(former(*given, **named) if opened is None else opened())
        return stores[-1]

    options.open_store = opening
    printed, words = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(words):
        code = run([*arguments, "--output", "json"])
    if code:
        raise RuntimeError(f"{' '.join(arguments[:1])}: exit code {code}: {words.getvalue()}")
    counted: dict[str, int] = {}
    for store in stores:
        for kind, count in store.requests.items():
            counted[kind] = counted.get(kind, 0) + count
    return Verb(
        json.loads(printed.getvalue() or "null"),
        counted,
        sum(store.traffic.bytes_up for store in stores),
        sum(store.traffic.bytes_down for store in stores),
    )


def listed(path: Path, ranges: list[tuple[int, int]]) -> str:
    """A file for --changed."""
    with path.open("w", encoding="ascii") as file:
        file.writelines(f'{{"offset": {offset}, "length": {length}}}\n' for offset, length in ranges)
    return str(path)
