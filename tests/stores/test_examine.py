"""What a bucket's own settings would do to backups (lifecycle rules, default locks), said before they do it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from blockvault.stores import (
    BucketNotFound,
    Credentials,
    InvalidCredentials,
    ObjectLock,
    StoreLocation,
    StoreUnreachable,
    examine,
)
from blockvault.stores.examine import BucketFacts, findings
from tests.stores.conftest import BUCKET, KEYS, in_gateway

PLACE = StoreLocation("s3://b/shop/disks")


def rule(prefix: str | None = None, **more: Any) -> dict[str, Any]:
    return {"ID": "tidy", "Status": "Enabled", "Filter": {} if prefix is None else {"Prefix": prefix}, **more}


@pytest.mark.parametrize("prefix", [None, "", "shop/", "shop/disks", "shop/disks/", "shop/disks/lineages/"])
def test_a_rule_that_deletes_backups_is_named(prefix: str | None) -> None:
    said = findings(PLACE, BucketFacts(rules=[rule(prefix, Expiration={"Days": 30})]))
    assert len(said) == 1
    assert "tidy deletes objects of this store after 30 days" in said[0]


@pytest.mark.parametrize(
    "harmless",
    [
        rule("logs/", Expiration={"Days": 30}),
        rule("shop/disks-old/", Expiration={"Days": 30}),
        rule(Expiration={"ExpiredObjectDeleteMarker": True}),
        rule(
            NoncurrentVersionExpiration={"NoncurrentDays": 1},
            AbortIncompleteMultipartUpload={"DaysAfterInitiation": 1},
        ),
        rule(Transitions=[{"Days": 1, "StorageClass": "STANDARD_IA"}]),
        {**rule(Expiration={"Days": 30}), "Status": "Disabled"},
    ],
)
def test_rules_that_do_no_harm_are_not(harmless: dict[str, Any]) -> None:
    assert findings(PLACE, BucketFacts(rules=[harmless])) == []


def test_an_archive_is_named() -> None:
    said = findings(
        PLACE, BucketFacts(rules=[rule(Transitions=[{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}])])
    )
    assert "DEEP_ARCHIVE" in said[0]


def test_rules_of_the_old_form() -> None:
    old = {"ID": "old", "Status": "Enabled", "Prefix": "shop/", "Expiration": {"Days": 1}}
    assert findings(PLACE, BucketFacts(rules=[old]))
    both = rule(Expiration={"Days": 1}) | {"Filter": {"And": {"Prefix": "logs/", "Tags": []}}}
    assert findings(PLACE, BucketFacts(rules=[both])) == []


@pytest.fixture(params=["moto", "rgw"])
def server(request: pytest.FixtureRequest) -> tuple[Any, StoreLocation]:
    """A client, and a place in a fresh bucket with object lock."""
    bucket = f"examined-{secrets.token_hex(4)}"
    if request.param == "rgw":
        gateway = request.getfixturevalue("rgw")
        client, place = gateway.client(), in_gateway(gateway, bucket)
    else:
        endpoint = request.getfixturevalue("moto_endpoint")
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            aws_access_key_id=KEYS.access_key, aws_secret_access_key=KEYS.secret_key,
        )  # fmt: skip
        place = StoreLocation(f"s3://{bucket}/x", endpoint=endpoint, credentials=KEYS)
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    return client, place


def test_real_settings(server: tuple[Any, StoreLocation]) -> None:
    client, place = server
    locked = replace(place, object_lock=ObjectLock("Compliance", 1))
    assert examine(place) == examine(locked) == []
    client.put_bucket_lifecycle_configuration(
        Bucket=place.bucket,
        LifecycleConfiguration={"Rules": [rule(place.prefix, Expiration={"Days": 9}, Status="Enabled")]},
    )
    client.put_object_lock_configuration(
        Bucket=place.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 5}},
        },
    )
    said = examine(place)
    assert len(said) == 2
    assert "after 9 days" in said[0]
    assert "(Governance, 5 days)" in said[1]
    assert examine(locked) == said[:1]
    assert "made without object lock" in examine(replace(locked, url=f"s3://{BUCKET}/x"))[0]
    assert examine(replace(place, url=f"s3://{BUCKET}/x")) == []


def test_what_cannot_be_asked(server: tuple[Any, StoreLocation], tmp_path: Path) -> None:
    assert examine(StoreLocation(f"file://{tmp_path}")) == []
    place = server[1]
    with pytest.raises(BucketNotFound):
        examine(replace(place, url="s3://no-such-bucket"))
    with pytest.raises(StoreUnreachable):
        examine(replace(place, endpoint="http://127.0.0.1:1"))


def test_who_may_not_ask_hears_nothing(rgw: Any) -> None:
    stranger = rgw.make_user(f"stranger-{secrets.token_hex(4)}")
    place = in_gateway(rgw)
    assert examine(replace(place, credentials=Credentials(stranger.access_key, stranger.secret_key))) == []
    with pytest.raises(InvalidCredentials):
        examine(replace(place, credentials=Credentials("NOBODY", "x")))
