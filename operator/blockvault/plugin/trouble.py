"""What wants attention in a namespace, the worst first, each with its cause and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from blockvault.core.conditions import find_condition
from blockvault.core.objects import Object
from blockvault.plugin import facts, words
from blockvault.plugin.facts import namespace_of, status_of
from blockvault.plugin.words import ago, ahead, name_of

Level = Literal["error", "warning", "note"]
ORDER: tuple[Level, ...] = ("error", "warning", "note")
# What waits shorter than this is not spoken of.
PATIENCE = timedelta(minutes=2)
# The operator looks at each Vault every minute.
SILENCE = timedelta(minutes=10)
NEARLY_FULL, FULL = 80.0, 100.0
# Failed Restores are spoken of for so long; they stay as objects until somebody deletes them.
RECENT = timedelta(days=2)


@dataclass(frozen=True)
class Picture:
    """All objects that a picture is made of."""

    vaults: list[Object] = field(default_factory=list)
    policies: list[Object] = field(default_factory=list)
    backups: list[Object] = field(default_factory=list)
    restores: list[Object] = field(default_factory=list)


@dataclass(frozen=True)
class Trouble:
    """One thing: `what` is the object in words, `headline` what is wrong with it, `remedy` what to do."""

    level: Level
    namespace: str
    what: str
    headline: str
    message: str = ""
    remedy: str = ""


def find(picture: Picture, now: datetime) -> list[Trouble]:
    """All that wants attention, the worst first."""
    found = [*_silent(picture.vaults, now)]
    for vault in picture.vaults:
        found += _vault(vault, now)
    for policy in picture.policies:
        if facts.phase_of(policy) == "Error":
            found.append(_said("error", "BackupPolicy", policy, "cannot be used"))
    found += _backups(picture.backups, now)
    found += _restores(picture.restores, now)
    return sorted(found, key=lambda t: ORDER.index(t.level))


# What a Backup or Restore says of its Vault is said once, of the Vault.
OF_THE_VAULT = ("VaultNotAvailable", "VaultError", "VaultFull", "VaultDeleting")


def _said(level: Level, kind: str, obj: Object, headline: str) -> Trouble:
    """What the object says itself."""
    status = status_of(obj)
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    remedy = facts.remedy(obj)
    if kind in ("Backup", "Restore") and reason in OF_THE_VAULT:
        message = remedy = ""
    return Trouble(
        level,
        namespace_of(obj),
        f"{kind} {name_of(obj)}",
        f"{headline}: {reason}" if reason else headline,
        message,
        "" if remedy and remedy in message else remedy,
    )


def silence(vaults: Iterable[Object]) -> datetime | None:
    """When the operator has looked at any Vault last; None when it never has."""
    seen = [m for v in vaults if (m := words.moment(status_of(v).get("lastCheckedAt")))]
    return max(seen, default=None)


def _silent(vaults: list[Object], now: datetime) -> Iterator[Trouble]:
    young = all(_young(v, now) for v in vaults)
    last = silence(vaults)
    waited = last is None or now - last > SILENCE
    well = any(facts.phase_of(v) in ("Available", "Locked") for v in vaults)
    if vaults and not young and waited and (last is None or well):
        if last is None and any(status_of(v).get("phase") for v in vaults):
            return  # it looks, and finds something else wrong
        since = "never" if last is None else f"{words.span((now - last).total_seconds())} ago"
        yield Trouble(
            "error",
            "",
            "The operator",
            f"has looked at these vaults {since}" if last else "has never looked at these vaults",
            "Nothing is backed up, restored or removed while it is away.",
            "`kubectl blockvault doctor` says whether it runs.",
        )


def _young(obj: Object, now: datetime) -> bool:
    made = words.moment(facts.created_of(obj))
    return made is not None and now - made < PATIENCE


def _vault(vault: Object, now: datetime) -> Iterator[Trouble]:
    status, phase = status_of(vault), facts.phase_of(vault)
    name, where = f"Vault {name_of(vault)}", namespace_of(vault)
    conditions = status.get("conditions") or []
    if phase == "Error":
        yield _said("error", "Vault", vault, "Error")
    elif phase == "Pending" and not _young(vault, now):
        yield _said("warning", "Vault", vault, "waits")
    for hold in ("deletionHold", "dissociationHold"):
        held = status.get(hold)
        if held:
            yield Trouble(
                "error", where, name, "a mass deletion waits for a word", str(held.get("message") or ""),
                f"`kubectl blockvault hold` shows how to answer; the token is {held.get('token')}.",
            )  # fmt: skip
    unreadable = find_condition(conditions, "VolumesReadable")
    if unreadable and unreadable.get("status") == "False":
        yield Trouble(
            "error", where, name, "some volumes cannot be read", str(unreadable.get("message") or "")
        )
    expiry = find_condition(conditions, "ExpiryHeld")
    if expiry and expiry.get("status") == "True":
        yield Trouble(
            "error", where, name, "expiry is held: a backup is odd", str(expiry.get("message") or ""),
            "Look at the claim's data; `kubectl blockvault hold acknowledge` lets expiry go on.",
        )  # fmt: skip
    used = facts.utilization_of(vault)
    if used > FULL:
        yield Trouble(
            "error", where, name, f"is over its capacity ({words.percent(used)}): no backup starts", "",
            "Raise spec.capacity, or delete backups.",
        )  # fmt: skip
    elif used >= NEARLY_FULL:
        yield Trouble(
            "warning", where, name, f"is nearly full ({words.percent(used)})", "",
            "Raise spec.capacity, or delete backups; `kubectl blockvault usage` shows whose they are.",
        )  # fmt: skip
    policy = status.get("policy") or {}
    if policy.get("state") in ("Waiting", "Refused"):
        yield Trouble(
            "error",
            where,
            name,
            f"its policy {policy.get('name')} is not applied",
            str(policy.get("message") or ""),
        )
    yield from _resources(vault, now)
    for leaving in status.get("leaving") or []:
        yield Trouble(
            "warning", where, name, f"claim {leaving.get('name')} has left it, and its backups go",
            f"It left {ago(leaving.get('since'), now)} ago.", "Where that is a mistake, name or select it again now.",
        )  # fmt: skip


def _resources(vault: Object, now: datetime) -> Iterator[Trouble]:
    name, where = f"Vault {name_of(vault)}", namespace_of(vault)
    for line in status_of(vault).get("resources") or []:
        state, claim = line.get("state"), line.get("name")
        if state == "Refused" or (state == "Waiting" and not _young(vault, now)):
            word = "is refused" if state == "Refused" else "is waited for"
            yield Trouble(
                "warning",
                where,
                name,
                f"claim {claim} {word}: {line.get('reason')}",
                str(line.get("message") or ""),
            )
        skipped = line.get("skipped") or {}
        slot, last = words.moment(skipped.get("slot")), words.moment(line.get("lastBackupAt"))
        if slot is not None and (last is None or slot > last):
            yield Trouble(
                "warning", where, name,
                f"claim {claim} was not backed up at {skipped.get('slot')}: {skipped.get('reason')}",
                str(skipped.get("message") or ""),
            )  # fmt: skip


def _backups(backups: list[Object], now: datetime) -> Iterator[Trouble]:
    good: dict[tuple[str, str], str] = {}
    for backup in backups:
        if facts.phase_of(backup) == "Available":
            key = (namespace_of(backup), facts.claim_of(backup))
            good[key] = max(good.get(key, ""), facts.ended_of(backup))
    failed: dict[tuple[str, str], list[Object]] = {}
    for backup in sorted(backups, key=facts.ended_of, reverse=True):
        key, claim = (namespace_of(backup), facts.claim_of(backup)), facts.claim_of(backup)
        phase = facts.phase_of(backup)
        if phase == "Error" and facts.ended_of(backup) > good.get(key, ""):
            failed.setdefault(key, []).append(backup)
        elif phase in ("Pending", "New") and not _young(backup, now):
            yield _said(
                "warning", "Backup", backup, f"of {claim} waits since {ago(facts.created_of(backup), now)}"
            )
    for (_, claim), members in failed.items():
        newest = members[0]
        more = f", and {len(members) - 1} before it" if len(members) > 1 else ""
        yield _said(
            "error", "Backup", newest, f"of {claim} failed {ago(facts.ended_of(newest), now)} ago{more}"
        )


def _restores(restores: list[Object], now: datetime) -> Iterator[Trouble]:
    for restore in restores:
        phase, claim = facts.phase_of(restore), facts.claim_of(restore)
        ended = words.moment(facts.ended_of(restore))
        if phase == "Error" and (ended is None or now - ended < RECENT):
            yield _said(
                "error", "Restore", restore, f"to {claim} failed {ago(facts.ended_of(restore), now)} ago"
            )
        elif phase in ("Pending", "New") and not _young(restore, now):
            yield _said(
                "warning", "Restore", restore, f"to {claim} waits since {ago(facts.created_of(restore), now)}"
            )
        elif phase == "Restored":
            until = status_of(restore).get("rollbackUntil")
            yield Trouble(
                "note", namespace_of(restore), f"Restore {name_of(restore)}",
                f"claim {claim} is restored; its former data is kept, and goes {ahead(until, now)}", "",
                f"`kubectl blockvault confirm {name_of(restore)}`, or `rollback` in its place.",
            )  # fmt: skip
