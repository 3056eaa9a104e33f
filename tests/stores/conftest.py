"""Every store that can be started: a directory, moto, Ceph's gateway, and any real S3 that the environment names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from blockvault.stores import Credentials, ObjectStore, StoreLocation, open_store
from tests.servers import ceph
from tests.servers.local import missing_packages, rados_gateway

KEYS = Credentials("testing-access", "testing-secret")
BUCKET = "conformance"


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEYS.access_key,
        aws_secret_access_key=KEYS.secret_key,
    ).create_bucket(Bucket=BUCKET)
    yield endpoint
    server.stop()


@pytest.fixture(scope="session")
def rgw() -> Iterator[ceph.S3]:
    """A real S3 server with one bucket, where its packages are installed."""
    if missing := missing_packages():
        pytest.skip(f"a real S3 server needs: apt-get install -y --no-install-recommends {' '.join(missing)}")
    with rados_gateway() as gateway:
        gateway.make_bucket(BUCKET)
        yield gateway


def in_gateway(gateway: ceph.S3, bucket: str = BUCKET) -> StoreLocation:
    """A fresh place in a bucket of a gateway."""
    keys = Credentials(gateway.keys.access_key, gateway.keys.secret_key)
    url = f"s3://{bucket}/test-{secrets.token_hex(6)}"
    return StoreLocation(url, endpoint=gateway.endpoint, region=gateway.region, credentials=keys)


def _real_s3() -> StoreLocation | None:
    env = os.environ
    endpoint = env.get("BLOCKVAULT_TEST_S3_ENDPOINT")
    if not endpoint:
        return None
    return StoreLocation(
        f"s3://{env['BLOCKVAULT_TEST_S3_BUCKET']}/conformance-{secrets.token_hex(6)}",
        endpoint=endpoint,
        region=env.get("BLOCKVAULT_TEST_S3_REGION"),
        credentials=Credentials(env["BLOCKVAULT_TEST_S3_ACCESS_KEY"], env["BLOCKVAULT_TEST_S3_SECRET_KEY"]),
    )


KINDS = ["directory", "moto", "rgw", *(["s3"] if _real_s3() else [])]


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    """A fresh, empty place in each kind of store."""
    if request.param == "directory":
        (tmp_path / "store").mkdir()
        return StoreLocation(f"file://{tmp_path}/store")
    if request.param == "moto":
        endpoint = request.getfixturevalue("moto_endpoint")
        return StoreLocation(
            f"s3://{BUCKET}/test-{secrets.token_hex(6)}", endpoint=endpoint, credentials=KEYS
        )
    if request.param == "rgw":
        return in_gateway(request.getfixturevalue("rgw"))
    real = _real_s3()
    assert real is not None
    return real


@pytest.fixture
def store(location: StoreLocation) -> Iterator[ObjectStore]:
    opened = open_store(location, retry_seconds=5)
    yield opened
    opened.delete([info.key for info in opened.list("")])
