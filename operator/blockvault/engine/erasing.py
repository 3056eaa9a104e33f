"""Erasing what one cluster has in a store: all its volumes are ended, then all that they held is deleted.

What is left are a few small objects that say so, by which a writer that slept through it is refused. Done again, it
goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blockvault.engine.collect import Collected
from blockvault.engine.errors import EngineError, OwnedElsewhere
from blockvault.engine.progress import ERASING, Progress, Report, quiet
from blockvault.engine.repository import Repository
from blockvault.engine.state import ACTIVE
from blockvault.engine.upkeep import NAMED, Errors, rows_of
from blockvault.stores import AccessDenied, BlockvaultError


@dataclass
class EraseResult:
    """What was deleted. Sizes in bytes.

    `foreign`: volumes of other clusters or of nobody, which stay; `foreign_names`: the first few. `locked_objects`:
    what cannot be deleted yet, the first of it at `locked_until`. `errors`: as in UpkeepResult, of `failed` volumes in
    all.
    """

    volumes: int = 0
    deleted_objects: int = 0
    deleted_bytes: int = 0
    foreign: int = 0
    foreign_names: list[str] = field(default_factory=list)
    locked_objects: int = 0
    locked_until: str | None = None
    failed: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)


def erase(repository: Repository, report: Report = quiet) -> EraseResult:
    """Delete all volumes of this cluster with what is in the trash, for good. One that fails stops no other.

    What there is now is ended, and nothing that is made later under the same names. Raises StoreError only.
    """
    errors: Errors = []

    def refused(name: str, error: EngineError) -> None:
        errors.append((name, error))

    sizes = {each["volume"]: each["usedBytes"] for each in repository.usage(failed=lambda name, error: None)}
    lineages = repository.lineages(refused)
    progress = Progress(phase=ERASING, bytes_total=sum(sizes.values()))
    report(progress)
    # All of them first, so that nothing new is made on what is about to go.
    for found in lineages:
        state = found.state
        try:
            if state.status == ACTIVE and state.owner is None and repository.actor is not None:
                raise OwnedElsewhere(
                    f"volume {state.volume}: its backups belong to nobody, so nobody erases them"
                )
            repository.end(found)
        except EngineError as error:
            refused(state.volume, error)
    kept = {name for name, _ in errors}
    done: list[Collected] = []
    for name in sorted({found.state.volume for found in lineages}):
        if name not in kept:
            done += repository.collect(name, refused=refused)
        progress.bytes_scanned += sizes.get(name, 0)
        report(progress)
    return _result(done, errors)


def _result(done: list[Collected], errors: Errors) -> EraseResult:
    foreign = sorted({name for name, error in errors if isinstance(error, OwnedElsewhere)})
    failures: list[tuple[str, BlockvaultError]] = [
        each for each in errors if not isinstance(each[1], OwnedElsewhere)
    ]
    # What a store refuses to delete is said by a warning, and stays.
    failures += [(each.volume, AccessDenied(words)) for each in done for words in each.warnings]
    return EraseResult(
        volumes=len({each.volume for each in done}),
        deleted_objects=sum(each.deleted_objects for each in done),
        deleted_bytes=sum(each.deleted_bytes for each in done),
        foreign=len(foreign),
        foreign_names=foreign[:NAMED],
        locked_objects=sum(each.locked_objects for each in done),
        locked_until=max((each.locked_until for each in done if each.locked_until), default=None),
        failed=len({name for name, _ in failures}),
        errors=rows_of(failures),
    )
