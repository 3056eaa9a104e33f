"""A real Kopf operator in a process of its own works against the emulated API."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import EmbeddedCluster
from .conftest import phase

OPERATOR = """
import asyncio
import kopf

@kopf.on.startup()
def configure(settings, **_):
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.persistence.finalizer = "example.dev/operator"

@kopf.on.login()
def login(**kwargs):
    return kopf.login_with_kubeconfig(**kwargs)

seen = asyncio.Event()

@kopf.on.event("", "v1", "configmaps", labels={"wake": kopf.PRESENT})
async def wake(type, **_):
    if type:
        seen.set()

@kopf.daemon("example.dev", "v1", "widgets", cancellation_timeout=5,
             when=lambda status, **_: status.get("phase") != "Done")
async def drive(patch, stopped, **_):
    await seen.wait()
    patch.status["phase"] = "Done"
"""


@pytest.fixture
def operator(cluster: EmbeddedCluster, tmp_path: Path) -> Iterator[Path]:
    program, log = tmp_path / "widgets.py", tmp_path / "operator.log"
    program.write_text(OPERATOR)
    env = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    with log.open("wb") as file:
        command = [sys.executable, "-m", "kopf", "run", "--all-namespaces", str(program)]
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file)
    yield log
    process.terminate()
    process.wait(15)


def test_daemons_finalizers_and_events(cluster: EmbeddedCluster, operator: Path) -> None:
    widget = {
        "apiVersion": "example.dev/v1",
        "kind": "Widget",
        "metadata": {"name": "a"},
        "spec": {"size": 1},
    }
    cluster.apply(widget)
    held = cluster.wait_for("widget", "a", lambda o: o and o["metadata"].get("finalizers"), timeout=15)
    assert held["metadata"]["finalizers"] == ["example.dev/operator"]
    cluster.faults.fail("patch", "widgets/status", status=500)
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": {"wake": "up"}}}
    )
    cluster.wait_for("widget", "a", phase("Done"), timeout=15)
    cluster.wait_for("widget", "a", lambda o: o and not o["metadata"].get("finalizers"), timeout=15)
    cluster.delete("widget", "a")
    cluster.wait_for("widget", "a", phase(None), timeout=15)
    text = operator.read_text()
    assert "inconsistencies" not in text
    assert "Traceback" not in text, text
