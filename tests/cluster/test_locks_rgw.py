"""Object lock and buckets that keep versions, on the real S3 server of the cluster."""

import pytest

from tests.cluster.test_stores_rgw import rgw  # noqa: F401
from tests.stores.conftest import moto_endpoint  # noqa: F401
from tests.stores.test_object_lock import *  # noqa: F403

pytestmark = pytest.mark.cluster
