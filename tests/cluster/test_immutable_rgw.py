"""Locked backups against stolen credentials, on the real S3 server of the cluster."""

import pytest

from tests.cluster.test_stores_rgw import rgw  # noqa: F401
from tests.stores.conftest import moto_endpoint  # noqa: F401
from tests.stores.test_immutable import *  # noqa: F403

# Seconds for each test: some hundred small requests.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
