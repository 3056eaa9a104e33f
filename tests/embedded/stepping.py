"""The emulated cluster as a world of tests/steps: an operator that dies at a step and is started again at once."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from tests.scenario.environment import Object
from tests.steps import stepped
from tests.steps.director import Director

from .cluster import EmbeddedCluster
from .environment import EmbeddedEnvironment
from .store import Store

# An operator starts in a fraction of the time when it is forked with its modules loaded.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["blockvault.handlers.app", "blockvault.mover.__main__"])
DEATHS = 200
# What an operator needs after its start to see where things are.
SETTLE_SECONDS = 10.0


class Forked:
    """An operator in a process that was forked."""

    def __init__(self, environment: dict[str, str], directory: Path, log: Path) -> None:
        self._process = FORKS.Process(
            target=stepped.run_forked, args=(environment, str(directory), str(log)), daemon=False
        )
        # Else it would load the test runner as its main module.
        with mock.patch.dict(sys.modules, {"__main__": types.ModuleType("__main__")}):
            self._process.start()

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("operator", timeout or 0)
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()


class SteppedWorld(EmbeddedEnvironment):
    """The emulated cluster with an operator that asks a director at each step."""

    size = 4 << 20
    patience = 240.0

    def __init__(self, cluster: EmbeddedCluster, director: Director) -> None:
        super().__init__(cluster)
        self.director, self.deaths = director, 0
        cluster.launch = Forked
        self._ahead = cluster.directory / "ahead"
        self.move_clock(0)

    def start(self) -> None:
        """Start the operator, as often as it dies before it is ready."""
        while True:
            try:
                return self.cluster.start_operator(
                    BLOCKVAULT_STEPS=self.director.url, BLOCKVAULT_TESTING_CLOCK=str(self._ahead)
                )
            except RuntimeError as error:
                if "has ended with -9" not in str(error):
                    raise
                self._count()
                self.cluster.kill_operator()

    def revive(self) -> float:
        """Start the operator again if it has died; returns how many seconds more things may take for that."""
        if self.cluster.operator_runs:
            return 0.0
        began = time.monotonic()
        self._count()
        self.cluster.kill_operator()
        self.start()
        return time.monotonic() - began + SETTLE_SECONDS

    def tend(self) -> None:
        """Have the operator run."""
        self.revive()

    def _count(self) -> None:
        self.deaths += 1
        assert self.deaths < DEATHS, "it dies for ever"

    def wait_for(
        self, kind: str, name: str, test: Callable[[Object | None], Any], *, timeout: float
    ) -> Object:
        """Wait until a test holds; an operator that dies meanwhile is started again, which takes no time."""
        end = time.monotonic() + timeout
        while not test(found := self.get(kind, name)):
            end += self.revive()
            if time.monotonic() > end:
                story = self.cluster.story()
                raise TimeoutError(f"{kind} {name} is {(found or {}).get('status')}\n{story}")
            time.sleep(0.02)
        return found or {}

    def workload(self, name: str, claim: str) -> Object:
        """A StatefulSet with one pod on a raw claim."""
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        spec = {"replicas": 1, "template": {"spec": {"containers": [], "volumes": volumes}}}
        return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": spec}

    def let_go(self, claim: str) -> None:
        """Take its pod away; files are read and written without one."""
        if self.get("pod", f"{claim}-user") is not None:
            self.delete("pod", f"{claim}-user")

    def held(self) -> tuple[set[str], set[str]]:
        """Handles of the files."""
        return self.cluster.files.handles("volumes"), self.cluster.files.handles("snapshots")

    def move_clock(self, seconds: int) -> None:
        """Let the operator's calendar be so far ahead."""
        new = self._ahead.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._ahead)

    def kill_movers(self) -> None:
        """SIGKILL to all movers that run."""
        self.cluster.kill_movers()

    def set_finalizer(self, kind: str, obj: Object, finalizer: str, there: bool) -> None:
        """Have a foreign finalizer on an object, or take it away; nothing where the object is gone."""
        meta = obj["metadata"]

        def change(current: Object) -> None:
            others = [f for f in current["metadata"].get("finalizers") or [] if f != finalizer]
            current["metadata"]["finalizers"] = [*others, finalizer] if there else others

        def update(store: Store) -> None:
            found = store.kind_named(kind)
            if store.find(found, meta.get("namespace"), meta["name"]) is not None:
                store.update(found, meta.get("namespace"), meta["name"], change)

        self.cluster.within(update)

    def harm(self, how: str) -> None:
        """Nothing around the operator is real here."""
        raise NotImplementedError(how)
