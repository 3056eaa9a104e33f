"""What a policy's rule would remove after the next run, and why each of the others would stay. Pure (F20)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from blockvault.api import Backup, BackupPolicy

from .automatic import made_of
from .retention import Made, Rule, Verdict, judge


def preview(
    policy: BackupPolicy,
    backups: Mapping[str, Iterable[Backup]],
    now: datetime,
    *,
    busy: Collection[str] = (),
) -> list[tuple[Made, Verdict]]:
    """What becomes of each Backup if the next run were now, the oldest first. `backups`: by volume.

    `busy`: names of those that a Restore reads. Also of a policy that is switched off, so that it can be tried.
    """
    spec = policy.spec
    rule = Rule(spec.retention, now, spec.schedule.time_zone)
    coming = Made("", now, now, spec.retention, spec.schedule.time_zone)
    found: list[tuple[Made, Verdict]] = []
    for of_one in backups.values():
        made = {m.name: m for b in of_one if (m := made_of(b, busy=b.metadata.name in busy))}
        found += [(made[v.name], v) for v in judge([*made.values(), coming], rule, now) if v.name]
    return sorted(found, key=lambda each: (each[0].taken, each[0].name))
