"""What the metrics say, in memory: reconcilers put it in, a scrape takes a snapshot of it.

Object-shaped figures (a vault's usage) are set and removed with their object, so that no series of a
deleted vault stays. Flows (bytes stored) only grow, and begin at zero when the operator starts.
Nothing is labelled with a Backup's or Restore's name: those are without bound.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from blockvault.api import CHANGED_BLOCK_REASONS

Outcome = Literal["succeeded", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("succeeded", "failed")

# A run that failed before the mover said which it was is "unknown".
BACKUP_TYPES = ("full", "incremental", "unknown")

# Where the knowledge of what changed came from, and why not from the storage's own list.
CHANGED_BLOCK_SOURCES = ("SnapshotMetadata", "Compare", "Full")
OTHER_REASON = "other"

# From a backup of a few changed blocks (seconds) to a first full one of many TiB (a day).
DURATION_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0)


@dataclass(frozen=True)
class VaultFigures:
    """One vault as its status says. None is what is not known yet: there is no series for it."""

    namespace: str
    name: str
    uid: str
    phase: str
    used_bytes: int | None
    capacity_bytes: int | None
    backups: int | None
    anomalies: int = 0

    @property
    def up(self) -> bool:
        """Whether the store answered at the last check: a Locked vault's does."""
        return self.phase in ("Available", "Locked")


@dataclass
class Durations:
    """A histogram of seconds; `counts[i]` are those up to `DURATION_BUCKETS[i]`, the last all above."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one run."""
        self.counts[bisect.bisect_left(DURATION_BUCKETS, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulated, as Prometheus wants them: (upper bound, runs up to it)."""
        bounds = [*(repr(bound) for bound in DURATION_BUCKETS), "+Inf"]
        total, cumulated = 0, []
        for bound, count in zip(bounds, self.counts, strict=True):
            total += count
            cumulated.append((bound, float(total)))
        return cumulated


@dataclass
class Snapshot:
    """All figures at one moment."""

    vaults: list[VaultFigures]
    backups: dict[tuple[str, str], int]
    """Backups by (namespace, phase)."""
    backup_runs: dict[tuple[Outcome, str], int]
    """Runs by (outcome, type)."""
    backup_scanned_bytes: float
    backup_changed_bytes: float
    backup_stored_bytes: float
    backup_durations: dict[str, Durations]
    """By type."""
    changed_blocks: dict[tuple[str, str], int]
    """Successful backups by (source of the knowledge of changed blocks, reason)."""
    restore_runs: dict[Outcome, int]
    restore_written_bytes: float
    restore_durations: Durations
    reconcile_errors: dict[str, int]
    """By kind."""
    lost_movers: int
    """Given up as their node was lost."""


class Figures:
    """The figures of one operator. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vaults: dict[tuple[str, str], VaultFigures] = {}
        self._backups: dict[str, tuple[str, str]] = {}
        self._backup_runs: dict[tuple[Outcome, str], int] = {
            (outcome, kind): 0 for outcome in OUTCOMES for kind in BACKUP_TYPES
        }
        self._scanned = self._changed = self._stored = self._written = 0.0
        self._backup_durations = {kind: Durations() for kind in BACKUP_TYPES}
        self._changed_blocks = dict.fromkeys(
            [
                *((source, "") for source in CHANGED_BLOCK_SOURCES),
                *(("Compare", reason) for reason in (*CHANGED_BLOCK_REASONS, OTHER_REASON)),
                ("Full", "ParentDamaged"),
            ],
            0,
        )
        self._restore_runs: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
        self._restore_durations = Durations()
        self._reconcile_errors: Counter[str] = Counter()
        self._lost_movers = 0

    def set_vault(
        self,
        namespace: str,
        name: str,
        uid: str,
        phase: str,
        used_bytes: int | None,
        capacity_bytes: int | None,
        backups: int | None,
        anomalies: int = 0,
    ) -> None:
        """Say how a vault is now; in place of what was said of a vault of this name before.

        `anomalies`: backups that hold expiry up until somebody has looked.
        """
        vault = VaultFigures(namespace, name, uid, phase, used_bytes, capacity_bytes, backups, anomalies)
        with self._lock:
            self._vaults[namespace, name] = vault

    def remove_vault(self, namespace: str, name: str) -> None:
        """Forget a vault that is gone; one that is not known is no error."""
        with self._lock:
            self._vaults.pop((namespace, name), None)

    def set_backup(self, uid: str, namespace: str, phase: str) -> None:
        """Say which phase a Backup is in now."""
        with self._lock:
            self._backups[uid] = (namespace, phase)

    def remove_backup(self, uid: str) -> None:
        """Forget a Backup that is gone; one that is not known is no error."""
        with self._lock:
            self._backups.pop(uid, None)

    def observe_backup(self, result: Mapping[str, Any], outcome: Outcome) -> None:
        """Count one finished backup run: `result` as the mover reports it, empty when it reported none.

        To be called once a run, at the change to its final phase.
        """
        kind = result.get("type")
        kind = kind if kind in BACKUP_TYPES else "unknown"
        with self._lock:
            self._backup_runs[outcome, kind] += 1
            self._scanned += _amount(result, "bytesScanned")
            self._changed += _amount(result, "bytesChanged")
            self._stored += _amount(result, "bytesStored")
            source, reason = result.get("changedBlockSource"), str(result.get("changedBlockReason") or "")
            if source in CHANGED_BLOCK_SOURCES:
                known = (source, reason) in self._changed_blocks
                self._changed_blocks[(source, reason) if known else ("Compare", OTHER_REASON)] += 1
            if result.get("seconds") is not None:
                self._backup_durations[kind].add(_amount(result, "seconds"))

    def observe_restore(self, result: Mapping[str, Any], outcome: Outcome) -> None:
        """Count one finished restore run: `result` as the mover reports it, empty when it reported none."""
        with self._lock:
            self._restore_runs[outcome] += 1
            self._written += _amount(result, "bytesWritten")
            if result.get("seconds") is not None:
                self._restore_durations.add(_amount(result, "seconds"))

    def observe_reconcile_error(self, kind: str) -> None:
        """Count one reconciliation of an object of this kind (`Backup`) that ended in an unexpected error."""
        with self._lock:
            self._reconcile_errors[kind] += 1

    def observe_lost_mover(self) -> None:
        """Count one mover of a Backup or Restore that was given up, as its node was lost."""
        with self._lock:
            self._lost_movers += 1

    def snapshot(self) -> Snapshot:
        """A copy of all figures, which no later call changes."""
        with self._lock:
            return Snapshot(
                vaults=[self._vaults[key] for key in sorted(self._vaults)],
                backups=dict(sorted(Counter(self._backups.values()).items())),
                backup_runs=dict(self._backup_runs),
                backup_scanned_bytes=self._scanned,
                backup_changed_bytes=self._changed,
                backup_stored_bytes=self._stored,
                backup_durations={kind: _copy(each) for kind, each in self._backup_durations.items()},
                changed_blocks=dict(self._changed_blocks),
                restore_runs=dict(self._restore_runs),
                restore_written_bytes=self._written,
                restore_durations=_copy(self._restore_durations),
                reconcile_errors=dict(sorted(self._reconcile_errors.items())),
                lost_movers=self._lost_movers,
            )


def _copy(durations: Durations) -> Durations:
    return Durations(list(durations.counts), durations.seconds)


def _amount(result: Mapping[str, Any], key: str) -> float:
    """A counter must never fall, and a scrape must never fail by what a mover wrote."""
    value = result.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return 0.0
    return float(value)
