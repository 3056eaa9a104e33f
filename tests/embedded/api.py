"""The emulated API over HTTP: kmock gives discovery and history, the store the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp.web
import attrs
import jsonpatch
from kmock import KubernetesEmulator

from .faults import Faults
from .kinds import PODS, WORKLOADS, Kind, Object
from .selectors import Test, field_test, label_test
from .store import ApiError, Store

Answer = aiohttp.web.StreamResponse
MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
# Seconds between bookmarks; the API server sends one about every minute, Kopf gives up after 70 s of silence.
BOOKMARK_SECONDS = 20.0
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Place:
    """What a URL path names."""

    group: str
    version: str
    plural: str
    namespace: str | None = None
    name: str | None = None
    sub: str | None = None


@dataclass(frozen=True)
class Asked:
    """One request on objects, kept for assertions."""

    verb: str
    resource: str
    namespace: str | None
    name: str | None
    body: Any
    agent: str
    headers: dict[str, str] = field(repr=False, default_factory=dict)

    @property
    def writes(self) -> bool:
        """Whether it is meant to change something."""
        return self.verb in ("create", "update", "patch", "delete")


def place(path: str) -> Place | None:
    """Read a path; None for discovery and what is not of the API."""
    match path.strip("/").split("/"):
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            return None
    # A namespace itself, and not what lies in it, has no more than its name and a subresource.
    inside = len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize")
    namespace = rest[1] if inside else None
    rest = rest[2:] if inside else rest
    if not rest or len(rest) > 3:
        return None
    plural, name, sub = [*rest, None, None][:3]
    return Place(group, version, str(plural), namespace, name, sub)


@attrs.define(kw_only=True)
class Api(KubernetesEmulator):
    """The handler that is served. Bind it to its store with `attach` before the first request."""

    log_directory: str
    faults: Faults = attrs.field(factory=Faults)
    asked: list[Asked] = attrs.field(factory=list)
    closing: bool = False
    store: Store = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.store = Store(self)

    async def __call__(self, raw: aiohttp.web.BaseRequest) -> Answer:
        """Serve one request."""
        where = place(raw.path)
        if where is None:
            return await super().__call__(raw)
        try:
            return await self._serve(raw, where)
        except ApiError as error:
            return _failure(error.status, error.reason, error.message)

    async def _serve(self, raw: aiohttp.web.BaseRequest, where: Place) -> Answer:
        kind = self.store.kind(where.group, where.version, where.plural)
        if kind is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        verb = _VERBS.get(raw.method) or ("get" if where.name else "list")
        if raw.query.get("watch") in ("true", "1"):
            verb = "watch"
        body = await _body(raw)
        resource = f"{where.plural}/{where.sub}" if where.sub else where.plural
        agent = raw.headers.get("User-Agent", "")
        self.asked.append(Asked(verb, resource, where.namespace, where.name, body, agent))
        fault = self.faults.next_for(verb, resource)
        if fault and not fault.after_effect:
            return _faulty(raw, fault.status)
        answer = await self._act(raw, verb, kind, where, body)
        if self.faults.on_request:
            self.faults.on_request(verb, resource)
        return _faulty(raw, fault.status) if fault else answer

    async def _act(
        self, raw: aiohttp.web.BaseRequest, verb: str, kind: Kind, where: Place, body: Any
    ) -> Answer:
        if where.sub == "log" and kind == PODS and verb == "get":
            return self._log(raw, where)
        scales = where.sub == "scale" and kind in WORKLOADS and verb == "patch"
        if not scales and (where.sub not in (None, "status") or (where.sub == "status" and not kind.status)):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        if verb == "watch":
            return await self._watch(raw, kind, where)
        if verb == "list":
            items = self.store.list(kind, where.namespace, self._test(raw, kind, where))
            if not kind.custom:  # as the API server: the list says it once for all
                items = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items]
            meta = {"resourceVersion": str(self.store.version)}
            items, token = _page(items, int(raw.query.get("limit") or 0), raw.query.get("continue", ""))
            if token:
                meta["continue"] = token
            answer = {
                "kind": f"{kind.kind}List",
                "apiVersion": kind.api_version,
                "metadata": meta,
                "items": items,
            }
            return aiohttp.web.json_response(answer)
        if verb == "create":
            _check_body(kind, where, body)
            return aiohttp.web.json_response(self.store.create(kind, body, where.namespace), status=201)
        assert where.name is not None
        if verb == "get":
            return aiohttp.web.json_response(self.store.get(kind, where.namespace, where.name))
        if verb == "delete":
            return aiohttp.web.json_response(self._delete(raw, kind, where, body or {}))
        return aiohttp.web.json_response(self._change(raw, kind, where, body))

    def _delete(self, raw: aiohttp.web.BaseRequest, kind: Kind, where: Place, body: Object) -> Object:
        # batch/v1 leaves the pods alone unless told otherwise, and says so in no document that people read.
        default = "Orphan" if kind.plural == "jobs" else "Background"
        policy = body.get("propagationPolicy") or raw.query.get("propagationPolicy") or default
        uid = (body.get("preconditions") or {}).get("uid")
        return self.store.delete(kind, where.namespace, str(where.name), uid=uid, orphan=policy == "Orphan")

    def _change(self, raw: aiohttp.web.BaseRequest, kind: Kind, where: Place, body: Any) -> Object:
        def change(obj: Object) -> Object:
            if raw.method == "PUT":
                _check_body(kind, where, body)
                return dict(body)
            if raw.content_type == MERGE_PATCH and isinstance(body, dict):
                # The patch decides by its own resourceVersion, not by the one that the object has anyway.
                obj["metadata"].pop("resourceVersion")
                return dict(merged(obj, body))
            if raw.content_type == JSON_PATCH and isinstance(body, list):
                try:
                    patched: Object = jsonpatch.apply_patch(obj, body)
                except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
                    raise ApiError(422, "Invalid", f"the server rejected our request: {error}") from error
                return patched
            raise ApiError(
                415,
                "UnsupportedMediaType",
                f"the body of the request was in an unknown format: {raw.content_type}",
            )

        if where.sub == "scale":  # nothing but that can be changed by it
            replicas = body["spec"]["replicas"]
            return self.store.update(
                kind, where.namespace, str(where.name), lambda o: o["spec"].update(replicas=replicas)
            )
        status = where.sub == "status"
        return self.store.update(kind, where.namespace, str(where.name), change, status=status)

    def _test(self, raw: aiohttp.web.BaseRequest, kind: Kind, where: Place) -> Test:
        try:
            tests = [label_test(raw.query.get("labelSelector", ""))]
            tests.append(field_test(raw.query.get("fieldSelector", ""), kind))
        except ValueError as error:
            raise ApiError(400, "BadRequest", str(error)) from error
        if where.name:
            tests.append(lambda obj: obj["metadata"]["name"] == where.name)
        if where.namespace:
            tests.append(lambda obj: obj["metadata"].get("namespace") == where.namespace)
        return lambda obj: all(test(obj) for test in tests)

    async def _watch(self, raw: aiohttp.web.BaseRequest, kind: Kind, where: Place) -> Answer:
        test = self._test(raw, kind, where)
        since = raw.query.get("resourceVersion") or "0"
        initial = raw.query.get("sendInitialEvents") == "true"
        loop = asyncio.get_running_loop()
        end = loop.time() + float(raw.query.get("timeoutSeconds", 3600))
        bookmarks = raw.query.get("allowWatchBookmarks") == "true"
        response = aiohttp.web.StreamResponse(headers={"Content-Type": "application/json"})
        with self.store.waker() as waker:
            position = len(self.store.changes)
            lines: list[Object] = []
            if since == "0" or initial:
                lines = [{"type": "ADDED", "object": obj} for obj in self.store.list(kind, None, test)]
            else:
                if not since.isdigit():
                    raise ApiError(400, "BadRequest", f"invalid resource version {since!r}")
                while position and self.store.changes[position - 1].version > int(since):
                    position -= 1
            if initial:
                lines.append(self._bookmark(kind, {"k8s.io/initial-events-end": "true"}))
            await response.prepare(raw)
            marked = loop.time()
            while True:
                for change in self.store.changes[position:]:
                    lines.extend(
                        _seen(change.type, change.obj, change.old, test) if change.kind == kind else ()
                    )
                position = len(self.store.changes)
                over = (
                    self.closing or loop.time() >= end or raw.transport is None or raw.transport.is_closing()
                )
                if bookmarks and (over or loop.time() - marked > BOOKMARK_SECONDS):
                    lines.append(self._bookmark(kind, {}))
                    marked = loop.time()
                try:
                    await response.write("".join(json.dumps(line) + "\n" for line in lines).encode())
                    if over:
                        await response.write_eof()
                        return response
                except ConnectionError:
                    return response
                lines = []
                if position == len(self.store.changes):
                    waker.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await waker.wait()

    def _bookmark(self, kind: Kind, annotations: dict[str, str]) -> Object:
        meta: Object = {"resourceVersion": str(self.store.version), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        return {
            "type": "BOOKMARK",
            "object": {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta},
        }

    def _log(self, raw: aiohttp.web.BaseRequest, where: Place) -> Answer:
        pod = self.store.get(PODS, where.namespace, str(where.name))
        path = os.path.join(self.log_directory, f"{pod['metadata']['uid']}.log")
        if not os.path.exists(path):
            raise ApiError(
                400, "BadRequest", f'container in pod "{where.name}" is waiting to start: ContainerCreating'
            )
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
        tail = int(raw.query.get("tailLines", len(lines)))
        return aiohttp.web.Response(text="".join(lines[len(lines) - min(tail, len(lines)) :]))


def merged(value: Any, patch: Any) -> Any:
    """A JSON merge patch applied (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, item in patch.items():
        if item is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), item)
    return result


def _page(items: list[Object], limit: int, after: str) -> tuple[list[Object], str]:
    """So many objects after the one that the token names, and the token of the rest."""

    def place(obj: Object) -> str:
        return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"

    rest = (
        [obj for obj in items if tuple(place(obj).split("/")) > tuple(after.split("/"))] if after else items
    )
    if not limit or len(rest) <= limit:
        return rest, ""
    return rest[:limit], place(rest[limit - 1])


def _seen(type: str, obj: Object, old: Object | None, test: Test) -> Iterator[Object]:
    """A change as a watch with a selector sees it: what leaves the selection is deleted for it."""
    before, after = old is not None and test(old), type != "DELETED" and test(obj)
    if before or after:
        word = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
        yield {"type": word, "object": obj}


async def _body(raw: aiohttp.web.BaseRequest) -> Any:
    data = await raw.read()
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise ApiError(400, "BadRequest", f"the body is not JSON: {error}") from error


def _check_body(kind: Kind, where: Place, body: Any) -> None:
    if not isinstance(body, dict):
        raise ApiError(400, "BadRequest", "the body is not an object")
    found = (body.get("apiVersion", kind.api_version), body.get("kind", kind.kind))
    if found != (kind.api_version, kind.kind):
        raise ApiError(
            400, "BadRequest", f"{found[0]} {found[1]} does not match {kind.api_version} {kind.kind}"
        )
    namespace = (body.get("metadata") or {}).get("namespace")
    if namespace and where.namespace and namespace != where.namespace:
        raise ApiError(
            400, "BadRequest", "the namespace of the object does not match the namespace on the request"
        )


def _faulty(raw: aiohttp.web.BaseRequest, status: int) -> Answer:
    if status == 0:
        assert raw.transport is not None
        raw.transport.close()
    reasons = {409: "Conflict", 429: "TooManyRequests", 503: "ServiceUnavailable"}
    reason = reasons.get(status, "InternalError")
    answer = _failure(status or 500, reason, f"a fault made by a test: {reason}")
    if status == 429:
        answer.headers["Retry-After"] = "1"
    return answer


def _failure(status: int, reason: str, message: str) -> Answer:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status}
    return aiohttp.web.json_response({**body, "reason": reason, "message": message}, status=status)
