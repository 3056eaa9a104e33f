"""All of examples/ in one command, the administrator's class too, and a Vault that was there before its class."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube, Object
from tests.cluster.lab import Cluster, versions
from tests.scenario.environment import phase_is
from tests.scenario.manifests import API

# In soak until whole runs beside the other files have shown it to be steady.
pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(300)]


def fill_in(folder: Path, cluster: Cluster, namespace: str, bucket: str) -> None:
    """The examples with their placeholders replaced, in a namespace of their own."""
    s3, source = cluster.s3, versions.ROOT / "examples"
    values = {
        "AWS_ACCESS_KEY_ID: replace-me": f"AWS_ACCESS_KEY_ID: {s3.keys.access_key}",
        "AWS_SECRET_ACCESS_KEY: replace-me": f"AWS_SECRET_ACCESS_KEY: {s3.keys.secret_key}",
        "https://s3.example.com": s3.endpoint,
        "example-backups": bucket,
        "namespace: default": f"namespace: {namespace}",
    }
    for path in sorted(source.rglob("*.yaml")):
        text = path.read_text()
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def test_all_examples_and_the_class_in_one_command(
    cluster: Cluster, namespace: Kube, installed_operator: Operator, tmp_path: Path
) -> None:
    kube, bucket = namespace, f"examples-{namespace.namespace[-4:]}"
    cluster.s3.make_bucket(bucket)
    fill_in(tmp_path, cluster, kube.namespace, bucket)
    # Names neither a class nor storage: it waits for an administrator.
    kube.apply(
        {
            "apiVersion": API,
            "kind": "Vault",
            "metadata": {"name": "early"},
            "spec": {"type": "Disk", "capacity": "10Gi"},
        }
    )

    def waits(vault: Object) -> bool:
        status = vault.get("status") or {}
        return (status.get("phase"), status.get("reason")) == ("Pending", "NoDefaultClass")

    kube.wait("vault", "early", waits, 30)
    try:
        cluster.kubectl("apply", "--recursive", "--filename", str(tmp_path))
        kube.wait("restore", "db-data-copy", phase_is("Completed"), 240)
        for kind, name, phase in (
            ("vault", "disks", "Available"),
            ("vault", "early", "Available"),
            ("backuppolicy", "nightly", "Ready"),
            ("backup", "db-data-1", "Available"),
            ("pvc", "db-data-copy", "Bound"),
            ("vaultclass", "standard", "Ready"),
        ):
            kube.wait_phase(kind, name, phase, seconds=60)
        early = kube.get("vault", "early")
        assert early is not None
        place = f"clusters/example/{kube.namespace}/early-{early['metadata']['uid'][:8]}"
        assert early["status"]["location"] == f"s3://{bucket}/{place}"
        kept = cluster.s3.client().list_objects_v2(Bucket=bucket, Prefix=f"{place}/")["KeyCount"]
        assert kept > 0, "the class's vault has left nothing in its place"
    finally:
        # The only things that outlive the namespace; a default class would be used by other tests.
        cluster.kubectl("delete", "--ignore-not-found", "--filename", str(tmp_path / "classes"))
