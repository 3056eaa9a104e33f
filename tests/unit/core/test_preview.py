"""What a policy would remove, and why the rest stays (F20)."""

from __future__ import annotations

from datetime import timedelta

from blockvault.api import Backup
from blockvault.core.conditions import timestamp
from blockvault.core.preview import preview

from .runs import START, policy


def backup(name: str, days: int, *, manual: bool = False) -> Backup:
    at = timestamp(START - timedelta(days=days))
    status = {"phase": "Available", "completedAt": at, "volumes": [{"claim": "db", "snapshotTime": at}]}
    status |= {"trigger": "Manual"} if manual else {
        "trigger": "Policy", "policy": "nightly", "slot": at, "retention": {"count": 3}, "timeZone": "UTC",
    }  # fmt: skip
    meta = {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": at}
    spec = {"vaultRef": {"name": "v"}, "resource": {"kind": "PersistentVolumeClaim", "name": "db"}}
    return Backup.model_validate({"metadata": meta, "spec": spec, "status": status})


BACKUPS = {"shop/db": [backup(f"auto-{n}", n) for n in range(1, 5)] + [backup("manual", 9, manual=True)]}


def test_f20_the_next_run_counts_and_the_oldest_goes_first() -> None:
    found = preview(policy({"count": 3}), BACKUPS, START)
    assert [(made.name, v.goes, v.reason) for made, v in found] == [
        ("manual", False, "Manual"),
        ("auto-4", True, "NotKept"),
        ("auto-3", True, "NotKept"),
        ("auto-2", False, "Kept"),
        ("auto-1", False, "Kept"),
    ]


def test_f20_what_a_restore_reads_stays_and_a_policy_that_is_off_can_be_tried() -> None:
    found = preview(policy({"count": 2}, enabled=False), BACKUPS, START, busy={"auto-4"})
    assert [made.name for made, v in found if v.goes] == ["auto-3", "auto-2"]
    assert [v.reason for made, v in found if made.name == "auto-4"] == ["InUse"]


def test_f20_each_volume_is_judged_by_itself() -> None:
    two = {"shop/db": [backup("auto-1", 1)], "shop/web": [backup("auto-2", 2)]}
    assert not any(v.goes for _, v in preview(policy({"count": 2}), two, START))
