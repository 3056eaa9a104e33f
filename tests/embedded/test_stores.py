"""Stores that cannot be used, as the operator says it to the user."""

from __future__ import annotations

import copy

from tests.embedded.cluster import EmbeddedCluster
from tests.scenario import manifests
from tests.scenario.environment import Storage
from tests.stores.faulty_server import FaultyServer


def test_a_store_without_conditional_creation_is_refused() -> None:
    """The store that ignores If-None-Match would let two writers overwrite each other: the Vault says so."""
    with EmbeddedCluster() as cluster:
        proxy = FaultyServer(cluster.s3.endpoint, lambda *_: None, strip=("if-none-match",))
        try:
            s3 = cluster.s3
            storage = Storage(proxy.endpoint, s3.region, s3.bucket, s3.access_key, s3.secret_key)
            objects = [*manifests.vault_class("loose", storage, "p"), manifests.vault("loose", "loose")]
            cluster.apply(*copy.deepcopy(objects))
            cluster.start_operator()
            found = cluster.wait_for(
                "vault",
                "loose",
                lambda v: ((v or {}).get("status") or {}).get("phase") == "Error",
                timeout=60,
            )
            status = found["status"]
            assert status["reason"] == "NoConditionalCreate"
            assert s3.bucket in status["message"]
            assert "If-None-Match" in status["message"]
        finally:
            proxy.close()
