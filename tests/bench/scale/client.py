"""Many requests at once, as the administrator: to fill a cluster, and to play its controllers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Self

import aiohttp

from blockvault.cluster.resources import Resource

Object = dict[str, Any]
AT_ONCE = 24
# HTTP statuses of a server that has too much to do, and how often it is asked.
BUSY, TRIES = (429, 500, 503, 504), 5


class ApiError(Exception):
    """The API server refused. `status`: HTTP's."""

    def __init__(self, status: int, what: str, text: str) -> None:
        super().__init__(f"{what}: {status} {text[:500]}")
        self.status = status


class Client:
    """Verbs over plain objects; use it as an asynchronous context manager."""

    def __init__(self, server: str, trust: ssl.SSLContext) -> None:
        self._server, self._trust = server, trust

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=2 * AT_ONCE + 16)
        self._session = aiohttp.ClientSession(self._server, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str, body: Object | None = None, **query: str) -> Object:
        """One request, made again where the server was too busy for it. Raises ApiError."""
        for again in range(TRIES):
            try:
                return await self._ask(method, path, body, query)
            except ApiError as error:
                if error.status not in BUSY or again + 1 == TRIES:
                    raise
                await asyncio.sleep(1.0 + again)
        raise AssertionError

    async def _ask(self, method: str, path: str, body: Object | None, query: dict[str, str]) -> Object:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method, path, data=data, params=query, headers={"Content-Type": kind}
        ) as answer:
            text = await answer.text()
            if answer.status >= 300:
                raise ApiError(answer.status, f"{method} {path}", text)
            return dict(json.loads(text))

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create an object."""
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        return await self.ask("POST", resource.path(body["metadata"].get("namespace")), whole)

    async def status(self, resource: Resource, obj: Object, status: Object) -> Object:
        """Merge into the status of an object."""
        meta = obj["metadata"]
        path = resource.path(meta.get("namespace"), meta["name"], "status")
        return await self.ask("PATCH", path, {"status": status})

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        """An object; None when there is none."""
        try:
            return await self.ask("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, resource: Resource, namespace: str | None = None, **query: str) -> Object:
        """A list as the API gives it."""
        return await self.ask("GET", resource.path(namespace), **query)

    async def delete(self, resource: Resource, obj: Object) -> None:
        """Delete an object; one that is gone is no error."""
        meta = obj["metadata"]
        try:
            await self.ask("DELETE", resource.path(meta.get("namespace"), meta["name"]))
        except ApiError as error:
            if error.status != 404:
                raise

    async def watch(self, resource: Resource, since: str, **query: str) -> AsyncIterator[tuple[str, Object]]:
        """(what happened, object) from a version on, for ever."""
        while True:
            params = {"watch": "true", "resourceVersion": since, "allowWatchBookmarks": "true", **query}
            async with self._session.get(
                resource.path(), params=params, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**22
            ) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(410, f"watch {resource.plural}", str(event["object"]))
                    since = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]


async def together(works: Iterable[Coroutine[Any, Any, Any]], at_once: int = AT_ONCE) -> None:
    """Do all of them, so many at a time. Raises what the first one raises that fails."""
    waiting = iter(works)

    async def one_after_another() -> None:
        for work in waiting:
            await work

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_another())
