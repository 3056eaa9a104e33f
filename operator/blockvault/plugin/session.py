"""One command's conversation with the API server: the gateway's verbs, with errors in words for people."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from blockvault.cluster.gateway import ConflictError, Gateway, GatewayError
from blockvault.cluster.kubeconfig import KubeconfigError, Way, connect
from blockvault.cluster.resources import Resource
from blockvault.core.naming import GROUP
from blockvault.core.objects import Object
from blockvault.plugin.errors import NotFoundError, PassingError, PluginError, RefusedError, UsageError

T = TypeVar("T")

NOT_INSTALLED = "Install Blockvault there (docs: Install), or name another cluster by --context."


@dataclass(frozen=True)
class Session:
    """Verbs on API objects. All raise PluginError. `everywhere`: in all namespaces."""

    gateway: Gateway
    namespace: str
    everywhere: bool = False

    @property
    def now(self) -> datetime:
        """The time by this machine's clock."""
        return datetime.now(UTC)

    @property
    def scope(self) -> str | None:
        """The namespace that lists are of; None for all."""
        return None if self.everywhere else self.namespace

    async def all(self, resource: Resource, *, fields: dict[str, str] | None = None) -> list[Object]:
        """All objects of a kind in the scope, by name; NotFound when the cluster does not know the kind."""
        scope = self.scope if resource.namespaced else None
        where = f"in namespace {scope}" if scope else "in the whole cluster"
        what = f"list {resource.plural} {where}"
        found = await self._asked(
            self.gateway.list_objects(resource, scope, fields=fields, required=True), what, resource
        )
        for each in found:  # of built-in kinds the list says it once for all
            each.setdefault("apiVersion", resource.api_version)
            each.setdefault("kind", resource.kind)
        return sorted(found, key=lambda o: (o["metadata"].get("namespace", ""), o["metadata"]["name"]))

    async def each_of(self, *resources: Resource) -> list[list[Object]]:
        """Several lists at once, in the order that was asked for."""
        return list(await asyncio.gather(*(self.all(each) for each in resources)))

    async def visible(self, resource: Resource) -> list[Object] | None:
        """As `all`; None where it may not be read, or the cluster does not know the kind."""
        try:
            return await self.all(resource)
        except (RefusedError, NotFoundError):
            return None

    async def find(self, resource: Resource, name: str) -> Object | None:
        """One object; None when there is none of that name."""
        namespace = self.namespace if resource.namespaced else None
        what = f"get {resource.kind} {name}"
        return await self._asked(self.gateway.get(resource, name, namespace), what, resource)

    async def get(self, resource: Resource, name: str) -> Object:
        """One object; NotFound when there is none of that name."""
        found = await self.find(resource, name)
        if found is None:
            where = f" in namespace {self.namespace}" if resource.namespaced else ""
            raise NotFoundError(
                f"there is no {resource.kind} {name}{where}",
                f"`kubectl get {resource.plural}.{resource.group or 'v1'} -A` shows those there are."
                if resource.group
                else f"`kubectl get {resource.plural} -A` shows those there are.",
            )
        return found

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create an object. ConflictError, which is no PluginError, when there is one of that name."""
        name = body["metadata"].get("name", "")
        return await self._asked(
            self.gateway.create(resource, body), f"create {resource.kind} {name}".strip(), resource
        )

    async def patch(self, resource: Resource, obj: Object, change: Object) -> Object:
        """Merge-patch an object."""
        meta = obj["metadata"]
        what = f"change {resource.kind} {meta['name']}"
        return await self._asked(
            self.gateway.patch(resource, meta["name"], meta.get("namespace"), change), what, resource
        )

    async def annotate(self, resource: Resource, obj: Object, annotation: str, value: str) -> Object:
        """Set one annotation."""
        return await self.patch(resource, obj, {"metadata": {"annotations": {annotation: value}}})

    async def delete(self, resource: Resource, obj: Object) -> bool:
        """Delete this very object; False when it is gone already."""
        meta = obj["metadata"]
        what = f"delete {resource.kind} {meta['name']}"
        work = self.gateway.delete(resource, meta["name"], meta.get("namespace"), uid=meta.get("uid"))
        return await self._asked(work, what, resource)

    async def _asked(self, work: Awaitable[T], what: str, resource: Resource) -> T:
        try:
            return await work
        except ConflictError:
            raise
        except GatewayError as error:
            raise translated(error, what, resource, self.gateway.url) from error


def translated(error: GatewayError, what: str, resource: Resource, url: str) -> PluginError:
    """An error of the API server as a person is told it."""
    words = f"{what}: {_cause(error)}"
    if error.status == 0 or error.status == 429 or error.status >= 500:
        return PassingError(
            f"the API server at {url} does not serve this now: {words}",
            "Look with `kubectl cluster-info`; check --context and the network, and repeat it.",
        )
    if error.status == 401:
        return RefusedError(
            f"the API server at {url} does not know you: {words}", "Log in again, or check --context."
        )
    if error.status == 403:
        role = "view, edit or admin" if resource.namespaced else "a cluster role that may read it"
        return RefusedError(
            words, f"Ask whoever administers the cluster for a role here ({role}: docs/kubectl.md)."
        )
    if error.status == 404 and resource.group == GROUP:
        return NotFoundError(f"this cluster does not know {resource.plural}.{GROUP}: {words}", NOT_INSTALLED)
    if error.status == 404:
        return NotFoundError(words, "See whether it was deleted meanwhile.")
    return UsageError(words, "Change what is asked for as the message says.")


def _cause(error: GatewayError) -> str:
    """The server's own words; of no answer, why there is none."""
    cause = error.__cause__
    if error.status or cause is None:
        return error.message
    return str(cause) or "no answer in time"


def converse(way: Way, work: Callable[[Session], Awaitable[T]], *, everywhere: bool = False) -> T:
    """Connect, do the work, and close. Raises PluginError."""

    async def whole() -> T:
        try:
            gateway, namespace = await connect(way)
        except KubeconfigError as error:
            raise UsageError(
                f"no way to a cluster: {error}",
                "Set KUBECONFIG, or name a file by --kubeconfig and a context by --context.",
            ) from error
        try:
            return await work(Session(gateway, namespace, everywhere))
        except ConflictError as error:
            raise PassingError(
                f"somebody changed it at the same time: {error.message}", "Repeat it."
            ) from error
        finally:
            await gateway.close()

    return asyncio.run(whole())


def facts(obj: Any) -> Object:
    """The status of an object; empty while it has none."""
    return (obj or {}).get("status") or {}
