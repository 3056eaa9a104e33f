"""Both S3 clients trust the CA that is given, in addition to the system's, and no other."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace

import boto3
import pytest

from blockvault.stores import StoreLocation, StoreRefused, open_store
from tests.certificates import certificates
from tests.stores.conftest import KEYS
from tests.stores.faulty_server import FaultyServer

BUCKET = "behind-tls"


@pytest.fixture(scope="module")
def place(moto_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreLocation]:
    """A place in a bucket that keeps versions, so that both clients are used, behind TLS."""
    client = boto3.client(
        "s3", endpoint_url=moto_endpoint, region_name="us-east-1",
        aws_access_key_id=KEYS.access_key, aws_secret_access_key=KEYS.secret_key,
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    ca, file = certificates(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    proxy = FaultyServer(moto_endpoint, lambda *_: None, tls=context)
    yield StoreLocation(f"s3://{BUCKET}/x", endpoint=proxy.endpoint, credentials=KEYS, ca_bundle=ca)
    proxy.close()


def test_a_ca_that_is_given_is_trusted_by_both_clients(place: StoreLocation) -> None:
    store = open_store(place, retry_seconds=5)
    store.create("a", b"1")  # obstore stores, boto3 lists versions
    assert store.get("a") == b"1"
    store.delete(["a"])  # boto3
    assert list(store.list("")) == []


def test_without_it_both_refuse(place: StoreLocation) -> None:
    store = open_store(replace(place, ca_bundle=None), retry_seconds=5)
    for call in (lambda: store.get("a"), lambda: store.delete(["a"])):
        with pytest.raises(StoreRefused, match="certificate is not trusted"):
            call()
