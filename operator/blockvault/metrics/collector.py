"""From figures to metrics, as the table of descriptions has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from . import descriptions as d
from .descriptions import Description
from .figures import Figures, Snapshot
from .shapes import HOLDS, ClaimFigures, Durations, VaultFigures

GB = 1024**3

Labels = tuple[str, ...]
Sample = tuple[Labels, float]
_Key = TypeVar("_Key")


class Sources(NamedTuple):
    """Where figures come from that are kept elsewhere.

    `queue`: how many Backups work, how many wait for their turn, and how many may work. `coverage`: bound claims by
    (namespace, state, reason).
    """

    queue: Callable[[], tuple[int, int, int]]
    coverage: Callable[[], Mapping[tuple[str, str, str], int]]


class FiguresCollector(Collector):
    """Makes the metrics of a snapshot at each scrape; asks nobody, so that a scrape never waits."""

    def __init__(self, figures: Figures, version: str, sources: Sources) -> None:
        self._figures = figures
        self._version = version
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        now = self._figures.snapshot()
        yield from _vault_metrics(now)
        yield from _claim_metrics(now)
        yield _gauge(d.COVERAGE, self._sources.coverage().items())
        yield from _backup_metrics(now, *self._sources.queue())
        yield from _flow_metrics(now)
        yield from _restore_metrics(now)
        yield from _upkeep_metrics(now)
        yield _counter(d.LOST_MOVERS, [((), now.lost_movers)])
        yield _counter(d.RECONCILE_ERRORS, _by(now.reconcile_errors))
        yield _gauge(d.LOOP_LAG, [((), now.loop_lag)])
        yield _gauge(d.BUILD_INFO, [((self._version,), 1)])


def registry_of(figures: Figures, version: str, sources: Sources) -> CollectorRegistry:
    """A registry of its own with these figures only, for `start_server`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FiguresCollector(figures, version, sources))
    return registry


# What each vault has one figure of, or none while it is not known.
_OF_VAULT: list[tuple[Description, Callable[[VaultFigures], float | None]]] = [
    (d.USED_VAULT_SIZE, lambda v: None if v.used_bytes is None else v.used_bytes / GB),
    (d.VAULT_UTIL, lambda v: _utilization(v)),
    (d.USED_BYTES, lambda v: v.used_bytes),
    (d.CAPACITY_BYTES, lambda v: v.capacity_bytes),
    (d.ASSOCIATED_BYTES, lambda v: v.associated_bytes),
    (d.VAULT_UP, lambda v: v.up),
    (d.VAULT_CHECKED, lambda v: v.checked),
    (d.VAULT_BACKUPS, lambda v: v.backups),
    (d.VAULT_ANOMALIES, lambda v: v.anomalies),
    (d.VAULT_DAMAGED, lambda v: v.damaged),
    (d.VAULT_NEXT_RUN, lambda v: v.next_run),
    (d.TRASH_BYTES, lambda v: v.trash_bytes),
    (d.TRASH_BACKUPS, lambda v: v.in_trash),
    (d.TRASH_GOES, lambda v: v.trash_goes),
    (d.UPKEEP_ENDED, lambda v: v.tidied),
    (d.UPKEEP_WELL, lambda v: v.tidied_well),
]


def _vault_metrics(now: Snapshot) -> Iterator[Metric]:
    for description, value in _OF_VAULT:
        values = [(_instance(vault), value(vault)) for vault in now.vaults]
        yield _gauge(description, [(labels, number) for labels, number in values if number is not None])
    yield _gauge(d.VAULT_STATUS, [((*_instance(v), v.phase, v.reason), 1) for v in now.vaults])
    held = [((*_instance(v), hold), hold in v.holds) for v in now.vaults for hold in HOLDS]
    yield _gauge(d.VAULT_HELD, held)
    states = [((*_instance(v), state), n) for v in now.vaults for state, n in v.resources.items()]
    yield _gauge(d.VAULT_RESOURCES, states)
    failing = [(_instance(v), sum(c.failing for c in _claims_of(now, v))) for v in now.vaults]
    yield _gauge(d.VAULT_FAILING, failing)


def _instance(vault: VaultFigures) -> Labels:
    return vault.uid, vault.namespace, vault.name


def _claims_of(now: Snapshot, vault: VaultFigures) -> list[ClaimFigures]:
    return now.claims.get((vault.namespace, vault.name), [])


def _utilization(vault: VaultFigures) -> float | None:
    if vault.used_bytes is None or not vault.capacity_bytes:
        return None
    return min(100.0, 100.0 * vault.used_bytes / vault.capacity_bytes)


def _claim_metrics(now: Snapshot) -> Iterator[Metric]:
    rows = [
        ((space, each.claim, vault), each) for (space, vault), held in now.claims.items() for each in held
    ]
    for description, which in ((d.LAST_SUCCESS, "last_success"), (d.DUE, "due")):
        values = [(labels, getattr(each, which)) for labels, each in rows]
        yield _gauge(description, [(labels, value) for labels, value in values if value is not None])


def _backup_metrics(now: Snapshot, working: int, waiting: int, limit: int) -> Iterator[Metric]:
    yield _gauge(d.BACKUPS, now.backups.items())
    yield _gauge(d.BACKUPS_WORKING, [((), working)])
    yield _gauge(d.BACKUPS_QUEUED, [((), waiting)])
    yield _gauge(d.BACKUPS_LIMIT, [((), limit)])
    yield _histogram(d.BACKUP_DURATION, _by(now.backup_durations))
    yield _histogram(d.STEP_DURATION, now.steps.items())
    yield _counter(d.CHANGED_BLOCKS, now.changed_blocks.items())


# What of a mover's result is added up for each vault.
_AMOUNTS = {
    "bytesScanned": d.BACKUP_SCANNED,
    "bytesChanged": d.BACKUP_CHANGED,
    "bytesStored": d.BACKUP_STORED,
    "requests": d.STORE_REQUESTS,
    "retries": d.STORE_RETRIES,
    "throttles": d.STORE_THROTTLES,
}


def _flow_metrics(now: Snapshot) -> Iterator[Metric]:
    runs = [((*place, *key), n) for place, flows in now.flows.items() for key, n in flows.runs.items()]
    yield _counter(d.BACKUP_RUNS, runs)
    skipped = [((*place, word), n) for place, flows in now.flows.items() for word, n in flows.skipped.items()]
    yield _counter(d.SLOTS_SKIPPED, skipped)
    for name, description in _AMOUNTS.items():
        yield _counter(description, [(place, flows.amounts[name]) for place, flows in now.flows.items()])


def _restore_metrics(now: Snapshot) -> Iterator[Metric]:
    yield _gauge(d.RESTORES, now.restores.items())
    yield _counter(d.RESTORE_RUNS, now.restore_runs.items())
    yield _counter(d.RESTORE_WRITTEN, [((), now.restore_written_bytes)])
    yield _histogram(d.RESTORE_DURATION, [((), now.restore_durations)])


def _upkeep_metrics(now: Snapshot) -> Iterator[Metric]:
    done = now.upkeep
    yield _counter(d.UPKEEP_RUNS, [((outcome,), runs) for outcome, runs in done.runs.items()])
    yield _counter(d.UPKEEP_DELETED, [((), done.deleted_bytes)])
    yield _counter(d.UPKEEP_OBJECTS, [((), done.deleted_objects)])
    yield _counter(d.UPKEEP_REWRITTEN, [((), done.rewritten_bytes)])


def _by(figures: Mapping[str, _Key]) -> list[tuple[Labels, _Key]]:
    """Of one label."""
    return [((name,), value) for name, value in figures.items()]


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


def _histogram(
    description: Description, samples: Iterable[tuple[Labels, Durations]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(description.name, description.help, labels=description.labels)
    for labels, durations in samples:
        family.add_metric(labels, durations.buckets(), durations.seconds)
    return family
