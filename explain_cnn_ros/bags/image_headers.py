"""The beginning of image files: their size and orientation, and whether the file is complete, before they are decoded.

OpenCV reports neither: it fills the missing part of a truncated file with grey, allocates whatever a file declares, and
its versions differ in the orientation tags that they apply.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

#: Tags of TIFF and Exif.
_WIDTH, _HEIGHT, _BITS, _ORIENTATION, _SAMPLES = 0x0100, 0x0101, 0x0102, 0x0112, 0x0115

#: Tags on which the memory for an image depends.
_SIZE_TAGS = (_WIDTH, _HEIGHT, _BITS, _SAMPLES)

_EXIF = b"Exif\0\0"

#: JPEG markers of a frame's size, without those of tables.
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1

#: JPEG markers of a frame's size whose data are coded by Huffman: a block of 8 x 8 pixels takes at least one bit.
_HUFFMAN, _PIXELS_PER_BYTE = frozenset((0xC0, 0xC1, 0xC2)), 8 * 8 * 8

#: Maximum number of scans of a JPEG. Encoders write about ten; each of them goes through the whole image.
_SCANS_MAX = 100

#: Parts of a PNG with packed texts, and their maximum number: each may unpack to a thousand times its size.
_PACKED_TEXTS, _TEXTS_MAX = (b"zTXt", b"iTXt", b"iCCP"), 20

#: JPEG markers without content.
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))


class ImageHead(NamedTuple):
    """The head of an image file.

    Attributes:
        width: Width that the file declares, in pixels.
        height: Height that the file declares, in pixels.
        whole: Whether the end of the file is there.
        orientation: Orientation tag of Exif, 1 to 8: how the image must be turned or mirrored. 1 is upright.
        depth: Number of bytes of a pixel when it is decoded.
        least: Minimum number of bytes that hold the pixels.
    """

    width: int
    height: int
    whole: bool = True
    orientation: int = 1
    depth: int = 3
    least: int = 0


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
            return _tiff(data)
    except (struct.error, IndexError, KeyError):
        return ImageHead(0, 0, whole=False)
    return None


def _jpeg(data: bytes) -> ImageHead:
    size, orientation, at, least = (0, 0), 1, 2, 0
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
            least = width * height // _PIXELS_PER_BYTE if marker in _HUFFMAN else 0
        elif marker == _APP1 and content.startswith(_EXIF):
            orientation = _orientation(content[len(_EXIF) :])
        at += 1 + length
        if marker == _SCAN:
            # Within the data, these pairs of bytes occur only as markers. Drivers append the rest of their buffers.
            if data.count(b"\xff\xda", at) >= _SCANS_MAX:
                return ImageHead(*size, whole=False)
            return ImageHead(*size, data.rfind(b"\xff\xd9", at) >= 0, orientation, least=least)


def _png(data: bytes) -> ImageHead:
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    depth = (1 if bits <= 8 else 2) * (1 if colour in (0, 4) else 3)
    orientation, at, pixels, texts = 1, 8, False, 0
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        # OpenCV reads on behind the end of a file without pixels, or with a part of another kind, and takes what lies
        # there in its memory for the size of the next part.
        if not kind.isalpha() or (kind == b"IHDR") != (at == 8):
            break
        texts += kind in _PACKED_TEXTS
        if texts > _TEXTS_MAX:
            break
        pixels = pixels or kind == b"IDAT"
        if kind == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + length])
        if kind == b"IEND":
            return ImageHead(width, height, pixels and length == 0, orientation, depth)
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
        if kind == b"VP8X" and at == 12:
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


def _tiff(data: bytes) -> ImageHead:
    tags: dict[int, int] = {}
    for tag, value in _tags(data):
        # Readers differ in which of several they take.
        if tag in tags and tag in _SIZE_TAGS:
            return ImageHead(0, 0, whole=False)
        tags[tag] = value
    depth = -(-tags.get(_BITS, 1) // 8) * tags.get(_SAMPLES, 1)
    # OpenCV's decoder of TIFF applies the orientation in all versions.
    return ImageHead(tags[_WIDTH], tags[_HEIGHT], depth=depth)


def _orientation(exif: bytes) -> int:
    """Return the orientation of Exif data, which are a TIFF file; 1 if there is none."""
    try:
        found = dict(_tags(exif)).get(_ORIENTATION, 1)
    except (struct.error, IndexError):
        return 1
    return found if 1 <= found <= 8 else 1


def _tags(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the tags of a TIFF file's first image, and the first value of each; 0 if it is not of 16 or 32 bits."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, entry)
        code, value = {3: "H", 4: "I"}.get(kind), entry + 8
        if code and number * struct.calcsize(code) > 4 and tag == _BITS:
            (value,) = struct.unpack_from(f"{order}I", data, value)
        yield tag, struct.unpack_from(f"{order}{code}", data, value)[0] if code else 0
