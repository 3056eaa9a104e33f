"""Storage and nodes played: snapshots are ready and movers have ended as soon as somebody asks for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from blockvault.cluster.resources import CLAIMS, JOBS, PODS, SNAPSHOT_CONTENTS, SNAPSHOTS, Resource

from .client import ApiError, Client, Object
from .fill import DRIVER, OPERATOR_NAMESPACE

MANAGED = "app.kubernetes.io/managed-by=blockvault"
SIZE = 10 * (1 << 30)
RESULT = {
    "type": "full",
    "size": SIZE,
    "bytesScanned": SIZE,
    "bytesChanged": 3 * (1 << 30),
    "bytesStored": 1 << 30,
    "rootHash": "ab" * 32,
    "changedBlockSource": "Full",
    "seconds": 12.5,
    "requests": {"put": 37, "create": 3, "list": 2, "get": 4},
}


def now() -> str:
    """As the API writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class StandIn:
    """The snapshot controller, the provisioner of clones, and all movers. Use it as an asynchronous context manager."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tasks: list[asyncio.Task[None]] = []
        self._works: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> StandIn:
        for resource, work in ((SNAPSHOTS, self._snapshot), (CLAIMS, self._clone), (JOBS, self._job)):
            listed = await self._client.list(resource, labelSelector=MANAGED, limit="1")
            since = listed["metadata"]["resourceVersion"]
            self._tasks.append(asyncio.create_task(self._follow(resource, since, work)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in [*self._tasks, *self._works]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._works, return_exceptions=True)

    def check(self) -> None:
        """Raise what went wrong."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _follow(
        self, resource: Resource, since: str, work: Callable[[str, Object], Awaitable[None]]
    ) -> None:
        async for what, obj in self._client.watch(resource, since, labelSelector=MANAGED):
            task = asyncio.create_task(self._guarded(work, what, obj))
            self._works.add(task)
            task.add_done_callback(self._works.discard)

    async def _guarded(self, work: Callable[[str, Object], Awaitable[None]], what: str, obj: Object) -> None:
        try:
            await work(what, obj)
        except ApiError as error:
            if error.status not in (404, 409):  # gone meanwhile, or done already
                raise

    async def _snapshot(self, what: str, snapshot: Object) -> None:
        meta, source = snapshot["metadata"], snapshot["spec"]["source"]
        bound = (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName")
        if what == "DELETED":
            content = await self._client.get(SNAPSHOT_CONTENTS, bound) if bound else None
            if content is not None and content["spec"]["deletionPolicy"] == "Delete":
                await self._client.delete(SNAPSHOT_CONTENTS, content)
        if what != "ADDED":
            return
        name = source.get("volumeSnapshotContentName") or f"snapcontent-{meta['uid']}"
        handle = f"snap-{meta['uid']}"
        if "volumeSnapshotContentName" not in source:
            claim = await self._client.get(CLAIMS, source["persistentVolumeClaimName"], meta["namespace"])
            assert claim is not None
            body: Object = {
                "metadata": {"name": name},
                "spec": {
                    "volumeSnapshotRef": {key: meta[key] for key in ("namespace", "name", "uid")},
                    "deletionPolicy": "Delete", "driver": DRIVER, "volumeSnapshotClassName": "stand-in",
                    "source": {"volumeHandle": claim["spec"]["volumeName"]}, "sourceVolumeMode": "Block",
                },
            }  # fmt: skip
            content = await self._client.create(SNAPSHOT_CONTENTS, body)
        else:
            found = await self._client.get(SNAPSHOT_CONTENTS, name)
            assert found is not None
            content, handle = found, found["spec"]["source"]["snapshotHandle"]
        times = int(datetime.now(UTC).timestamp() * 1e9)
        ready: dict[str, Any] = {"readyToUse": True, "restoreSize": SIZE}
        await self._client.status(
            SNAPSHOT_CONTENTS, content, {**ready, "snapshotHandle": handle, "creationTime": times}
        )
        ready |= {"restoreSize": "10Gi", "creationTime": now(), "boundVolumeSnapshotContentName": name}
        await self._client.status(SNAPSHOTS, snapshot, ready)

    async def _clone(self, what: str, claim: Object) -> None:
        if what != "ADDED" or claim["metadata"]["namespace"] != OPERATOR_NAMESPACE:
            return
        await self._client.status(
            CLAIMS,
            claim,
            {"phase": "Bound", "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"]},
        )

    async def _job(self, what: str, job: Object) -> None:
        if what != "ADDED":
            return
        meta, template = job["metadata"], job["spec"]["template"]
        labels = {**template["metadata"]["labels"], "job-name": meta["name"]}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
        pod = await self._client.create(
            PODS,
            {
                "metadata": {
                    "name": f"{meta['name']}-{uuid.uuid4().hex[:5]}", "namespace": meta["namespace"],
                    "labels": labels, "ownerReferences": [{**owner, "controller": True}],
                },
                "spec": template["spec"],
            },
        )  # fmt: skip
        notes = meta["annotations"]
        volume = f"{notes['blockvault.dev/namespace']}/{notes['blockvault.dev/name']}"
        words = {"ok": True, "result": {**RESULT, "backupId": uuid.uuid4().hex, "volume": volume}}
        ended = {"exitCode": 0, "reason": "Completed", "message": json.dumps(words), "finishedAt": now()}
        container = {
            "name": "mover", "image": "x", "imageID": "x", "ready": False, "restartCount": 0,
            "state": {"terminated": ended},
        }  # fmt: skip
        await self._client.status(PODS, pod, {"phase": "Succeeded", "containerStatuses": [container]})
        conditions = [
            {"type": type, "status": "True", "lastTransitionTime": now(), "lastProbeTime": now()}
            for type in ("SuccessCriteriaMet", "Complete")
        ]
        await self._client.status(
            JOBS,
            job,
            {"succeeded": 1, "startTime": now(), "completionTime": now(), "conditions": conditions}
            | {"uncountedTerminatedPods": {}, "ready": 0, "terminating": 0},
        )


@contextlib.asynccontextmanager
async def played(client: Client) -> Any:
    """A StandIn at work."""
    async with StandIn(client) as made:
        yield made
