"""Rows of tables: of backups, tasks, vaults, claims. Pure."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from blockvault.core.objects import Object
from blockvault.plugin import facts, words
from blockvault.plugin.facts import status_of
from blockvault.plugin.words import NONE, ago, ahead, bytes_or_none, name_of
from blockvault.terminal import size

BACKUP_COLUMNS = ("NAME", "CLAIM", "PHASE", "TYPE", "SIZE", "STORED", "AGE")
BACKUP_WIDE = ("VAULT", "ID", "TRIGGER", "EXPIRES", "CHANGED", "FOUND BY", "DESCRIPTION")
TASK_COLUMNS = ("TYPE", "OBJECT", "CLAIM", "VAULT", "PHASE", "REASON", "AGE")
TASK_WIDE = ("NAME", "TOOK", "CAUSE", "WHAT TO DO")
TRASH_COLUMNS = ("ID", "CLAIM", "VAULT", "MADE", "GOES FOR GOOD")
USAGE_COLUMNS = ("VAULT", "", "USED", "CAPACITY", "TRASH", "BACKUPS", "CLAIMS")
CLAIM_COLUMNS = ("CLAIM", "VAULT", "SIZE", "BACKUPS", "FIRST", "STORED", "CHANGED/BACKUP", "LAST")


@dataclass(frozen=True)
class Search:
    """What is looked for (C11, E1); nothing where a field is empty. `names`: patterns, `ids`: beginnings."""

    names: Sequence[str] = ()
    claim: str | None = None
    vault: str | None = None
    phase: str | None = None
    type: str | None = None
    trigger: str | None = None
    id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def finds_backup(self, backup: Object) -> bool:
        """Whether a Backup is looked for."""
        status = status_of(backup)
        return (
            self._fits(
                name_of(backup), facts.claim_of(backup), facts.vault_of(backup), facts.phase_of(backup)
            )
            and _same(self.type, status.get("type"))
            and _same(self.trigger, status.get("trigger"))
            and self._when(volume_time(backup))
            and (
                not self.id
                or any(each.startswith(self.id.lower()) for each in (facts.id_of(backup), _uid(backup)))
            )
        )

    def finds_task(self, task: Object) -> bool:
        """Whether a Task is looked for. Names are those of its object, or its own."""
        spec, status = task.get("spec") or {}, status_of(task)
        thing = spec.get("object") or {}
        resource = (spec.get("resource") or {}).get("name") or ""
        named = str(thing.get("name") or "")
        if self.names and not any(
            fnmatch.fnmatchcase(each, p) for p in self.names for each in (named, name_of(task))
        ):
            return False
        return (
            self._fits(None, resource, facts.vault_of(task), str(status.get("phase") or ""))
            and _same(self.type, spec.get("type"))
            and _same(self.trigger, spec.get("trigger"))
            and self._when(status.get("startedAt") or facts.created_of(task))
            and (
                not self.id
                or any(each.startswith(self.id.lower()) for each in (str(thing.get("uid")), _uid(task)))
            )
        )

    def _fits(self, name: str | None, claim: str, vault: str, phase: str) -> bool:
        if name is not None and self.names and not any(fnmatch.fnmatchcase(name, p) for p in self.names):
            return False
        return (
            (not self.claim or fnmatch.fnmatchcase(claim, self.claim))
            and (not self.vault or fnmatch.fnmatchcase(vault, self.vault))
            and _same(self.phase, phase)
        )

    def _when(self, text: str | None) -> bool:
        if self.since is None and self.until is None:
            return True
        then = words.moment(text)
        if then is None:
            return False
        return (self.since is None or then >= self.since) and (self.until is None or then <= self.until)


def _same(wanted: str | None, found: object) -> bool:
    return not wanted or wanted.lower() == str(found or "").lower()


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid") or "")


def volume_time(backup: Object) -> str:
    """The moment that a Backup shows; when it was made where that is not known."""
    return str(facts.volume_of(backup).get("snapshotTime") or facts.created_of(backup))


def backup_rows(backups: Iterable[Object], now: datetime) -> list[list[str]]:
    """Cells for BACKUP_COLUMNS and BACKUP_WIDE."""
    found = []
    for backup in backups:
        status, volume = status_of(backup), facts.volume_of(backup)
        done = facts.percent_of(backup)
        phase = facts.phase_of(backup)
        if phase == "Creating" and done is not None:
            phase = f"{phase} {words.percent(done)}"
        found.append(
            [
                name_of(backup),
                facts.claim_of(backup) or NONE,
                phase,
                status.get("type") or NONE,
                bytes_or_none(volume.get("size")),
                bytes_or_none(volume.get("bytesStored")),
                ago(volume_time(backup), now),
                facts.vault_of(backup) or NONE,
                facts.id_of(backup) or NONE,
                _trigger(status),
                ahead(status.get("expiresAt"), now),
                bytes_or_none(volume.get("bytesChanged")),
                volume.get("changedBlockSource") or NONE,
                (backup.get("spec") or {}).get("description") or NONE,
            ]
        )
    return found


def _trigger(status: Object) -> str:
    policy = status.get("policy")
    return f"{status.get('trigger') or NONE}" + (f" {policy}" if policy else "")


def newest_first(objects: Iterable[Object]) -> list[Object]:
    """By the moment that a Backup shows, or a Task begins at; the last first."""

    def key(obj: Object) -> tuple[str, str]:
        begun = status_of(obj).get("startedAt") if obj.get("kind") == "Task" else None
        return str(begun or volume_time(obj)), name_of(obj)

    return sorted(objects, key=key, reverse=True)


def task_rows(tasks: Iterable[Object], now: datetime) -> list[list[str]]:
    """Cells for TASK_COLUMNS and TASK_WIDE."""
    found = []
    for task in tasks:
        spec, status = task.get("spec") or {}, status_of(task)
        done = facts.percent_of(task)
        phase = str(status.get("phase") or NONE)
        if phase == "Running" and done is not None:
            phase = f"{phase} {words.percent(done)}"
        begun, ended = words.moment(status.get("startedAt")), words.moment(status.get("completedAt"))
        took = words.span((ended - begun).total_seconds()) if begun and ended else NONE
        found.append(
            [
                str(spec.get("type")),
                str((spec.get("object") or {}).get("name")),
                str((spec.get("resource") or {}).get("name") or NONE),
                facts.vault_of(task) or NONE,
                phase,
                str(status.get("reason") or NONE),
                ago(status.get("startedAt") or facts.created_of(task), now),
                name_of(task),
                took,
                str(status.get("message") or NONE),
                str(status.get("remedy") or NONE),
            ]
        )
    return found


def trash_rows(vaults: Iterable[Object], now: datetime) -> list[list[str]]:
    """Cells for TRASH_COLUMNS: what can be brought back, the last to go first."""
    return [
        [
            str(each["backupId"]),
            str(each["volume"]).partition("/")[2] or str(each["volume"]),
            name_of(vault),
            ago(each.get("createdAt"), now),
            ahead(each.get("until"), now),
        ]
        for vault in vaults
        for each in status_of(vault).get("trash") or []
    ]


@dataclass(frozen=True)
class ClaimUsage:
    """What one claim's backups occupy, in bytes."""

    namespace: str
    claim: str
    vault: str
    size: int
    backups: int
    first: int
    stored: int
    changed: int | None
    last: str

    def row(self, now: datetime) -> list[str]:
        """Cells for CLAIM_COLUMNS."""
        return [
            self.claim,
            self.vault,
            size(self.size),
            str(self.backups),
            size(self.first),
            size(self.stored),
            bytes_or_none(self.changed),
            ago(self.last, now),
        ]


def claim_usage(backups: Iterable[Object]) -> list[ClaimUsage]:
    """By claim and vault: what its good Backups have added to the store (C12); `first`: the full ones together."""
    groups: dict[tuple[str, str, str], list[Object]] = defaultdict(list)
    for backup in backups:
        if status_of(backup).get("phase") == "Available" and facts.volume_of(backup):
            groups[facts.namespace_of(backup), facts.claim_of(backup), facts.vault_of(backup)].append(backup)
    found = []
    for (namespace, claim, vault), members in sorted(groups.items()):
        ordered = sorted(members, key=volume_time)
        volumes = [(status_of(b).get("type"), facts.volume_of(b)) for b in ordered]
        later = [v.get("bytesChanged") or 0 for kind, v in volumes if kind != "Full"]
        found.append(
            ClaimUsage(
                namespace,
                claim,
                vault,
                int(volumes[-1][1].get("size") or 0),
                len(members),
                sum(v.get("bytesStored") or 0 for kind, v in volumes if kind == "Full"),
                sum(v.get("bytesStored") or 0 for _, v in volumes),
                sum(later) // len(later) if later else None,
                volume_time(ordered[-1]),
            )
        )
    return found


def usage_rows(vaults: Iterable[Object]) -> list[list[str]]:
    """Cells for USAGE_COLUMNS."""
    found = []
    for vault in vaults:
        status = status_of(vault)
        used = facts.utilization_of(vault)
        found.append(
            [
                name_of(vault),
                f"{words.bar(used)} {words.percent(used):>5}",
                bytes_or_none(status.get("usedBytes")),
                capacity_of(vault) or NONE,
                bytes_or_none(status.get("trashBytes")),
                str(status.get("backups") if status.get("backups") is not None else NONE),
                str(sum(1 for line in status.get("resources") or [] if line.get("state") == "Associated")),
            ]
        )
    return found


def capacity_of(vault: Object) -> str | None:
    """The capacity in force, as a quantity."""
    found = status_of(vault).get("capacity") or (vault.get("spec") or {}).get("capacity")
    return str(found) if found else None
