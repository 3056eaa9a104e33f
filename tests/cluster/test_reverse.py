"""All examples in one command and in reverse, and what Prometheus and a person then see of it."""

from __future__ import annotations

import json

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.kube import Kube
from tests.cluster.lab import Cluster, versions
from tests.scenario.environment import phase_is

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def reversed_examples(cluster: Cluster, kube: Kube, bucket: str) -> list[str]:
    """Every object of the examples, the last first, with the placeholders filled in."""
    s3 = cluster.s3
    found = []
    for path in sorted((versions.ROOT / "examples").glob("*.yaml")):
        for obj in yaml.safe_load_all(path.read_text()):
            obj["metadata"]["namespace"] = kube.namespace
            if obj["kind"] == "Secret":
                obj["stringData"] = {
                    "AWS_ACCESS_KEY_ID": s3.keys.access_key,
                    "AWS_SECRET_ACCESS_KEY": s3.keys.secret_key,
                }
            if obj["kind"] == "Vault":
                obj["spec"]["storage"]["s3"] |= {"endpoint": s3.endpoint, "bucket": bucket}
            found.append(yaml.safe_dump(obj))
    return found[::-1]


def samples(text: str) -> dict[tuple[str, str], float]:
    """Metrics by name and instance_id."""
    return {
        (sample.name, sample.labels["instance_id"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "instance_id" in sample.labels
    }


def test_all_examples_in_reverse_and_what_is_seen_of_them(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """What is absent is waited for, whatever the order; E2: used_vault_size and vault_util with instance_id."""
    kube, bucket = namespace, "reverse-examples"
    kube.apply(*reversed_examples(cluster, kube, bucket))
    # The bucket is absent too, and is waited for like all the rest.
    kube.wait("vault", "disks", lambda v: (v.get("status") or {}).get("reason") == "BucketNotFound", 60)
    waiting = kube.wait(
        "backup", "db-data-1", lambda b: (b.get("status") or {}).get("reason") == "VaultNotAvailable", 60
    )
    assert waiting["status"]["phase"] == "Pending", waiting["status"]
    cluster.s3.make_bucket(bucket)
    kube.wait("restore", "db-data-copy", phase_is("Completed"), 240)
    assert (
        kube.wait_phase("pvc", "db-data-copy", "Bound")["spec"]["resources"]["requests"]["storage"] == "1Gi"
    )
    policy = kube.get("backuppolicy", "nightly")
    assert policy is not None
    assert (policy["status"]["phase"], len(policy["status"]["nextRuns"])) == ("Ready", 5)

    vault = kube.wait("vault", "disks", lambda v: v["status"].get("backups") == 1, 90)
    uid, status = vault["metadata"]["uid"], vault["status"]
    metrics = samples(installed_operator.get("metrics"))
    assert metrics["used_vault_size", uid] == pytest.approx(status["usedBytes"] / 2**30)
    assert metrics["vault_util", uid] == pytest.approx(float(status["utilization"]), abs=0.06)
    assert installed_operator.get("healthz")
    assert installed_operator.get("readyz")


def test_movers_have_no_capability_no_token_and_the_operators_image(
    cluster: Cluster, namespace: Kube, installed_operator: Operator
) -> None:
    """What ran in the test above, as the API server stored it; Jobs that have ended stay an hour."""
    system = namespace.within(OPERATOR_NAMESPACE)
    jobs = system.all("jobs", "blockvault.dev/operation")
    assert jobs, "no mover has run in this session"
    operator = installed_operator.pods()[0]["spec"]["containers"][0]["image"]
    for job in jobs:
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        security = container["securityContext"]
        assert container["image"] == operator
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert (security["allowPrivilegeEscalation"], security["readOnlyRootFilesystem"]) == (False, True)
        assert pod["automountServiceAccountToken"] is False
        assert job["spec"]["ttlSecondsAfterFinished"] == 3600
        assert "AWS_" not in json.dumps(job), "credentials stand in a Job"
