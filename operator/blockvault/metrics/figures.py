"""What the metrics say, in memory: reconcilers put it in, a scrape takes a snapshot of it.

Object-shaped figures (a vault's usage) are set and removed with their object, so that no series of a
deleted vault stays. Flows (bytes stored) only grow, and begin at zero when the operator starts.
Nothing is labelled with a Backup's or Restore's name: those are without bound.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from blockvault.api import CHANGED_BLOCK_REASONS

from .shapes import ClaimFigures, Durations, VaultFigures

Outcome = Literal["succeeded", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("succeeded", "failed")

# A run that failed before the mover said which it was is "unknown".
BACKUP_TYPES = ("full", "incremental", "unknown")

# Where the knowledge of what changed came from, and why not from the storage's own list.
CHANGED_BLOCK_SOURCES = ("SnapshotMetadata", "Compare", "Full")
OTHER_REASON = "other"

SKIP_REASONS = ("StillRunning", "Missed")

# What a backup moves and asks, by the names of a mover's result.
BACKUP_AMOUNTS = ("bytesScanned", "bytesChanged", "bytesStored", "requests", "retries", "throttles")

Place = tuple[str, str]
"""Namespace and name of a Vault."""


@dataclass
class VaultFlows:
    """What has been done in one Vault since the operator began to look."""

    runs: dict[tuple[Outcome, str], int] = field(
        default_factory=lambda: {(outcome, kind): 0 for outcome in OUTCOMES for kind in BACKUP_TYPES}
    )
    """Backup runs by (outcome, type)."""
    amounts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BACKUP_AMOUNTS, 0.0))
    """By `BACKUP_AMOUNTS`."""
    skipped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SKIP_REASONS, 0))
    """Slots without a backup, by reason."""

    def copy(self) -> VaultFlows:
        """One that later calls leave alone."""
        return VaultFlows(dict(self.runs), dict(self.amounts), dict(self.skipped))


@dataclass
class Upkeep:
    """What tidying stores up has done."""

    runs: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    deleted_bytes: float = 0.0
    deleted_objects: float = 0.0
    rewritten_bytes: float = 0.0


@dataclass
class Snapshot:
    """All figures at one moment."""

    vaults: list[VaultFigures]
    claims: dict[Place, list[ClaimFigures]]
    """Claims that Vaults hold."""
    flows: dict[Place, VaultFlows]
    """Of Vaults that are there, and of those that had a run and are not known."""
    backups: dict[tuple[str, str], int]
    """Backups by (namespace, phase)."""
    restores: dict[tuple[str, str], int]
    """Restores by (namespace, phase)."""
    backup_durations: dict[str, Durations]
    """By type."""
    steps: dict[tuple[str, str], Durations]
    """By (kind, step)."""
    changed_blocks: dict[tuple[str, str], int]
    """Successful backups by (source of the knowledge of changed blocks, reason)."""
    restore_runs: dict[tuple[str, Outcome], int]
    """By (namespace, outcome)."""
    restore_written_bytes: float
    restore_durations: Durations
    upkeep: Upkeep
    reconcile_errors: dict[str, int]
    """By kind."""
    lost_movers: int
    """Given up as their node was lost."""
    loop_lag: float
    """Seconds that the event loop was late at its last beat."""


class _Phases:
    """How many objects of a kind there are by (namespace, phase); an object counts in its last phase only."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, str]] = {}
        self.counted: Counter[tuple[str, str]] = Counter()

    def put(self, uid: str, namespace: str, phase: str) -> None:
        self.drop(uid)
        self._of[uid] = (namespace, phase)
        self.counted[namespace, phase] += 1

    def drop(self, uid: str) -> None:
        former = self._of.pop(uid, None)
        if former is not None:
            self.counted[former] -= 1
            if not self.counted[former]:
                del self.counted[former]


class Figures:
    """The figures of one operator. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._vaults: dict[Place, VaultFigures] = {}
        self._claims: dict[Place, list[ClaimFigures]] = {}
        self._flows: dict[Place, VaultFlows] = {}
        self._backups, self._restores = _Phases(), _Phases()
        self._backup_durations = {kind: Durations() for kind in BACKUP_TYPES}
        self._steps: dict[tuple[str, str], Durations] = {}
        self._changed_blocks = dict.fromkeys(
            [
                *((source, "") for source in CHANGED_BLOCK_SOURCES),
                *(("Compare", reason) for reason in (*CHANGED_BLOCK_REASONS, OTHER_REASON)),
                ("Full", "ParentDamaged"),
            ],
            0,
        )
        self._restore_runs: dict[tuple[str, Outcome], int] = {}
        self._written = 0.0
        self._restore_durations = Durations()
        self._upkeep = Upkeep()
        self._reconcile_errors: Counter[str] = Counter()
        self._lost_movers = 0
        self._lag = 0.0

    def set_vault(self, vault: VaultFigures) -> None:
        """Say how a vault is now; in place of what was said of a vault of this name before."""
        with self._lock:
            self._vaults[vault.namespace, vault.name] = vault
            # Zero before the first run: `increase()` does not see a series that begins at one.
            self._flows.setdefault((vault.namespace, vault.name), VaultFlows())
            for outcome in OUTCOMES:
                self._restore_runs.setdefault((vault.namespace, outcome), 0)

    def set_claims(self, namespace: str, vault: str, claims: Iterable[ClaimFigures]) -> None:
        """Say how the claims are that a vault holds; in place of what was said before."""
        with self._lock:
            self._claims[namespace, vault] = list(claims)

    def remove_vault(self, namespace: str, name: str, uid: str) -> None:
        """Forget a vault that is gone; one that is not known, or was made again since, is no error."""
        with self._lock:
            known = self._vaults.get((namespace, name))
            if known is None or known.uid == uid:
                self._vaults.pop((namespace, name), None)
                self._claims.pop((namespace, name), None)
                self._flows.pop((namespace, name), None)

    def set_backup(self, uid: str, namespace: str, phase: str) -> None:
        """Say which phase a Backup is in now."""
        with self._lock:
            self._backups.put(uid, namespace, phase)

    def remove_backup(self, uid: str) -> None:
        """Forget a Backup that is gone; one that is not known is no error."""
        with self._lock:
            self._backups.drop(uid)

    def set_restore(self, uid: str, namespace: str, phase: str) -> None:
        """Say which phase a Restore is in now."""
        with self._lock:
            self._restores.put(uid, namespace, phase)

    def remove_restore(self, uid: str) -> None:
        """Forget a Restore that is gone; one that is not known is no error."""
        with self._lock:
            self._restores.drop(uid)

    def observe_backup(self, place: Place, result: Mapping[str, Any], outcome: Outcome) -> None:
        """Count one finished backup run in a Vault: `result` as the mover reports it, empty when it reported none.

        To be called once a run, at the change to its final phase.
        """
        kind = result.get("type")
        kind = kind if kind in BACKUP_TYPES else "unknown"
        with self._lock:
            flows = self._flows.setdefault(place, VaultFlows())
            flows.runs[outcome, kind] += 1
            for name in BACKUP_AMOUNTS:
                flows.amounts[name] += _amount(result, name)
            source, reason = result.get("changedBlockSource"), str(result.get("changedBlockReason") or "")
            if source in CHANGED_BLOCK_SOURCES:
                known = (source, reason) in self._changed_blocks
                self._changed_blocks[(source, reason) if known else ("Compare", OTHER_REASON)] += 1
            if result.get("seconds") is not None:
                self._backup_durations[kind].add(_amount(result, "seconds"))

    def observe_restore(self, namespace: str, result: Mapping[str, Any], outcome: Outcome) -> None:
        """Count one finished restore run: `result` as the mover reports it, empty when it reported none."""
        with self._lock:
            for each in OUTCOMES:
                self._restore_runs.setdefault((namespace, each), 0)
            self._restore_runs[namespace, outcome] += 1
            self._written += _amount(result, "bytesWritten")
            if result.get("seconds") is not None:
                self._restore_durations.add(_amount(result, "seconds"))

    def observe_steps(self, kind: str, steps: Mapping[str, float]) -> None:
        """Count how long the steps of a Backup or Restore (`kind`) took that has ended, in seconds."""
        with self._lock:
            for step, seconds in steps.items():
                self._steps.setdefault((kind, step), Durations()).add(seconds)

    def observe_skipped(self, place: Place, reason: str) -> None:
        """Count a slot of a Vault's policy at which no backup was made."""
        with self._lock:
            flows = self._flows.setdefault(place, VaultFlows())
            flows.skipped[reason] = flows.skipped.get(reason, 0) + 1

    def observe_upkeep(self, result: Mapping[str, Any], outcome: Outcome) -> None:
        """Count one run that tidied a store up: `result` as the Vault's status has it."""
        with self._lock:
            self._upkeep.runs[outcome] += 1
            self._upkeep.deleted_bytes += _amount(result, "deletedBytes")
            self._upkeep.deleted_objects += _amount(result, "deletedObjects")
            self._upkeep.rewritten_bytes += _amount(result, "rewrittenBytes")

    def observe_reconcile_error(self, kind: str) -> None:
        """Count one reconciliation of an object of this kind (`Backup`) that ended in an unexpected error."""
        with self._lock:
            self._reconcile_errors[kind] += 1

    def observe_lost_mover(self) -> None:
        """Count one mover of a Backup or Restore that was given up, as its node was lost."""
        with self._lock:
            self._lost_movers += 1

    def observe_lag(self, seconds: float) -> None:
        """Say how late the event loop was at its last beat."""
        with self._lock:
            self._lag = max(0.0, seconds)

    def snapshot(self) -> Snapshot:
        """A copy of all figures, which no later call changes."""
        with self._lock:
            return Snapshot(
                vaults=[self._vaults[key] for key in sorted(self._vaults)],
                claims={key: self._claims[key] for key in sorted(self._claims)},
                flows={key: self._flows[key].copy() for key in sorted(self._flows)},
                backups=dict(sorted(self._backups.counted.items())),
                restores=dict(sorted(self._restores.counted.items())),
                backup_durations={kind: each.copy() for kind, each in self._backup_durations.items()},
                steps={key: self._steps[key].copy() for key in sorted(self._steps)},
                changed_blocks=dict(self._changed_blocks),
                restore_runs=dict(sorted(self._restore_runs.items())),
                restore_written_bytes=self._written,
                restore_durations=self._restore_durations.copy(),
                upkeep=Upkeep(
                    dict(self._upkeep.runs),
                    self._upkeep.deleted_bytes,
                    self._upkeep.deleted_objects,
                    self._upkeep.rewritten_bytes,
                ),
                reconcile_errors=dict(sorted(self._reconcile_errors.items())),
                lost_movers=self._lost_movers,
                loop_lag=self._lag,
            )


def _amount(result: Mapping[str, Any], key: str) -> float:
    """A counter must never fall, and a scrape must never fail by what a mover wrote."""
    value = result.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return 0.0
    return float(value)
