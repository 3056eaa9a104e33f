"""Backups of the store that no object shows, and the objects that show them (A13, F5)."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from blockvault.api import Backup, BackupStatus, Vault
from blockvault.core.automatic import made_of, origin_of
from blockvault.core.catalogue import (
    Stored,
    claim_of,
    gone,
    imported,
    imported_object,
    imported_status,
    lost_status,
    trash_status,
    unseen,
)
from blockvault.core.source import Source

from . import world

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
VAULT = Vault.model_validate(world.VAULT | {"status": {"phase": "Available", "location": "s3://b/p"}})
SOURCE = Source("csi.example.com", "10Gi", "fast", "Filesystem", ["ReadWriteOnce"])
META = {
    "namespace": "shop", "claim": "db", "backup": "before-upgrade", "uid": "b-9", "description": "why",
    "snapshotTime": "2026-11-20T02:00:05Z", "source": asdict(SOURCE), "trigger": "Policy", "policy": "nightly",
    "slot": "2026-11-20T02:00:00Z", "retention": {"days": 30}, "timeZone": "Europe/Berlin",
}  # fmt: skip


def facts(
    meta: dict[str, Any] | None = None, owner: str | None = "here", volume: str = "shop/db"
) -> dict[str, Any]:
    return {
        "backupId": "0123456789abcdef" * 2, "volume": volume, "type": "incremental", "size": 10, "rootHash": "r",
        "createdAt": "2026-11-20T02:01:00Z", "bytesScanned": 3, "bytesChanged": 2, "bytesStored": 1, "fileSystem": "ext4", "lockedUntil": None,
        "operationId": "b-9", "labels": {}, "owner": {"cluster": owner} if owner else None,
        "meta": META if meta is None else meta,
    }  # fmt: skip


def row(backup_id: str, operation: str = "o", **labels: Any) -> dict[str, Any]:
    return {"backupId": backup_id, "operationId": operation, "labels": labels}


def made(name: str, uid: str, backup_id: str | None = None, **notes: str) -> Backup:
    body = world.backup_object()
    body["metadata"] |= {"name": name, "uid": uid, "annotations": notes}
    if backup_id:
        body["status"] = {"phase": "Available", "volumes": [{"claim": "db", "backupId": backup_id}]}
    return Backup.model_validate(body)


def shown(found: dict[str, Any], taken: set[str] | None = None) -> Backup:
    body = imported_object(VAULT, found, taken or set())
    body["metadata"] |= {"uid": "new", "creationTimestamp": world.STAMP}
    return Backup.model_validate(body)


def test_a13_what_an_object_shows_or_is_making_is_not_shown_twice() -> None:
    here = [
        made("finished", "u-1", "one"),
        made("moving", "u-2"),  # its mover may have committed by now
        made(
            "imported", "u-3", **{"blockvault.dev/imported": json.dumps({"volume": "v", "backupId": "three"})}
        ),
    ]
    rows = [row("one"), row("two", "u-2"), row("three"), row("four"), row("five", trash={"until": "x"})]
    assert [r["backupId"] for r in unseen(rows, here)] == ["four"]


def test_a13_an_object_has_its_former_name_and_what_it_was_for() -> None:
    backup = shown(facts())
    assert (backup.metadata.name, backup.spec.claim, backup.spec.description) == (
        "before-upgrade",
        "db",
        "why",
    )
    assert imported(backup) == Stored("shop/db", facts()["backupId"])
    assert backup.metadata.labels == {"blockvault.dev/imported": "true"}


@pytest.mark.parametrize(
    ("meta", "taken"),
    [
        (META, {"before-upgrade"}),
        (META | {"namespace": "other"}, set()),
        (META | {"backup": "Not A Name"}, set()),
        (META | {"backup": "x" * 254}, set()),
        ({}, set()),
    ],
)
def test_a_name_that_is_taken_or_none_is_replaced(meta: dict[str, Any], taken: set[str]) -> None:
    assert shown(facts(meta), taken).metadata.name == "imported-0123456789ab"


@pytest.mark.parametrize(
    ("volume", "claim"),
    [("shop/db", "db"), ("db", "db"), ("My Disk", "volume-"), ("a/B", "volume-"), ("x" * 300, "volume-")],
)
def test_what_is_of_no_claim_has_a_name_like_one(volume: str, claim: str) -> None:
    assert claim_of(facts({}, volume=volume)).startswith(claim)


def test_a13_its_status_is_that_of_a_backup_made_here() -> None:
    status = imported_status(VAULT, shown(facts()), facts(), "here", NOW)
    body = shown(facts()).model_dump(by_alias=True, mode="json") | {"status": status}
    backup = Backup.model_validate(body)
    assert backup.status is not None
    assert (backup.status.phase, backup.status.type, backup.status.location) == (
        "Available",
        "Incremental",
        "s3://b/p",
    )
    volume = backup.status.volumes[0]
    assert (volume.lineage_volume, volume.size, volume.volume_mode, volume.storage_class_name) == (
        "shop/db", 10, "Filesystem", "fast",
    )  # fmt: skip
    origin = origin_of(backup)
    assert origin is not None
    assert (origin.policy, origin.retention.days, origin.time_zone) == ("nightly", 30, "Europe/Berlin")
    retained = made_of(backup)
    assert retained is not None
    assert retained.taken == datetime(2026, 11, 20, 2, tzinfo=UTC)


def test_f5_what_belongs_to_another_cluster_says_so_and_no_rule_removes_it() -> None:
    status = imported_status(VAULT, shown(facts()), facts(), "elsewhere", NOW)
    assert status["cluster"] == "here"
    assert "cluster here" in status["message"]
    body = shown(facts()).model_dump(by_alias=True, mode="json") | {"status": status}
    assert made_of(Backup.model_validate(body)) is None
    assert imported_status(VAULT, shown(facts()), facts(owner=None), "elsewhere", NOW)["cluster"] is None


def test_f18_one_that_was_brought_back_is_removed_by_no_rule() -> None:
    vault = VAULT.model_copy(deep=True)
    vault.metadata.annotations["blockvault.dev/undelete"] = facts()["backupId"]
    body = imported_object(vault, facts(), set())
    body["metadata"] |= {"uid": "new", "creationTimestamp": world.STAMP}
    status = imported_status(vault, Backup.model_validate(body), facts(), "here", NOW)
    assert status["trigger"] == "Manual"
    assert "expiresAt" not in status
    assert imported_status(VAULT, shown(facts()), facts(), "here", NOW)["expiresAt"] == "2026-12-20T02:00:00Z"


@pytest.mark.parametrize(
    "meta",
    [
        {"timeZone": "Mars/Olympus"},
        {"retention": {"days": "many"}},
        {"retention": {}},
        {"slot": "2026-11-20T02:00:00"},
        {"policy": None},
        {"trigger": "Other"},
    ],
)
def test_what_the_store_says_is_not_believed_unless_it_can_be_used(meta: dict[str, Any]) -> None:
    found = facts(META | meta)
    assert imported_status(VAULT, shown(found), found, "here", NOW)["trigger"] == "Manual"
    odd = facts(
        META | {"source": {"volume_mode": "Tape", "storage_class": 7}, "snapshotTime": "2026-11-20T02:00:05"}
    )
    volume = imported_status(VAULT, shown(odd), odd, "here", NOW)["volumes"][0]
    assert (volume["volumeMode"], volume["storageClassName"]) == (None, None)
    assert volume["snapshotTime"] == "2026-11-20T02:01:00Z"


def test_f5_an_object_whose_backup_the_store_has_no_more_is_found() -> None:
    def of(name: str, volume: str, backup_id: str, phase: str = "Available") -> Backup:
        note = json.dumps({"volume": volume, "backupId": backup_id})
        backup = made(name, name, **{"blockvault.dev/imported": note})
        return backup.model_copy(update={"status": BackupStatus(phase=phase)})

    here = [
        of("living", "v", "one"),
        of("gone", "v", "two"),
        of("trashed", "v", "three"),
        of("known", "v", "two", "Error"),
        of("unlisted", "w", "five"),  # nothing of this volume is listed: the listing may lag
        made("own", "u", "six"),
    ]
    rows = [row("one") | {"volume": "v"}, row("three", trash={"until": "x"}) | {"volume": "v"}]
    assert [b.metadata.name for b, _ in gone(VAULT, rows, here)] == ["gone", "trashed"]


def test_f5_an_own_backup_that_was_deleted_before_the_cluster_was_set_back_is_not_available() -> None:
    def own(name: str, backup_id: str, location: str = "s3://b/p", phase: str = "Available") -> Backup:
        stored = {"claim": "db", "backupId": backup_id, "lineageVolume": "v"}
        status = {"phase": phase, "location": location, "volumes": [stored]}
        return made(name, name).model_copy(update={"status": BackupStatus.model_validate(status)})

    here = [
        own("living", "one"),
        own("deleted", "two"),
        own("trashed", "three"),
        own("elsewhere", "two", "s3://b/former"),
        own("failed", "two", phase="Error"),
    ]
    rows = [row("one") | {"volume": "v"}, row("three", trash={"until": "x"}) | {"volume": "v"}]
    assert [b.metadata.name for b, _ in gone(VAULT, rows, here)] == ["deleted", "trashed"]


def test_f18_what_is_brought_back_is_shown_again_beside_the_object_that_had_lost_it() -> None:
    lost = made("lost", "u-1", "one")
    status = lost_status(lost, Stored("v", "one"), NOW)
    lost = lost.model_copy(update={"status": BackupStatus.model_validate(status)})
    assert [r["backupId"] for r in unseen([row("one", "u-1")], [lost])] == ["one"]


def test_f18_of_the_trash_only_what_is_ours_is_named_the_last_first() -> None:
    rows = [
        row(name, trash={"until": until})
        | {"volume": "v", "createdAt": "c", "owner": owner and {"cluster": owner}}
        for name, until, owner in (("a", "2026-1", "here"), ("b", "2026-2", None), ("c", "2026-3", "there"))
    ]
    assert [r["backupId"] for r in trash_status([*rows, row("living")], "here")] == ["b", "a"]


def test_what_the_command_line_made_is_shown_as_manual() -> None:
    status = imported_status(VAULT, shown(facts({})), facts({}), "here", NOW)
    assert (status["trigger"], "policy" in status) == ("Manual", False)
    assert status["volumes"][0]["snapshotTime"] == "2026-11-20T02:01:00Z"


def test_what_the_store_has_not_is_an_error_that_says_what_to_do() -> None:
    status = lost_status(shown(facts()), Stored("shop/db", "x"), NOW)
    assert (status["phase"], status["reason"]) == ("Error", "NotInStore")
    assert "delete this object" in status["message"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"volume": 1}', "x"])
def test_a_note_that_nobody_can_read_is_none(text: str) -> None:
    assert imported(made("b", "u", **{"blockvault.dev/imported": text})) is None
