"""The operator as a process: settings, parts, Kopf, probes."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import kopf

from blockvault import __version__
from blockvault.cluster.clock import MovedClock
from blockvault.cluster.context import POPULATING, TASKS_KEY, Context, utc_now
from blockvault.cluster.gateway import PAGE, connect
from blockvault.cluster.populate import populate_claims, watch_claims
from blockvault.cluster.settings import Settings, SettingsError
from blockvault.cluster.tasks import tend_tasks
from blockvault.core.naming import GROUP, MANAGED_BY, MANAGED_BY_LABEL
from blockvault.core.turns import Turns
from blockvault.engine import memory
from blockvault.metrics.collector import Sources, registry_of
from blockvault.metrics.figures import Figures
from blockvault.metrics.server import start_server, stop_server
from blockvault.storework import StoreWork

from .loop import Loops, run_loop
from .register import register

log = logging.getLogger(__name__)

# A loop that has not turned for so long is as good as dead: the kubelet may start us anew.
LAG_LIMIT_SECONDS = 60.0
HEARTBEAT_SECONDS = 5.0


class Health:
    """Whether the event loop turns and the watches are up."""

    def __init__(self) -> None:
        self.beat = time.monotonic()
        self.ready = asyncio.Event()

    def alive(self) -> tuple[bool, str]:
        """For /healthz."""
        lag = time.monotonic() - self.beat
        return lag < LAG_LIMIT_SECONDS, f"the event loop last turned {lag:.0f} s ago"

    def is_ready(self) -> tuple[bool, str]:
        """For /readyz."""
        up = self.ready.is_set()
        return up, "watching" if up else "not watching yet"

    async def keep_beating(self, figures: Figures) -> None:
        """Prove, as long as it runs, that the event loop turns, and how promptly."""
        while True:
            now = time.monotonic()
            figures.observe_lag(now - self.beat - HEARTBEAT_SECONDS)
            self.beat = now
            await asyncio.sleep(HEARTBEAT_SECONDS)


class NoDifference(kopf.DiffBaseStorage):
    """Nothing of what Kopf saw last is remembered: loops look at what is there, and no handler asks for a difference.

    Else each object had a copy of its spec in an annotation, by a request of its own, and each event copied it whole.
    """

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """What counts of an object."""
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence:
        """What counted at the last event: the same, so that nothing has changed."""
        return cast(kopf.BodyEssence, {})

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing to keep."""


def configure(settings: kopf.OperatorSettings) -> None:
    """Kopf's settings: who else but us stores nothing on objects, and a silent watch is not believed."""
    settings.persistence.finalizer = f"{GROUP}/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = NoDifference()
    settings.peering.standalone = True
    settings.watching.server_timeout = 600
    # What is listed at the start is handled by and by: all of it at once, each with a task of its own, was most of our
    # memory.
    settings.watching.chunk_size = PAGE
    settings.queueing.idle_timeout = 0.5
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.process.ultimate_exiting_timeout = 30
    for resource in (
        ("", "v1", "persistentvolumeclaims"),
        ("batch", "v1", "jobs"),
        ("snapshot.storage.k8s.io", "v1", "volumesnapshots"),
    ):
        settings.watching.label_selectors[resource] = f"{MANAGED_BY_LABEL}={MANAGED_BY}"


def in_cluster(info: kopf.ConnectionInfo, environment: Mapping[str, str]) -> kopf.ConnectionInfo:
    """The API server by the address that the kubelet tells every pod, so that we do not depend on DNS."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return info
    address = f"[{host}]" if ":" in host else host
    return dataclasses.replace(info, server=f"https://{address}:{port}")


async def serve(settings: Settings) -> None:
    """Run the operator until it is told to stop."""
    health = Health()
    figures = Figures()
    gateway = await connect()
    stores = StoreWork()
    clock = MovedClock(settings.testing_clock) if settings.testing_clock else None
    context = Context(gateway, settings, stores, figures, clock or utc_now, turns=Turns(settings.max_backups))
    registry, loops = kopf.OperatorRegistry(), Loops()
    register(registry, context, loops)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        pod = kopf.login_with_service_account(**kwargs)
        return in_cluster(pod, os.environ) if pod else kopf.login_with_kubeconfig(**kwargs)

    kopf_settings = kopf.OperatorSettings()
    configure(kopf_settings)
    sources = Sources(context.turns.counts, context.coverage.counted)
    metrics = registry_of(figures, __version__, sources)
    server = await start_server(settings.http_port, metrics, health.alive, health.is_ready)
    tasks = [
        asyncio.create_task(health.keep_beating(figures)),
        asyncio.create_task(
            run_loop(context, "PersistentVolumeClaim", POPULATING, lambda: populate_claims(context))
        ),
        asyncio.create_task(watch_claims(context)),
        asyncio.create_task(run_loop(context, "Task", TASKS_KEY, lambda: tend_tasks(context))),
    ]
    if clock is not None:
        log.warning("The calendar follows %s: for tests only.", settings.testing_clock)
        tasks.append(asyncio.create_task(clock.watch(context.wakeups.wake_all)))
    # A NewType of str that Kopf keeps private. Said here, because else Kopf would look up the name of our
    # user, and a numeric user of an image has none.
    identity = cast(Any, f"blockvault-{settings.instance}@{socket.gethostname()}")
    log.info("Blockvault %s is starting in namespace %s", __version__, settings.namespace)
    try:
        await kopf.operator(
            registry=registry,
            settings=kopf_settings,
            clusterwide=True,
            standalone=True,
            identity=identity,
            ready_flag=health.ready,
        )
    finally:
        for task in tasks:
            task.cancel()
        await loops.close()
        await stop_server(server)
        await stores.close()
        await gateway.close()


class OneLine(logging.Filter):
    """A record is one line of the log, whatever stands in it: names and stores' answers are others' words."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops a record."""
        text = record.getMessage()
        record.msg = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
        record.args = None
        return True


def main(arguments: Sequence[str] = ()) -> int:
    """Entry point of `python -m blockvault operator`. Exit 64 on arguments and settings that cannot be used."""
    parser = argparse.ArgumentParser("blockvault operator", exit_on_error=False, add_help=False)
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    try:
        options = parser.parse_args(arguments)
        settings = Settings.from_environment(os.environ)
    except (argparse.ArgumentError, SettingsError) as error:
        sys.stderr.write(f"blockvault: {error}\n")
        return 64
    memory.keep_little()
    log_format = kopf.LogFormat.JSON if options.log_format == "json" else kopf.LogFormat.FULL
    kopf.configure(verbose=False, log_format=log_format)
    for handler in logging.getLogger().handlers:
        handler.addFilter(OneLine())
    # Kopf tells of each handler that begins and ends; what becomes of an object is told at its transitions.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    asyncio.run(serve(settings))
    return 0
