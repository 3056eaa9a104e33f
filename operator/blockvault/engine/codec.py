"""Compression: zstd level 1, or raw when it saves less than 3 %."""

from __future__ import annotations

import threading

import zstandard

RAW = 0
ZSTD = 1

LEVEL = 1
# Below this saving the reader's time is worth more than the bytes.
WORTHWHILE = 0.97

Buffer = bytes | bytearray | memoryview


class CodecError(Exception):
    """Bytes that do not decode to what was announced."""


class _Contexts(threading.local):
    """For each thread its own: their tables cost more to make than a block to pack or to open."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress(data: Buffer) -> tuple[int, bytes]:
    """(codec, stored bytes)."""
    packed = _contexts.compressor.compress(data)
    if len(packed) > len(data) * WORTHWHILE:
        return RAW, bytes(data)
    return ZSTD, packed


def decompress(codec: int, data: Buffer, length: int) -> bytes:
    """The plain bytes, exactly `length` of them, from one whole frame. Raises CodecError.

    Never allocates more than `length`, whatever the frame announces.
    """
    if codec == RAW:
        plain = bytes(data)
    elif codec == ZSTD:
        plain = _decode(data, length)
    else:
        raise CodecError(f"unknown codec {codec}")
    if len(plain) != length:
        raise CodecError(f"decodes to {len(plain)} bytes instead of {length}")
    return plain


def _decode(data: Buffer, length: int) -> bytes:
    try:
        # Checked first: what a frame announces is allocated, whatever the most is that one asked for.
        announced = zstandard.frame_content_size(data)
        if announced not in (-1, length):
            raise CodecError(f"decodes to {announced} bytes instead of {length}")
        # 0 would mean "no bound" where a frame announces nothing.
        return _contexts.decompressor.decompress(
            data, max_output_size=max(length, 1), read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CodecError(str(error)) from error
