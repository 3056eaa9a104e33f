"""The commands that the README shows for a cluster are run as they stand there, on the examples with real values."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import OPERATOR_NAMESPACE, Operator
from tests.cluster.lab import Cluster, images, versions

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PLACEHOLDERS = {"s3.example.com": None, "example-backups": None, "replace-me": None}


def block() -> str:
    """The shell block that is marked to be run in a cluster."""
    text = (versions.ROOT / "README.md").read_text()
    (found,) = re.findall(r"<!-- run: cluster -->\n```sh\n(.*?)```", text, re.DOTALL)
    return str(found)


def fill_in(folder: Path, cluster: Cluster, bucket: str) -> None:
    """The examples with the placeholders that they name replaced."""
    s3 = cluster.s3
    folder.mkdir()
    for path in sorted((versions.ROOT / "examples").glob("*.yaml")):
        text = path.read_text().replace("https://s3.example.com", s3.endpoint)
        text = text.replace("example-backups", bucket)
        text = text.replace("AWS_ACCESS_KEY_ID: replace-me", f"AWS_ACCESS_KEY_ID: {s3.keys.access_key}")
        text = text.replace(
            "AWS_SECRET_ACCESS_KEY: replace-me", f"AWS_SECRET_ACCESS_KEY: {s3.keys.secret_key}"
        )
        assert not [word for word in PLACEHOLDERS if word in text], (
            f"{path} names a placeholder nobody fills in"
        )
        (folder / path.name).write_text(text)


def test_installing_backing_up_and_restoring_by_the_readme(
    cluster: Cluster, installed_operator: Operator, tmp_path: Path
) -> None:
    bucket = "readme-backups"
    cluster.s3.make_bucket(bucket)
    fill_in(tmp_path / "examples", cluster, bucket)
    (tmp_path / "charts").symlink_to(versions.ROOT / "charts")
    repository, _, tag = images.PROJECT.rpartition(":")
    environment = cluster.environment() | {"IMAGE": repository, "TAG": tag}
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block()],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{installed_operator.report()}"
        assert re.search(r"db-data-copy\s+Bound", done.stdout), done.stdout
    finally:
        files = [word for path in sorted((tmp_path / "examples").iterdir()) for word in ("-f", str(path))]
        cluster.kubectl("delete", "--wait=false", "--ignore-not-found", *files)
        cluster.kubectl(
            "delete", "pvc", "db-data-copy", "--namespace=default", "--wait=false", "--ignore-not-found"
        )
        installed_operator.install()  # with the settings of the other tests again
        installed_operator.wait_available()
    assert OPERATOR_NAMESPACE in block()
