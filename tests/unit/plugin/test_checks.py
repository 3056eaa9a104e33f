"""What the doctor finds."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from blockvault.plugin import checks, screen
from blockvault.plugin.checks import Around, Seen

from . import world
from .world import NOW

CLASS = {"metadata": {"name": "standard"}, "spec": {}, "status": {"phase": "Ready"}}
FAST = {"metadata": {"name": "fast"}, "provisioner": "csi.example.com"}
SNAPSHOTS = {"metadata": {"name": "snaps"}, "driver": "csi.example.com"}
OPERATOR = {
    "metadata": {"name": "blockvault", "namespace": "blockvault-system"},
    "spec": {"template": {"spec": {"containers": [{"image": "blockvault:1"}]}}},
    "status": {"availableReplicas": 1},
}
WELL = Seen(
    now=NOW,
    vaults=[world.vault()],
    policies=[world.policy()],
    claims=[world.claim("db-data")],
    vault_classes=[CLASS],
    storage_classes=[FAST],
    snapshot_classes=[SNAPSHOTS],
    services=[],
    operators=[OPERATOR],
    server=NOW,
    may={"look": True, "back up": True, "restore": True, "change vaults": True},
)


def test_a_cluster_that_will_work(capsys: pytest.CaptureFixture[str]) -> None:
    found = checks.examine(WELL)
    screen.findings(found)
    assert (
        capsys.readouterr().out
        == """\
ok    API server                      it answers, and knows our definitions
ok    clock                           this machine's and the API server's agree
ok    operator                        blockvault-system/blockvault is available (blockvault:1), it looked at a
                                      vault 30 s ago
ok    permissions                     you may look, back up, restore, change vaults
ok    vault classes                   standard; none is the default one
ok    storage fast                    csi.example.com takes snapshots by snaps
ok    changed blocks csi.example.com  no service tells them: backups read whole volumes and send what changed
ok    vault disks                     s3://backups/shop/disks-1a2b3c4d answers and keeps what it is given
"""
    )
    assert (checks.worst(found), checks.verdict(found)) == ("ok", "All is well.")


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"server": NOW - timedelta(minutes=11)}, "fail", "clock: this machine's and the API server's are 11 min apart"),
    ({"server": NOW - timedelta(minutes=1)}, "warn", "clock: this machine's and the API server's are 60 s apart"),
    ({"operators": []}, "ok", "operator: it looked at a vault 30 s ago"),
    ({"operators": [], "vaults": []}, "fail", "operator: there is no Deployment of it"),
    ({"operators": [OPERATOR | {"status": {}}]}, "fail", "operator: blockvault-system/blockvault has no pod that is ready"),
    (
        {"operators": None, "vaults": [world.vault(lastCheckedAt="2026-11-29T11:00:00Z")]},
        "fail", "operator: it looked at a vault 60 min ago",
    ),
    (
        {"may": {"look": True, "back up": False}}, "warn", "permissions: you may look; not back up",
    ),
    ({"snapshots_known": False}, "fail", "snapshots: the cluster does not know VolumeSnapshots"),
    ({"snapshot_classes": []}, "fail", "storage fast: No VolumeSnapshotClass for CSI driver csi.example.com"),
    (
        {"snapshot_classes": [SNAPSHOTS, {**SNAPSHOTS, "metadata": {"name": "more"}}]},
        "fail", "storage fast: Several VolumeSnapshotClasses fit CSI driver csi.example.com",
    ),
    (
        {"storage_classes": [{"metadata": {"name": "fast"}, "provisioner": "kubernetes.io/no-provisioner"}]},
        "warn", "storage fast: kubernetes.io/no-provisioner is no CSI driver",
    ),
    (
        {"services": [{"metadata": {"name": "csi.example.com"}, "spec": {"address": "x"}}]},
        "warn", "changed blocks csi.example.com: the SnapshotMetadataService is not usable: ServiceInvalid",
    ),
    ({"vault_classes": [], "vaults": []}, "warn", "vault classes: there is none"),
    (
        {"vaults": [world.vault(conditions=[{"type": "StoreReachable", "status": "False", "reason": "ClockSkew",
                                             "message": "16 minutes"}])]},
        "fail", "vault disks: ClockSkew: 16 minutes",
    ),
    (
        {"policies": [world.policy(phase="Error", reason="Invalid", message="No such zone.")]},
        "fail", "policy nightly: Invalid: No such zone.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "level", "words"), WRONG)
def test_each_thing_that_is_wrong_is_found(changes: dict[str, Any], level: str, words: str) -> None:
    found = checks.examine(dataclasses.replace(WELL, **changes))
    fitting = [f for f in found if f"{f.check}: {f.detail}".startswith(words)]
    assert [f.level for f in fitting] == [level], found
    assert level == "ok" or fitting[0].remedy


def test_what_may_not_be_read_is_left_out() -> None:
    seen = Seen(now=NOW, vaults=[world.vault()], policies=[], may={"look": None})
    assert [f.check for f in checks.examine(seen)] == ["API server", "operator", "vault disks"]


def test_why_a_backup_is_stuck(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = world.backup(
        "one", phase="Pending", reason="OperationInProgress", message="Waiting for Restore back."
    )
    error = {"metadata": {"name": "bv-1"}, "status": {"error": {"message": "driver says no"}}}
    event = {"reason": "Waiting", "note": "It waits.", "type": "Normal", "eventTime": "2026-11-29T11:00:00Z"}
    around = Around(
        NOW, world.vault(utilization="101.0"), "disks", world.claim("db-data"), "db-data",
        [world.restore(phase="Restoring")], [error], (), [event],
    )  # fmt: skip
    screen.findings(checks.explain("Backup", waiting, around))
    assert (
        capsys.readouterr().out
        == """\
warn  Backup one         Pending for 10 h, OperationInProgress: an older operation works on the same claim;
                         this one waits for as long as it takes
                         → `kubectl get tasks --field-selector spec.resource.name=CLAIM,status.phase=Running`
                           shows it; cancel that one to go first.
warn  its message        Waiting for Restore back.
fail  its vault          disks is Available, 101 % full
ok    its claim          db-data is Bound
warn  another operation  Restore back is Restoring on the same claim
                         → One runs at a time; cancel that one to go first.
fail  its snapshot       driver says no
ok    event              Waiting: It waits.
"""
    )


def test_what_nobody_has_looked_at_points_to_the_operator() -> None:
    (first, *_) = checks.explain("Backup", world.backup("one", phase=""), Around(NOW))
    assert (first.level, first.detail) == ("fail", "nobody has looked at it for 10 h")
