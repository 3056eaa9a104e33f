"""The two messages of `snapshotmetadata.SnapshotMetadata/GetMetadataDelta`, written and read as protobuf lays them out.

So few fields need no generated code, which would need protobuf's runtime in the image; the numbers of the fields are
the contract. Unknown fields are passed over, absent ones are zero, as proto3 wants it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

METHOD = "/snapshotmetadata.SnapshotMetadata/GetMetadataDelta"

FIXED_LENGTH = 1
VARIABLE_LENGTH = 2

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class DeltaRequest:
    """What changed from a snapshot, by its handle, to a VolumeSnapshot, by its name; from a byte of the volume on."""

    token: str
    namespace: str
    base: str
    target: str
    start: int = 0
    most: int = 0


@dataclass(frozen=True)
class Delta:
    """One message of the answer: the kind of its tuples, the volume's bytes, and (offset, size) of what changed."""

    kind: int
    capacity: int
    tuples: list[tuple[int, int]]


def encode(request: DeltaRequest) -> bytes:
    """GetMetadataDeltaRequest."""
    texts = (request.token, request.namespace, request.base, request.target)
    encoded = b"".join(_text(number, text) for number, text in enumerate(texts, 1))
    return encoded + _number(5, request.start) + _number(6, request.most)


def decode(data: bytes) -> Delta:
    """GetMetadataDeltaResponse. Raises ValueError."""
    kind = capacity = 0
    tuples = []
    try:
        for number, value, end in _fields(data, 0, len(data)):
            if number == 1 and end is None:
                kind = value
            elif number == 2 and end is None:
                capacity = _signed(value)
            elif number == 3 and end is not None:
                tuples.append(_block(data, value, end))
    except IndexError as error:
        raise ValueError("a message that is cut short") from error
    return Delta(kind, capacity, tuples)


def _block(data: bytes, at: int, end: int) -> tuple[int, int]:
    offset = size = 0
    for number, value, length in _fields(data, at, end):
        if number == 1 and length is None:
            offset = _signed(value)
        elif number == 2 and length is None:
            size = _signed(value)
    return offset, size


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """(number, value, None) of numbers, (number, start, end) of what has a length."""
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value, None
        elif kind == _LEN:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field that is longer than its message")
            yield number, at, at + length
            at += length
        elif kind in (_I64, _I32):
            at += 8 if kind == _I64 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
    if at != end:
        raise ValueError("a field that is longer than its message")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _text(number: int, text: str) -> bytes:
    data = text.encode()
    return _encoded(number << 3 | _LEN) + _encoded(len(data)) + data if data else b""


def _number(number: int, value: int) -> bytes:
    return _encoded(number << 3 | _VARINT) + _encoded(value & _MASK) if value else b""


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
