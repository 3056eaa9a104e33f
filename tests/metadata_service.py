"""A SnapshotMetadata service for tests: gRPC over TLS, its messages by Google's library and not by ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.certificates import certificates

FIXED, VARIABLE = 1, 2
_INT32, _INT64, _STRING, _MESSAGE, _ENUM = 5, 3, 9, 11, 14


def _messages() -> dict[str, Any]:
    """The messages as the Kubernetes side of the protocol numbers their fields, by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="schema.proto", package="snapshotmetadata", syntax="proto3"
    )
    kinds = file.enum_type.add(name="BlockMetadataType")
    for number, name in enumerate(("UNKNOWN", "FIXED_LENGTH", "VARIABLE_LENGTH")):
        kinds.value.add(name=name, number=number)
    fields = {
        "BlockMetadata": (("byte_offset", _INT64), ("size_bytes", _INT64)),
        "GetMetadataDeltaRequest": (
            ("security_token", _STRING), ("namespace", _STRING), ("base_snapshot_id", _STRING),
            ("target_snapshot_name", _STRING), ("starting_offset", _INT64), ("max_results", _INT32),
        ),
        "GetMetadataDeltaResponse": (
            ("block_metadata_type", _ENUM), ("volume_capacity_bytes", _INT64), ("block_metadata", _MESSAGE),
        ),
    }  # fmt: skip
    types = {_ENUM: ".snapshotmetadata.BlockMetadataType", _MESSAGE: ".snapshotmetadata.BlockMetadata"}
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for number, (member, kind) in enumerate(members, 1):
            label = 3 if kind == _MESSAGE else 1
            message.field.add(name=member, number=number, type=kind, label=label, type_name=types.get(kind))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"snapshotmetadata.{name}"))
        for name in fields
    }


MESSAGES = _messages()
Request = MESSAGES["GetMetadataDeltaRequest"]
Response = MESSAGES["GetMetadataDeltaResponse"]


def response(capacity: int, *tuples: tuple[int, int], kind: int = FIXED) -> Any:
    """One message of an answer."""
    found = Response(block_metadata_type=kind, volume_capacity_bytes=capacity)
    for offset, size in tuples:
        found.block_metadata.add(byte_offset=offset, size_bytes=size)
    return found


class MetadataService:
    """The service on a port of loopback; use as a context manager.

    `answer` gets each request and the call's context, and gives messages, which may be raw bytes; it may abort.
    """

    def __init__(
        self, directory: Path, answer: Callable[[Any, grpc.ServicerContext], Iterable[Any]], port: int = 0
    ) -> None:
        self.ca, file = certificates(directory)
        self._answer = answer
        self._credentials = grpc.ssl_server_credentials([(file.read_bytes(), file.read_bytes())])
        self.port = port

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
        handler = grpc.unary_stream_rpc_method_handler(self._stream, Request.FromString, _raw)
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    "snapshotmetadata.SnapshotMetadata", {"GetMetadataDelta": handler}
                )
            ]
        )
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", self._credentials)
        self._server.start()
        return self

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0).wait(10)

    @property
    def address(self) -> str:
        """As a SnapshotMetadataService names it."""
        return f"127.0.0.1:{self.port}"

    def _stream(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from self._answer(request, context)


def _raw(message: Any) -> bytes:
    data: bytes = message if isinstance(message, bytes) else message.SerializeToString()
    return data
