"""The beginning of image files: their size and orientation, and whether the file is complete, before they are decoded.

OpenCV reports neither: it fills the missing part of a truncated file with grey, allocates whatever a file declares, and
its versions differ in the orientation tags that they apply.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

#: Tags of TIFF and Exif.
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112

_EXIF = b"Exif\0\0"

#: JPEG markers of a frame's size, without those of tables.
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1

#: JPEG markers without content.
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))


class ImageHead(NamedTuple):
    """The head of an image file.

    Attributes:
        width: Width that the file declares, in pixels.
        height: Height that the file declares, in pixels.
        whole: Whether the end of the file is there.
        orientation: Orientation tag of Exif, 1 to 8: how the image must be turned or mirrored. 1 is upright.
    """

    width: int
    height: int
    whole: bool = True
    orientation: int = 1


def image_head(data: bytes) -> ImageHead | None:
    """Return the head of a JPEG, PNG, BMP, WebP or TIFF file; None for other files."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:2] == b"BM":
            return _bmp(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            tags = _tiff_tags(data)
            # OpenCV's decoder of TIFF applies the orientation in all versions.
            return ImageHead(tags[_WIDTH], tags[_HEIGHT])
    except (struct.error, IndexError, KeyError):
        return ImageHead(0, 0, whole=False)
    return None


def _jpeg(data: bytes) -> ImageHead:
    size, orientation, at = (0, 0), 1, 2
    while True:
        while data[at] != 0xFF:
            at += 1
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        if marker in _BARE:
            at += 1
            continue
        if marker == _END_OF_IMAGE:
            return ImageHead(*size, whole=False)
        (length,) = struct.unpack_from(">H", data, at + 1)
        content = data[at + 3 : at + 1 + length]
        if marker in _SIZES:
            height, width = struct.unpack_from(">HH", content, 1)
            size = width, height
        elif marker == _APP1 and content.startswith(_EXIF):
            orientation = _orientation(content[len(_EXIF) :])
        at += 1 + length
        if marker == _SCAN:
            # Within the data, this pair of bytes occurs only as the end. Drivers append the rest of their buffers.
            return ImageHead(*size, whole=data.rfind(b"\xff\xd9", at) >= 0, orientation=orientation)


def _png(data: bytes) -> ImageHead:
    width, height = struct.unpack_from(">II", data, 16)
    orientation, at = 1, 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + length])
        if kind == b"IEND":
            return ImageHead(width, height, orientation=orientation)
        at += 12 + length
    return ImageHead(width, height, whole=False)


def _bmp(data: bytes) -> ImageHead:
    (head,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if head == 12 else "<ii", data, 18)
    bits, compression = 24, 1
    if head >= 40:
        bits, compression = struct.unpack_from("<HI", data, 28)
    (begin,) = struct.unpack_from("<I", data, 10)
    row = (width * bits + 31) // 32 * 4
    whole = compression not in (0, 3) or len(data) >= begin + row * abs(height)
    return ImageHead(width, abs(height), whole)


def _webp(data: bytes) -> ImageHead:
    whole = len(data) >= 8 + struct.unpack_from("<I", data, 4)[0]
    size, orientation, at = (0, 0), 1, 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        content = data[at + 8 : at + 8 + length]
        if kind == b"VP8X":
            size = 1 + int.from_bytes(content[4:7], "little"), 1 + int.from_bytes(content[7:10], "little")
        elif kind == b"VP8L" and size == (0, 0):
            (bits,) = struct.unpack_from("<I", content, 1)
            size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif kind == b"VP8 " and size == (0, 0):
            width, height = struct.unpack_from("<HH", content, 6)
            size = width & 0x3FFF, height & 0x3FFF
        elif kind == b"EXIF":
            orientation = _orientation(content.removeprefix(_EXIF))
        at += 8 + length + length % 2
    return ImageHead(*size, whole, orientation)


def _orientation(exif: bytes) -> int:
    """Return the orientation of Exif data, which are a TIFF file; 1 if there is none."""
    try:
        found = _tiff_tags(exif).get(_ORIENTATION, 1)
    except (struct.error, IndexError):
        return 1
    return found if 1 <= found <= 8 else 1


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Return the whole numbers among the tags of a TIFF file's first image."""
    return dict(_tags(data, "<" if data[:2] == b"II" else ">"))


def _tags(data: bytes, order: str) -> Iterator[tuple[int, int]]:
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", data, entry)
        if kind in (3, 4):  # 16 and 32 bits
            yield tag, struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", data, entry + 8)[0]
