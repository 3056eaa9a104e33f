"""Which backup is the latest, and what proves that there never was one (F19)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from blockvault.core.decision import Missing, Refusal
from blockvault.core.latest import Never, choose_latest, former_places

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
    assert choose_latest("shop/db", rows, before, former) == chosen


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
    found = choose_latest("shop/db", rows, before, former)
    assert isinstance(found, kind)
    assert isinstance(found, Missing | Refusal)
    assert found.reason == reason
    assert words in found.message


@pytest.mark.parametrize(
    ("location", "folders", "former"),
    [
        (
            "s3://b/p/shop/v-0123abcd",
            ["v-0123abcd", "v-89abcdef", "vv-89abcdef", "v-x"],
            ["s3://b/p/shop/v-89abcdef"],
        ),
        ("s3://b/p/shop/v-0123abcd", ["v-0123abcd"], []),
        ("s3://b/p/shop/v-1-0123abcd", ["v-89abcdef", "v-1-89abcdef"], ["s3://b/p/shop/v-1-89abcdef"]),
        ("s3://b/own", ["other", "own-0123abcd"], []),
    ],
)
def test_f19_former_places_of_a_vault_of_this_name(
    location: str, folders: list[str], former: list[str]
) -> None:
    assert former_places(location, folders) == former
