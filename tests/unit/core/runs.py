"""A vault with claims and its Backups, as the API server and the movers would change them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from blockvault.api import Backup, BackupPolicy, ResourceStatus, Vault
from blockvault.core.automatic import origin_status
from blockvault.core.conditions import timestamp
from blockvault.core.runs import NewBackup, RunPlan, RunView, plan_runs

START = datetime(2026, 7, 6, 10, 0, tzinfo=UTC)  # a Monday


def policy(
    retention: dict[str, Any] | None = None,
    enabled: bool = True,
    uid: str = "p",
    full: int | None = None,
    **schedule: Any,
) -> BackupPolicy:
    spec: dict[str, Any] = {
        "enabled": enabled,
        "schedule": schedule or {"hours": [2]},
        "retention": retention or {"count": 3},
    }
    if full:
        spec["fullEveryDays"] = full
    meta = {"name": "nightly", "namespace": "shop", "uid": uid, "creationTimestamp": timestamp(START)}
    return BackupPolicy.model_validate({"metadata": meta, "spec": spec})


@dataclass
class World:
    """A vault with claims and its Backups: what the API server and the movers would do, and nothing of the plan."""

    policy: BackupPolicy | None
    claims: tuple[str, ...] = ("db",)
    now: datetime = START
    named: str | None = "nightly"
    annotations: dict[str, str] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    backups: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        lines = [
            ResourceStatus(
                kind="PersistentVolumeClaim", name=c, state="Associated", since=timestamp(self.now)
            )
            for c in self.claims
        ]
        self.status["resources"] = [line.model_dump(by_alias=True) for line in lines]

    def vault(self) -> Vault:
        spec: dict[str, Any] = {"capacity": "100Gi", "className": "c"}
        if self.named:
            spec["policyRef"] = {"name": self.named}
        meta = {
            "name": "disks", "namespace": "shop", "uid": "v", "creationTimestamp": timestamp(START),
            "annotations": self.annotations,
        }  # fmt: skip
        return Vault.model_validate({"metadata": meta, "spec": spec, "status": self.status})

    def look(self, busy: frozenset[str] = frozenset()) -> RunPlan:
        vault = self.vault()
        lines = (vault.status.resources if vault.status else None) or []
        lines = [
            line.model_copy(update={"state": self.states.get(line.name, "Associated")}) for line in lines
        ]
        found = [Backup.model_validate(b) for b in self.backups.values()]
        return plan_runs(RunView(self.now, vault, lines, self.policy, found, busy))

    def make(self, new: NewBackup) -> str:
        number = 1
        while f"{new.prefix}-{number:04}" in self.backups:
            number += 1
        name = f"{new.prefix}-{number:04}"
        meta = {
            "name": name, "namespace": "shop", "uid": name, "creationTimestamp": timestamp(self.now),
            "annotations": new.annotations,
        }  # fmt: skip
        resource = {"kind": "PersistentVolumeClaim", "name": new.claim}
        body: dict[str, Any] = {
            "metadata": meta,
            "spec": {"vaultRef": {"name": "disks"}, "resource": resource, "full": new.full},
        }
        body["status"] = {"phase": "Creating", **origin_status(Backup.model_validate(body))}
        self.backups[name] = body
        return name

    def end(self, name: str, phase: str = "Available", kind: str = "Incremental") -> None:
        self.backups[name]["status"] |= {"phase": phase, "completedAt": timestamp(self.now), "type": kind}

    def record(self, plan: RunPlan) -> None:
        applied = plan.policy.model_dump(by_alias=True) if plan.policy else None
        lines = [line.model_dump(by_alias=True) for line in plan.lines]
        self.status |= {"resources": lines, "policy": applied, "lastRunNow": plan.last_run_now}

    def turn(self, *, end: bool = True) -> list[str]:
        """One whole look: what was made. Backups end at once unless told otherwise."""
        plan = self.look()
        made = [self.make(new) for new in plan.make]
        for verdict in plan.remove:
            del self.backups[verdict.name]
            self.removed.append(verdict.name)
        self.record(plan)
        for name in made if end else ():
            self.end(name)
        return made

    def at(self, text: str) -> World:
        self.now = datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        return self

    def line(self, claim: str = "db") -> ResourceStatus:
        return next(ResourceStatus.model_validate(r) for r in self.status["resources"] if r["name"] == claim)

    def slots(self) -> list[str]:
        return sorted(str(b["status"].get("slot")) for b in self.backups.values())
