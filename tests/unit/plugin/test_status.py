"""The whole picture: what is drawn, what is called trouble and what is not."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from blockvault.plugin import picture, screen, trouble
from blockvault.plugin.trouble import Picture

from . import world
from .world import NOW


def drawn(
    seen: Picture, capsys: pytest.CaptureFixture[str], *, everywhere: bool = False, width: int | None = None,
    monkeypatch: pytest.MonkeyPatch | None = None,
) -> str:  # fmt: skip
    if width is not None and monkeypatch is not None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("NO_COLOR", "1")
    troubles = trouble.find(seen, NOW)
    screen.status(
        picture.summary(seen, troubles, "Namespace shop"),
        troubles,
        picture.sections(seen, NOW, everywhere=everywhere),
        everywhere=everywhere,
        empty=not seen.vaults,
    )
    lines = capsys.readouterr().out.splitlines()
    return "\n".join(line.rstrip() for line in lines)


WELL = Picture(
    [world.vault()],
    [world.policy()],
    [world.backup("autobk-1"), world.backup("autobk-2", "web"), world.working()],
    [world.restore()],
)


def test_a_namespace_in_which_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        drawn(WELL, capsys)
        == """\
Namespace shop: 1 vault, 2 backups of 2 claims, 1 at work, all is well.

VAULTS
NAME   PHASE      USED              OF                 BACKUPS  POLICY   LAST BACKUP  NEXT RUN
disks  Available  ████░░░░░░  41 %  41.0 GiB of 100Gi  12       nightly  9 h ago      in 13 h

POLICIES
NAME     PHASE  RUNS                                    KEEPS       NEXT RUN  VAULTS
nightly  Ready  02:00, 14:00 Europe/Berlin on Mon, Fri  the last 7  in 13 h   disks

AT WORK
WHAT                  CLAIM    PHASE     PROGRESS
Backup manualbk-1a2b  db-data  Creating  ████░░░░░░  40 %  4.0 GiB of 10.0 GiB  3 min left"""
    )


def test_trouble_comes_first_the_worst_before_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    words = "The bucket nowhere does not exist."
    seen = Picture(
        [
            world.vault(utilization="85.2"),
            world.vault("archive", "Error", reason="BucketNotFound", message=words, resources=[]),
        ],
        [],
        [world.failed("autobk-9"), world.failed("autobk-8", ended="2026-11-29T08:00:00Z")],
        [world.restore(phase="Restored", target={"original": {}}, rollbackUntil="2026-11-30T10:00:00Z")],
    )
    assert (
        drawn(seen, capsys)
        == """\
Namespace shop: 2 vaults, 0 backups of 0 claims, nothing at work, 3 things want attention.

!! Vault archive Error: BucketNotFound
   The bucket nowhere does not exist.
   → Create the bucket, or correct endpoint and bucket in the class.
!! Backup autobk-9 of db-data failed 3 h ago, and 1 before it: StoreUnreachable
   The store s3://backups does not answer: connection refused.
   → Check the endpoint, network policies between the operator's namespace and it, and its own health. A
     Backup or Restore that has failed by this is made again by hand or at the next slot.
!  Vault disks is nearly full (85 %)
   → Raise spec.capacity, or delete backups; `kubectl blockvault usage` shows whose they are.
i  Restore back claim copy is restored; its former data is kept, and goes in 22 h
   → `kubectl blockvault confirm back`, or `rollback` in its place.

VAULTS
NAME     PHASE      USED              OF                 BACKUPS  POLICY   LAST BACKUP  NEXT RUN
disks    Available  ████████░░  85 %  41.0 GiB of 100Gi  12       nightly  9 h ago      in 13 h
archive  Error      ████░░░░░░  41 %  41.0 GiB of 100Gi  12       nightly  never        in 13 h"""
    )


def test_eighty_columns_are_enough(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = drawn(WELL, capsys, width=80, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines())) <= 80, text
    assert "41 %" in text
    assert "in 13 h" in text


def test_nothing_at_all_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    text = drawn(Picture(), capsys)
    assert text.startswith("Namespace shop: 0 vaults, 0 backups of 0 claims, nothing at work, all is well.")
    assert "Begin with a vault" in text


def test_all_namespaces_have_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    text = drawn(WELL, capsys, everywhere=True)
    assert "NAMESPACE  NAME   PHASE" in text
    assert "shop       disks  Available" in text


def test_plain_characters_where_the_terminal_has_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ANSI_X3.4-1968"

    monkeypatch.setattr(sys, "stdout", Ascii())
    assert picture.words.bar(41) == "####......"
    assert picture.words.arrow() == "->"


def headlines(seen: Picture) -> list[tuple[str, str]]:
    return [(t.level, f"{t.what} {t.headline}") for t in trouble.find(seen, NOW)]


VAULTS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, []),
    ({"utilization": "79.9"}, []),
    ({"utilization": "100.0"}, [("warning", "Vault disks is nearly full (100 %)")]),
    ({"utilization": "100.4"}, [("error", "Vault disks is over its capacity (100 %): no backup starts")]),
    ({"lastCheckedAt": "2026-11-29T11:51:00Z"}, []),
    (
        {"lastCheckedAt": "2026-11-29T11:40:00Z"},
        [("error", "The operator has looked at these vaults 20 min ago")],
    ),
    (
        {"deletionHold": {"token": "1a2b3c4d", "since": "2026-11-29T11:00:00Z", "message": "6 of 6 went."}},
        [("error", "Vault disks a mass deletion waits for a word")],
    ),
    (
        {"conditions": [{"type": "ExpiryHeld", "status": "True", "reason": "NearlyEmpty", "message": "odd"}]},
        [("error", "Vault disks expiry is held: a backup is odd")],
    ),
    (
        {"conditions": [{"type": "VolumesReadable", "status": "False", "reason": "x", "message": "shop/db"}]},
        [("error", "Vault disks some volumes cannot be read")],
    ),
    (
        {"policy": {"name": "gone", "state": "Waiting", "message": "It does not exist."}},
        [("error", "Vault disks its policy gone is not applied")],
    ),
    (
        {"resources": [world.line("db-data", state="Refused", reason="NoRoom", message="It does not fit.")]},
        [("warning", "Vault disks claim db-data is refused: NoRoom")],
    ),
    (
        {"resources": [world.line("db-data", skipped={"slot": "2026-11-29T11:00:00Z", "reason": "Missed"})]},
        [("warning", "Vault disks claim db-data was not backed up at 2026-11-29T11:00:00Z: Missed")],
    ),
    # The slot before the last good backup is of no interest any more.
    (
        {"resources": [world.line("db-data", skipped={"slot": "2026-11-28T01:00:00Z", "reason": "Missed"})]},
        [],
    ),
    (
        {"leaving": [{"kind": "PersistentVolumeClaim", "name": "old", "since": "2026-11-29T11:55:00Z"}]},
        [("warning", "Vault disks claim old has left it, and its backups go")],
    ),
]


@pytest.mark.parametrize(("status", "expected"), VAULTS)
def test_what_of_a_vault_is_trouble(status: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert headlines(Picture([world.vault(**status)])) == expected


def test_a_failure_is_trouble_until_a_good_backup_follows() -> None:
    bad = world.failed("autobk-8", ended="2026-11-29T01:00:00Z")
    assert [level for level, _ in headlines(Picture([], [], [bad]))] == ["error"]
    assert headlines(Picture([], [], [bad, world.backup("autobk-9")])) == []
    assert headlines(Picture([], [], [bad, world.backup("autobk-9", "web")])) != []


def test_what_waits_is_trouble_after_a_while_only() -> None:
    old = world.backup("one", phase="Pending", reason="ClaimNotBound")
    young = world.backup("two", phase="Pending", meta={"creationTimestamp": "2026-11-29T11:59:00Z"})
    assert headlines(Picture([], [], [young])) == []
    assert headlines(Picture([], [], [old])) == [
        ("warning", "Backup one of db-data waits since 10 h: ClaimNotBound")
    ]


def test_a_status_of_a_newer_version_is_shown_as_it_is() -> None:
    vault = world.vault(
        phase="Sleeping", utilization="much", resources=[{"name": "x", "kind": "New", "state": "Odd"}]
    )
    seen = Picture([vault], [], [world.backup("b", phase="Paused")])
    assert headlines(seen) == []
    (section,) = [s for s in picture.sections(seen, NOW) if s.title == "VAULTS"]
    assert section.rows[0][:2] == ["disks", "Sleeping"]


def test_programs_get_the_same() -> None:
    data = picture.as_data(WELL, [], "shop")
    assert data["vaults"][0]["usedBytes"] == 41 * world.GIB
    assert data["backups"] == {"Available": 2, "Creating": 1}
    assert data["working"][0]["progress"]["percent"] == 40
