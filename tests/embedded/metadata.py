"""The emulated storage's SnapshotMetadata service: true differences of the files behind two snapshots."""

from __future__ import annotations

import json
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tests.metadata_service import MetadataService, response

from .cluster import OPERATOR_NAMESPACE, EmbeddedCluster
from .kinds import CONTENTS, SNAPSHOTS, Object
from .volumes import DRIVER

AUDIENCE = "the-storage"
BLOCK = 4096
MOVER = "blockvault-mover"
KIND = "SnapshotMetadataService"
DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "snapshotmetadataservices.cbt.storage.k8s.io"},
    "spec": {
        "group": "cbt.storage.k8s.io", "scope": "Cluster",
        "names": {"kind": KIND, "plural": "snapshotmetadataservices", "singular": "snapshotmetadataservice"},
        "versions": [{
            "name": "v1beta1", "served": True, "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": {
                "type": "object", "required": ["address", "audience", "caCert"],
                "properties": {name: {"type": "string"} for name in ("address", "audience", "caCert")},
            }}}},
        }],
    },
}  # fmt: skip

Interfere = Callable[[Any, grpc.ServicerContext], None]


class StorageMetadata:
    """Answers as the real sidecar and driver do, for claims of the emulated cluster; use as a context manager.

    `left_out`: blocks of 4 KiB that a lying driver does not tell of; None for all. `before` is called with each request
    and may abort it; `cut_after`: messages after which a stream is cut.
    """

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self._cluster = cluster
        self._stack = ExitStack()
        self.requests: list[Any] = []
        self.left_out: set[int] | None = set()
        self.before: Interfere = lambda *_: None
        self.cut_after: int | None = None

    def __enter__(self) -> Self:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.service = self._stack.enter_context(MetadataService(Path(directory), self._answer))
        return self

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def manifest(self, **spec: str) -> Object:
        """Its SnapshotMetadataService."""
        ca = b64encode(self.service.ca.encode()).decode()
        whole = {"address": self.service.address, "audience": AUDIENCE, "caCert": ca}
        return {
            "apiVersion": "cbt.storage.k8s.io/v1beta1", "kind": KIND,
            "metadata": {"name": DRIVER}, "spec": {**whole, **spec},
        }  # fmt: skip

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.requests.append(request)
        self.before(request, context)
        self._authorize(request, context)
        base, target = request.base_snapshot_id, self._handle(request, context)
        files, code = self._cluster.files, grpc.StatusCode
        if not files.snapshot(base).exists():
            context.abort(code.NOT_FOUND, f"no snapshot {base}")
        if files.origins.get(base) != files.origins.get(target):
            context.abort(code.INVALID_ARGUMENT, f"snapshots {base} and {target} are of two volumes")
        capacity = files.snapshot(target).stat().st_size
        changed = [
            number
            for number in _differing(files.snapshot(base), files.snapshot(target))
            if (number + 1) * BLOCK > request.starting_offset and not self._hidden(number)
        ]
        most = min(request.max_results or 256, 256)
        for count, at in enumerate(range(0, len(changed), most)):
            if count == self.cut_after:
                context.abort(code.DEADLINE_EXCEEDED, "a stream may take so long")
            yield response(capacity, *((number * BLOCK, BLOCK) for number in changed[at : at + most]))

    def _hidden(self, number: int) -> bool:
        return self.left_out is None or number in self.left_out

    def _authorize(self, request: Any, context: grpc.ServicerContext) -> None:
        """What a TokenReview and a SubjectAccessReview would say: the chart gives movers one right in one namespace."""
        try:
            word, namespace, account, audience = json.loads(request.security_token)
        except ValueError:
            word, namespace, account, audience = "", "", "", ""
        if (word, audience) != ("token", AUDIENCE):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not for this service")
        if (namespace, account) != (OPERATOR_NAMESPACE, MOVER) or request.namespace != namespace:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{account} may not get snapshots")

    def _handle(self, request: Any, context: grpc.ServicerContext) -> str:
        snapshot = self._cluster.within(
            lambda store: store.find(SNAPSHOTS, request.namespace, request.target_snapshot_name)
        )
        status = (snapshot or {}).get("status") or {}
        if not snapshot or not status.get("readyToUse"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "the snapshot is not ready")
        if not snapshot["spec"].get("volumeSnapshotClassName"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "no default snapshot class")
        name = status["boundVolumeSnapshotContentName"]
        content = self._cluster.within(lambda store: store.get(CONTENTS, None, name))
        return str(content["status"]["snapshotHandle"])


def _differing(base: Path, target: Path) -> Iterator[int]:
    with base.open("rb") as a, target.open("rb") as b:
        number = 0
        while now := b.read(BLOCK):
            if a.read(BLOCK) != now:
                yield number
            number += 1
