"""The one door to the Kubernetes API: a few verbs over plain dicts.

Nothing else imports the client, so that it can be replaced here. Dicts and not the client's models:
those refuse fields that a newer cluster sends, and custom resources have none.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from kubernetes.aio import client as k8s
from kubernetes.aio import config as k8s_config

from .resources import Resource, can_be_name

Object = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
PAGE = 200  # objects
JSON = "application/json, */*"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"
TIMEOUT = aiohttp.ClientTimeout(total=30)
# A watch is begun anew so often. A server sends a bookmark each minute, so that silence says that it is gone.
WATCH_SECONDS, SILENCE_SECONDS = 600, 90
WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)


class GatewayError(Exception):
    """The API server refused or could not be reached. `status` is the HTTP status, 0 without answer."""

    def __init__(self, status: int, what: str, message: str) -> None:
        super().__init__(f"{what}: {message}")
        self.status = status
        self.message = message

    @property
    def permanent(self) -> bool:
        """Whether the same request would be refused again: 400, 403 and 422."""
        return self.status in (400, 403, 422)


class ConflictError(GatewayError):
    """409: the object is there already, or was changed since it was read."""


async def connect() -> Gateway:
    """A gateway by KUBECONFIG where that is set, else by the pod's own service account.

    Raises kubernetes.aio.config.ConfigException when neither is there.
    """
    configuration = k8s.Configuration()
    if os.environ.get("KUBECONFIG"):
        await k8s_config.load_kube_config(client_configuration=configuration)
    else:
        k8s_config.load_incluster_config(client_configuration=configuration)
    # Retries are ours: a level loop comes back anyway, and a hidden one would blur who made what.
    configuration.retries = None
    return Gateway(k8s.ApiClient(configuration))


class Gateway:
    """Verbs on API objects. All raise GatewayError; reads of what is absent return None."""

    def __init__(self, api: k8s.ApiClient, *, timeout: float | None = None) -> None:
        self._api = api
        self._timeout = TIMEOUT if timeout is None else aiohttp.ClientTimeout(total=timeout)
        self.server_date: str | None = None
        """The `Date` header of the newest answer: the API server's clock."""

    @property
    def url(self) -> str:
        """Where the API server is."""
        return str(self._api.configuration.host)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None when there is none; there is none of a name that no object can have."""
        if not can_be_name(name):
            return None
        return await self._optional("GET", resource.path(namespace, name))

    async def list_objects(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
        but: Iterable[tuple[str, str]] = (),
        metadata_only: bool = False,
        required: bool = False,
    ) -> list[Object]:
        """All objects of a kind, in one namespace or in all; by labels and by selectable fields when given.

        `but`: fields and values that they do not have. With `metadata_only` a server that can leaves the rest out. An
        absent kind (its CRD is not installed) is an empty list; with `required` it is a GatewayError 404.
        """
        by_fields = [f"{key}={value}" for key, value in (fields or {}).items()]
        by_fields += [f"{key}!={value}" for key, value in but]
        by_labels = [f"{key}={value}" for key, value in (labels or {}).items()]
        query = [
            (name, ",".join(terms))
            for name, terms in (("labelSelector", by_labels), ("fieldSelector", by_fields))
            if terms
        ]
        accept = METADATA_LIST if metadata_only else JSON
        ask = self._request if required else self._optional
        answer = await ask("GET", resource.path(namespace), query=query, accept=accept)
        return list((answer or {}).get("items", []))

    async def pages(
        self, resource: Resource, namespace: str | None = None, *, at_once: int = PAGE
    ) -> AsyncIterator[list[Object]]:
        """All objects of a kind by and by, where there may be too many to hold at once.

        GatewayError 410 when the walk took so long that the server has forgotten where it was: begin again.
        """
        async for answer in self._walk(self._optional, resource.path(namespace), at_once):
            yield list(answer.get("items", []))

    async def follow(self, resource: Resource) -> AsyncIterator[tuple[str, Object]]:
        """What is there of a kind ("LISTED", object), and from then on what happens to it, as a watch says it.

        Ends when the server has forgotten where the watch was: begin again. Raises GatewayError, also where nothing has
        been heard for so long that the connection must be dead. Holds no more than a page in memory.
        """
        since = ""
        async for answer in self._walk(self._request, resource.path(), PAGE):
            for obj in answer.get("items", []):
                yield "LISTED", obj
            since = str((answer.get("metadata") or {}).get("resourceVersion") or "")
        while True:
            async for what, obj in self._watch(resource, since):
                if what == "ERROR":
                    return
                since = str(obj["metadata"]["resourceVersion"])
                if what != "BOOKMARK":
                    yield what, obj

    async def _walk(
        self, ask: Callable[..., Awaitable[Object | None]], path: str, at_once: int
    ) -> AsyncIterator[Object]:
        """The answers by which a collection is told page by page."""
        token = ""
        while True:
            query = [("limit", str(at_once)), *([("continue", token)] if token else [])]
            answer = await ask("GET", path, query=query) or {}
            yield answer
            token = (answer.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    async def _watch(self, resource: Resource, since: str) -> AsyncIterator[tuple[str, Object]]:
        """One watch until the server ends it, which it does after WATCH_SECONDS."""
        query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", since)]
        query.append(("timeoutSeconds", str(WATCH_SECONDS)))
        what = f"WATCH {resource.path()}"
        with _in_words(what):
            response = await self._send("GET", resource.path(), query=query, timeout=WATCH_TIMEOUT)
            async with response.response as stream:
                if stream.status != 200:
                    raise _error(stream.status, what, await stream.text())
                rest = b""
                async for chunk in stream.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        yield str(event["type"]), event["object"]

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create an object; ConflictError when one of that name is there."""
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        namespace = body["metadata"].get("namespace")
        return await self._request("POST", resource.path(namespace), body=body)

    async def ensure(self, resource: Resource, body: Object) -> Object:
        """Create an object, or return the one that is there: creating twice is the same as once."""
        try:
            return await self.create(resource, body)
        except ConflictError:
            meta = body["metadata"]
            found = await self.get(resource, meta["name"], meta.get("namespace"))
            if found is None:
                raise
            return found

    async def patch(
        self, resource: Resource, name: str, namespace: str | None, patch: Object, *, sub: str | None = None
    ) -> Object:
        """Merge-patch an object or its subresource."""
        return await self._request(
            "PATCH", resource.path(namespace, name, sub), body=patch, content=MERGE_PATCH
        )

    async def patch_status(
        self, resource: Resource, name: str, namespace: str | None, status: Object
    ) -> None:
        """Merge-patch the status; an object that is gone meanwhile is no error."""
        await self._optional(
            "PATCH", resource.path(namespace, name, "status"), body={"status": status}, content=MERGE_PATCH
        )

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, *, uid: str | None = None
    ) -> bool:
        """Delete an object, only that of this uid when given. False when there is none (of that uid).

        What it owns goes in the background, so a Job's pods go with it.
        """
        body: Object = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            return await self._optional("DELETE", resource.path(namespace, name), body=body) is not None
        except ConflictError:
            if uid is None:
                raise
            return False

    async def pod_log(self, name: str, namespace: str, *, tail_lines: int) -> str:
        """The last lines of a pod's log; empty when the pod is gone or has not started."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
        try:
            return await self._text("GET", path, query=[("tailLines", str(tail_lines))])
        except GatewayError as error:
            if error.status in (400, 404):  # 400: the container is still being created
                return ""
            raise

    async def _optional(self, method: str, path: str, **request: Any) -> Object | None:
        try:
            return await self._request(method, path, **request)
        except GatewayError as error:
            if error.status == 404:
                return None
            raise

    async def _request(self, method: str, path: str, **request: Any) -> Object:
        text = await self._text(method, path, **request)
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise GatewayError(0, f"{method} {path}", f"the answer is not JSON: {text[:200]!r}") from error
        if not isinstance(answer, dict):
            raise GatewayError(0, f"{method} {path}", "the answer is not an object")
        return answer

    async def _text(self, method: str, path: str, **request: Any) -> str:
        what = f"{method} {path}"
        with _in_words(what):
            response = await self._send(method, path, **request)
            data = await response.read()
            self.server_date = response.getheader("Date")
        text = data.decode("utf-8", errors="replace") if isinstance(data, bytes) else str(data)
        if not 200 <= response.status <= 299:
            raise _error(response.status, what, text)
        return text

    async def _send(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        query: list[tuple[str, str]] | None = None,
        content: str = "application/json",
        accept: str = JSON,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - the client keeps it, of each of its steps
    ) -> Any:
        prepared = await self._api.param_serialize(
            method,
            path,
            query_params=query or [],
            header_params={"Content-Type": content, "Accept": accept},
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._api.call_api(*prepared, _request_timeout=timeout or self._timeout)


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """What the client raises while this is asked, as a GatewayError."""
    try:
        yield
    except k8s.ApiException as error:
        raise _error(error.status or 0, what, error.body or str(error.reason)) from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise GatewayError(0, what, f"no answer from the API server: {error!r}") from error


def _error(status: int, what: str, body: str) -> GatewayError:
    try:
        message = str(json.loads(body).get("message") or body)
    except (ValueError, AttributeError):
        message = body
    kind = ConflictError if status == 409 else GatewayError
    return kind(status, what, message[:2000])
