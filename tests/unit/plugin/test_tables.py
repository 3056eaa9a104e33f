"""Tables of backups, tasks and usage, and the searches that choose their rows (C11, C12, E1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from blockvault.plugin import rows
from blockvault.plugin.rows import Search
from blockvault.terminal import as_table

from . import world
from .world import GIB, NOW

BACKUPS = [
    world.backup("autobk-1", policy="nightly"),
    world.backup("manualbk-2", "web", trigger="Manual", type="Full", meta={"creationTimestamp": "2026-11-20T00:00:00Z"},
                 volume={"snapshotTime": "2026-11-20T00:00:00Z"}),
    world.failed("autobk-3"),
    world.working(),
]  # fmt: skip


def table(columns: tuple[str, ...], cells: list[list[str]], capsys: pytest.CaptureFixture[str]) -> str:
    as_table(columns, [row[: len(columns)] for row in cells])
    return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())


def test_the_list_of_backups(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        table(rows.BACKUP_COLUMNS, rows.backup_rows(rows.newest_first(BACKUPS), NOW), capsys)
        == """\
NAME           CLAIM    PHASE          TYPE         SIZE      STORED   AGE
autobk-1       db-data  Available      Incremental  10.0 GiB  1.0 GiB  9 h
manualbk-1a2b  db-data  Creating 40 %  Incremental  -         -        10 h
autobk-3       db-data  Error          Incremental  -         -        10 h
manualbk-2     web      Available      Full         10.0 GiB  1.0 GiB  9 d"""
    )


def test_the_list_of_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [
        world.task("backup-1"),
        world.task("backup-2", phase="Running", thing="autobk-2", progress={"percent": 12}, reason="Moving"),
        world.task("restore-3", "Restore", "Failed", "wrong", reason="ClaimExists"),
    ]
    assert (
        table(rows.TASK_COLUMNS, rows.task_rows(tasks, NOW), capsys)
        == """\
TYPE     OBJECT    CLAIM    VAULT  PHASE         REASON       AGE
Backup   autobk-1  db-data  disks  Succeeded     Completed    10 h
Backup   autobk-2  db-data  disks  Running 12 %  Moving       10 h
Restore  wrong     db-data  disks  Failed        ClaimExists  10 h"""
    )


def test_usage_of_claims_by_vault(capsys: pytest.CaptureFixture[str]) -> None:
    first = world.backup(
        "one", type="Full", volume={"bytesStored": 8 * GIB, "snapshotTime": "2026-11-01T00:00:00Z"}
    )
    found = rows.claim_usage([first, world.backup("two"), world.backup("three"), world.failed("bad")])
    assert (
        table(rows.CLAIM_COLUMNS, [each.row(NOW) for each in found], capsys)
        == """\
CLAIM    VAULT  SIZE      BACKUPS  FIRST    STORED    CHANGED/BACKUP  LAST
db-data  disks  10.0 GiB  3        8.0 GiB  10.0 GiB  2.0 GiB         9 h"""
    )


def test_the_trash(capsys: pytest.CaptureFixture[str]) -> None:
    trash = [{"backupId": "ab" * 16, "volume": "shop/db-data", "createdAt": "2026-11-28T12:00:00Z",
              "until": "2026-12-05T12:00:00Z"}]  # fmt: skip
    assert (
        table(rows.TRASH_COLUMNS, rows.trash_rows([world.vault(trash=trash)], NOW), capsys)
        == """\
ID                                CLAIM    VAULT  MADE  GOES FOR GOOD
abababababababababababababababab  db-data  disks  24 h  in 6 d"""
    )


SEARCHES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["autobk-1", "manualbk-2", "autobk-3", "manualbk-1a2b"]),
    ({"names": ("autobk-*",)}, ["autobk-1", "autobk-3"]),
    ({"names": ("autobk-1", "manualbk-2")}, ["autobk-1", "manualbk-2"]),
    ({"claim": "web"}, ["manualbk-2"]),
    ({"claim": "db-*", "phase": "available"}, ["autobk-1"]),
    ({"vault": "other"}, []),
    ({"phase": "Error"}, ["autobk-3"]),
    ({"type": "Full"}, ["manualbk-2"]),
    ({"trigger": "manual"}, ["manualbk-2", "manualbk-1a2b"]),
    ({"id": "AUTOBK-1-ID"}, ["autobk-1"]),
    ({"id": "uid-autobk-3"}, ["autobk-3"]),
    ({"since": datetime(2026, 11, 28, tzinfo=UTC)}, ["autobk-1", "autobk-3", "manualbk-1a2b"]),
    ({"until": datetime(2026, 11, 28, tzinfo=UTC)}, ["manualbk-2"]),
]


@pytest.mark.parametrize(("wanted", "expected"), SEARCHES)
def test_c11_backups_are_found_by_all_that_they_have(wanted: dict[str, Any], expected: list[str]) -> None:
    found = [b["metadata"]["name"] for b in BACKUPS if Search(**wanted).finds_backup(b)]
    assert found == expected


TASKS = [world.task("backup-1"), world.task("restore-2", "Restore", "Failed", "wrong")]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"type": "restore"}, ["restore-2"]),
        ({"phase": "Failed", "vault": "disks"}, ["restore-2"]),
        ({"names": ("wrong",)}, ["restore-2"]),
        ({"names": ("backup-1",)}, ["backup-1"]),
        ({"id": "uid-wrong"}, ["restore-2"]),
        ({"claim": "db-data", "since": datetime(2026, 11, 29, tzinfo=UTC)}, ["backup-1", "restore-2"]),
        ({"until": datetime(2026, 11, 29, tzinfo=UTC)}, []),
    ],
)
def test_e1_tasks_are_found_by_all_that_they_have(wanted: dict[str, Any], expected: list[str]) -> None:
    assert [t["metadata"]["name"] for t in TASKS if Search(**wanted).finds_task(t)] == expected
