"""Backups that are suddenly nearly empty, or nearly wholly rewritten: no rule removes older ones then. Pure (F20).

A disk that was wiped, or whose files somebody encrypted, is backed up as faithfully as any other; what must not happen
is that rules let the good backups before it go while nobody looks. Each backup is judged once, when it is new, by its
figures and what is known of those before it, which may be gone since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from blockvault.api import Activity, Anomaly, Backup, ResourceStatus, Vault

from .automatic import made_of
from .conditions import timestamp
from .hold import token_of
from .naming import ACKNOWLEDGE_ANNOTATION, volume_name
from .retention import Verdict

EMPTY, REWRITTEN = "NearlyEmpty", "NearlyRewritten"
# Of less than so many bytes in use nothing is said: a few blocks change together all the time.
LEAST_USED = 8 * 2**20
# A full backup is nearly empty below this share of what was in use before.
EMPTY_FULL = 0.1
# An incremental one is when so much of it changed, and next to nothing had to be stored for that: zeros.
EMPTY_CHANGED, EMPTY_STORED, EMPTY_STORED_BYTES = 0.5, 1 / 2000, 16 * 2**10
# Rewritten: nearly as much changed as is in use, most of it had to be stored, it is many times more than usual, and not
# so much that it must be new. What is encrypted anew beside the old files changes both places.
REWRITTEN_CHANGED, GROWN, REWRITTEN_STORED, UNUSUAL = 0.8, 2.5, 0.25, 4
# What is usual is said by the last backups before it, and by no fewer than so many.
USUAL, LEAST_USUAL = 10, 2
# Entries that a status has: four for each claim that a vault may hold. What is dropped holds nothing any more, so each
# volume keeps one of its own before any has two.
MOST = 1024


@dataclass(frozen=True)
class Run:
    """A backup's figures in bytes: blocks that differ (of a full one: that are not zero), and what had to be stored."""

    name: str
    ended: datetime
    full: bool
    changed: int
    stored: int


@dataclass(frozen=True)
class Sign:
    """What is odd about a backup."""

    name: str
    reason: str
    message: str


def judge_runs(runs: Iterable[Run], before: Activity | None = None) -> tuple[list[Sign], Activity]:
    """What is odd in a volume's backups, each judged by those before it; and what is known of them after the last.

    Those that `before` knows of already are passed over.
    """
    known = before or Activity()
    used, usual, last = known.used, list(known.changes), (known.until or "", known.last or "")
    found: list[Sign] = []
    for run in sorted(runs, key=_order):
        if _order(run) <= last:
            continue
        sign = _judge(run, used, usual)
        if sign is not None:
            found.append(sign)
        if run.full:
            used = run.changed
        elif sign is not None and sign.reason == EMPTY:
            used = max(0, used - run.changed)
        else:
            used = max(used, run.changed)
        if not run.full:
            usual = [*usual, run.changed][-USUAL:]
        last = _order(run)
    return found, Activity(used=used, changes=usual, until=last[0] or None, last=last[1] or None)


def _order(run: Run) -> tuple[str, str]:
    return timestamp(run.ended), run.name


def _judge(run: Run, used: int, usual: list[int]) -> Sign | None:
    if used < LEAST_USED:
        return None
    if run.full:
        if run.changed > EMPTY_FULL * used:
            return None
        return Sign(run.name, EMPTY, f"It holds {run.changed} bytes, and {used} were in use before.")
    if run.changed < EMPTY_CHANGED * used:
        return None
    if run.stored <= max(EMPTY_STORED * run.changed, EMPTY_STORED_BYTES):
        words = (
            f"{run.changed} of about {used} bytes in use were emptied, or overwritten with one and the same."
        )
        return Sign(run.name, EMPTY, words)
    whole = REWRITTEN_CHANGED * used <= run.changed <= GROWN * used
    if not whole or run.stored < REWRITTEN_STORED * run.changed or len(usual) < LEAST_USUAL:
        return None
    if run.changed < UNUSUAL * median(usual):
        return None
    words = f"{run.changed} bytes changed, of about {used} in use; {int(median(usual))} are usual."
    return Sign(run.name, REWRITTEN, words)


def run_of(backup: Backup) -> Run | None:
    """The figures of a Backup; None of one that has not ended well, or is on its way out, or another cluster's."""
    made, status = made_of(backup), backup.status
    if made is None or made.failed or status is None or not status.volumes:
        return None
    volume = status.volumes[0]
    if volume.bytes_changed is None or volume.bytes_stored is None:
        return None
    return Run(made.name, made.ended, status.type == "Full", volume.bytes_changed, volume.bytes_stored)


@dataclass(frozen=True)
class Anomalies:
    """What the status says from now on: `entries`, `new` ones among them, and what is known of each claim.

    `held`: volumes of which no rule removes a backup.
    """

    entries: list[Anomaly] = field(default_factory=list)
    new: list[Anomaly] = field(default_factory=list)
    activity: dict[str, Activity] = field(default_factory=dict)
    held: frozenset[str] = frozenset()


NO_ANOMALIES = Anomalies()


def hold_up(verdict: Verdict) -> Verdict:
    """The verdict on a backup of a volume that is held."""
    if not verdict.goes:
        return verdict
    words = f"It stays until the Vault's anomalies are acknowledged: {verdict.message}"
    return Verdict(verdict.name, False, "AnomalyHeld", words)


def find_anomalies(
    vault: Vault, lines: Iterable[ResourceStatus], by_volume: Mapping[str, list[Backup]]
) -> Anomalies:
    """Judge the Backups that are new, and remember those that were odd until they are acknowledged or gone.

    `by_volume`: all of the vault's, also those of claims that it does not name any more: leaving lifts no hold.
    """
    namespace = str(vault.metadata.namespace)
    present = {b.metadata.name: (b, volume) for volume, found in by_volume.items() for b in found}
    former = (vault.status.anomalies if vault.status else None) or []
    kept = {each.backup: each for each in former if _is_there(each, present)}
    new: list[Anomaly] = []
    activity: dict[str, Activity] = {}
    for line in lines:
        backups = by_volume.get(volume_name(namespace, line.name), [])
        runs = [run for b in backups if (run := run_of(b)) is not None]
        signs, activity[line.name] = judge_runs(runs, line.activity)
        new += [_entry(vault, sign, present[sign.name][0]) for sign in signs if sign.name not in kept]
    entries = [_acknowledged(each, vault, present[each.backup][0]) for each in [*kept.values(), *new]]
    volume = {each.backup: present[each.backup][1] for each in entries}
    entries = _by_need(entries, volume)
    held = frozenset(volume[each.backup] for each in entries if not each.acknowledged)
    return Anomalies(entries[:MOST], [each for each in entries if each in new], activity, held)


def _by_need(entries: list[Anomaly], volume: dict[str, str]) -> list[Anomaly]:
    """What waits for somebody comes first, and of that the first of each volume."""
    firsts: dict[str, str] = {}
    for each in entries:
        if not each.acknowledged:
            firsts.setdefault(volume[each.backup], each.backup)
    return sorted(
        entries, key=lambda each: (each.acknowledged, firsts.get(volume[each.backup]) != each.backup)
    )


def expiry_words(entries: Iterable[Anomaly]) -> str | None:
    """What holds expiry up, in a sentence; None where nothing does."""
    waiting = [each for each in entries if not each.acknowledged]
    if not waiting:
        return None
    more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
    return f"{waiting[0].message}{more}"


def _is_there(each: Anomaly, present: dict[str, tuple[Backup, str]]) -> bool:
    found = present.get(each.backup)
    return found is not None and not found[0].metadata.deletion_timestamp and _token(found[0]) == each.token


def _entry(vault: Vault, sign: Sign, backup: Backup) -> Anomaly:
    token, meta = _token(backup), vault.metadata
    message = (
        f"Backup {sign.name} of {backup.spec.claim} is {'nearly empty' if sign.reason == EMPTY else 'nearly all new'}: "
        f"{sign.message} No rule removes a backup of it until somebody has looked: restore one if need be, then "
        f"kubectl annotate vault {meta.name} -n {meta.namespace} --overwrite {ACKNOWLEDGE_ANNOTATION}={token}"
    )
    return Anomaly(backup=sign.name, token=token, reason=sign.reason, message=message)


def _acknowledged(each: Anomaly, vault: Vault, backup: Backup) -> Anomaly:
    given = [m.annotations.get(ACKNOWLEDGE_ANNOTATION) or "" for m in (vault.metadata, backup.metadata)]
    words = {word.strip() for text in given for word in text.split(",")}
    return each.model_copy(update={"acknowledged": each.acknowledged or each.token in words})


def _token(backup: Backup) -> str:
    return token_of(f"anomaly/{backup.metadata.uid}")
