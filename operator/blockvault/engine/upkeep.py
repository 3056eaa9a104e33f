"""Upkeep of a whole store: compact within a budget, then collect, volume by volume; one that fails stops no other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from blockvault.engine.collect import Collected
from blockvault.engine.errors import EngineError, OwnedElsewhere, StoredDataDamaged, VolumeNotFound
from blockvault.engine.progress import COLLECTING, COMPACTING, Progress, Report, quiet
from blockvault.engine.repository import Repository
from blockvault.stores import BlockvaultError

# Errors that a report spells out; all are counted.
NAMED = 5

Errors = list[tuple[str, EngineError]]


@dataclass
class UpkeepResult:
    """What was done to a store. Sizes in bytes; `emptied`: backups that left the trash for good.

    `errors`: the first few as {volume, reason, message, remedy}, of `failed` volumes in all.
    """

    deleted_objects: int = 0
    deleted_bytes: int = 0
    rewritten_bytes: int = 0
    emptied: int = 0
    given_up: int = 0
    failed: int = 0
    warnings: list[str] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)


def compact_all(repository: Repository, names: Iterable[str], budget: int, errors: Errors) -> int:
    """Rewrite segments of these volumes within `budget` bytes in all. Gives the bytes rewritten; adds to `errors`."""
    rewritten = 0
    for name in names:
        try:
            made = repository.compact(name, budget=budget - rewritten)
        except VolumeNotFound:
            continue  # deleted
        except EngineError as error:
            errors.append((name, error))
            continue
        rewritten += made.copied_bytes
        errors += [(name, StoredDataDamaged(f"{key}: {cause}")) for key, cause in made.left.items()]
    return rewritten


def upkeep(repository: Repository, budget: int, report: Report = quiet) -> UpkeepResult:
    """Compact and collect all volumes but those of other clusters. Raises StoreError only."""
    errors: Errors = []
    # Of damaged records tells the collect that follows.
    names = repository.volumes(failed=lambda key, error: None)
    report(Progress(phase=COMPACTING))
    rewritten = compact_all(repository, names, budget, errors)
    report(Progress(phase=COLLECTING))
    done = repository.collect(refused=lambda name, error: errors.append((name, error)))
    return _result(done, rewritten, [each for each in errors if not isinstance(each[1], OwnedElsewhere)])


def _result(done: list[Collected], rewritten: int, errors: Errors) -> UpkeepResult:
    return UpkeepResult(
        sum(each.deleted_objects for each in done),
        sum(each.deleted_bytes for each in done),
        rewritten,
        sum(len(each.emptied) for each in done),
        sum(len(each.given_up) for each in done),
        len({name for name, _ in errors}),
        [f"{each.volume}: {words}" for each in done for words in each.warnings][:NAMED],
        rows_of(errors),
    )


def rows_of(errors: Sequence[tuple[str, BlockvaultError]]) -> list[dict[str, Any]]:
    """The first few errors as {volume, reason, message, remedy}."""
    return [
        {
            "volume": name,
            "reason": error.reason,
            "message": error.message[:500],
            "remedy": error.remedy[:200],
        }
        for name, error in errors[:NAMED]
    ]
