"""The operator's log: a line for each transition, JSON where it is wanted, and no secret in it."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

from .cluster import EmbeddedCluster, launch_program
from .environment import EmbeddedEnvironment


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_for_each_transition_and_no_secret(form: str) -> None:
    with EmbeddedCluster(namespace="shop") as cluster:
        env = EmbeddedEnvironment(cluster)
        env.make_claim("db", 4 * MIB)
        env.write("db", [Write(MIB, MIB, seed=1)])
        cluster.launch = partial(launch_program, arguments=["--log-format", form])
        cluster.start_operator()
        env.apply(*manifests.vault_class("v", env.storage, "v"), manifests.vault("v", "v"))
        env.apply(manifests.backup("b", "v", "db"), manifests.backup("none", "missing", "other"))
        env.wait_for("backup", "b", phase_is("Available"), timeout=60)
        cluster.until(lambda: "Backup shop/b: Creating -> Available" in log(cluster), "its end is told", 10)
        lines = log(cluster).splitlines()
        said = [line for line in lines if "Backup shop/b:" in line]
        assert any("new -> " in line for line in said)
        assert len(said) == len(set(said)), "each once"
        assert len(said) <= 12, said
        secrets = [env.storage.secret_key, env.storage.access_key]
        assert not [line for line in lines if any(secret in line for secret in secrets)]
        if form == "json":
            fields = [json.loads(line) for line in said]
            assert all(
                each["object"]["kind"] == "Backup" and each["object"]["name"] == "b" for each in fields
            )
            last: dict[str, Any] = fields[-1]
            assert (last["former_phase"], last["phase"], last["reason"]) == (
                "Creating",
                "Available",
                "Completed",
            )
            assert last["severity"] == "info"
            assert all(json.loads(line) for line in lines), "nothing else is written"


def log(cluster: EmbeddedCluster) -> str:
    """All that the operator has written."""
    return cluster.operator_log.read_text(errors="replace")


def test_a_format_that_there_is_not_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blockvault", "operator", "--log-format", "xml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 64
    assert "--log-format" in done.stderr
