"""A real Prometheus scrapes the real operator: every panel has data, every rule can be evaluated (E2, F12, F23)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Operator
from tests.cluster.kube import Kube, claim
from tests.cluster.lab import Cluster, versions
from tests.cluster.prometheus import Prometheus, through_api_server
from tests.cluster.test_contract import ClusterEnvironment
from tests.required import need
from tests.scenario import manifests
from tests.scenario.environment import Write, phase_is
from tests.scenario.incremental import MIB

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

DASHBOARDS = versions.ROOT / "charts" / "blockvault" / "files" / "dashboards"
# Where the data of all panels is kept for tests.cluster.picture, when somebody wants it.
KEEP = "BLOCKVAULT_KEEP_PANELS"
# What is so wherever the queries of panels have this: every so often a scrape, and all of the test.
INTERVAL, RANGE = "1m", "10m"
SIZE = 64 * MIB


def panels() -> list[tuple[str, dict[str, Any]]]:
    """Name and model of each panel, of all dashboards."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        found += [(f"{board['title']}: {p['title']}", p) for p in board["panels"] if p.get("targets")]
    return found


def filled(query: str, namespace: str) -> str:
    """A panel's query as Grafana asks it, with one namespace chosen."""
    chosen = {"$namespace": namespace, "$vault": ".*", "$__rate_interval": INTERVAL, "$__range": RANGE}
    for name, value in chosen.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def test_e2_f12_no_panel_is_empty_and_every_rule_can_be_evaluated(
    cluster: Cluster, namespace: Kube, installed_operator: Operator, tmp_path: Path
) -> None:
    need(
        "promtool",
        "panels are tried with a real Prometheus: install Debian's package prometheus",
        "prometheus",
    )
    began = time.monotonic()
    with Prometheus(tmp_path, through_api_server(installed_operator, tmp_path)) as prometheus:
        shop(cluster, namespace, prometheus)
        asked = [
            (name, filled(target["expr"], namespace.namespace))
            for name, panel in panels()
            for target in panel["targets"]
        ]
        assert len(asked) > 40
        assert [name for name, query in asked if not prometheus.ask(query)] == []
        for kind in ("namespace", "vault"):
            assert namespace.namespace in str(
                prometheus.ask(f"count by ({kind}, namespace) (blockvault_vault_up)")
            )
        rules = [r for group in prometheus.get("rules")["groups"] for r in group["rules"]]
        assert {r["health"] for r in rules} == {"ok"}, [r for r in rules if r["health"] != "ok"]
        # What is forgotten shows, though its alert waits for a day.
        waiting = prometheus.ask(
            f'ALERTS{{alertname="BlockvaultClaimsUnprotected", namespace="{namespace.namespace}"}}'
        )
        assert [each["metric"]["alertstate"] for each in waiting] == ["pending"]
        if os.environ.get(KEEP):
            keep(prometheus, namespace.namespace, time.monotonic() - began)


def shop(cluster: Cluster, kube: Kube, prometheus: Prometheus) -> None:
    """Two backups and a restore of a claim under a policy, one claim that is excluded, one that is forgotten."""
    env, name = ClusterEnvironment(cluster, kube, "bv-immediate"), f"watch-{kube.namespace[-4:]}"
    policy = {
        "apiVersion": manifests.API,
        "kind": "BackupPolicy",
        "metadata": {"name": "nightly"},
        "spec": {"schedule": {"hours": [3]}, "retention": {"count": 2}},
    }
    vault: Any = manifests.vault(name, name)
    data = {"kind": "PersistentVolumeClaim", "name": "data"}
    vault["spec"] |= {"policyRef": {"name": "nightly"}, "resources": [data]}
    env.make_claim("data", SIZE)
    cache = claim("cache", size="8Mi", storage_class="bv-immediate")
    cache["metadata"]["annotations"] = {"blockvault.dev/exclude": "made anew at each start"}
    env.apply(cache, claim("forgotten", size="8Mi", storage_class="bv-immediate"))
    env.write("data", [Write(MIB, 16 * MIB, seed=1)])
    env.apply(*manifests.vault_class(name, env.storage, name), policy, vault)
    here = f'namespace="{kube.namespace}"'
    # It begins to count from zero, and that is seen.
    prometheus.until(f"blockvault_backup_runs_total{{{here}}} == 0", 60)
    for number in (1, 2):
        env.apply(manifests.backup(f"backup-{number}", name, "data"))
        env.wait_for("backup", f"backup-{number}", phase_is("Available"), timeout=180)
        env.write("data", [Write(number * 20 * MIB, MIB, seed=number + 1)])
    env.apply(manifests.restore("copy", "backup-2", "copy", "bv-immediate", f"{SIZE // MIB}Mi"))
    env.wait_for("restore", "copy", phase_is("Completed"), timeout=180)
    prometheus.until(f"sum(increase(blockvault_restore_runs_total{{{here}}}[{RANGE}])) > 0", 30)
    prometheus.until(f'blockvault_claims{{{here}, state="Excluded"}} == 1', 30)
    prometheus.until(f'blockvault_claims{{{here}, state="Protected"}} == 1', 30)
    prometheus.until(f"blockvault_vault_used_bytes{{{here}}} > 0", 90)


def keep(prometheus: Prometheus, namespace: str, seconds: float) -> None:
    """Write the data of all panels, for the picture."""
    data = []
    for name, panel in panels():
        for target in panel["targets"]:
            query = filled(target["expr"], namespace)
            instant = bool(target.get("instant"))
            found = prometheus.ask(query) if instant else prometheus.over(query, seconds)
            legend, unit = target.get("legendFormat", ""), panel["fieldConfig"]["defaults"].get("unit", "")
            data.append({"panel": name, "instant": instant, "legend": legend, "unit": unit, "result": found})
    Path(os.environ[KEEP]).write_text(json.dumps(data, indent=1))
