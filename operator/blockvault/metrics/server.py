"""One small HTTP server: `/metrics` for Prometheus, `/healthz` and `/readyz` for the kubelet's probes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

Check = Callable[[], tuple[bool, str]]
"""Says (good, why) at once, without waiting for anything: a probe gives up after a second."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def start_server(port: int, registry: CollectorRegistry, health: Check, ready: Check) -> web.AppRunner:
    """Serve on all addresses; port 0 takes a free one, which `address_of` tells.

    Raises OSError when the port is taken.
    """
    app = web.Application()
    app.router.add_get("/metrics", _metrics(registry))
    app.router.add_get("/healthz", _check(health))
    app.router.add_get("/readyz", _check(ready))
    # A scraper that keeps its connection must not hold up the operator's end.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


async def stop_server(runner: web.AppRunner) -> None:
    """Stop serving and free the port. Stopping twice is the same as once."""
    await runner.cleanup()


def address_of(runner: web.AppRunner) -> tuple[str, int]:
    """IPv4 address and port that a started server listens on; IPv6 where there is no other.

    With port 0 the two families have a port each.
    """
    host, port = min(runner.addresses, key=len)[:2]  # an IPv6 one has four parts
    return str(host), int(port)


def _metrics(registry: CollectorRegistry) -> _Handler:
    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # In a thread: with tens of thousands of series it takes as long as other objects would wait.
        body = await asyncio.to_thread(encode, registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    return metrics


def _check(check: Check) -> _Handler:
    async def answer(_request: web.Request) -> web.Response:
        good, text = check()
        return web.Response(text=text + "\n", status=200 if good else 503)

    return answer
