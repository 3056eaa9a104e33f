"""Compression: zstd level 1, or raw when it saves less than 3 %."""

from __future__ import annotations

import sys
import threading

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RAW = 0
ZSTD = 1

LEVEL = 1
# Below this saving the reader's time is worth more than the bytes.
WORTHWHILE = 0.97
# Memory that a frame may ask of its reader: 8 MiB, what the zstd format recommends that every decoder grants.
WINDOW_LOG = 23
_OPTIONS: dict[int, int] = {int(zstd.DecompressionParameter.window_log_max): WINDOW_LOG}

Buffer = bytes | bytearray | memoryview


class CodecError(Exception):
    """Bytes that do not decode to what was announced."""


_local = threading.local()


def compress(data: Buffer) -> tuple[int, bytes]:
    """(codec, stored bytes)."""
    compressor: zstd.ZstdCompressor | None = getattr(_local, "compressor", None)
    if compressor is None:
        # One for each thread: its tables cost more to make than a block to compress.
        compressor = _local.compressor = zstd.ZstdCompressor(LEVEL)
    packed = compressor.compress(data, mode=zstd.ZstdCompressor.FLUSH_FRAME)
    if len(packed) > len(data) * WORTHWHILE:
        return RAW, bytes(data)
    return ZSTD, packed


def decompress(codec: int, data: Buffer, length: int) -> bytes:
    """The plain bytes, exactly `length` of them, from one whole frame. Raises CodecError.

    Never allocates more than `length` and the window of 8 MiB, whatever the frame announces.
    """
    if codec == RAW:
        plain = bytes(data)
    elif codec == ZSTD:
        try:
            decompressor = zstd.ZstdDecompressor(options=_OPTIONS)
            plain = decompressor.decompress(data, max_length=length + 1)
        except zstd.ZstdError as error:
            raise CodecError(str(error)) from error
        if len(plain) == length and (not decompressor.eof or decompressor.unused_data):
            raise CodecError("not one whole zstd frame")
    else:
        raise CodecError(f"unknown codec {codec}")
    if len(plain) != length:
        raise CodecError(f"decodes to {len(plain)} bytes instead of {length}")
    return plain
