"""Unpacking of zstd and lz4 data up to a limit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Maximum number of frames. Writers begin a new one every few megabytes, if at all. Each takes a new decompressor.
FRAMES_MAX = 2000

#: Number of bytes that are unpacked at a time where there are several frames.
PIECE = 16 * 1024

__all__ = ["unpack_lz4", "unpack_zstd", "unpacked_pieces", "zstd"]


def unpack_zstd(packed: bytes, limit: int) -> bytes:
    """Return unpacked data, at most one byte more than the limit.

    Raises:
        ZstdError: The data is damaged.
    """
    return _unpacked(packed, limit, zstd.ZstdDecompressor)


def unpack_lz4(packed: bytes, limit: int) -> bytes:
    """Return unpacked data, at most one byte more than the limit.

    Raises:
        RuntimeError: The data is damaged.
    """
    return _unpacked(packed, limit, LZ4FrameDecompressor)


def unpacked_pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the unpacked contents of a zstd file.

    Args:
        file: The file.
        size: Number of bytes that are read at a time, and maximum number of bytes of a piece.

    Raises:
        ZstdError: The file is damaged.
        EOFError: The file ends within a frame.
        OSError: The file cannot be read.
    """
    frames, unpacked, waiting = 0, 0, b""
    decompressor: Any = None
    while waiting or (waiting := file.read(size)):
        if decompressor is None:
            frames += 1
            if frames > FRAMES_MAX + unpacked // PIECE:
                raise zstd.ZstdError("it consists of empty frames")
            decompressor = zstd.ZstdDecompressor()
        piece, waiting = decompressor.decompress(waiting, max_length=size), b""
        while piece:
            unpacked += len(piece)
            yield piece
            piece = b"" if decompressor.eof or decompressor.needs_input else decompressor.decompress(b"", size)
        if decompressor.eof:
            waiting, decompressor = decompressor.unused_data, None
    if decompressor is not None:
        raise EOFError("it ends within a frame")


def _unpacked(packed: bytes, limit: int, create: Callable[[], Any]) -> bytes:
    """Unpack the frames of some data, one after another.

    Args:
        packed: The data.
        limit: Maximum number of bytes of the unpacked data, to which one is added.
        create: Creates a decompressor of one frame.
    """
    parts: list[bytes] = []
    size = begin = 0
    for _ in range(FRAMES_MAX):
        if begin == len(packed) or size > limit:
            break
        decompressor = create()
        # A decompressor copies everything behind its frame. There may be many short frames behind the first one.
        end = len(packed) if begin == 0 else min(begin + PIECE, len(packed))
        piece = packed[begin:end]
        while True:
            part = bytes(decompressor.decompress(piece, max_length=limit + 1 - size))
            size += len(part)
            if part:
                parts.append(part)
            if decompressor.eof or size > limit or end == len(packed):
                break
            piece = packed[end : end + PIECE]
            end += len(piece)
        begin = end - len(decompressor.unused_data or b"") if decompressor.eof else len(packed)
    return parts[0] if len(parts) == 1 else b"".join(parts)
