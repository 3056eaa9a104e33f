"""RBAC is the verbs used, no more: what was asked of the API server in this session, by its audit log (issue 6).

These come last. That the chart grants what `VERBS` says is a test of the chart (tests/chart/test_rbac.py).
"""

from __future__ import annotations

import pytest

from tests.cluster import audit
from tests.cluster.conftest import Operator
from tests.cluster.lab import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

# What no test of the cluster needs, and why it is granted all the same: scope, group, resource, verb.
NEEDED_ALL_THE_SAME: dict[tuple[str, str, str, str], str] = {
    ("mover", "snapshot.storage.k8s.io", "volumesnapshots", "get"): (
        "no mover asks: a storage's SnapshotMetadata service asks whether its token may"
    ),
    **dict.fromkeys(
        [
            ("workloads", "apps", "deployments", "get"),
            ("workloads", "apps", "deployments/scale", "patch"),
            ("workloads", "apps", "replicasets", "get"),
            ("workloads", "apps", "replicasets/scale", "patch"),
        ],
        "in the cluster a StatefulSet is stopped; the others in tests/embedded/test_in_place.py",
    ),
    ("operator", "", "secrets", "patch"): (
        "movers at work are given changed credentials: tests/embedded/test_credentials.py, and test_faults.py in make soak"
    ),
    ("cluster", "blockvault.dev", "tasks", "delete"): (
        "Tasks go after 30 days: tests/embedded/test_tasks.py moves the calendar"
    ),
}


def test_every_call_is_granted_by_the_table(cluster: Cluster, installed_operator: Operator) -> None:
    """And none was refused: a right that is missing shows nowhere else, as the operator tries again."""
    found = audit.read(cluster.logs / "audit.log")
    assert any(call.user == audit.OPERATOR for call in found.calls), "the log has the operator's calls"
    assert found.beyond() == []
    assert sorted(found.denied) == []
    assert found.strangers == set()


def test_movers_ask_the_api_for_nothing(cluster: Cluster, installed_operator: Operator) -> None:
    found = audit.read(cluster.logs / "audit.log")
    assert [call for call in found.calls if call.user == audit.MOVER] == []


@pytest.mark.soak  # until a whole run has shown what is still needed
@pytest.mark.whole
def test_nothing_is_granted_that_nobody_needs(
    cluster: Cluster, installed_operator: Operator, request: pytest.FixtureRequest
) -> None:
    """Of all tests together. One that fails may not have come to what it needs."""
    if request.session.testsfailed:
        return
    unused = audit.read(cluster.logs / "audit.log").unused()
    assert [right for right in unused if right not in NEEDED_ALL_THE_SAME] == []
    assert [right for right in NEEDED_ALL_THE_SAME if right not in unused] == [], "these are needed by now"
