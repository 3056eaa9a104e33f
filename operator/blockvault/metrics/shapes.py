"""What figures are of: a Vault, a claim, times. None is what is not known: there is no series for it."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from datetime import datetime

from blockvault.api import Vault, parse_quantity
from blockvault.core.conditions import parse_timestamp
from blockvault.core.reasons import REASONS

# From a backup of a few changed blocks (seconds) to a first full one of many TiB (a day).
DURATION_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0)
# A word that this version does not know stands for none of its own, so that series stay bounded.
OTHER = "Other"


@dataclass(frozen=True)
class VaultFigures:
    """One Vault as its status says. Sizes in bytes, times in seconds since 1970."""

    namespace: str
    name: str
    uid: str
    phase: str
    reason: str = OTHER
    used_bytes: int | None = None
    capacity_bytes: int | None = None
    backups: int | None = None
    anomalies: int = 0
    trash_bytes: int | None = None
    in_trash: int | None = None
    trash_goes: float | None = None
    holds: frozenset[str] = frozenset()
    damaged: bool = False
    resources: dict[str, int] = field(default_factory=dict)
    associated_bytes: int | None = None
    next_run: float | None = None
    checked: float | None = None
    tidied: float | None = None
    tidied_well: bool = True

    @property
    def up(self) -> bool:
        """Whether the store answered at the last check: a Locked vault's does."""
        return self.phase in ("Available", "Locked")


RESOURCE_STATES = ("Associated", "Waiting", "Refused", "Gone")
HOLDS = ("Deletion", "Dissociation", "Expiry")


def vault_figures(vault: Vault) -> VaultFigures:
    """The figures of a Vault as it stands in the API. Before its first look there are next to none."""
    meta, status = vault.metadata, vault.status
    namespace, born = str(meta.namespace), meta.creation_timestamp.timestamp()
    if status is None:
        return VaultFigures(namespace, meta.name, meta.uid, "Pending")
    capacity = parse_quantity(status.capacity) if status.capacity else vault.spec.capacity_bytes
    odd = [each for each in status.anomalies or [] if not each.acknowledged]
    held = {
        "Deletion": status.deletion_hold is not None,
        "Dissociation": status.dissociation_hold is not None,
        "Expiry": bool(odd),
    }
    lines, upkeep = status.resources or [], status.upkeep
    ended = seconds_of(upkeep.ended_at) if upkeep else None
    return VaultFigures(
        namespace,
        meta.name,
        meta.uid,
        "Deleting" if meta.deletion_timestamp else status.phase or "Pending",
        status.reason if status.reason in REASONS else OTHER,
        used_bytes=status.used_bytes,
        capacity_bytes=capacity or None,
        backups=status.backups,
        anomalies=len(odd),
        trash_bytes=status.trash_bytes,
        in_trash=status.in_trash,
        trash_goes=min((seconds_of(each.until) or born for each in status.trash or []), default=None),
        holds=frozenset(name for name, holds in held.items() if holds),
        damaged=any(c.type == "VolumesReadable" and c.status == "False" for c in status.conditions),
        resources={state: sum(line.state == state for line in lines) for state in RESOURCE_STATES},
        associated_bytes=status.associated_bytes,
        next_run=seconds_of(status.next_run),
        checked=seconds_of(status.last_checked_at),
        # One that was never tidied up counts from when it was made: the first run comes within a day.
        tidied=ended or born,
        tidied_well=ended is None or upkeep is None or upkeep.reason == "Completed",
    )


@dataclass(frozen=True)
class ClaimFigures:
    """One claim that a Vault holds. Times in seconds since 1970.

    `due`: when its policy wants the next backup after the last good one. `failing`: the newest one has failed.
    """

    claim: str
    last_success: float | None = None
    due: float | None = None
    failing: bool = False


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

    def copy(self) -> Durations:
        """One that later calls leave alone."""
        return Durations(list(self.counts), self.seconds)


def seconds_of(moment: str | datetime | None) -> float | None:
    """Seconds since 1970; None of nothing, and of what is no time."""
    if isinstance(moment, str):
        try:
            moment = parse_timestamp(moment)
        except ValueError:
            return None
    return moment.timestamp() if moment is not None else None
