"""The emulated API server's state: objects, their versions, and what happens to them.

Everything here is synchronous and belongs to one event loop, so every call is atomic. Objects are copied
on the way in and out; those stored are never changed in place.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kmock import KubernetesEmulator

from . import rules, schema
from .kinds import CUSTOM_RESOURCES, NAMESPACES, Kind, Object, custom_kinds, fill
from .selectors import Test, dig

Key = tuple[Kind, str | None, str]


class ApiError(Exception):
    """What the API server answers instead of an object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def not_found(kind: Kind, name: str) -> ApiError:
    """404 in the API server's words."""
    return ApiError(404, "NotFound", f'{kind} "{name}" not found')


def _conflict(kind: Kind, name: str, why: str) -> ApiError:
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {kind} "{name}": {why}')


def _invalid(kind: Kind, name: str, why: str) -> ApiError:
    return ApiError(
        422, "Invalid", f'{kind.kind}{"." if kind.group else ""}{kind.group} "{name}" is invalid: {why}'
    )


@dataclass(frozen=True)
class Change:
    """One event: ADDED, MODIFIED or DELETED. `old` is the object before it."""

    version: int
    type: str
    kind: Kind
    obj: Object
    old: Object | None


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """All objects of the cluster. Every version of each also goes to `emulator.objects`, for assertions."""

    def __init__(self, emulator: KubernetesEmulator) -> None:
        self._history = emulator.objects
        self._resources = emulator.resources
        self._live: dict[Key, Object] = {}
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        self._wakers: set[asyncio.Event] = set()
        self.version = 1000
        self.changes: list[Change] = []

    # Kinds

    def register(self, kind: Kind) -> None:
        """Serve a kind, in discovery too. Raises SyntaxError for a rule that cannot be evaluated here."""
        for text in _rules(kind.schema or {}):
            rules.compiled(text)
        self._kinds[kind.group, kind.version, kind.plural] = kind
        info = self._resources[kind.resource]
        info.namespaced, info.kind, info.singular = kind.namespaced, kind.kind, kind.kind.lower()
        info.verbs = {"create", "delete", "get", "list", "patch", "update", "watch"}
        info.shortnames = set(kind.short_names)
        info.subresources = {"status"} if kind.status else set()

    def kind(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind served at that place of the API."""
        return self._kinds.get((group, version, plural))

    def kind_of(self, obj: Object) -> Kind:
        """The kind that a manifest is of. Raises ApiError 404 for what is not served."""
        for kind in self._kinds.values():
            if (kind.api_version, kind.kind) == (obj.get("apiVersion"), obj.get("kind")):
                return kind
        raise ApiError(404, "NotFound", f"no matches for kind {obj.get('kind')} in {obj.get('apiVersion')}")

    def kind_named(self, name: str) -> Kind:
        """The kind of that name, plural or short name, as a person types it."""
        for kind in self._kinds.values():
            if name.lower() in (kind.kind.lower(), kind.plural, *kind.short_names, str(kind)):
                return kind
        raise ApiError(404, "NotFound", f"the server does not have a resource type {name!r}")

    def namespaced_kinds(self) -> list[Kind]:
        """All kinds that live in namespaces."""
        return [kind for kind in self._kinds.values() if kind.namespaced]

    # Reading

    def find(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """An object, or None when there is none."""
        obj = self._live.get((kind, namespace if kind.namespaced else None, name))
        return copy.deepcopy(obj)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """An object. Raises ApiError 404."""
        obj = self.find(kind, namespace, name)
        if obj is None:
            raise not_found(kind, name)
        return obj

    def list(self, kind: Kind, namespace: str | None = None, test: Test | None = None) -> list[Object]:
        """The objects of a kind, in one namespace or in all, that pass a test; by namespace and name."""
        found = [
            obj
            for (k, ns, _), obj in self._live.items()
            if k == kind and (namespace is None or ns == namespace) and (test is None or test(obj))
        ]
        return sorted(
            copy.deepcopy(found), key=lambda o: (o["metadata"].get("namespace", ""), o["metadata"]["name"])
        )

    # Writing

    def create(self, kind: Kind, obj: Object, namespace: str | None = None) -> Object:
        """Create an object. Raises ApiError 404 (no such namespace), 409, 422, 403 (terminating)."""
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        namespace = (namespace or meta.get("namespace") or "default") if kind.namespaced else None
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise _invalid(kind, "", "metadata.name: Required value: name or generateName is required")
            meta["name"] = meta["generateName"] + secrets.token_hex(3)[:5]
        key = (kind, namespace, meta["name"])
        self._check_namespace(namespace)
        if key in self._live:
            raise ApiError(409, "AlreadyExists", f'{kind} "{meta["name"]}" already exists')
        for made_here in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "generation"):
            meta.pop(made_here, None)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=now())
        if kind.namespaced:
            meta["namespace"] = namespace
        if kind.counted:
            meta["generation"] = 1
        if kind.finalizers:
            meta["finalizers"] = [*meta.get("finalizers", []), *kind.finalizers]
        obj.update(apiVersion=kind.api_version, kind=kind.kind)
        if kind.status:
            obj.pop("status", None)
        fill(kind, obj)
        if "stringData" in obj:  # of Secrets
            obj["data"] = {**obj.get("data", {}), **_encoded(obj.pop("stringData"))}
        obj = self._checked(kind, obj, None)
        if kind == CUSTOM_RESOURCES:
            for custom in custom_kinds(obj):
                self.register(custom)
        return self._record("ADDED", key, obj)

    def update(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        change: Callable[[Object], Object | None],
        *,
        status: bool = False,
        internal: bool = False,
    ) -> Object:
        """Change an object by a function that gets a copy and returns it, or changes it in place.

        With `status` only the status changes, else only the rest; `internal` is for controllers, which
        may change both and what is fixed for others. Raises ApiError 404, 409 (the function set another
        resourceVersion) or 422.
        """
        key = (kind, namespace if kind.namespaced else None, name)
        old = self._live.get(key)
        if old is None:
            raise not_found(kind, name)
        obj = copy.deepcopy(old)
        obj = change(obj) or obj
        wanted = obj.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != old["metadata"]["resourceVersion"]:
            raise _conflict(
                kind, name, "the object has been modified; please apply your changes to the latest version"
            )
        if not internal and kind.status:
            obj = {**old, "status": obj.get("status")} if status else {**obj, "status": old.get("status")}
            obj = {k: v for k, v in obj.items() if v is not None}
        meta = obj["metadata"] = {k: v for k, v in obj.get("metadata", {}).items() if v is not None}
        for kept in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "generation"):
            if kept in old["metadata"]:
                meta[kept] = old["metadata"][kept]
        if not internal:
            if meta.get("deletionTimestamp") and set(meta.get("finalizers", [])) - set(_finalizers(old)):
                raise ApiError(
                    422,
                    "Invalid",
                    f"{kind.kind} {name}: no new finalizers can be added if it is being deleted",
                )
            for path in kind.fixed:
                if dig(old, path) is not None and dig(obj, path) != dig(old, path):
                    raise _invalid(kind, name, f"{path}: Invalid value: field is immutable")
        obj = self._checked(kind, obj, old)
        if _without_version(obj) == _without_version(old):
            return copy.deepcopy(old)
        if kind.counted and any(obj.get(k) != old.get(k) for k in {*obj, *old} - {"metadata", "status"}):
            meta["generation"] = obj["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        if obj["metadata"].get("deletionTimestamp") and not _finalizers(obj):
            return self._remove(key, obj)
        return self._record("MODIFIED", key, obj)

    def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None, orphan: bool = False
    ) -> Object:
        """Delete an object, or mark it while it has finalizers. Raises ApiError 404 or 409 (another uid).

        What it owns goes too, unless orphaned.
        """
        key = (kind, namespace if kind.namespaced else None, name)
        old = self._live.get(key)
        if old is None:
            raise not_found(kind, name)
        if uid and uid != old["metadata"]["uid"]:
            raise _conflict(
                kind, name, f"Precondition failed: UID in precondition: {uid}, UID in object meta differs"
            )
        if not _finalizers(old):
            return self._remove(key, old, orphan=orphan)
        if old["metadata"].get("deletionTimestamp"):
            return copy.deepcopy(old)
        obj = copy.deepcopy(old)
        obj["metadata"]["deletionTimestamp"] = now()
        if "generation" in obj["metadata"]:
            obj["metadata"]["generation"] += 1
        if kind == NAMESPACES:
            obj.setdefault("status", {})["phase"] = "Terminating"
        return self._record("MODIFIED", key, obj)

    def add_event(self, about: Object, reason: str, message: str, type: str = "Warning") -> None:
        """Record an Event about an object, as controllers do; the same one again is not repeated."""
        meta = about["metadata"]
        name = f"{meta['name']}.{uuid.uuid5(uuid.NAMESPACE_OID, meta['uid'] + reason + message).hex[:16]}"
        namespace = meta.get("namespace", "default")
        kind = self._kinds["", "v1", "events"]
        if self.find(kind, namespace, name) is None:
            regarding = {
                "kind": about["kind"],
                "name": meta["name"],
                "namespace": namespace,
                "uid": meta["uid"],
            }
            event = {"involvedObject": regarding, "reason": reason, "message": message, "type": type}
            self.create(kind, {"metadata": {"name": name}, **event}, namespace)

    # Watching

    @contextmanager
    def waker(self) -> Iterator[asyncio.Event]:
        """An event that is set at every change."""
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            yield waker
        finally:
            self._wakers.discard(waker)

    def wake_all(self) -> None:
        """Wake everything that waits for a change, as time has passed or the server is closing."""
        for waker in self._wakers:
            waker.set()

    # Inside

    def _check_namespace(self, namespace: str | None) -> None:
        if namespace is None:
            return
        found = self._live.get((NAMESPACES, None, namespace))
        if found is None:
            raise not_found(NAMESPACES, namespace)
        if found["metadata"].get("deletionTimestamp"):
            raise ApiError(
                403,
                "Forbidden",
                f"unable to create new content in namespace {namespace} because it is being terminated",
            )

    def _checked(self, kind: Kind, obj: Object, old: Object | None) -> Object:
        if kind.plural == "events":
            about = (obj.get("regarding") or obj.get("involvedObject") or {}).get("namespace") or ""
            if obj["metadata"]["namespace"] != (about or "default"):
                why = f'involvedObject.namespace: Invalid value: "{about}": does not match event.namespace'
                raise _invalid(kind, obj["metadata"]["name"], why)
        if kind.schema is None:
            return obj
        meta = obj["metadata"]
        rest = schema.complete({k: v for k, v in obj.items() if k != "metadata"}, kind.schema)
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **rest}
        found = list(schema.problems(obj, kind.schema, old))
        if found:
            why = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
            raise _invalid(kind, meta["name"], why)
        return obj

    def _record(self, type: str, key: Key, obj: Object) -> Object:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        kind, namespace, name = key
        address = (kind.resource, namespace, name)
        if address not in self._history:
            self._history[address] = []
        old = self._live.get(key)
        if type == "DELETED":
            del self._live[key]
            self._history[address].delete()
        else:
            self._live[key] = obj
            self._history[address].history.append(obj)
        self.changes.append(Change(self.version, type, kind, obj, old))
        self.wake_all()
        return copy.deepcopy(obj)

    def _remove(self, key: Key, obj: Object, *, orphan: bool = False) -> Object:
        uid = obj["metadata"]["uid"]
        obj = self._record("DELETED", key, copy.deepcopy(obj))
        for (kind, namespace, name), owned in list(self._live.items()):
            owners = owned["metadata"].get("ownerReferences", [])
            if any(owner.get("uid") == uid for owner in owners) and not orphan:
                self.delete(kind, namespace, name)
        return obj


def _finalizers(obj: Object) -> list[str]:
    return obj["metadata"].get("finalizers") or []


def _without_version(obj: Object) -> Object:
    return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}}


def _encoded(texts: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}


def _rules(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for rule in node.get("x-kubernetes-validations", []):
            yield rule["rule"]
            if "messageExpression" in rule:
                yield rule["messageExpression"]
        for inner in node.values():
            yield from _rules(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _rules(inner)
