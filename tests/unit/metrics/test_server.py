"""The real HTTP server, scraped as Prometheus and the kubelet do it (E2)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from blockvault.metrics import Figures, Sources, address_of, registry_of, start_server, stop_server
from blockvault.metrics.descriptions import DESCRIPTIONS
from blockvault.metrics.shapes import ClaimFigures, VaultFigures

GIB = 1024**3
PLACE = ("shop", "disks")
SOURCES = Sources(lambda: (2, 5, 8), lambda: {("shop", "Unprotected", "NoVault"): 3})
BACKUP = {"type": "full", "bytesScanned": 1000, "bytesChanged": 300, "bytesStored": 100, "seconds": 5}


@dataclass
class Serving:
    """A server with what it serves."""

    figures: Figures
    checks: dict[str, tuple[bool, str]]
    runner: web.AppRunner = field(init=False)

    async def get(self, path: str, accept: str = "") -> tuple[int, str, str]:
        """Status, content type, text."""
        url = f"http://127.0.0.1:{address_of(self.runner)[1]}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, headers={"Accept": accept}) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()

    async def scrape(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """All samples by name and sorted labels."""
        status, _, text = await self.get("/metrics")
        assert status == 200
        return samples(parse_text(text))


def samples(families: Iterable[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    serving = Serving(Figures(), {"health": (True, "ok"), "ready": (True, "ok")})
    serving.runner = await start_server(
        0,
        registry_of(serving.figures, "1.2.3", SOURCES),
        health=lambda: serving.checks["health"],
        ready=lambda: serving.checks["ready"],
    )
    yield serving
    await stop_server(serving.runner)


def figures_of(
    name: str, uid: str, phase: str, used: int | None, capacity: int | None, backups: int | None
) -> VaultFigures:
    return VaultFigures(
        "shop", name, uid, phase, used_bytes=used, capacity_bytes=capacity, backups=backups,
        resources={"Associated": 1}, holds=frozenset({"Expiry"}), tidied=1e9,
    )  # fmt: skip


def vault(namespace: str = "shop", name: str = "disks", uid: str = "uid-1") -> tuple[tuple[str, str], ...]:
    return (("instance_id", uid), ("namespace", namespace), ("vault", name))


OF_VAULT = {"namespace": "shop", "vault": "disks"}


def labels(**pairs: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pairs.items()))


async def test_e2_a_vaults_size_and_utilization(serving: Serving) -> None:
    serving.figures.set_vault(figures_of("disks", "uid-1", "Available", 3 * GIB // 2, 10 * GIB, 4))
    found = await serving.scrape()
    assert found["used_vault_size", vault()] == 1.5
    assert found["vault_util", vault()] == 15
    assert found["blockvault_vault_used_bytes", vault()] == 3 * GIB // 2
    assert found["blockvault_vault_capacity_bytes", vault()] == 10 * GIB
    assert found["blockvault_vault_backups", vault()] == 4
    assert found["blockvault_vault_up", vault()] == 1


async def test_an_overfull_vault_stays_within_the_range(serving: Serving) -> None:
    serving.figures.set_vault(figures_of("disks", "uid-1", "Available", 30 * GIB, 10 * GIB, 4))
    found = await serving.scrape()
    assert found["vault_util", vault()] == 100
    assert found["used_vault_size", vault()] == 30


@pytest.mark.parametrize(
    ("phase", "up"), [("Pending", 0), ("Available", 1), ("Locked", 1), ("Deleting", 0), ("Error", 0)]
)
async def test_up_follows_the_phase(serving: Serving, phase: str, up: int) -> None:
    serving.figures.set_vault(figures_of("disks", "uid-1", phase, 0, 10 * GIB, 0))
    assert (await serving.scrape())["blockvault_vault_up", vault()] == up


async def test_what_is_not_known_has_no_series(serving: Serving) -> None:
    """A zero would say that the vault is empty."""
    serving.figures.set_vault(figures_of("disks", "uid-1", "Pending", None, None, None))
    names = {name for name, labels in await serving.scrape() if labels == vault()}
    assert names == {
        "blockvault_vault_up", "blockvault_vault_anomalies", "blockvault_vault_damaged", "blockvault_vault_failing_claims",
        "blockvault_vault_upkeep_successful", "blockvault_vault_upkeep_timestamp_seconds",
    }  # fmt: skip


async def test_a_removed_vault_leaves_no_series(serving: Serving) -> None:
    serving.figures.set_vault(figures_of("disks", "uid-1", "Available", 1, 10, 0))
    serving.figures.set_vault(figures_of("files", "uid-2", "Available", 1, 10, 0))
    serving.figures.remove_vault("shop", "disks", "uid-1")
    found = await serving.scrape()
    assert not [name for name, labels in found if labels == vault()]
    assert found["used_vault_size", vault(name="files", uid="uid-2")] > 0


async def test_runs_are_zero_before_the_first(serving: Serving) -> None:
    """`increase()` does not see a series that begins at one."""
    serving.figures.set_vault(VaultFigures(*PLACE, "uid-1", "Available"))
    found = await serving.scrape()
    assert found["blockvault_backup_runs_total", labels(result="failed", type="unknown", **OF_VAULT)] == 0
    assert found["blockvault_restore_runs_total", labels(namespace="shop", result="failed")] == 0
    assert found["blockvault_backup_stored_bytes_total", labels(**OF_VAULT)] == 0


async def test_runs_and_durations(serving: Serving) -> None:
    serving.figures.observe_backup(PLACE, BACKUP, "succeeded")
    serving.figures.observe_backup(PLACE, {**BACKUP, "seconds": 1e6}, "succeeded")
    serving.figures.observe_restore("shop", {"bytesWritten": 77, "seconds": 0.5}, "failed")
    serving.figures.observe_reconcile_error("Restore")
    serving.figures.set_backup("b-1", "shop", "Creating")
    found = await serving.scrape()
    assert found["blockvault_backup_runs_total", labels(result="succeeded", type="full", **OF_VAULT)] == 2
    assert found["blockvault_backup_scanned_bytes_total", labels(**OF_VAULT)] == 2000
    assert found["blockvault_backup_changed_bytes_total", labels(**OF_VAULT)] == 600
    assert found["blockvault_backup_stored_bytes_total", labels(**OF_VAULT)] == 200
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in found.items()
        if name == "blockvault_backup_duration_seconds_bucket" and ("type", "full") in labels
    }
    assert (buckets["1.0"], buckets["5.0"], buckets["86400.0"], buckets["+Inf"]) == (0, 1, 1, 2)
    assert found["blockvault_backup_duration_seconds_sum", (("type", "full"),)] == 5 + 1e6
    assert found["blockvault_restore_runs_total", labels(namespace="shop", result="failed")] == 1
    assert found["blockvault_restore_written_bytes_total", ()] == 77
    assert found["blockvault_restore_duration_seconds_count", ()] == 1
    assert found["blockvault_reconcile_errors_total", (("kind", "Restore"),)] == 1
    assert found["blockvault_backups", (("namespace", "shop"), ("phase", "Creating"))] == 1
    assert found["blockvault_build_info", (("version", "1.2.3"),)] == 1


async def test_openmetrics_where_the_scraper_asks_for_it(serving: Serving) -> None:
    serving.figures.set_vault(figures_of("disks", "uid-1", "Available", GIB, 10 * GIB, 1))
    serving.figures.observe_backup(PLACE, BACKUP, "succeeded")
    _, content_type, text = await serving.get(
        "/metrics", accept="application/openmetrics-text; version=1.0.0"
    )
    assert content_type.startswith("application/openmetrics-text")
    found = samples(parse_openmetrics(text))
    assert found["used_vault_size", vault()] == 1
    assert found["blockvault_backup_runs_total", labels(result="succeeded", type="full", **OF_VAULT)] == 1


async def test_the_table_of_descriptions_is_what_is_served(serving: Serving) -> None:
    figures = serving.figures
    whole = figures_of("disks", "uid-1", "Available", GIB, 10 * GIB, 1)
    times = {"trash_goes": 1.0, "next_run": 1.0, "checked": 1.0}
    sizes = {"trash_bytes": 1, "in_trash": 1, "associated_bytes": 1}
    figures.set_vault(replace(whole, **times, **sizes))  # type: ignore[arg-type]
    figures.set_claims(*PLACE, [ClaimFigures("db", 1.0, 2.0, failing=True)])
    figures.set_backup("b-1", "shop", "Available")
    figures.set_restore("r-1", "shop", "Restored")
    figures.observe_steps("Backup", {"Moving": 3})
    figures.observe_backup(PLACE, BACKUP, "succeeded")
    figures.observe_reconcile_error("Backup")
    _, _, text = await serving.get("/metrics")
    served = {}
    for family in parse_text(text):
        found = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        served[name] = (family.type, found, family.documentation)
    assert served == {each.name: (each.type, set(each.labels), each.help) for each in DESCRIPTIONS}


async def test_probes_say_why(serving: Serving) -> None:
    assert await serving.get("/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    serving.checks["ready"] = (False, "the custom resource definitions are not installed")
    status, _, text = await serving.get("/readyz")
    assert (status, text) == (503, "the custom resource definitions are not installed\n")
    serving.checks["health"] = (False, "the event loop hung for 40 s")
    assert (await serving.get("/healthz"))[0] == 503
    assert (await serving.get("/metrics"))[0] == 200


async def test_the_port_is_free_again_after_stopping() -> None:
    checks = {"health": lambda: (True, "ok"), "ready": lambda: (True, "ok")}
    runner = await start_server(0, registry_of(Figures(), "1", SOURCES), **checks)
    port = address_of(runner)[1]
    with pytest.raises(OSError, match=str(port)):
        await start_server(port, registry_of(Figures(), "1", SOURCES), **checks)
    await stop_server(runner)
    await stop_server(runner)
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
