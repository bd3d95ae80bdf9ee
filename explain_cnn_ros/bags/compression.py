"""Unpacking of zstd and lz4 data up to a limit."""

from __future__ import annotations

import sys

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["unpack_lz4", "unpack_zstd", "zstd"]


def unpack_zstd(packed: bytes, limit: int) -> bytes:
    """Return unpacked data, at most one byte more than the limit.

    Raises:
        ZstdError: The data is damaged.
    """
    unpacked = b""
    while packed and len(unpacked) <= limit:
        decompressor = zstd.ZstdDecompressor()
        part = decompressor.decompress(packed, max_length=limit + 1 - len(unpacked))
        unpacked = unpacked + part if unpacked else part
        packed = decompressor.unused_data if decompressor.eof else b""
    return unpacked


def unpack_lz4(packed: bytes, limit: int) -> bytes:
    """Return unpacked data, at most one byte more than the limit.

    Raises:
        RuntimeError: The data is damaged.
    """
    unpacked = b""
    while packed and len(unpacked) <= limit:
        decompressor = LZ4FrameDecompressor()
        part = bytes(decompressor.decompress(packed, max_length=limit + 1 - len(unpacked)))
        unpacked = unpacked + part if unpacked else part
        packed = decompressor.unused_data if decompressor.eof else b""
    return unpacked
