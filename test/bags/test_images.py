"""Image files: the same picture whatever holds it, and files that declare too much, end too early or go on too long."""

from __future__ import annotations

import io
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from explain_cnn_ros.bags.image_files import ImageError, decode_image
from explain_cnn_ros.bags.image_headers import image_head
from explain_cnn_ros.bags.image_messages import to_rgb
from explain_cnn_ros.bags.pixels import stretch

SUFFIXES = (".jpg", ".png", ".bmp", ".webp", ".tiff")

RGB: Any = cv2.resize(
    np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8), (40, 30), interpolation=cv2.INTER_CUBIC
)


def encoded(suffix: str, rgb: Any = RGB) -> bytes:
    pixels = rgb if rgb.ndim == 2 else rgb[..., ::-1]
    return bytes(cv2.imencode(suffix, np.ascontiguousarray(pixels))[1])


def refusal(data: bytes, **more: Any) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        decode_image(data, **more)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_colours_and_sizes(suffix: str) -> None:
    data = encoded(suffix)
    head = image_head(data)
    assert head is not None and (head.width, head.height, head.whole, head.orientation) == (40, 30, True, 1)
    found = decode_image(data)
    assert np.abs(found.astype(int) - RGB).mean() < (0.01 if suffix in (".png", ".bmp", ".tiff") else 12)


def test_lossless_webp_and_extended_webp() -> None:
    for more in ({"lossless": True}, {"lossless": True, "exif": exif(1)}):
        file = io.BytesIO()
        Pillow.fromarray(RGB).save(file, "WEBP", **more)
        head = image_head(file.getvalue())
        assert head is not None and (head.width, head.height, head.whole) == (40, 30, True)
        assert np.array_equal(decode_image(file.getvalue()), RGB)


def exif(orientation: int) -> bytes:
    tags = Pillow.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(kind: str, orientation: int) -> None:
    """The result is that of Pillow, for a message and for a file."""
    file = io.BytesIO()
    Pillow.fromarray(RGB).save(file, kind, exif=exif(orientation), **({"lossless": True} if kind == "WEBP" else {}))
    with Pillow.open(io.BytesIO(file.getvalue())) as stored:
        from PIL import ImageOps

        upright = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    found = decode_image(file.getvalue())
    assert found.shape == upright.shape == ((30, 40, 3) if orientation < 5 else (40, 30, 3))
    assert np.abs(found.astype(int) - upright).max() <= (6 if kind == "JPEG" else 0)
    message = SimpleNamespace(format="jpeg", data=np.frombuffer(file.getvalue(), np.uint8))
    assert np.array_equal(to_rgb(message), found)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_cut_is_noticed(suffix: str) -> None:
    """A part of an image is never taken for the whole, whatever OpenCV makes of it."""
    data = encoded(suffix)
    for length in range(0, len(data) - 2, max(1, len(data) // 97)):
        try:
            found = decode_image(data[:length])
        except ImageError:
            continue
        assert suffix == ".tiff" and np.array_equal(found, decode_image(data)), length


@pytest.mark.parametrize("padding", [bytes(500), bytes(300_000), encoded(".jpg")[-200:-2], b"\xff" * 100])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_behind_the_end_do_not_matter(suffix: str, padding: bytes) -> None:
    assert np.array_equal(decode_image(encoded(suffix) + padding), decode_image(encoded(suffix)))


def test_the_end_of_a_thumbnail_is_not_the_end() -> None:
    data = encoded(".jpg")
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(data)) + data
    whole = data[:2] + thumbnail + data[2:]
    assert np.array_equal(decode_image(whole), decode_image(data))
    assert refusal(whole[: len(thumbnail) + 300])[0] == "truncated"


def declared_jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded(".jpg"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def declared_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def declared_bmp(width: int, height: int) -> bytes:
    data = bytearray(encoded(".bmp"))
    data[18:26] = struct.pack("<ii", width, -height)
    data[28:34] = struct.pack("<HI", 8, 1)
    return bytes(data)


def declared_tiff(width: int, height: int) -> bytes:
    tags = struct.pack("<HHHIIHHII", 2, 0x100, 4, 1, width, 0x101, 4, 1, height)
    return b"II*\0" + struct.pack("<I", 8) + tags + bytes(4)


def declared_webp(width: int, height: int) -> bytes:
    content = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


@pytest.mark.parametrize("make", [declared_jpeg, declared_png, declared_bmp, declared_tiff, declared_webp])
def test_images_that_declare_too_many_pixels(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV is not asked at all."""
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("memory was taken"))
    width, height = (16383, 16383) if make is declared_webp else (32000, 32000)
    reason, text = refusal(make(width, height))
    assert reason == "too_large"
    assert f"declares {width} x {height} pixels" in text and "the limit megapixels_max is 64" in text


def test_the_limit_is_an_option() -> None:
    assert refusal(encoded(".png"), megapixels_max=0.001)[0] == "too_large"
    assert decode_image(encoded(".png"), megapixels_max=0.0012).shape == (30, 40, 3)
    message = SimpleNamespace(format="png", data=np.frombuffer(encoded(".png"), np.uint8))
    with pytest.raises(ImageError, match=r"40 x 30 pixels \(0 megapixels\)"):
        to_rgb(message, megapixels_max=0.001)


def test_errors_of_opencv_are_image_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise cv2.error("no memory")

    assert refusal(declared_png(100, 100))[0] == "undecodable"
    monkeypatch.setattr("cv2.imdecode", fail)
    assert refusal(encoded(".png")) == ("undecodable", "the compressed image cannot be decoded: no memory")


def test_other_formats_are_named() -> None:
    assert refusal(b"GIF89a" + bytes(100))[1].startswith(
        "the compressed image (format '', 106 bytes) is not JPEG or PNG"
    )
    assert refusal(b"")[0] == "zero_size"


DEEP = (500 + 10 * RGB[..., 1].astype(np.uint16)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_are_converted_by_their_meaning(suffix: str) -> None:
    """The result is that of the same image in a raw message."""

    def raw(encoding: str) -> Any:
        return to_rgb(
            SimpleNamespace(
                height=30, width=40, encoding=encoding, is_bigendian=0, step=80, data=DEEP.reshape(-1).view(np.uint8)
            )
        )

    data = encoded(suffix, DEEP)
    for form, encoding in (
        ("", "16UC1"),
        ("png", "16UC1"),
        ("16UC1; png compressed", "16UC1"),
        ("mono16; png", "mono16"),
    ):
        assert np.array_equal(decode_image(data, form), raw(encoding)), form
    assert decode_image(data).min() == 0 and decode_image(data).max() == 255
    colours = np.repeat(DEEP[..., None], 3, 2) * np.array([1, 10, 20], np.uint16)
    assert np.array_equal(decode_image(encoded(suffix, colours)), np.round(colours / 257).astype(np.uint8))


def test_tiff_of_floats() -> None:
    values = DEEP.astype(np.float32) / 1000
    assert np.array_equal(decode_image(encoded(".tiff", values))[..., 0], stretch(values))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_in_a_png_gets_its_colours(order: str, bits: int) -> None:
    colour = {"r": 200, "g": 120, "b": 40}
    tile = np.array([[colour[order[0]], colour[order[1]]], [colour[order[2]], colour[order[3]]]])
    mosaic = (
        np.tile(tile, (15, 20)).astype(np.uint8) if bits == 8 else (np.tile(tile, (15, 20)) * 257).astype(np.uint16)
    )
    found = decode_image(encoded(".png", mosaic), f"bayer_{order}{bits}; png compressed ")
    assert np.unique(found[2:-2, 2:-2].reshape(-1, 3), axis=0).tolist() == [[200, 120, 40]]
    assert np.array_equal(decode_image(encoded(".png"), f"bayer_{order}8; jpeg compressed bgr8"), RGB)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_mosaic_that_was_converted_to_grey_is_grey(suffix: str) -> None:
    """compressed_image_transport does this for JPEG, unless `jpeg_compress_bayer` is set."""
    grey = cv2.GaussianBlur(RGB[..., 0], (5, 5), 0)
    found = decode_image(encoded(suffix, grey), f"bayer_rggb8; {suffix[1:]} compressed mono8")
    assert (found[..., :1] == found).all() and np.abs(found[..., 0].astype(int) - grey).max() <= 8
    kept = decode_image(encoded(suffix, grey), "bayer_rggb8; jpeg compressed bayer_rggb8")
    assert np.array_equal(kept, decode_image(encoded(suffix, grey), "bayer_rggb8; jpeg compressed "))
    assert not (kept[..., :1] == kept).all()


def test_a_deep_mosaic_that_was_converted_to_grey_is_not_stretched() -> None:
    found = decode_image(encoded(".png", DEEP), "bayer_rggb16; png compressed mono16")
    assert np.array_equal(found, decode_image(encoded(".png", DEEP), "mono16; png compressed "))


@pytest.mark.parametrize("original", ["rgb8", "rgba8", "rgb16"])
def test_colours_of_tiff_are_not_converted_by_the_transport(original: str) -> None:
    """It hands the pixels to OpenCV as they are, which takes red for blue."""
    pixels = RGB.astype(np.uint16) * 257 if original == "rgb16" else RGB
    swapped = encoded(".tiff", pixels[..., ::-1])
    assert np.array_equal(decode_image(swapped, f"{original}; tiff compressed "), RGB)
    assert np.array_equal(decode_image(encoded(".tiff"), "bgr8; tiff compressed "), RGB)
    assert np.array_equal(decode_image(encoded(".tiff"), "rgb8; tiff"), RGB)
    assert np.array_equal(decode_image(encoded(".png"), "rgb8; png compressed bgr8"), RGB)


@pytest.mark.parametrize("kind", [np.float32, np.uint16])
def test_a_wrong_measurement_does_not_make_the_rest_black(kind: type) -> None:
    image = np.linspace(500, 3000, 40 * 30).reshape(30, 40).astype(kind)
    plain = stretch(image)
    assert (plain.min(), plain.max()) == (0, 255)
    image[3, 7] = 65_535
    assert np.abs(stretch(image).astype(int) - plain).sum() <= np.abs(255 - int(plain[3, 7])) + 40 * 30
    assert stretch(image)[3, 7] == 255


def test_sizes_that_readers_take_from_different_places() -> None:
    """The size that OpenCV takes is the one that was compared with the limit."""
    tags = struct.pack("<H", 4)
    for tag, value in ((0x100, 30000), (0x101, 30000), (0x100, 16), (0x101, 12)):
        tags += struct.pack("<HHII", tag, 4, 1, value)
    assert refusal(b"II*\0" + struct.pack("<I", 8) + tags + bytes(4))[0] == "truncated"
    large, small = (declared_webp(*size)[12:] for size in ((7900, 7900), (40, 30)))
    head = image_head(b"RIFF" + struct.pack("<I", 4 + len(small + large)) + b"WEBP" + small + large)
    assert head is not None and (head.width, head.height) == (40, 30)


def test_pixels_of_many_bytes_count_for_more() -> None:
    tags = ((0x100, 4, 7900), (0x101, 4, 7900), (0x102, 3, 64), (0x115, 3, 3))
    packed = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in tags) + bytes(4)
    head = image_head(b"II*\0" + struct.pack("<I", 8) + packed)
    assert head is not None and head.depth == 24
    assert refusal(b"II*\0" + struct.pack("<I", 8) + packed)[0] == "too_large"


def test_files_that_cannot_hold_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of 8 x 8 pixels takes a bit of a JPEG. Nothing is packed to less than a two-thousandth."""
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("memory was taken"))
    assert refusal(declared_jpeg(8000, 8000))[0] == "truncated"
    assert refusal(declared_jpeg(2000, 2000))[0] == "truncated"
    reason, text = refusal(declared_png(7000, 7000))
    assert reason == "truncated" and "cannot hold the 7000 x 7000 pixels that it declares" in text


def test_jpegs_of_many_scans() -> None:
    file = io.BytesIO()
    Pillow.fromarray(RGB).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    assert data.count(b"\xff\xda") > 3 and decode_image(data).shape == RGB.shape
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode_image(data[:-2] + last * 20 + data[-2:]).shape == RGB.shape
    assert refusal(data[:-2] + last * 200 + data[-2:])[0] == "truncated"


def test_pngs_that_opencv_reads_beyond_their_end() -> None:
    """It takes what lies behind them in its memory for a size, and allocates up to 4 GiB."""
    data = encoded(".png")
    begin = data.index(b"IDAT")
    for kind in (b"ID\xf6\0", b"1234"):
        assert refusal(data[:begin] + kind + data[begin + 4 :])[0] == "truncated"
    chunk = data[begin - 4 : data.index(b"IEND") - 4]
    assert refusal(data.replace(chunk, b""))[0] == "truncated"


@pytest.mark.parametrize("form", ["bayer_; png", "bayer_zzzz8; png", "bayer_rggb; png"])
def test_unknown_mosaics_are_grey(form: str) -> None:
    grey = RGB[..., 0]
    assert np.array_equal(decode_image(encoded(".png", grey), form), np.repeat(grey[..., None], 3, 2))


def test_long_formats_are_cut_in_messages() -> None:
    reason, text = refusal(b"GIF89a", form="\u202e" * 5000)
    assert reason == "undecodable" and len(text) < 300 and "\u202e" not in text


def test_pngs_of_many_packed_texts() -> None:
    data = encoded(".png")
    content = b"a\0\0" + zlib.compress(b"text")
    text = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    begin = data.index(b"IDAT") - 4
    assert np.array_equal(decode_image(data[:begin] + 3 * text + data[begin:]), RGB)
    assert refusal(data[:begin] + 50 * text + data[begin:])[0] == "truncated"
