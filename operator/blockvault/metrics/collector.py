"""From figures to metrics: names, labels and descriptions in one table, which docs/metrics.md repeats.

Names follow the Prometheus conventions (one prefix, base units, `_total` for what only grows), but for
`used_vault_size` and `vault_util`: those are called as the cloud service's own monitoring calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .figures import Figures, Snapshot, VaultFigures

GB = 1024**3

Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class Description:
    """One metric: `name` as it is scraped (a counter's ends in `_total`), its type, labels and meaning."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


_VAULT = ("instance_id", "namespace", "vault")

USED_VAULT_SIZE = Description(
    "used_vault_size",
    "gauge",
    _VAULT,
    "Size of what the vault's backups occupy in the object store, in GB of 1024^3 bytes.",
)
VAULT_UTIL = Description(
    "vault_util",
    "gauge",
    _VAULT,
    "Used part of the vault's capacity in percent, 0 to 100. A vault that holds more than its capacity shows"
    " 100: blockvault_vault_used_bytes tells by how much.",
)
USED_BYTES = Description(
    "blockvault_vault_used_bytes",
    "gauge",
    _VAULT,
    "Bytes that the vault's backups occupy in the object store, as its status says.",
)
CAPACITY_BYTES = Description(
    "blockvault_vault_capacity_bytes", "gauge", _VAULT, "Capacity of the vault in bytes."
)
VAULT_UP = Description(
    "blockvault_vault_up",
    "gauge",
    _VAULT,
    "1 when the vault can be used (phase Available or Locked), else 0.",
)
VAULT_BACKUPS = Description(
    "blockvault_vault_backups", "gauge", _VAULT, "Number of backups that lie in the vault's store."
)
VAULT_ANOMALIES = Description(
    "blockvault_vault_anomalies",
    "gauge",
    _VAULT,
    "Backups that are suddenly nearly empty or nearly wholly rewritten, and that nobody has acknowledged: no rule"
    " removes backups of their claims.",
)
BACKUPS = Description(
    "blockvault_backups",
    "gauge",
    ("namespace", "phase"),
    "Number of Backup objects by phase. A phase in which there is none has no series.",
)
BACKUP_RUNS = Description(
    "blockvault_backup_runs_total",
    "counter",
    ("result", "type"),
    "Finished backup runs; result is succeeded or failed, type is full, incremental, or unknown for a run"
    " that failed before it was decided.",
)
BACKUP_SCANNED = Description(
    "blockvault_backup_scanned_bytes_total", "counter", (), "Bytes that backups read from snapshots."
)
BACKUP_CHANGED = Description(
    "blockvault_backup_changed_bytes_total",
    "counter",
    (),
    "Bytes of the blocks that backups found changed, before compression.",
)
BACKUP_STORED = Description(
    "blockvault_backup_stored_bytes_total",
    "counter",
    (),
    "Bytes that backups wrote to object stores: compressed blocks and metadata.",
)
BACKUP_DURATION = Description(
    "blockvault_backup_duration_seconds",
    "histogram",
    ("type",),
    "Time that movers took for a backup, without the waiting for snapshot and clone.",
)
CHANGED_BLOCKS = Description(
    "blockvault_backup_changed_blocks_total",
    "counter",
    ("source", "reason"),
    "Successful backups by what told which blocks changed: SnapshotMetadata (the storage's own list), Compare or Full;"
    " reason is why it was no list (docs/resources.md), or empty.",
)
RESTORE_RUNS = Description(
    "blockvault_restore_runs_total",
    "counter",
    ("result",),
    "Finished restore runs; result is succeeded or failed.",
)
RESTORE_WRITTEN = Description(
    "blockvault_restore_written_bytes_total", "counter", (), "Bytes that restores wrote to volumes."
)
RESTORE_DURATION = Description(
    "blockvault_restore_duration_seconds",
    "histogram",
    (),
    "Time that movers took for a restore, without the waiting for the new volume.",
)
LOST_MOVERS = Description(
    "blockvault_lost_movers_total",
    "counter",
    (),
    "Movers of backups and restores that were given up as their node was lost; another one goes on.",
)
RECONCILE_ERRORS = Description(
    "blockvault_reconcile_errors_total",
    "counter",
    ("kind",),
    "Steps that ended in an error of the API server or a defect, by kind of the object; the operator tries"
    " again.",
)
BUILD_INFO = Description(
    "blockvault_build_info", "gauge", ("version",), "Always 1; the label tells the operator's version."
)

DESCRIPTIONS = (
    USED_VAULT_SIZE,
    VAULT_UTIL,
    USED_BYTES,
    CAPACITY_BYTES,
    VAULT_UP,
    VAULT_BACKUPS,
    VAULT_ANOMALIES,
    BACKUPS,
    BACKUP_RUNS,
    BACKUP_SCANNED,
    BACKUP_CHANGED,
    BACKUP_STORED,
    BACKUP_DURATION,
    CHANGED_BLOCKS,
    RESTORE_RUNS,
    RESTORE_WRITTEN,
    RESTORE_DURATION,
    LOST_MOVERS,
    RECONCILE_ERRORS,
    BUILD_INFO,
)


class FiguresCollector(Collector):
    """Makes the metrics of a snapshot at each scrape; asks nobody, so that a scrape never waits."""

    def __init__(self, figures: Figures, version: str) -> None:
        self._figures = figures
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """All metrics, in the order of DESCRIPTIONS."""
        now = self._figures.snapshot()
        yield from _vault_metrics(now.vaults)
        yield _gauge(BACKUPS, now.backups.items())
        yield from _run_metrics(now)
        yield _gauge(BUILD_INFO, [((self._version,), 1)])


def registry_of(figures: Figures, version: str) -> CollectorRegistry:
    """A registry of its own with these figures only, for `start_server`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FiguresCollector(figures, version))
    return registry


def _vault_metrics(vaults: list[VaultFigures]) -> Iterator[Metric]:
    yield _by_vault(USED_VAULT_SIZE, vaults, lambda v: None if v.used_bytes is None else v.used_bytes / GB)
    yield _by_vault(VAULT_UTIL, vaults, _utilization)
    yield _by_vault(USED_BYTES, vaults, lambda v: v.used_bytes)
    yield _by_vault(CAPACITY_BYTES, vaults, lambda v: v.capacity_bytes)
    yield _by_vault(VAULT_UP, vaults, lambda v: v.up)
    yield _by_vault(VAULT_BACKUPS, vaults, lambda v: v.backups)
    yield _by_vault(VAULT_ANOMALIES, vaults, lambda v: v.anomalies)


def _utilization(vault: VaultFigures) -> float | None:
    if vault.used_bytes is None or not vault.capacity_bytes:
        return None
    return min(100.0, 100.0 * vault.used_bytes / vault.capacity_bytes)


def _run_metrics(now: Snapshot) -> Iterator[Metric]:
    yield _counter(BACKUP_RUNS, now.backup_runs.items())
    yield _counter(BACKUP_SCANNED, [((), now.backup_scanned_bytes)])
    yield _counter(BACKUP_CHANGED, [((), now.backup_changed_bytes)])
    yield _counter(BACKUP_STORED, [((), now.backup_stored_bytes)])
    backup_duration = HistogramMetricFamily(
        BACKUP_DURATION.name, BACKUP_DURATION.help, labels=BACKUP_DURATION.labels
    )
    for kind, durations in now.backup_durations.items():
        backup_duration.add_metric((kind,), durations.buckets(), durations.seconds)
    yield backup_duration
    yield _counter(CHANGED_BLOCKS, now.changed_blocks.items())
    yield _counter(RESTORE_RUNS, [((outcome,), runs) for outcome, runs in now.restore_runs.items()])
    yield _counter(RESTORE_WRITTEN, [((), now.restore_written_bytes)])
    restore_duration = HistogramMetricFamily(
        RESTORE_DURATION.name, RESTORE_DURATION.help, labels=RESTORE_DURATION.labels
    )
    restore_duration.add_metric((), now.restore_durations.buckets(), now.restore_durations.seconds)
    yield restore_duration
    yield _counter(LOST_MOVERS, [((), now.lost_movers)])
    yield _counter(RECONCILE_ERRORS, [((kind,), errors) for kind, errors in now.reconcile_errors.items()])


def _by_vault(
    description: Description, vaults: list[VaultFigures], value: Callable[[VaultFigures], float | None]
) -> GaugeMetricFamily:
    values = [((vault.uid, vault.namespace, vault.name), value(vault)) for vault in vaults]
    return _gauge(description, [(labels, number) for labels, number in values if number is not None])


def _gauge(description: Description, samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(description.name, description.help, labels=description.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _counter(description: Description, samples: Iterable[Sample]) -> CounterMetricFamily:
    family = CounterMetricFamily(description.name, description.help, labels=description.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
