"""Each alert fires when it should and not otherwise, tried by Prometheus' own promtool; each has a runbook (F12)."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from blockvault.core.reasons import REASONS, SECTIONS
from blockvault.metrics.descriptions import DESCRIPTIONS, Description
from tests.required import need

from .helm import CHART, ROOT, Helm, HelmError, Object, one

RULES = CHART / "files" / "alerts.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"
GROUPS: list[Object] = yaml.safe_load(RULES.read_text())["groups"]
ALERTS: dict[str, Object] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}

VAULT = 'instance_id="u", namespace="shop", vault="disks"'
CLAIM = 'namespace="shop", claim="db", vault="disks"'
PLACE = {"namespace": "shop", "vault": "disks"}
OF_VAULT = {"instance_id": "u", **PLACE}
OF_CLAIM = {"claim": "db", **PLACE}
Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """What an alert sees: series (promtool's notation, a value each step from 1970 on), and what it says then."""

    alert: str
    at: str
    fires: Series
    quiet: list[Series]
    labels: dict[str, str] = field(default_factory=dict)


def status(phase: str, reason: str) -> Series:
    up = "1" if phase in ("Available", "Locked") else "0"
    return {
        f'blockvault_vault_status{{{VAULT}, phase="{phase}", reason="{reason}"}}': "1x600",
        f"blockvault_vault_up{{{VAULT}}}": f"{up}x600",
    }


def usage(used: str) -> Series:
    return {
        f"blockvault_vault_used_bytes{{{VAULT}}}": used,
        f"blockvault_vault_capacity_bytes{{{VAULT}}}": "100x600",
    }


def due(at: str) -> Series:
    return {f"blockvault_claim_backup_due_timestamp_seconds{{{CLAIM}}}": at}


def held(what: str, value: str) -> Series:
    return {f'blockvault_vault_held{{{VAULT}, hold="{what}"}}': value}


def trash(backups: int, deleted: int, goes: int) -> Series:
    return {
        f"blockvault_vault_backups{{{VAULT}}}": f"{backups}x600",
        f"blockvault_vault_trash_backups{{{VAULT}}}": f"{deleted}x600",
        f"blockvault_vault_trash_goes_timestamp_seconds{{{VAULT}}}": f"{goes}x600",
    }


def skipped(values: str) -> Series:
    return {'blockvault_slots_skipped_total{namespace="shop", vault="disks", reason="Missed"}': values}


def lists(reason: str, values: str) -> Series:
    return {f'blockvault_backup_changed_blocks_total{{source="Compare", reason="{reason}"}}': values}


def claims(state: str, reason: str) -> Series:
    return {f'blockvault_claims{{namespace="shop", state="{state}", reason="{reason}"}}': "2x3000"}


def tidied(at: str, well: int) -> Series:
    return {
        f"blockvault_vault_upkeep_timestamp_seconds{{{VAULT}}}": at,
        f"blockvault_vault_upkeep_successful{{{VAULT}}}": f"{well}x6000",
    }


def restores(result: str, values: str) -> Series:
    return {f'blockvault_restore_runs_total{{namespace="shop", result="{result}"}}': values}


AWAY = status("Error", "StoreUnreachable")
CASES = [
    Case("BlockvaultBackupLate", "80m", due("0x600"), [due("600x600"), due("0x60 86400x600")], OF_CLAIM),
    Case("BlockvaultBackupOverdue", "25h", due("0x3000"), [due("7200x3000")], OF_CLAIM),
    # A slot that was skipped is told for an hour; one from before the operator was looked at is not.
    Case("BlockvaultBackupMissed", "40m", skipped("0x20 2x60"), [skipped("0x90"), skipped("7x90")],
         PLACE | {"reason": "Missed"}),
    Case("BlockvaultBackupFailing", "10m", {f"blockvault_vault_failing_claims{{{VAULT}}}": "1x20"},
         [{f"blockvault_vault_failing_claims{{{VAULT}}}": "0x20"},
          {f"blockvault_vault_failing_claims{{{VAULT}}}": "0x8 1x20"}], OF_VAULT),
    Case("BlockvaultChangedBlocksDistrusted", "3h", lists("ListWasWrong", "0x100 1x100"),
         [lists("ListWasWrong", "3x200"), lists("NoService", "0x100 50x100"), lists("BaseGone", "0x100 1x100")],
         {"source": "Compare", "reason": "ListWasWrong"}),
    Case("BlockvaultClaimsUnprotected", "25h", claims("Unprotected", "NoVault"),
         [claims("Protected", "Scheduled"), claims("Excluded", "Annotation"), claims("Unprotected", "NoBackupYet")],
         {"namespace": "shop"}),
    Case("BlockvaultVaultNearlyFull", "40m", usage("81x600"), [usage("80x600"), usage("100x600"), usage("81x5 70x600")],
         OF_VAULT),
    Case("BlockvaultVaultFull", "10m", usage("100x600"), [usage("99x600")], OF_VAULT),
    Case("BlockvaultStoreUnreachable", "15m", AWAY,
         [status("Available", "Available"), status("Error", "WrongKey"), status("Deleting", "StoreUnreachable")],
         OF_VAULT | {"phase": "Error", "reason": "StoreUnreachable"}),
    Case("BlockvaultKeyMissing", "10m", status("Pending", "KeyNotFound"),
         [status("Available", "Available"), status("Pending", "SecretNotFound")],
         OF_VAULT | {"phase": "Pending", "reason": "KeyNotFound"}),
    # What another alert says already is not said twice.
    Case("BlockvaultVaultDown", "20m", status("Error", "AmbiguousClass"),
         [status("Locked", "Enlarging"), status("Deleting", "Erasing"), AWAY, status("Pending", "KeyNotFound")], OF_VAULT),
    Case("BlockvaultVaultDamaged", "1m", {f"blockvault_vault_damaged{{{VAULT}}}": "1x10"},
         [{f"blockvault_vault_damaged{{{VAULT}}}": "0x10"}], OF_VAULT),
    Case("BlockvaultCollectBehind", "67h", tidied("0x6000", 1), [tidied("172800x6000", 1)], OF_VAULT),
    Case("BlockvaultCollectBehind", "7h", tidied("0x6000", 0), [tidied("0x6000", 1)], OF_VAULT),
    Case("BlockvaultExpiryHeld", "1m", held("Expiry", "1x10"), [held("Expiry", "0x10"), held("Deletion", "1x10")],
         OF_VAULT | {"hold": "Expiry"}),
    Case("BlockvaultDeletionHeld", "1m", held("Dissociation", "1x10"), [held("Deletion", "0x10"), held("Expiry", "1x10")],
         OF_VAULT | {"hold": "Dissociation"}),
    Case("BlockvaultTrashAboutToGo", "1m", trash(0, 3, 3600), [trash(1, 3, 3600), trash(0, 0, 3600), trash(0, 3, 90000)],
         OF_VAULT),
    Case("BlockvaultRestoreFailed", "30m", restores("failed", "0x20 1x60"),
         [restores("failed", "4x60"), restores("succeeded", "0x20 1x60")], {"namespace": "shop", "result": "failed"}),
    Case("BlockvaultRollbackWaiting", "7h", {'blockvault_restores{namespace="shop", phase="Restored"}': "1x600"},
         [{'blockvault_restores{namespace="shop", phase="Completed"}': "1x600"},
          {'blockvault_restores{namespace="shop", phase="Restored"}': "_x10 1x300"}],
         {"namespace": "shop", "phase": "Restored"}),
    Case("BlockvaultOperatorAbsent", "15m", {"up": "0x60"}, [{'blockvault_build_info{version="1"}': "1x60"}]),
    Case("BlockvaultOperatorErrors", "50m", {'blockvault_reconcile_errors_total{kind="Vault"}': "0+20x60"},
         [{'blockvault_reconcile_errors_total{kind="Vault"}': "0x5 20x60"}], {"kind": "Vault"}),
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def promtool() -> None:
    need("promtool", "the alerts are tried by promtool: install Debian's package prometheus", "promtool")


@pytest.mark.parametrize("case", CASES, ids=[f"{case.alert}-{case.at}" for case in CASES])
def test_f12_it_fires_when_it_should_and_not_otherwise(case: Case, tmp_path: Path) -> None:
    rule = dict(ALERTS[case.alert])
    del rule["annotations"]  # there are figures in them: what they say is looked at apart
    group = {"name": "one", "rules": [rule]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [group]}))
    # Days in steps of a minute would take promtool minutes.
    step = "30m" if int(case.at[:-1]) > 6 and case.at.endswith("h") else "1m"
    expected = [{"exp_labels": {**case.labels, "severity": rule["labels"]["severity"]}}]
    tests: list[dict[str, Any]] = [
        {
            "interval": step,
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [{"eval_time": case.at, "alertname": case.alert, "exp_alerts": alerts}],
        }
        for series, alerts in [(case.fires, expected), *((quiet, []) for quiet in case.quiet)]
    ]
    file = tmp_path / "test.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": step, "tests": tests})
    )
    done = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_f12_every_alert_is_tried() -> None:
    assert {case.alert for case in CASES} == ALERTS.keys()


def test_promtool_takes_the_file_as_it_is() -> None:
    """As somebody without the Prometheus operator does."""
    done = subprocess.run(
        ["promtool", "check", "rules", RULES], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def metrics_in(expression: str) -> set[str]:
    """Names of the metrics that an expression reads; of a histogram its own."""
    names = set(re.findall(r"\b(?:blockvault_\w+|used_vault_size|vault_util)\b", expression))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_f12_an_alert_reads_metrics_and_labels_that_are_served(alert: str) -> None:
    served: dict[str, Description] = {each.name: each for each in DESCRIPTIONS}
    expression = ALERTS[alert]["expr"]
    assert metrics_in(expression) <= served.keys()
    for name, selector in re.findall(r"(blockvault_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)(?:=|!)", selector)) <= set(served[name].labels), name
    assert set(re.findall(r"\.labels\.(\w+)", str(ALERTS[alert]["annotations"]))) <= {
        label for name in metrics_in(expression) for label in served[name].labels
    }


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_f12_the_reasons_that_an_alert_names_are_said(alert: str) -> None:
    """A word that was renamed would let it fall silent."""
    from blockvault.api import CHANGED_BLOCK_REASONS

    known = {*REASONS, *CHANGED_BLOCK_REASONS}
    for words in re.findall(r'reason(?:=~|=|!=)"([^"]+)"', ALERTS[alert]["expr"]):
        assert set(words.split("|")) <= known


def test_f12_whatever_a_store_may_answer_is_of_an_alert() -> None:
    """The reasons by which a store cannot be used, and those by which a key is no good, are all looked for."""
    looked_for = {
        word
        for name in ("BlockvaultStoreUnreachable", "BlockvaultKeyMissing")
        for word in re.findall(r'reason=~"([^"]+)"', ALERTS[name]["expr"])[0].split("|")
    }
    of_stores = {word for word, row in SECTIONS["store"].items() if "Vault" in row.on}
    assert of_stores - looked_for == {"AlreadyExists", "BadLocation", "NoConditionalCreate", "ObjectLocked"}
    assert {word for word in REASONS if "Key" in word and word not in ("OldKeyNeeded", "OldKeyRemoved", "TenantKeysForbidden")} <= looked_for  # fmt: skip


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_f12_each_alert_has_a_runbook(alert: str) -> None:
    assert ALERTS[alert]["annotations"]["runbook_url"] == f"docs/runbooks/{alert}.md"
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    for part in ("## What it means", "## What to look at", "## What to do"):
        assert part in text
    assert f"({alert}.md)" in (RUNBOOKS / "README.md").read_text()


def test_f12_each_runbook_is_of_an_alert_and_its_links_lead_somewhere() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == ALERTS.keys()
    for path in RUNBOOKS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (RUNBOOKS / link).exists(), f"{path.name}: {link}"


def test_f12_runbooks_name_reasons_and_metrics_that_there_are() -> None:
    served = {each.name for each in DESCRIPTIONS}
    for path in RUNBOOKS.glob("*.md"):
        assert metrics_in(path.read_text()) <= served, path.name


@pytest.mark.parametrize("prefix", ["", "https://docs.example.com/runbooks/"])
def test_f12_the_chart_makes_a_rule_of_them(helm: Helm, prefix: str) -> None:
    values: Object = {"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}}
    if prefix:
        values["prometheusRule"]["runbookUrl"] = prefix
    rule = one(helm.render(values), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    made = {each["alert"]: each for group in rule["spec"]["groups"] for each in group["rules"]}
    assert {name: each["expr"] for name, each in made.items()} == {n: a["expr"] for n, a in ALERTS.items()}
    for name, each in made.items():
        assert each["annotations"]["runbook_url"] == f"{prefix or 'docs/runbooks/'}{name}.md"
        assert each["annotations"]["summary"] == ALERTS[name]["annotations"]["summary"]


def test_f12_prometheus_finds_the_service_and_lets_our_labels_win(helm: Helm) -> None:
    """`namespace` is that of the vault: the target's own must not take its place."""
    values = {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "p"}, "interval": "30s"}}}
    objects = helm.render(values)
    monitor, service = one(objects, "ServiceMonitor"), one(objects, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": [service["metadata"]["namespace"]]}
    assert monitor["spec"]["endpoints"] == [{"port": "http", "honorLabels": True, "interval": "30s"}]
    assert monitor["metadata"]["labels"]["release"] == "p"
    with pytest.raises(HelmError, match=r"metrics\.service\.enabled"):
        helm.render({"metrics": {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}}})


def test_f12_dashboards_come_as_grafanas_sidecar_takes_them(helm: Helm) -> None:
    made = one(helm.render({"dashboards": {"enabled": True}}), "ConfigMap")
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    files = {path.name: path.read_text() for path in (CHART / "files" / "dashboards").glob("*.json")}
    assert len(files) == 2
    assert {name: json.loads(text) for name, text in made["data"].items()} == {
        name: json.loads(text) for name, text in files.items()
    }


@pytest.mark.parametrize(
    "path", sorted((CHART / "files" / "dashboards").glob("*.json")), ids=lambda path: path.stem
)
def test_f12_panels_read_metrics_that_are_served(path: Path) -> None:
    queries = [
        t["expr"] for panel in json.loads(path.read_text())["panels"] for t in panel.get("targets", [])
    ]
    assert queries
    for query in queries:
        assert metrics_in(query), query
        assert metrics_in(query) <= {each.name for each in DESCRIPTIONS}, query


def test_without_a_prometheus_operator_there_is_none(defaults: list[Object]) -> None:
    assert not [each for each in defaults if each["kind"] in ("PrometheusRule", "ServiceMonitor")]
