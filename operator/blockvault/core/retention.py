"""Which backups of one resource a rule removes, and why each of the others stays. Pure (B4 to B9, F20).

A rule judges automatic backups only. Each was made under a rule of its own, and the policy has a rule now:

- made under a time (days, months): it expires by that time, whatever the policy says now, also when the policy is gone;
- made under "permanent": it stays for ever, and counts for nothing;
- made under a number (count, keep): only the policy's rule of now can remove it.

A policy whose rule is a number now judges all of them together but the permanent ones, those made under a time too:
what either rule removes goes, and what its time removes is not counted. It does so from the first backup on that ends
after the rule was set: a number that was mistyped removes nothing before the next run.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from blockvault.api import Keep, Retention

from .schedule import zone_of

PERMANENT_DAYS = 99999
# Failed periodic runs that stay to be looked at, and for how long (B6).
FAILED_RUNS = 10
FAILED_MONTHS = 1


@dataclass(frozen=True)
class Made:
    """A backup as retention sees it.

    `taken`: the moment that it shows; `ended`: when it was safe, or had failed. `rule`: the one it was made under,
    None of a manual one. `pinned`: kept by somebody else, and not counted. `busy`: read just now, and counted.
    """

    name: str
    taken: datetime
    ended: datetime
    rule: Retention | None = None
    time_zone: str = "UTC"
    failed: bool = False
    pinned: bool = False
    busy: bool = False

    @property
    def automatic(self) -> bool:
        """Whether a policy made it: rules touch no others (B5)."""
        return self.rule is not None


@dataclass(frozen=True)
class Rule:
    """The policy's rule now, and since when it is so."""

    retention: Retention
    since: datetime
    time_zone: str = "UTC"


@dataclass(frozen=True)
class Verdict:
    """What becomes of one backup. `reason` is one word for programs, `message` a sentence for people."""

    name: str
    goes: bool
    reason: str
    message: str


def is_permanent(rule: Retention) -> bool:
    """Whether a rule keeps for ever; 99999 days are for ever too."""
    return bool(rule.permanent) or rule.days == PERMANENT_DAYS


def is_number(rule: Retention) -> bool:
    """Whether a rule counts backups and knows no time."""
    return rule.count is not None or rule.keep is not None


def expires_at(backup: Made) -> datetime | None:
    """When a backup goes by its own rule; None when that names no time."""
    rule = backup.rule
    if rule is None or is_permanent(rule):
        return None
    if rule.days is not None:
        return backup.taken + timedelta(days=rule.days)
    if rule.months is not None:
        return months_later(backup.taken, rule.months, backup.time_zone)
    return None


def months_later(moment: datetime, months: int, time_zone: str) -> datetime:
    """The same time of day so many calendar months later; the month's last day where it has no such day."""
    local = moment.astimezone(zone_of(time_zone))
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    day = min(local.day, calendar.monthrange(year, month + 1)[1])
    return local.replace(year=year, month=month + 1, day=day, fold=0).astimezone(moment.tzinfo)


def judge(backups: Iterable[Made], now_rule: Rule | None, now: datetime) -> list[Verdict]:
    """What becomes of each backup of one resource, newest first. The newest good one stays, whatever the rules say.

    `now_rule`: None when no policy is applied (B9).
    """
    ordered = sorted(backups, key=lambda b: (b.taken, b.name), reverse=True)
    good = [b for b in ordered if not b.failed]
    last_good = good[0].name if good else None
    counted = [b for b in good if b.automatic and not (b.pinned or _permanent(b) or _expired(b, now))]
    chosen = _chosen(counted, good, now_rule)
    failures = [b for b in ordered if b.failed and b.automatic]
    verdicts = []
    for backup in ordered:
        if backup.failed:
            verdict = _judge_failure(backup, failures, now)
        else:
            verdict = _judge_good(backup, chosen, now)
        if verdict.goes and backup.name == last_good:
            verdict = _stays(
                backup, "LastGood", f"The last good backup stays, though its time is over: {verdict.message}"
            )
        if verdict.goes and backup.busy:
            verdict = _stays(backup, "InUse", f"It is being restored, and goes after that: {verdict.message}")
        verdicts.append(verdict)
    return verdicts


def _chosen(counted: list[Made], good: list[Made], rule: Rule | None) -> dict[str, str] | None:
    """Why those stay that a number keeps, by name; None when no number judges (yet)."""
    if rule is None or not is_number(rule.retention) or not any(b.ended >= rule.since for b in good):
        return None
    if rule.retention.count is not None:
        newest = counted[: rule.retention.count]
        return {b.name: f"among the newest {rule.retention.count}" for b in newest}
    assert rule.retention.keep is not None
    return by_scheme(counted, rule.retention.keep, rule.time_zone)


def by_scheme(newest_first: list[Made], keep: Keep, time_zone: str) -> dict[str, str]:
    """Why those stay that a scheme keeps, by name: the last of each of so many hours, days, weeks, months, years."""
    zone = zone_of(time_zone)
    periods: list[tuple[str, int | None, Callable[[datetime], object]]] = [
        ("last", keep.last, lambda t: t),
        ("hourly", keep.hourly, lambda t: (t.date(), t.hour, t.utcoffset())),
        ("daily", keep.daily, lambda t: t.date()),
        ("weekly", keep.weekly, lambda t: t.isocalendar()[:2]),
        ("monthly", keep.monthly, lambda t: (t.year, t.month)),
        ("yearly", keep.yearly, lambda t: t.year),
    ]
    reasons: dict[str, list[str]] = {}
    for name, number, period_of in periods:
        seen: set[object] = set()
        for backup in newest_first:
            period = period_of(backup.taken.astimezone(zone))
            if len(seen) < (number or 0) and period not in seen:
                seen.add(period)
                reasons.setdefault(backup.name, []).append(f"{name} {len(seen)} of {number}")
    return {name: ", ".join(why) for name, why in reasons.items()}


def _permanent(backup: Made) -> bool:
    return backup.rule is not None and is_permanent(backup.rule)


def _expired(backup: Made, now: datetime) -> bool:
    end = expires_at(backup)
    return end is not None and end <= now


def _judge_good(backup: Made, chosen: dict[str, str] | None, now: datetime) -> Verdict:
    if backup.rule is None:
        return _stays(backup, "Manual", "Rules touch no backup that was made by hand.")
    if backup.pinned:
        return _stays(backup, "Pinned", "It is pinned.")
    if is_permanent(backup.rule):
        return _stays(backup, "Permanent", "It was made under a rule that keeps for ever.")
    end = expires_at(backup)
    if end is not None and _expired(backup, now):
        return Verdict(backup.name, True, "Expired", f"Its time ended at {end:%Y-%m-%d %H:%M %Z}.")
    if chosen is not None and backup.name not in chosen:
        return Verdict(backup.name, True, "NotKept", "It is not among those that the policy's rule keeps.")
    why = [f"it is {chosen[backup.name]}"] if chosen else []
    if end is not None:
        why.append(f"its time ends at {end:%Y-%m-%d %H:%M %Z}")
    return _stays(backup, "Kept", f"It stays: {' and '.join(why) or 'no rule of now counts it'}.")


def _judge_failure(backup: Made, failures: list[Made], now: datetime) -> Verdict:
    if not backup.automatic:
        return _stays(backup, "Manual", "A backup by hand that failed is deleted by hand.")
    if months_later(backup.ended, FAILED_MONTHS, backup.time_zone) <= now:
        return Verdict(backup.name, True, "FailedLongAgo", "It failed more than a month ago.")
    if backup in failures[FAILED_RUNS:]:
        return Verdict(backup.name, True, "ManyFailed", f"{FAILED_RUNS} failed ones after it are kept.")
    return _stays(backup, "Failed", "It failed lately, and is kept to be looked at.")


def _stays(backup: Made, reason: str, message: str) -> Verdict:
    return Verdict(backup.name, False, reason, message)
