"""The whole picture of a namespace as sections of text and tables. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from blockvault.core.objects import Object
from blockvault.plugin import facts, rows, words
from blockvault.plugin.facts import namespace_of, status_of
from blockvault.plugin.trouble import Picture, Trouble
from blockvault.plugin.words import NONE, ago, ahead, name_of, several
from blockvault.terminal import size

_DAYS = {"Monday": "Mon", "Tuesday": "Tue", "Wednesday": "Wed", "Thursday": "Thu", "Friday": "Fri",
         "Saturday": "Sat", "Sunday": "Sun"}  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A table under a title. `spare`: columns that a narrow terminal does without, the first one first."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    spare: tuple[str, ...] = ()

    def within(self, width: int) -> Section:
        """The same without what does not fit into so many characters."""
        cells = [self.columns, *self.rows]
        for name in self.spare:
            if sum(max(map(len, column)) + 2 for column in zip(*cells, strict=True)) - 2 <= width:
                break
            place = cells[0].index(name)
            cells = [[*row[:place], *row[place + 1 :]] for row in cells]
        return Section(self.title, cells[0], cells[1:])


def summary(picture: Picture, troubles: list[Trouble], where: str) -> str:
    """The first line."""
    working = sum(map(facts.at_work, [*picture.backups, *picture.restores]))
    good = [b for b in picture.backups if facts.phase_of(b) == "Available"]
    claims = {(namespace_of(b), facts.claim_of(b)) for b in good}
    parts = [
        several(len(picture.vaults), "vault"),
        f"{several(len(good), 'backup')} of {several(len(claims), 'claim')}",
        f"{working} at work" if working else "nothing at work",
    ]
    bad = sum(t.level != "note" for t in troubles)
    parts.append(f"{several(bad, 'thing wants', 'things want')} attention" if bad else "all is well")
    return f"{where}: {', '.join(parts)}."


def sections(picture: Picture, now: datetime, *, everywhere: bool = False) -> list[Section]:
    """Vaults, policies and what is at work; none of what there is nothing of."""
    found = [
        Section("VAULTS", ["NAME", "PHASE", "USED", "OF", "BACKUPS", "POLICY", "LAST BACKUP", "NEXT RUN"],
                [_vault(v, now) for v in picture.vaults], ("OF", "BACKUPS")),
        Section("POLICIES", ["NAME", "PHASE", "RUNS", "KEEPS", "NEXT RUN", "VAULTS"],
                [_policy(p, picture.vaults, now) for p in picture.policies], ("VAULTS", "PHASE")),
        Section("AT WORK", ["WHAT", "CLAIM", "PHASE", "PROGRESS"],
                [_working(o, now) for o in working(picture)]),
    ]  # fmt: skip
    objects = [picture.vaults, picture.policies, working(picture)]
    if everywhere:
        found = [
            Section(
                s.title,
                ["NAMESPACE", *s.columns],
                [[namespace_of(o), *r] for o, r in zip(of, s.rows, strict=True)],
                s.spare,
            )
            for s, of in zip(found, objects, strict=True)
        ]
    return [section for section in found if section.rows]


def working(picture: Picture) -> list[Object]:
    """Backups and Restores that have not ended, the oldest first."""
    found = [o for o in [*picture.backups, *picture.restores] if facts.at_work(o)]
    return sorted(found, key=lambda o: (facts.created_of(o), name_of(o)))


def _vault(vault: Object, now: datetime) -> list[str]:
    status = status_of(vault)
    used = facts.utilization_of(vault)
    lines = status.get("resources") or []
    last = max((str(line.get("lastBackupAt") or "") for line in lines), default="")
    policy = status.get("policy") or {}
    named = policy.get("name") or ((vault.get("spec") or {}).get("policyRef") or {}).get("name") or NONE
    if policy.get("state") not in (None, "Applied"):
        named = f"{named} ({str(policy['state']).lower()})"
    known = status.get("usedBytes") is not None
    room = rows.capacity_of(vault) or NONE
    return [
        name_of(vault),
        facts.phase_of(vault),
        f"{words.bar(used)} {words.percent(used):>5}" if known else NONE,
        f"{size(status['usedBytes'])} of {room}" if known else room,
        str(status.get("backups") if status.get("backups") is not None else NONE),
        named,
        f"{ago(last, now)} ago" if last else "never",
        ahead(status.get("nextRun"), now),
    ]


def _policy(policy: Object, vaults: list[Object], now: datetime) -> list[str]:
    spec, status = policy.get("spec") or {}, status_of(policy)
    users = [
        name_of(v)
        for v in vaults
        if namespace_of(v) == namespace_of(policy)
        and (status_of(v).get("policy") or {}).get("name") == name_of(policy)
    ]
    following = (status.get("nextRuns") or [None])[0]
    return [
        name_of(policy),
        facts.phase_of(policy),
        schedule_words(spec.get("schedule") or {}),
        retention_words(spec.get("retention") or {}),
        ahead(following, now),
        ", ".join(sorted(users)) or NONE,
    ]


def schedule_words(schedule: Object) -> str:
    """A schedule in a few words: `02:00, 14:00 Europe/Berlin on Mon, Fri`."""
    if schedule.get("every"):
        return f"every {schedule['every']}"
    minute = int(schedule.get("minute") or 0)
    hours = sorted(schedule.get("hours") or [])
    if len(hours) == 24:
        runs = f"hourly at :{minute:02}"
    else:
        runs = ", ".join(f"{hour:02}:{minute:02}" for hour in hours)
    zone = schedule.get("timeZone") or "UTC"
    days = [_DAYS.get(day, day) for day in schedule.get("weekDays") or []]
    on = f" on {', '.join(days)}" if days else ""
    if (schedule.get("everyDays") or 1) > 1:
        on = f" every {schedule['everyDays']} days"
    return f"{runs} {zone}{on}"


def retention_words(rule: Object) -> str:
    """A rule of retention in a few words."""
    if rule.get("days"):
        return several(rule["days"], "day")
    if rule.get("months"):
        return several(rule["months"], "month")
    if rule.get("count"):
        return f"the last {rule['count']}"
    if rule.get("keep"):
        return ", ".join(f"{number} {kind}" for kind, number in rule["keep"].items() if number)
    return "for ever" if rule.get("permanent") else NONE


def _working(obj: Object, now: datetime) -> list[str]:
    return [
        f"{obj.get('kind')} {name_of(obj)}",
        facts.claim_of(obj) or NONE,
        facts.phase_of(obj),
        facts.progress_words(obj, now),
    ]


def as_data(picture: Picture, troubles: list[Trouble], namespace: str | None) -> dict[str, Any]:
    """The picture for programs."""
    phases = Counter(facts.phase_of(b) for b in picture.backups)
    return {
        "namespace": namespace,
        "attention": [
            {"level": t.level, "namespace": t.namespace, "object": t.what, "headline": t.headline,
             "message": t.message, "remedy": t.remedy}
            for t in troubles
        ],
        "vaults": [
            {"namespace": namespace_of(v), "name": name_of(v), "phase": facts.phase_of(v),
             "usedBytes": status_of(v).get("usedBytes"), "capacity": rows.capacity_of(v),
             "utilization": status_of(v).get("utilization"), "backups": status_of(v).get("backups"),
             "policy": (status_of(v).get("policy") or {}).get("name"), "nextRun": status_of(v).get("nextRun")}
            for v in picture.vaults
        ],
        "policies": [
            {"namespace": namespace_of(p), "name": name_of(p), "phase": facts.phase_of(p),
             "nextRuns": status_of(p).get("nextRuns") or []}
            for p in picture.policies
        ],
        "backups": dict(sorted(phases.items())),
        "working": [
            {"namespace": namespace_of(o), "kind": o.get("kind"), "name": name_of(o), "claim": facts.claim_of(o),
             "phase": facts.phase_of(o), "progress": status_of(o).get("progress") or {}}
            for o in working(picture)
        ],
    }  # fmt: skip
