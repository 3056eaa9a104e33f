"""Which backup is the latest, and what proves that there never was one (F19)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from blockvault.core.decision import Missing, Refusal
from blockvault.core.latest import Never, choose_latest, done_by, former_places

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def row(number: int, hour: int, **labels: Any) -> dict[str, Any]:
    return {"backupId": f"id-{number}", "createdAt": f"2026-11-29T{hour:02}:00:00Z", "labels": labels}


@pytest.mark.parametrize(
    ("rows", "before", "former", "chosen"),
    [
        ([row(1, 9), row(2, 13)], None, [], "id-2"),
        ([row(1, 9), row(2, 13)], NOON, [], "id-1"),
        ([row(1, 9), row(2, 10, trash={})], None, [], "id-1"),
        ([row(1, 9)], None, ["s3://b/p/shop/v-0"], "id-1"),
        (None, None, [], Never()),
        (None, NOON, [], Never()),
    ],
)
def test_f19_the_latest_that_is_there(
    rows: Any, before: datetime | None, former: list[str], chosen: object
) -> None:
    assert choose_latest("shop/db", rows, before, former, ["shop/other"]) == chosen


@pytest.mark.parametrize(
    ("rows", "before", "former", "kind", "reason", "words"),
    [
        ([row(1, 13)], NOON, [], Refusal, "NoBackupBefore", "spec.latestOf.before"),
        ([], None, [], Missing, "NoBackupLeft", "shop/db"),
        ([row(1, 9, trash={})], None, [], Missing, "NoBackupLeft", "1 in the trash"),
        (None, None, ["s3://b/p/shop/v-01234567"], Missing, "FormerPlace", "v-01234567"),
    ],
)
def test_f19_every_doubt_is_no_proof(
    rows: Any, before: datetime | None, former: list[str], kind: type, reason: str, words: str
) -> None:
    found = choose_latest("shop/db", rows, before, former, ["shop/other"])
    assert isinstance(found, kind)
    assert isinstance(found, Missing | Refusal)
    assert found.reason == reason
    assert words in found.message


@pytest.mark.parametrize(
    ("location", "folders", "former"),
    [
        ("s3://b/p/shop/v-0123abcd", ["v-0123abcd", "w-89abcdef", "v-x"], ["s3://b/p/shop/w-89abcdef"]),
        ("s3://b/p/shop/v-0123abcd", ["v-0123abcd"], []),
        ("s3://b/own", ["other", "own-0123abcd"], []),
    ],
)
def test_f19_places_of_other_vaults(location: str, folders: list[str], former: list[str]) -> None:
    assert former_places(location, folders) == former


def test_f19_a_claim_of_that_name_in_another_namespace_is_a_doubt() -> None:
    """As after adopting into a namespace of another name."""
    found = choose_latest("prod2/db", None, None, [], ["prod/db", "prod/web"])
    assert isinstance(found, Missing)
    assert found.reason == "BackupsElsewhere"
    assert "prod/db" in found.message


def test_f30_the_store_knows_which_restores_were_done() -> None:
    rows = [row(1, 9), row(2, 10, restoredBy={"shop/back": "2026-11-29T11:00:00Z"})]
    assert done_by("shop/back", rows)
    assert not done_by("shop/other", rows)
    assert not done_by("shop/back", None)
