"""`python -m blockvault.mover`: do what the request says, say how it goes, and leave last words."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from contextlib import closing
from copy import copy
from types import FrameType
from typing import Any

from blockvault.engine import (
    BLOCK_SIZE,
    BackupRequest,
    BadRequest,
    ChangedList,
    Interrupted,
    Progress,
    Repository,
    exit_code,
    memory,
)
from blockvault.engine.devices import Source
from blockvault.engine.erasing import erase
from blockvault.engine.progress import LISTING, READING, WRITING
from blockvault.engine.upkeep import upkeep
from blockvault.exitcodes import OK
from blockvault.mover import words
from blockvault.mover.request import BACKUP, DEFAULT_PATH, ERASE, UPKEEP, Request, load
from blockvault.mover.timings import LOADING, OPENING, Stopwatch, process_start
from blockvault.stores import BlockvaultError
from blockvault.stores.base import Traffic

PROGRESS_SECONDS = 2.0


class Run:
    """Does the work in a thread of its own, so that the main thread can always answer a signal."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._progress: Progress | None = None
        self._watch = Stopwatch(LOADING, process_start())
        self._ended = threading.Event()
        self._result: Any = None
        self._traffic = Traffic()
        self._error: BaseException | None = None

    def main(self) -> int:
        """Run to the end, or to a signal; the exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        threading.Thread(target=self._work, name="work", daemon=True).start()
        said: Progress | None = None
        while not self._ended.wait(PROGRESS_SECONDS):
            said = self._say(said)
        self._say(said)
        if self._error is None:
            words.last_words(words.success(self._result, self._watch.timings(), self._traffic))
            return OK
        words.last_words(words.failure(self._error, self._watch.timings()))
        return exit_code(self._error)

    def _say(self, said: Progress | None) -> Progress | None:
        now = copy(self._progress)
        if now is not None and now != said:
            words.progress(now)
        return now

    def _stop(self, number: int, _: FrameType | None) -> None:
        if not self._ended.is_set():
            self._error = Interrupted(f"stopped by {signal.Signals(number).name}")
            self._ended.set()

    def _note(self, progress: Progress) -> None:
        self._progress = progress
        self._watch.enter(progress.phase)

    def _work(self) -> None:
        try:
            self._watch.enter(OPENING)
            request = load(self._path)
            repository = request.access.open()
            self._traffic = repository.store.traffic
            result = _do(repository, request, self._note, self._watch)
        except BaseException as error:  # noqa: BLE001 - whatever it was, it must become last words
            if isinstance(error, BlockvaultError):
                sys.stderr.write(f"blockvault: {error}\n  {error.remedy}\n")
            else:
                traceback.print_exc()
            if not self._ended.is_set():
                self._error = error
        else:
            if not self._ended.is_set():
                self._result = result
        self._ended.set()


def _do(repository: Repository, request: Request, note: Any, watch: Stopwatch) -> Any:
    if request.operation == BACKUP:
        changed, no_list = _changed(request, note)
        watch.enter(READING)
        return repository.backup(
            BackupRequest(
                source=request.device,
                volume=request.volume,
                operation_id=request.operation_id,
                full=request.full,
                changed=changed,
                no_list=no_list,
                meta=request.meta,
                report=note,
                turn=request.attempt,
            )
        )
    if request.operation == UPKEEP:
        return upkeep(repository, request.budget, note)
    if request.operation == ERASE:
        if repository.store_id != request.store_id:
            raise BadRequest(
                f"{repository.store.url} holds store {repository.store_id}, and not {request.store_id}",
                remedy="Nothing is erased: the vault's place leads to another store than it did. Mend spec.storage or "
                "its VaultClass, or set deletionPolicy: Retain.",
            )
        return erase(repository, note)
    watch.enter(WRITING)
    memory.keep_reads()
    have = request.have if request.have and repository.holds(request.volume, request.have) else None
    return repository.restore(request.volume, request.device, request.backup_id, note, have=have, force=True)


def _changed(request: Request, note: Any) -> tuple[ChangedList | None, str | None]:
    """What the storage system says has changed; or why it is not known."""
    if request.asked is None or request.full:
        return None, request.no_list
    from blockvault.mover import metadata  # it brings gRPC along, which others do without

    note(Progress(LISTING))
    with closing(Source(request.device, BLOCK_SIZE)) as source:
        size = source.size
    try:
        return metadata.changed_since(request.asked, size), None
    except metadata.NoListError as error:
        sys.stderr.write(
            f"blockvault: {request.volume}: {request.asked.address} gave no list of changed blocks "
            f"({error.reason}): {error}\n  All blocks are read and compared instead.\n"
        )
        return None, error.reason


def main() -> int:
    """Entry point. Does not return where threads may still be waiting for the network."""
    memory.keep_little()
    code = Run(os.environ.get("BLOCKVAULT_REQUEST", DEFAULT_PATH)).main()
    sys.stderr.flush()
    # Threads of a run that was stopped may hang in a request for minutes; they hold nothing that needs care.
    os._exit(code)


if __name__ == "__main__":
    main()
