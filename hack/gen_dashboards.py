"""Write the Grafana dashboards of charts/blockvault/files/dashboards. With --check, only say whether they are new.

Each panel is one row of a table here: what it shows, as what, in which unit, by which queries.
`tests/cluster/test_watch.py` asks a real Prometheus each of these queries.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

FOLDER = Path(__file__).resolve().parent.parent / "charts" / "blockvault" / "files" / "dashboards"

Form = Literal["stat", "lines", "table"]
HEIGHT = {"stat": 4, "lines": 8, "table": 8}
OF = 'namespace=~"$namespace", vault=~"$vault"'
IN = 'namespace=~"$namespace"'


@dataclass(frozen=True)
class Panel:
    """One panel. `queries`: (PromQL, legend); `width` in 24ths; `bad`: from this value on it is red."""

    title: str
    form: Form
    unit: str
    width: int
    queries: tuple[tuple[str, str], ...]
    text: str = ""
    bad: float | None = None
    most: float | None = None


def one(title: str, query: str, unit: str = "short", text: str = "", bad: float | None = None) -> Panel:
    """A single number."""
    return Panel(title, "stat", unit, 4, ((query, ""),), text, bad)


def lines(
    title: str,
    unit: str,
    *queries: tuple[str, str],
    text: str = "",
    width: int = 8,
    most: float | None = None,
) -> Panel:
    """Lines over time."""
    return Panel(title, "lines", unit, width, queries, text, most=most)


def rows(title: str, unit: str, query: str, text: str = "", width: int = 6) -> Panel:
    """A table of what is so now."""
    return Panel(title, "table", unit, width, ((query, ""),), text)


def rate(metric: str, by: str, labels: str = OF) -> str:
    """How fast a counter grows, added up by some labels."""
    selector = f"{metric}{{{labels}}}" if labels else metric
    total = f"rate({selector}[$__rate_interval])"
    return f"sum by ({by}) ({total})" if by else f"sum({total})"


def total(metric: str, by: str, labels: str = OF) -> str:
    """By how much a counter has grown in the time that is shown, added up by some labels."""
    selector = f"{metric}{{{labels}}}" if labels else metric
    return f"sum by ({by}) (increase({selector}[$__range]))" if by else f"sum(increase({selector}[$__range]))"


def mean(metric: str, by: str) -> str:
    """The mean of a histogram, in the time that is shown."""
    return f"sum by ({by}) (increase({metric}_sum[$__range])) / sum by ({by}) (increase({metric}_count[$__range]))"


NAME = "{{namespace}}/{{vault}}"
LATE = f"time() - blockvault_claim_backup_due_timestamp_seconds{{{OF}}}"

VAULTS: list[tuple[str, list[Panel]]] = [
    ("At a glance", [
        one("Vaults down", f"count(blockvault_vault_up{{{OF}}}) - sum(blockvault_vault_up{{{OF}}})", bad=1),
        one("Claims protected", f'sum(blockvault_claims{{{IN}, state="Protected"}}) or vector(0)'),
        one("Claims unprotected", f'sum(blockvault_claims{{{IN}, state="Unprotected"}}) or vector(0)', bad=1,
            text="Bound claims that no policy backs up, or that have no backup yet, and that nobody has excluded."),
        one("Claims late", f"count({LATE} > 0) or vector(0)", bad=1,
            text="Claims whose next backup is due by their policy, and not there."),
        one("Claims failing", f"sum(blockvault_vault_failing_claims{{{OF}}})", bad=1,
            text="Claims whose newest ended Backup has failed."),
        one("Waiting for a word", f"sum(blockvault_vault_held{{{OF}}})", bad=1,
            text="Mass deletions, dissociations, and expiry that is held as a backup is odd."),
    ]),
    ("Room", [
        lines("Used of the capacity", "percent", (f"vault_util{{{OF}}}", NAME), most=100),
        lines("Used", "bytes", (f"blockvault_vault_used_bytes{{{OF}}}", NAME)),
        lines("Trash", "bytes", (f"blockvault_vault_trash_bytes{{{OF}}}", NAME)),
    ]),
    ("Freshness and coverage", [
        rows("Age of the newest backup", "s",
             f"topk(50, time() - blockvault_claim_last_backup_timestamp_seconds{{{OF}}})"),
        rows("Time until the next backup is due", "s", f"bottomk(50, -({LATE}))",
             text="Less than nothing: it is late."),
        lines("Claims by state", "short", (f"sum by (state) (blockvault_claims{{{IN}}})", "{{state}}"), width=6),
        rows("Claims by namespace and reason", "short", f"blockvault_claims{{{IN}}}"),
    ]),
    ("What backups did", [
        lines("Backups by result", "short",
              (total("blockvault_backup_runs_total", "result"), "{{result}}")),
        lines("Slots without a backup", "short",
              (total("blockvault_slots_skipped_total", "reason"), "{{reason}}")),
        lines("Stored", "Bps", (rate("blockvault_backup_stored_bytes_total", "namespace, vault"), NAME)),
        lines("Read from snapshots", "Bps", (rate("blockvault_backup_scanned_bytes_total", "namespace, vault"), NAME)),
        lines("Changed of what was read", "percentunit",
              (f"{total('blockvault_backup_changed_bytes_total', 'namespace, vault')}"
               f" / {total('blockvault_backup_scanned_bytes_total', 'namespace, vault')}", NAME)),
        lines("Stored of what changed", "percentunit",
              (f"{total('blockvault_backup_stored_bytes_total', 'namespace, vault')}"
               f" / {total('blockvault_backup_changed_bytes_total', 'namespace, vault')}", NAME),
              text="Compression, and sectors of blocks that did not change."),
    ]),
    ("The store", [
        lines("Backups that are kept", "short", (f"blockvault_vault_backups{{{OF}}}", NAME), width=6),
        rows("Since it was tidied up", "s", f"time() - blockvault_vault_upkeep_timestamp_seconds{{{OF}}}"),
        rows("Phase and reason", "short", f"blockvault_vault_status{{{OF}}}"),
        rows("Until the policy runs next", "s", f"blockvault_vault_next_run_timestamp_seconds{{{OF}}} - time()"),
    ]),
]  # fmt: skip

OPERATIONS: list[tuple[str, list[Panel]]] = [
    ("Now", [
        one("Operators", "count(blockvault_build_info)", text="One: with none nothing is backed up or restored."),
        one("Backups at work", "sum(blockvault_backups_working)"),
        one("Waiting for their turn", "sum(blockvault_backups_queued)"),
        one("May work at once", "sum(blockvault_backups_working_limit)"),
        one("Restores at work", f'sum(blockvault_restores{{{IN}, phase="Restoring"}}) or vector(0)'),
        one("Rollback possible", f'sum(blockvault_restores{{{IN}, phase="Restored"}}) or vector(0)',
            text="Restores in place whose former volume is kept."),
    ]),
    ("Backups", [
        lines("By phase", "short", (f"sum by (phase) (blockvault_backups{{{IN}}})", "{{phase}}")),
        lines("At work and waiting", "short", ("blockvault_backups_working", "at work"),
              ("blockvault_backups_queued", "waiting"), ("blockvault_backups_working_limit", "may work")),
        lines("Time of the mover, mean", "s", (mean("blockvault_backup_duration_seconds", "type"), "{{type}}")),
        lines("Time of the mover, 95 of 100", "s",
              ("histogram_quantile(0.95, sum by (type, le)"
               " (increase(blockvault_backup_duration_seconds_bucket[$__range])))", "{{type}}")),
        lines("Time of each step, mean", "s",
              (mean("blockvault_step_duration_seconds", "kind, step"), "{{kind}} {{step}}"), width=16,
              text="Where the time goes: waiting, snapshot, volume, mover, cleaning up."),
        lines("What told the changes", "short",
              (total("blockvault_backup_changed_blocks_total", "source, reason", ""), "{{source}} {{reason}}"),
              text="SnapshotMetadata: the storage's own list. Compare and Full read everything; the reason says why."),
        lines("Backups by type and result", "short",
              (total("blockvault_backup_runs_total", "type, result", IN), "{{type}} {{result}}")),
    ]),
    ("Restores", [
        lines("By phase", "short", (f"sum by (phase) (blockvault_restores{{{IN}}})", "{{phase}}"), width=6),
        lines("By result", "short", (total("blockvault_restore_runs_total", "result", IN), "{{result}}"), width=6),
        lines("Written", "Bps", (rate("blockvault_restore_written_bytes_total", "", ""), "to volumes"), width=6),
        lines("Time of the mover, mean", "s",
              ("increase(blockvault_restore_duration_seconds_sum[$__range])"
               " / increase(blockvault_restore_duration_seconds_count[$__range])", "restore"), width=6),
    ]),
    ("Object stores", [
        lines("Requests of backups", "reqps",
              (rate("blockvault_backup_requests_total", "namespace, vault", IN), NAME), width=6),
        lines("Repeated requests", "reqps", (rate("blockvault_backup_retries_total", "", IN), "repeated"),
              (rate("blockvault_backup_throttles_total", "", IN), "asked to slow down"), width=6),
        lines("Upkeep: runs", "short", (total("blockvault_upkeep_runs_total", "result", ""), "{{result}}"), width=6),
        lines("Upkeep: bytes", "bytes", (total("blockvault_upkeep_deleted_bytes_total", "", ""), "removed"),
              (total("blockvault_upkeep_rewritten_bytes_total", "", ""), "stored anew"), width=6),
    ]),
    ("The operator", [
        lines("Steps that ended in an error", "short",
              (total("blockvault_reconcile_errors_total", "kind", "") + " or vector(0)", "{{kind}}"), width=12),
        lines("Lag of the event loop", "s", ("blockvault_event_loop_lag_seconds", "lag"), width=12),
    ]),
]  # fmt: skip

Source = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def build(panel: Panel) -> Any:
    """The library's builder of a panel."""
    made: Any
    if panel.form == "stat":
        made = stat.Panel().graph_mode(common_models.BigValueGraphMode.NONE)
        made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        if panel.bad is not None:
            steps = [
                models.Threshold(value=None, color="green"),
                models.Threshold(value=panel.bad, color="red"),
            ]
            made = made.thresholds(
                dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
            )
    elif panel.form == "lines":
        made = timeseries.Panel().fill_opacity(8).legend(common.VizLegendOptions().show_legend(True))
        made = made.min(0)
        if panel.most is not None:
            made = made.max(panel.most)
    else:
        made = table.Panel()
    made = made.title(panel.title).description(panel.text).unit(panel.unit).datasource(Source)
    made = made.span(panel.width).height(HEIGHT[panel.form])
    for index, (expression, legend) in enumerate(panel.queries):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + index))
        if panel.form != "lines":
            query = query.instant()
        if panel.form == "table":
            query = query.format(prometheus_models.PromQueryFormat.TABLE)
        made = made.with_target(query)
    return made


def variable(name: str, metric: str) -> Any:
    """A choice among the values of a label."""
    return (
        dashboard.QueryVariable(name)
        .datasource(Source)
        .query(f"label_values({metric}, {name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all"))
    )


def board(title: str, uid: str, since: str, groups: Iterable[tuple[str, list[Panel]]], *choices: Any) -> str:
    """One dashboard as JSON."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["blockvault", "backup"])
        .refresh("1m")
        .time(since, "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for choice in choices:
        made = made.with_variable(choice)
    for name, panels in groups:
        made = made.with_row(dashboard.Row(name))
        for panel in panels:
            made = made.with_panel(build(panel))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def dashboards() -> dict[str, str]:
    """The files' texts by their names."""
    namespace = variable("namespace", "blockvault_vault_up")
    vault = variable("vault", 'blockvault_vault_up{namespace=~"$namespace"}')
    return {
        "blockvault-vaults.json": board(
            "Blockvault vaults", "blockvault-vaults", "now-7d", VAULTS, namespace, vault
        ),
        "blockvault-operations.json": board(
            "Blockvault operations", "blockvault-operations", "now-24h", OPERATIONS, namespace
        ),
    }


def main() -> int:
    """Exit status: 1 when --check finds other texts."""
    different = []
    for name, text in dashboards().items():
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        different.append(name)
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if different and "--check" in sys.argv[1:]:
        sys.stderr.write(f"{', '.join(different)}: not up to date: run hack/gen_dashboards.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
