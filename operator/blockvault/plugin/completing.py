"""Completion of names: asked of the kubeconfig and of the cluster, quickly or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from blockvault.plugin.settings import Settings

# Whoever presses a key does not wait; a name that is not found is typed.
SECONDS = 3.0

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def complete_context(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Contexts of the kubeconfig."""
    from blockvault.cluster.kubeconfig import contexts

    return [name for name in contexts(context.params.get("kubeconfig")) if name.startswith(typed)]


def complete_namespace(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Namespaces of the cluster."""
    return _names(context, typed, "NAMESPACES")


def names(*kinds: str, prefixed: bool = False) -> Complete:
    """Names of objects of these kinds, given as in `cluster.resources`; with `prefixed` as `backup/NAME`."""

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        return _names(context, typed, *kinds, prefixed=prefixed)

    return complete


def _names(context: click.Context, typed: str, *kinds: str, prefixed: bool = False) -> list[str]:
    from dataclasses import fields

    from blockvault.cluster import resources
    from blockvault.plugin.errors import PluginError
    from blockvault.plugin.session import Session

    given: dict[str, Any] = {each.name: context.params.get(each.name) for each in fields(Settings)}
    settings = Settings(**(given | {"request_timeout": f"{SECONDS}s", "insecure": bool(given["insecure"])}))

    async def ask(session: Session) -> list[str]:
        found = []
        for each in kinds:
            resource = getattr(resources, each)
            items = await session.all(resource)
            prefix = f"{resource.kind.lower()}/" if prefixed else ""
            found += [prefix + item["metadata"]["name"] for item in items]
        return found

    try:
        return [name for name in settings.converse(ask) if name.startswith(typed)]
    except PluginError:
        return []
