"""Image files: JPEG, PNG, BMP, WebP and TIFF, with damaged heads, repeated parts and sizes that no memory holds."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow

from explain_cnn_ros.bags.image_files import ImageError, decode_image
from explain_cnn_ros.bags.image_headers import image_head
from tools.fuzz.kind import Kind, refused, require
from tools.fuzz.mutation import Mutation

#: Formats in messages.
FORMATS = (
    "", "jpeg", "png", "rgb8; jpeg compressed bgr8", "16UC1; png compressed", "mono16; png compressed mono16",
    "bayer_rggb8; png compressed ", "bayer_grbg16; png compressed", "bayer_", "bayer_zzzz8; png", "32FC1; tiff",
    "16UC1; compressedDepth png",
)  # fmt: skip

_PNG = b"\x89PNG\r\n\x1a\n"

#: Size of the pictures, (height, width).
_SHAPE = (12, 16)


@cache
def pictures() -> tuple[bytes, ...]:
    """Return small image files of all kinds that the package decodes."""
    rng = np.random.default_rng(7)
    colours: Any = cv2.resize(rng.integers(0, 256, (4, 5, 3), np.uint8), _SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    found = [bytes(cv2.imencode(suffix, colours)[1]) for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff")]
    deep = (colours.astype(np.uint16) * 250).astype(np.uint16)
    for suffix in (".png", ".tiff"):
        found += [bytes(cv2.imencode(suffix, image)[1]) for image in (deep, deep[..., 0], colours[..., 0])]
    reals = colours.astype(np.float32) / 7
    reals[3, 4] = np.nan
    found += [bytes(cv2.imencode(".tiff", image)[1]) for image in (reals, reals[..., 0], reals[..., 0].astype(float))]
    found.append(bytes(cv2.imencode(".jpg", colours[..., 0])[1]))
    picture = Pillow.fromarray(colours)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    for form, options in (
        ("JPEG", {"exif": exif.tobytes(), "progressive": True}),
        ("JPEG", {"subsampling": 2, "restart_marker_rows": 1}),
        ("PNG", {"exif": exif.tobytes()}),
        ("WEBP", {"exif": exif.tobytes(), "lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ):
        found.append(_saved(picture, form, **options))
    found += [_saved(picture.convert(mode), form) for mode, form in (("CMYK", "JPEG"), ("P", "PNG"), ("1", "PNG"))]
    found += [_saved(picture.convert("RGBA"), "PNG"), _saved(picture.convert("P"), "BMP")]
    return tuple(found)


def _saved(picture: Pillow.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@cache
def bombs() -> tuple[bytes, ...]:
    """Return image files that declare more than they hold, in ways that a check may miss."""
    jpeg, progressive = pictures()[0], next(p for p in pictures() if b"\xff\xc2" in p)
    found = [_jpeg_of_size(jpeg, *size) for size in ((32000, 32000), (8000, 8000), (65500, 900), (0, 12))]
    found.append(_jpeg_of_size(progressive, 7900, 7900))
    # Each scan of a progressive JPEG goes through all coefficients.
    segments = list(jpeg_segments(_jpeg_of_size(progressive, 5500, 5500)))
    scans = [segment for segment in segments if segment[1] == 0xDA]
    found.append(b"".join([*segments[:-1], scans[-1] * 4000, segments[-1]]))
    found.append(jpeg[:2] + b"\xff\xe1\xff\xff" + bytes(65533) + jpeg[2:])
    for size, bits, colour in (
        ((60000, 60000), 8, 2),
        ((7900, 7900), 16, 2),
        ((7900, 7900), 16, 6),
        ((2**31 - 1, 1), 8, 0),
        ((64_000_000, 1), 8, 0),
    ):
        found.append(png(size, bits, colour, zlib.compress(bytes(100))))
    head = struct.pack(">IIBBBBB", 16, 12, 8, 2, 0, 0, 0)
    huge = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    found.append(_PNG + _chunk(b"IHDR", head) + _chunk(b"IHDR", huge) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b""))
    packed = zlib.compress(bytes(50_000_000), 9)
    for extra in (_chunk(b"iCCP", b"a\0\0" + packed), _chunk(b"zTXt", b"a\0\0" + packed)):
        found.append(_PNG + _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", b"") + _chunk(b"IEND", b""))
    for width, height in ((16384, 16384), (7900, 7900)):
        content = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        small = bytes(4) + (15).to_bytes(3, "little") + (11).to_bytes(3, "little")
        for parts in ((content,), (content, small), (small, content)):
            body = b"".join(b"VP8X" + struct.pack("<I", 10) + part for part in parts) + pictures()[3][12:]
            found.append(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    for tags in (
        ((0x100, 4, 60000), (0x101, 4, 60000)),
        ((0x100, 4, 30000), (0x101, 4, 30000), (0x100, 4, 16), (0x101, 4, 12)),
        ((0x100, 16, 30000), (0x101, 16, 30000), (0x100, 4, 16), (0x101, 4, 12)),
        ((0x100, 4, 7900), (0x101, 4, 7900), (0x102, 3, 64), (0x153, 3, 3)),
        ((0x100, 4, 7900), (0x101, 4, 7900), (0x102, 3, 32), (0x153, 3, 3)),
    ):
        found.append(tiff(tags))
    found.append(_deflated_tiff(7900, 7900, 64))
    for form, size in (("<ii", (2**31 - 1, 1)), ("<ii", (7900, -7900)), ("<ii", (16, -(2**31)))):
        bmp = bytearray(pictures()[2])
        bmp[18:26] = struct.pack(form, *size)
        bmp[28:34] = struct.pack("<HI", 8, 1)
        found.append(bytes(bmp))
    return tuple(found)


def _jpeg_of_size(jpeg: bytes, width: int, height: int) -> bytes:
    data = bytearray(jpeg)
    at = next(i for i in (data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) if i >= 0)
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def png(size: tuple[int, int], bits: int, colour: int, packed: bytes) -> bytes:
    """Return a PNG file with correct checksums.

    Args:
        size: The width and height that it declares.
        bits: Bits of a sample.
        colour: Type of the colours.
        packed: The compressed rows.
    """
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    return _PNG + _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff(tags: Sequence[tuple[int, int, int]]) -> bytes:
    """Return a TIFF file of some tags (tag, type, value) with one value each, and a strip of zeros."""
    entries = [*tags, (0x103, 3, 1), (0x106, 3, 1), (0x111, 4, 8), (0x115, 3, 1), (0x117, 4, 64)]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    directory = struct.pack("<H", len(entries)) + packed + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + 64) + bytes(64) + directory


def _deflated_tiff(width: int, height: int, bits: int) -> bytes:
    """Return a TIFF of one strip of zeros, which are compressed."""
    packed = zlib.compress(bytes(width * height * bits // 8), 9)
    tags = (
        (0x100, 4, width), (0x101, 4, height), (0x102, 3, bits), (0x103, 3, 8), (0x106, 3, 1), (0x111, 4, 8),
        (0x115, 3, 1), (0x116, 4, height), (0x117, 4, len(packed)), (0x153, 3, 3),
    )  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def jpeg_segments(data: bytes) -> Iterator[bytes]:
    """Yield the segments of a JPEG file. The data of a scan belong to its segment."""
    at = data.find(b"\xff", 2)
    yield data[: max(at, 0)]
    while 0 <= at < len(data) - 3:
        following = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        while (following := data.find(b"\xff", following)) >= 0:
            if data[following + 1 : following + 2] not in (b"\0", *(bytes((0xD0 + i,)) for i in range(8))):
                break
            following += 2
        if following < 0:
            break
        yield data[at:following]
        at = following
    yield data[max(at, 0) :]


def _png_chunks(data: bytes) -> Iterator[bytes]:
    yield data[:8]
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at : at + 12 + length]
        at += 12 + length
    yield data[at:]


def _fixed_png(part: bytes) -> bytes:
    """Return a chunk with the right length and checksum."""
    return _chunk(part[4:8], part[8:-4]) if len(part) >= 12 else part


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    yield data[:12]
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 8 + length + length % 2]
        at += 8 + length + length % 2
    yield data[at:]


def _fixed_webp(part: bytes) -> bytes:
    return part[:4] + struct.pack("<I", len(part) - 8) + part[8:] if len(part) >= 8 else part


def _as_it_is(part: bytes) -> bytes:
    return part


def mutated_picture(mutation: Mutation, seeds: Sequence[bytes]) -> bytes:
    """Return a picture with changes of its bytes or of its parts, whose checksums are right again."""
    data = mutation.one(seeds)
    if mutation.chance(0.4) or len(data) > 100_000:
        return mutation.mutated(data, seeds)
    if data.startswith(b"\xff\xd8"):
        parts, fixed = list(jpeg_segments(data)), _as_it_is
    elif data.startswith(_PNG):
        parts, fixed = list(_png_chunks(data)), _fixed_png
    elif data.startswith(b"RIFF"):
        parts, fixed = list(_webp_chunks(data)), _fixed_webp
    elif data.startswith((b"II", b"MM")):
        return _mutated_tags(mutation, data)
    else:
        return mutation.mutated(data[:54], seeds) + data[54:]
    return _mutated_parts(mutation, parts, fixed)


def _mutated_parts(mutation: Mutation, parts: list[bytes], fixed: Callable[[bytes], bytes]) -> bytes:
    for _ in range(1 + mutation.below(3)):
        at, kind = mutation.below(len(parts)), mutation.below(6)
        if kind == 0 and len(parts) > 1:
            del parts[at]
        elif kind == 1:
            parts[at:at] = [parts[at]] * mutation.one((1, 2, 30))
        elif kind == 2:
            other = mutation.below(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        else:
            parts[at] = fixed(mutation.mutated(parts[at], parts, 2))
    return b"".join(parts)


def _mutated_tags(mutation: Mutation, data: bytes) -> bytes:
    order = "<" if data[:2] == b"II" else ">"
    begin = int.from_bytes(data[4:8], "little" if order == "<" else "big")
    count = int.from_bytes(data[begin : begin + 2], "little" if order == "<" else "big")
    changed = bytearray(data)
    for _ in range(1 + mutation.below(3)):
        at = begin + 2 + 12 * mutation.below(count or 1)
        if at + 12 > len(changed):
            return mutation.mutated(data)
        field = mutation.below(4)
        if field == 0:
            changed[at : at + 2] = struct.pack(f"{order}H", mutation.one((0x100, 0x101, 0x102, 0x103, 0x115, 0x153)))
        elif field == 1:
            changed[at + 2 : at + 4] = struct.pack(f"{order}H", mutation.one((1, 2, 3, 4, 5, 11, 12, 13, 16, 0)))
        else:
            place = at + 4 * (field - 1)
            changed[place : place + 4] = struct.pack(f"{order}I", mutation.number(32))
    return bytes(changed)


def check_image(image: Any, size: tuple[int, int] | None = None) -> None:
    """Check a decoded image.

    Args:
        image: The image.
        size: The expected width and height; None for any.

    Raises:
        FaultError: It is not uint8 [H, W, 3], or not of this size.
    """
    require(isinstance(image, np.ndarray) and image.dtype == np.uint8, f"not uint8: {getattr(image, 'dtype', '')}")
    require(image.ndim == 3 and image.shape[2] == 3 and image.flags.c_contiguous, f"the shape {image.shape}")
    expected = size and (size[1], size[0])
    require(expected is None or image.shape[:2] == expected, f"the shape {image.shape}, not {expected}")


def read_picture(data: bytes, form: str) -> str:
    """Decode an image file, as a folder of photos and a CompressedImage have it."""
    try:
        image = decode_image(data, form)
    except ImageError as error:
        return refused(error)
    head = image_head(data)
    require(head is not None, "decoded without a head")
    assert head is not None
    turned = head.orientation >= 5
    check_image(image, (head.height, head.width) if turned else (head.width, head.height))
    return ""


def _form_of(data: bytes) -> str:
    """Return a format that depends on the contents, so that an input is one file."""
    return FORMATS[zlib.crc32(data) % (len(FORMATS) - 1)]


def _read(data: bytes, folder: Path) -> str:
    return read_picture(data, _form_of(data))


PICTURE = Kind("picture", pictures, _read, mutated_picture, bombs)

KINDS = (PICTURE,)
