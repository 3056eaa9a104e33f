"""The operator as it is, but before and after each of its effects it asks whether to go on.

`BLOCKVAULT_STEPS` is where it asks: see director.py. This file needs nothing of the tests, so that it can be put into a
container of the operator's image: `python stepped.py operator`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from blockvault.cluster import backups, deletion, in_place, restores, upkeep, vault_deletion
from blockvault.cluster.gateway import Gateway, GatewayError
from blockvault.cluster.resources import Resource
from blockvault.handlers.app import main
from blockvault.stores import StoreUnreachable
from blockvault.storework import StoreWork

Call = Callable[..., Awaitable[Any]]
# Longer than any fault that is made meanwhile.
PATIENCE = 120.0
# What changes a store. All else only looks.
WRITES = ("delete_backup", "undelete", "note_restored", "empty_trash", "take_over", "rotate")


@dataclass
class Performing:
    """A plan's effect that is being carried out, of which object, and how many requests it has made."""

    step: str
    about: str
    calls: int = 0


PERFORMING: ContextVar[Performing | None] = ContextVar("performing", default=None)


def install(url: str) -> None:
    """Ask there from now on."""
    _name(backups, "perform", "Backup", lambda a: f"{a[1].namespace}/{a[1].name}", 4)
    deletion.perform = backups.perform
    _name(restores, "perform", "Restore", lambda a: f"{a[1].namespace}/{a[1].name}", 3)
    _name(upkeep, "perform", "Upkeep", lambda a: _of(a[1]), 3)
    _name(vault_deletion, "_perform", "Erase", lambda a: _of(a[1]), 3)
    _name(in_place, "record", "Restore", lambda a: f"{a[1].namespace}/{a[1].name}", "Record")
    for verb in ("create", "patch", "patch_status", "delete"):
        setattr(Gateway, verb, _asking_gateway(url, verb, getattr(Gateway, verb)))
    StoreWork._call = _asking_store(url, StoreWork._call)  # type: ignore[method-assign]


def _of(vault: Any) -> str:
    return f"{vault.metadata.namespace}/{vault.metadata.name}"


def _name(module: Any, function: str, plan: str, about: Callable[[Any], str], action: int | str) -> None:
    """Have what a function does called by its plan's step; `action`: which argument names it, or its name."""
    original: Call = getattr(module, function)

    async def named(*args: Any, **kwargs: Any) -> Any:
        word = action if isinstance(action, str) else args[action].value
        if PERFORMING.get() is not None:  # a step that is done by another plan's means
            return await original(*args, **kwargs)
        token = PERFORMING.set(Performing(f"{plan}.{word}", about(args)))
        try:
            return await original(*args, **kwargs)
        finally:
            PERFORMING.reset(token)

    setattr(module, function, named)


def _asking_gateway(url: str, verb: str, original: Call) -> Call:
    async def asking(self: Gateway, resource: Resource, *args: Any, **kwargs: Any) -> Any:
        step, about, call = _where(verb, resource, args)
        question = {"step": step, "call": call, "object": about, "does": f"{verb} {resource.plural}"}
        if await _ask(url, question | {"when": "before"}) == "fail":
            raise GatewayError(500, f"{verb} {resource.plural}", "refused for a test")
        result = await original(self, resource, *args, **kwargs)
        if await _ask(url, question | {"when": "after"}) == "fail":
            raise GatewayError(0, f"{verb} {resource.plural}", "no answer, for a test")
        return result

    return asking


def _where(verb: str, resource: Resource, args: tuple[Any, ...]) -> tuple[str, str, int]:
    performing = PERFORMING.get()
    if performing is not None:
        performing.calls += 1
        return performing.step, performing.about, performing.calls
    if verb == "create":
        meta = args[0]["metadata"]
        return f"{resource.kind}:create", f"{meta.get('namespace')}/{meta['name']}", 1
    name, namespace, body = args[0], args[1] if len(args) > 1 else None, args[2] if len(args) > 2 else {}
    word = str(body.get("reason") or (body.get("upkeep") or {}).get("reason") or "status")
    return f"{resource.kind}:{word if verb == 'patch_status' else verb}", f"{namespace}/{name}", 1


def _asking_store(url: str, original: Call) -> Call:
    async def asking(self: StoreWork, function: Any, *args: Any, **kwargs: Any) -> Any:
        name = function.__name__
        if name not in WRITES:
            return await original(self, function, *args, **kwargs)
        performing = PERFORMING.get()
        if performing is not None:
            performing.calls += 1
        step = performing.step if performing else f"Store:{name}"
        about, call = (performing.about, performing.calls) if performing else (str(args[1]), 1)
        question = {"step": step, "call": call, "object": about, "does": f"store {name}"}
        if await _ask(url, question | {"when": "before"}) == "fail":
            raise StoreUnreachable("refused for a test")
        result = await original(self, function, *args, **kwargs)
        if await _ask(url, question | {"when": "after"}) == "fail":
            raise StoreUnreachable("no answer, for a test")
        return result

    return asking


async def _ask(url: str, question: dict[str, Any]) -> str:
    """`go` or `fail`; on `die` nothing comes back."""
    text = await asyncio.to_thread(_answer, f"{url}?{urllib.parse.urlencode(question)}")
    if text == "die":
        _die()
    return text


def _answer(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())
    return "go"  # the test is over


def _die() -> None:
    """End at once and clean nothing up. The first process of a container is deaf to its own SIGKILL."""
    if os.getpid() != 1:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)


async def call_in_thread(self: StoreWork, function: Any, *args: Any, timeout: float = 60.0) -> Any:
    """Store work without a process of its own, which a forked operator starts too slowly for a thousand deaths."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(function, *args), timeout)
    except TimeoutError as error:
        raise StoreUnreachable(f"{function.__name__}: no answer after {timeout:g} s") from error


def run_forked(environment: dict[str, str], directory: str, log: str) -> None:
    """Run the operator in a process that was forked with all modules loaded. Never returns."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from kubernetes.aio.config import kube_config  # it has read the environment when it was loaded

    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = environment["KUBECONFIG"]
    StoreWork._call = call_in_thread  # type: ignore[method-assign]
    install(environment["BLOCKVAULT_STEPS"])
    os._exit(main())


if __name__ == "__main__":
    install(os.environ["BLOCKVAULT_STEPS"])
    sys.exit(main())
