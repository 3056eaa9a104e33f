"""What a Vault's policy does next: which Backups to make, which slots were skipped, which Backups go. Pure (B1 to B10).

For each resource the newest slot that is due is looked at, once. A slot that came while the operator was away is run
late when it came less than an hour ago; else it is recorded as missed, and so are the ones before it: nothing runs
twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from blockvault.api import (
    AppliedPolicy,
    Backup,
    BackupPolicy,
    Removal,
    ResourceStatus,
    SkippedRun,
    Vault,
    as_dict,
)

from .anomaly import NO_ANOMALIES, Anomalies, find_anomalies, hold_up
from .automatic import annotations_of, made_of, origin_of
from .conditions import parse_timestamp, timestamp
from .naming import RUN_ANNOTATION, RUN_NOW_ANNOTATION, volume_name
from .plan_backup import TERMINAL
from .policy import TOO_MANY, validate_policy
from .preview import preview
from .retention import Made, Rule, Verdict, expires_at, judge
from .schedule import next_runs, parse_interval, slots_between

# A slot that is over for longer than this is not run any more.
LATE = timedelta(hours=1)
# Slots that were missed are looked for so far back; no schedule pauses for longer.
LOOK_BACK = timedelta(days=32)
# A slot that is said to have been dealt with so far ahead of the clock is not believed.
PLAUSIBLE = timedelta(days=1)
# Backups that a preview names.
SHOWN_REMOVALS = 32
# A policy without slots ahead, and a vault that waits for something, are looked at again after so many seconds.
IDLE_SECONDS, WAITING_SECONDS = 600.0, 60.0


@dataclass(frozen=True)
class NewBackup:
    """A Backup to make. Its name is `prefix` and the first number from 1 on that is free."""

    claim: str
    prefix: str
    run: str
    annotations: dict[str, str]
    full: bool = False
    description: str | None = None


@dataclass(frozen=True)
class RunPlan:
    """What to do now, and what the status says then. `next_look` in seconds."""

    lines: list[ResourceStatus]
    policy: AppliedPolicy | None
    make: list[NewBackup] = field(default_factory=list)
    skipped: list[tuple[str, SkippedRun]] = field(default_factory=list)
    remove: list[Verdict] = field(default_factory=list)
    last_run_now: str | None = None
    next_run: datetime | None = None
    next_look: float = IDLE_SECONDS
    anomalies: Anomalies = NO_ANOMALIES


@dataclass(frozen=True)
class RunView:
    """All that a plan looks at. `lines`: as associated just now; `busy`: Backups that a Restore reads."""

    now: datetime
    vault: Vault
    lines: list[ResourceStatus]
    policy: BackupPolicy | None = None
    backups: list[Backup] = field(default_factory=list)
    busy: frozenset[str] = frozenset()


def apply_policy(vault: Vault, policy: BackupPolicy | None, now: datetime) -> AppliedPolicy | None:
    """The policy as the vault applies it from now on. What changed counts from now, what did not from then."""
    if vault.spec.policy_ref is None:
        return None
    name = vault.spec.policy_ref.name
    former = vault.status.policy if vault.status else None
    if policy is None or policy.metadata.deletion_timestamp:
        # Nothing is removed either: deleting a policy deletes no backup (B10).
        message = (
            f"BackupPolicy {name} does not exist here: create it. Until then nothing is made or removed."
        )
        return AppliedPolicy(name=name, state="Waiting", message=message)
    problems = validate_policy(policy)
    if problems:
        return AppliedPolicy(name=name, state="Refused", message=" ".join(problems))
    if policy.status and policy.status.reason == TOO_MANY:
        return AppliedPolicy(name=name, state="Refused", message=policy.status.message or TOO_MANY)
    if not policy.spec.enabled:
        message = f"BackupPolicy {name} is disabled: nothing is made or removed by it."
        return AppliedPolicy(name=name, state="Disabled", message=message)
    fingerprint, retention = _fingerprint(policy), policy.spec.retention
    same = former if former and former.name == name else None
    schedule_since = same.schedule_since if same and same.schedule == fingerprint else None
    retention_since = same.retention_since if same and same.retention == retention else None
    return AppliedPolicy(
        name=name,
        state="Applied",
        message="The policy is applied.",
        schedule=fingerprint,
        schedule_since=schedule_since or timestamp(now),
        retention=retention,
        retention_since=retention_since or timestamp(now),
    )


def plan_runs(view: RunView) -> RunPlan:
    """The whole plan of one look. Looking again after any part of it was done asks for the rest."""
    applied = apply_policy(view.vault, view.policy, view.now)
    by_volume: dict[str, list[Backup]] = defaultdict(list)
    for backup in view.backups:
        by_volume[volume_of(backup)].append(backup)
    by_claim = {
        line.name: by_volume[volume_name(str(view.vault.metadata.namespace), line.name)]
        for line in view.lines
    }
    make, last_run_now = _run_now(view, by_claim)
    lines, skipped = [], []
    starts: list[datetime] = []
    for line in view.lines:
        updated = line.model_copy(update={"next_run": None} | _newest(line, by_claim[line.name]))
        if (
            applied
            and applied.state == "Applied"
            and view.policy
            and line.since
            and line.state == "Associated"
        ):
            since = max(parse_timestamp(applied.schedule_since or ""), parse_timestamp(line.since))
            due = due_of(view.policy, since, line, by_claim[line.name], view.now)
            updated = updated.model_copy(update=_dealt(due))
            starts.append(due.next_start)
            if due.slot is not None:
                make.append(_scheduled(view, view.policy, updated, due.slot, by_claim[line.name]))
            if due.skipped is not None:
                skipped.append((line.name, due.skipped))
        lines.append(updated)
    anomalies = find_anomalies(view.vault, lines, by_volume)
    lines = [line.model_copy(update={"activity": anomalies.activity[line.name]}) for line in lines]
    verdicts, expiry = _verdicts(view, applied, by_volume, anomalies)
    if applied is not None and view.policy is not None and applied.state in ("Applied", "Disabled"):
        applied = applied.model_copy(update=_preview(view, view.policy, by_volume, anomalies))
    waits = any(line.state == "Waiting" for line in lines) or bool(applied and applied.state == "Waiting")
    ahead = [moment for moment in (min(starts, default=None), expiry) if moment is not None]
    seconds = min([(moment - view.now).total_seconds() + 0.5 for moment in ahead], default=IDLE_SECONDS)
    return RunPlan(
        lines,
        applied,
        make,
        skipped,
        [v for v in verdicts if v.goes],
        last_run_now,
        min(starts, default=None),
        max(1.0, min(seconds, WAITING_SECONDS if waits else IDLE_SECONDS)),
        anomalies,
    )


@dataclass(frozen=True)
class Due:
    """What is due for one resource: the slot to run, or the one without a backup; and when the next one starts."""

    slot: datetime | None
    skipped: SkippedRun | None
    next_start: datetime
    dealt: datetime | None


def due_of(
    policy: BackupPolicy, since: datetime, line: ResourceStatus, backups: list[Backup], now: datetime
) -> Due:
    """What is due for a resource, whose slots count from `since`."""
    schedule, created = policy.spec.schedule, policy.metadata.creation_timestamp
    delay = offset_of(policy, line.name)
    # What another cluster made says nothing of our slots.
    own = [b for b in backups if not (b.status and b.status.cluster)]
    made = [(b, o.slot) for b in own if (o := origin_of(b)) and o.policy == policy.metadata.name]
    # What was made and not recorded yet counts as dealt with. A clock that was far ahead for a while stops nothing.
    recorded = [parse_timestamp(line.last_slot)] if line.last_slot else []
    dealt = [slot for slot in [*recorded, *(slot for _, slot in made)] if slot <= now + PLAUSIBLE]
    after = max([min(since, now), *dealt])
    passed = slots_between(schedule, max(after, now - LOOK_BACK), now - delay, created)
    running = next((b.metadata.name for b, _ in made if not _ended(b)), None)
    slot, skipped = None, None
    if passed and now - delay - passed[-1] > LATE:
        skipped = _missed(passed)
    elif passed and running is not None:
        message = f"Backup {running} was still running: the next slot runs."
        skipped = SkippedRun(slot=timestamp(passed[-1]), reason="StillRunning", message=message)
    elif passed:
        slot, skipped = passed[-1], _missed(passed[:-1]) if len(passed) > 1 else None
    following = next_runs(schedule, max(after, now - delay, *passed[-1:]), created, 1)[0]
    return Due(slot, skipped, following + delay, max([*dealt, *passed[-1:]], default=None))


def offset_of(policy: BackupPolicy, name: str) -> timedelta:
    """How long after a slot a resource starts: the same each time, spread evenly over the window (F27)."""
    if policy.spec.schedule.spread is None:
        return timedelta(0)
    window = parse_interval(policy.spec.schedule.spread)
    share = int.from_bytes(hashlib.sha256(f"{policy.metadata.uid}/{name}".encode()).digest()[:4]) / 2**32
    return timedelta(seconds=int(window.total_seconds() * share))


def _dealt(due: Due) -> dict[str, object]:
    changes: dict[str, object] = {"next_run": timestamp(due.next_start)}
    if due.dealt is not None:
        changes["last_slot"] = timestamp(due.dealt)
    if due.skipped is not None:
        changes["skipped"] = due.skipped
    return changes


def _missed(slots: list[datetime]) -> SkippedRun:
    more = f", and at {len(slots) - 1} before it" if len(slots) > 1 else ""
    message = f"Nothing ran at this slot{more}: the operator was away, or the claim was not bound. It is not made up."
    return SkippedRun(slot=timestamp(slots[-1]), reason="Missed", message=message)


def _scheduled(
    view: RunView, policy: BackupPolicy, line: ResourceStatus, slot: datetime, backups: list[Backup]
) -> NewBackup:
    run = f"{view.vault.metadata.uid}/{timestamp(slot)}"
    notes = annotations_of(policy, slot) | {RUN_ANNOTATION: run}
    any_good = any(b.status and b.status.phase == "Available" for b in backups)
    full = any_good and _full_is_due(policy, line, view.now)
    return NewBackup(line.name, f"autobk-{_short(run)}", run, notes, full=full)


def _full_is_due(policy: BackupPolicy, line: ResourceStatus, now: datetime) -> bool:
    """Whether the last full backup is so long ago that the next one is full (B7). It may be gone since."""
    days = policy.spec.full_every_days
    if days is None:
        return False
    # A slot comes a little earlier or later than the one so many days ago.
    last = parse_timestamp(line.last_full_at) if line.last_full_at else None
    return last is None or now - last > timedelta(days=days) - timedelta(hours=1)


def _run_now(view: RunView, by_claim: dict[str, list[Backup]]) -> tuple[list[NewBackup], str | None]:
    """Backups that the annotation run-now asks for: once for each value."""
    vault = view.vault
    value = vault.metadata.annotations.get(RUN_NOW_ANNOTATION)
    done = vault.status.last_run_now if vault.status else None
    if not value or value == done:
        return [], done
    run = f"{vault.metadata.uid}/run-now/{value}"[:1024]
    if view.lines and not any(line.state == "Associated" for line in view.lines):
        return [], done  # they were all applied together, and the claims come later
    made = {claim for claim, found in by_claim.items() if any(_run_of(b) == run for b in found)}
    make = [
        NewBackup(
            line.name,
            f"manualbk-{_short(run)}",
            run,
            {RUN_ANNOTATION: run},
            description=f"run-now: {value}"[:255],
        )
        for line in view.lines
        if line.state == "Associated" and line.since and line.name not in made
    ]
    return make, value


def _verdicts(
    view: RunView,
    applied: AppliedPolicy | None,
    by_volume: dict[str, list[Backup]],
    anomalies: Anomalies,
) -> tuple[list[Verdict], datetime | None]:
    """What becomes of all ended Backups, and when the next one expires."""
    if applied is not None and applied.state != "Applied":
        return [], None  # a policy that is away, wrong or switched off removes nothing
    rule = None
    if applied is not None and applied.retention is not None and view.policy is not None:
        zone = view.policy.spec.schedule.time_zone
        rule = Rule(applied.retention, parse_timestamp(applied.retention_since or ""), zone)
    verdicts: list[Verdict] = []
    ends: list[datetime] = []
    for volume, backups in by_volume.items():
        made: list[Made] = [m for b in backups if (m := made_of(b, busy=b.metadata.name in view.busy))]
        found = judge(made, rule, view.now)
        if volume in anomalies.held:
            # The time of what is held is over already: nothing is waited for but a word.
            found, made = [hold_up(each) for each in found], []
        verdicts += found
        going = {v.name for v in found if v.goes}
        ends += [end for m in made if m.name not in going and (end := expires_at(m)) and end > view.now]
    return verdicts, min(ends, default=None)


def _preview(
    view: RunView, policy: BackupPolicy, by_volume: dict[str, list[Backup]], anomalies: Anomalies
) -> dict[str, object]:
    """What the policy's rule would remove after the next run, if that were now (F20)."""
    volumes = [volume_name(str(view.vault.metadata.namespace), line.name) for line in view.lines]
    judged = {volume: by_volume[volume] for volume in volumes if volume not in anomalies.held}
    going = [v for _, v in preview(policy, judged, view.now, busy=view.busy) if v.goes]
    return {
        "would_remove": len(going),
        "removals": [Removal(name=v.name, reason=v.reason) for v in going[:SHOWN_REMOVALS]],
    }


def volume_of(backup: Backup) -> str:
    """The volume of the store that a Backup is of: claims of one name in two namespaces are two."""
    stored = backup.status.volumes if backup.status else []
    return (stored[0].lineage_volume if stored else None) or volume_name(
        str(backup.metadata.namespace), backup.spec.claim
    )


def _newest(line: ResourceStatus, backups: list[Backup]) -> dict[str, object]:
    good = [(b, m) for b in backups if (m := made_of(b)) and not m.failed]
    newest = max((m for _, m in good), key=lambda m: m.ended, default=None)
    fulls = [timestamp(m.taken) for b, m in good if b.status and b.status.type == "Full"]
    return {
        "last_backup": newest.name if newest else None,
        "last_backup_at": timestamp(newest.ended) if newest else None,
        "last_full_at": max([*fulls, *([line.last_full_at] if line.last_full_at else [])], default=None),
    }


def _ended(backup: Backup) -> bool:
    return bool(backup.metadata.deletion_timestamp or (backup.status and backup.status.phase in TERMINAL))


def _run_of(backup: Backup) -> str | None:
    return backup.metadata.annotations.get(RUN_ANNOTATION)


def _fingerprint(policy: BackupPolicy) -> str:
    text = json.dumps([policy.metadata.uid, as_dict(policy.spec.schedule)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _short(run: str) -> str:
    return hashlib.sha256(run.encode()).hexdigest()[:4]
