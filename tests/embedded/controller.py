"""The loop that the emulated controllers share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from .faults import Faults
from .files import Files
from .kinds import Kind, Object
from .store import ApiError, Store


class Controller(ABC):
    """Looks at everything at each change, and does what is due: level-triggered, like the real ones."""

    def __init__(self, store: Store, files: Files, faults: Faults) -> None:
        self.store, self.files, self.faults = store, files, faults
        self._busy: dict[str, asyncio.Task[None]] = {}

    @abstractmethod
    def look(self) -> None:
        """Do what can be done at once, and `begin` what takes longer."""

    async def run(self) -> None:
        """Look at every change, until cancelled."""
        with self.store.waker() as waker:
            try:
                while True:
                    waker.clear()
                    self.look()
                    for task in [t for t in self._busy.values() if t.done()]:
                        task.result()  # a defect of the emulation must not be silent
                    await waker.wait()
            finally:
                for task in self._busy.values():
                    task.cancel()
                await asyncio.gather(*self._busy.values(), return_exceptions=True)

    def begin(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Start what takes longer, unless the same is under way."""
        if key in self._busy:
            work.close()
            return

        async def watched() -> None:
            try:
                await work
            except ApiError as error:
                if error.status != 404:  # the object went away meanwhile: nothing is due any more
                    raise

        task = asyncio.create_task(watched(), name=key)
        self._busy[key] = task
        task.add_done_callback(lambda t: self._finished(key, t))

    def _finished(self, key: str, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._busy.pop(key, None)
        self.store.wake_all()

    # Short forms

    def set_status(self, kind: Kind, obj: Object, **status: Any) -> Object:
        """Set fields of an object's status; None removes one."""

        def change(current: Object) -> None:
            merged = {**(current.get("status") or {}), **status}
            current["status"] = {k: v for k, v in merged.items() if v is not None}

        return self.update(kind, obj, change)

    def update(self, kind: Kind, obj: Object, change: Any) -> Object:
        """Change an object as a controller may."""
        meta = obj["metadata"]
        return self.store.update(kind, meta.get("namespace"), meta["name"], change, internal=True)

    def drop_finalizer(self, kind: Kind, obj: Object, *names: str) -> None:
        """Let go of an object; when these were its last finalizers and it is being deleted, it goes."""

        def change(current: Object) -> None:
            left = [f for f in current["metadata"].get("finalizers", []) if f not in names]
            current["metadata"]["finalizers"] = left

        if set(names) & set(obj["metadata"].get("finalizers", [])):
            self.update(kind, obj, change)


def deleting(obj: Object) -> bool:
    """Whether deletion was asked for and finalizers hold it."""
    return "deletionTimestamp" in obj["metadata"]


def pod_claims(pod: Object) -> set[tuple[str, str]]:
    """The claims that a pod uses, by namespace and name."""
    volumes = pod["spec"].get("volumes") or []
    namespace = pod["metadata"]["namespace"]
    return {
        (namespace, v["persistentVolumeClaim"]["claimName"]) for v in volumes if "persistentVolumeClaim" in v
    }


def pod_ended(pod: Object) -> bool:
    """Whether nothing of a pod runs any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
