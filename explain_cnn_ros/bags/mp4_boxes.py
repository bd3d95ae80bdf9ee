"""Finds out which of the stored frames an MP4 or QuickTime file shows.

A clip that was trimmed without being encoded again still stores the frames before and after the part that it shows. An
edit list (ISO/IEC 14496-12, section 8.6.6) says which part is shown. Decoders leave out the other frames, but OpenCV
counts them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

#: Maximum size of a movie's description that is read, in bytes, and of the boxes that are looked at.
_MOVIE_MAX, _BOXES_MAX = 64 << 20, 10_000

#: Boxes that hold other boxes.
_HOLDERS = (b"trak", b"mdia", b"edts")


class ShownFrames(NamedTuple):
    """The frames that a video shows.

    Attributes:
        share: Share of the stored frames that are shown, 0 to 1.
        fragmented: Whether the file has fragments, which do not say how many frames there are.
    """

    share: float = 1.0
    fragmented: bool = False


def shown_frames(path: Path) -> ShownFrames:
    """Return which of its stored frames a file shows. For other kinds of files and for damaged ones, these are all.

    Args:
        path: The file.
    """
    try:
        with path.open("rb") as file:
            movie, fragmented = _movie(file)
        return ShownFrames(_share(movie), fragmented)
    except (OSError, struct.error, ValueError, ZeroDivisionError):
        return ShownFrames()


def _movie(file: BinaryIO) -> tuple[bytes, bool]:
    """Return the description of the movie, and whether there are fragments."""
    movie, fragmented, at = b"", False, 0
    for _ in range(_BOXES_MAX):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        size, kind = struct.unpack_from(">I4s", head)
        begin = 8
        if size == 1:
            (size,), begin = struct.unpack_from(">Q", head, 8), 16
        fragmented |= kind == b"moof"
        if kind == b"moov":
            file.seek(at + begin)
            movie = file.read(min(size - begin, _MOVIE_MAX) if size else _MOVIE_MAX)
        if size < begin:  # 0: up to the end of the file
            break
        at += size
    return movie, fragmented


def _boxes(movie: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and contents of each box in a movie's description. A box comes before the boxes that it contains."""
    waiting = [memoryview(movie)]
    for _ in range(_BOXES_MAX):
        if not waiting:
            return
        data = waiting.pop()
        if len(data) < 8:
            continue
        size, kind = struct.unpack_from(">I4s", data)
        if not 8 <= size <= len(data):
            continue
        yield kind, data[8:size]
        waiting.append(data[size:])
        if kind in _HOLDERS:
            waiting.append(data[8:size])


def _share(movie: bytes) -> float:
    """Return the share of the stored frames of the first video track that its edit list shows."""
    scale, media, shown = 0, 0.0, -1.0
    for kind, data in _boxes(movie):
        if kind == b"mvhd":
            scale, _ = _scale_and_duration(data)
        elif kind == b"trak":
            media, shown = 0.0, -1.0
        elif kind == b"elst":
            shown = sum(_edits(data)) / scale
        elif kind == b"mdhd":
            unit, duration = _scale_and_duration(data)
            media = duration / unit
        elif kind == b"hdlr" and bytes(data[8:12]) == b"vide":
            return min(1.0, shown / media) if shown >= 0 else 1.0
    return 1.0


def _scale_and_duration(data: memoryview) -> tuple[int, int]:
    """Return the ticks per second and the duration in ticks, of a movie or of a track's media."""
    return struct.unpack_from(">IQ", data, 20) if bytes(data[:1]) == b"\1" else struct.unpack_from(">II", data, 12)


def _edits(data: memoryview) -> Iterator[int]:
    """Yield the durations of the edits in an edit list, in ticks of the movie, except for those that show nothing."""
    form = ">Qq4x" if bytes(data[:1]) == b"\1" else ">Ii4x"
    (count,) = struct.unpack_from(">I", data, 4)
    for at in range(8, min(8 + count * struct.calcsize(form), len(data)), struct.calcsize(form)):
        duration, begin = struct.unpack_from(form, data, at)
        if begin >= 0:
            yield duration
