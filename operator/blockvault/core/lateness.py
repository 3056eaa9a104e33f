"""When a claim's next backup is due, and whether its newest one has failed. Pure (E2).

Due is told from the last good backup on: a slot whose backup failed, or that made none, moves nothing, so the time
since then is how late the claim is. `nextRun` cannot tell: it goes on to the next slot whatever became of the last.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from blockvault.api import AppliedPolicy, Backup, BackupPolicy, ResourceStatus

from .automatic import made_of
from .conditions import parse_timestamp
from .decision import CANCELLED
from .runs import offset_of
from .schedule import next_runs


def due_at(
    policy: BackupPolicy | None, applied: AppliedPolicy | None, line: ResourceStatus
) -> datetime | None:
    """When the policy wants the backup after the last good one; None where no policy backs the claim up."""
    if policy is None or applied is None or applied.state != "Applied" or line.state != "Associated":
        return None
    moments = [applied.schedule_since, line.since, line.last_backup_at]
    after = max(parse_timestamp(text) for text in moments if text)
    delay = offset_of(policy, line.name)
    created = policy.metadata.creation_timestamp
    return next_runs(policy.spec.schedule, after - delay, created, 1)[0] + delay


def is_failing(backups: Iterable[Backup]) -> bool:
    """Whether the newest of a claim's ended Backups has failed; one that somebody cancelled is passed over."""
    made = [m for b in backups if (m := made_of(b)) and not (b.status and b.status.reason == CANCELLED)]
    newest = max(made, key=lambda m: m.ended, default=None)
    return newest is not None and newest.failed
