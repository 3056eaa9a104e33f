"""What the engine relies on of a store, and the engine itself, on the real S3 server of the cluster.

The same tests run in tests/stores on a server of their own where its packages are installed; the cluster's
suite installs them, so that here they always run.
"""

from collections.abc import Iterator

import pytest

from blockvault.stores import ObjectStore, StoreLocation, open_store
from tests.cluster.lab import Cluster
from tests.servers.ceph import S3
from tests.stores.conftest import BUCKET, in_gateway
from tests.stores.test_backups import *  # noqa: F403
from tests.stores.test_conformance import *  # noqa: F403

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="session")
def rgw(cluster: Cluster) -> S3:
    """The cluster's store instead of one of its own."""
    cluster.s3.make_bucket(BUCKET)
    return cluster.s3


@pytest.fixture
def location(rgw: S3) -> StoreLocation:
    """A fresh, empty place in it."""
    return in_gateway(rgw)


@pytest.fixture
def store(location: StoreLocation) -> Iterator[ObjectStore]:
    """The store there."""
    opened = open_store(location, retry_seconds=5)
    yield opened
    opened.delete([info.key for info in opened.list("")])
