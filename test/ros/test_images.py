"""Every encoding, against conversions that are written out pixel by pixel or made by OpenCV's encoder."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from cv_bridge import CvBridge
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from explain_cnn_ros.bags.image_messages import LAYOUTS, ImageError, to_rgb
from explain_cnn_ros.ros.images import to_compressed, to_message

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)


def message(encoding: str, rows: np.ndarray, padding: int = 0, big_endian: bool = False, height: int = 6) -> Image:
    """An image of 8 x 6 pixels from its rows, [rows, ...]."""
    rows = np.ascontiguousarray(rows).reshape(len(rows), -1)
    if big_endian:
        rows = rows.astype(rows.dtype.newbyteorder(">"))
    data = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    data = np.pad(data, ((0, 0), (0, padding)), constant_values=77)
    image = Image(encoding=encoding, height=height, width=8, step=data.shape[1], is_bigendian=big_endian)
    image.data.frombytes(data.tobytes())
    return image


ALPHA = np.full((6, 8, 1), 9, np.uint8)
GREY = RGB[:, :, :1]
DEEP = RNG.integers(0, 65536, (6, 8, 1), np.uint16)

EXACT = {
    "rgb8": (RGB, RGB),
    "bgr8": (RGB[:, :, ::-1], RGB),
    "8UC3": (RGB[:, :, ::-1], RGB),
    "rgba8": (np.concatenate([RGB, ALPHA], 2), RGB),
    "bgra8": (np.concatenate([RGB[:, :, ::-1], ALPHA], 2), RGB),
    "8UC4": (np.concatenate([RGB[:, :, ::-1], ALPHA], 2), RGB),
    "mono8": (GREY, np.repeat(GREY, 3, 2)),
    "8UC1": (GREY, np.repeat(GREY, 3, 2)),
    "mono16": (DEEP, np.repeat(np.round(DEEP / 257.0).astype(np.uint8), 3, 2)),
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", EXACT)
def test_exact_encodings(encoding, padding):
    rows, expected = EXACT[encoding]
    padding *= rows.dtype.itemsize
    assert np.array_equal(to_rgb(message(encoding, rows, padding)), expected)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_byte_order(encoding):
    little, big = (to_rgb(message(encoding, DEEP, big_endian=order)) for order in (False, True))
    assert np.array_equal(little, big)


def test_depth_is_stretched_and_nan_is_black():
    depth = np.array([[np.nan, 1.0, 3.0, 5.0, np.inf, 2.0, 5.0, 1.0]] * 6, np.float32)
    row = to_rgb(message("32FC1", depth))[0, :, 0]
    assert row.tolist() == [0, 0, 128, 255, 0, 64, 255, 0]


def yuv(pixels: np.ndarray) -> np.ndarray:
    """BT.601 with video range, [..., 3] RGB -> Y, U, V, as camera drivers have it."""
    r, g, b = (pixels[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return np.round(np.stack([y, u, v], -1)).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
def test_yuv_gives_the_colours_back(encoding):
    """Blocks of 2 x 2 pixels of one colour lose nothing but rounding."""
    blocks = np.repeat(np.repeat(RNG.integers(20, 230, (3, 4, 3), np.uint8), 2, 0), 2, 1)
    y, u, v = np.moveaxis(yuv(blocks), -1, 0)
    if encoding in ("nv12", "nv21"):
        pair = (u, v) if encoding == "nv12" else (v, u)
        chroma = np.stack([pair[0][::2, ::2], pair[1][::2, ::2]], -1).reshape(3, 8)
        rows = np.concatenate([y, chroma])
    else:
        rows = np.empty((6, 8, 2), np.uint8)
        light, colour = (1, 0) if encoding in ("yuv422", "uyvy") else (0, 1)
        rows[:, :, light] = y
        rows[:, ::2, colour], rows[:, 1::2, colour] = u[:, ::2], v[:, 1::2]
    difference = to_rgb(message(encoding, rows)).astype(int) - blocks
    assert abs(difference).max() <= 4


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns(order, depth):
    """A frame of one colour: each pixel shows the channel that its filter lets through."""
    colour = {"r": 200, "g": 120, "b": 40}
    tile = np.array([[colour[order[0]], colour[order[1]]], [colour[order[2]], colour[order[3]]]])
    mosaic = np.tile(tile, (3, 4)).astype(np.uint8 if depth == 8 else np.uint16) * (1 if depth == 8 else 257)
    rgb = to_rgb(message(f"bayer_{order}{depth}", mosaic.astype(np.uint8 if depth == 8 else np.uint16)))
    assert np.unique(rgb[2:4, 2:6].reshape(-1, 3), axis=0).tolist() == [[200, 120, 40]]


@pytest.mark.parametrize(
    "encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8", "bayer_bggr8", "bayer_gbrg8"]
)
def test_same_as_cv_bridge(encoding):
    dtype, channels = LAYOUTS[encoding]
    image = message(encoding, RNG.integers(0, 256, (6, 8, channels), np.dtype(dtype)))
    assert np.array_equal(to_rgb(image), CvBridge().imgmsg_to_cv2(image, "rgb8"))


def test_every_layout_is_tested():
    tested = set(EXACT) | {"16UC1", "32FC1", "yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"}
    tested |= {f"bayer_{order}{depth}" for order in ("rggb", "bggr", "gbrg", "grbg") for depth in (8, 16)}
    assert tested == set(LAYOUTS)


@pytest.mark.parametrize(
    ("change", "reason", "text"),
    [
        ({"width": 0}, "zero_size", "empty (0 x 6 pixels)"),
        ({"encoding": "h264"}, "encoding", "'h264' is unknown: publish one of rgb8"),
        ({"height": 7}, "truncated", "take 168 bytes, the message holds 144"),
        ({"step": 10}, "step", "step is 10, but 8 pixels of rgb8 take 24 bytes"),
    ],
)
def test_broken_images_say_what_is_wrong(change, reason, text):
    broken = message("rgb8", RGB)
    for field, value in change.items():
        setattr(broken, field, value)
    with pytest.raises(ImageError) as caught:
        to_rgb(broken)
    assert caught.value.reason == reason
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "channels", "width", "height", "even"),
    [
        ("yuv422", 2, 7, 6, "the width"),
        ("yuyv", 2, 7, 6, "the width"),
        ("nv12", 1, 7, 6, "width and height"),
        ("nv21", 1, 8, 5, "width and height"),
    ],
)
def test_odd_sizes_that_an_encoding_cannot_have_are_an_error(encoding, channels, width, height, even):
    odd = message(encoding, np.zeros((20, 8, channels), np.uint8))
    odd.width, odd.height, odd.step = width, height, 16
    with pytest.raises(ImageError) as caught:
        to_rgb(odd)
    assert caught.value.reason == "size"
    assert str(caught.value) == f"{width} x {height} pixels do not fit {encoding}: {even} must be even"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_compressed_and_truncated(suffix):
    big = cv2.resize(RGB, (160, 120), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(suffix, big[:, :, ::-1])[1].tobytes()
    decoded = to_rgb(CompressedImage(format="whatever", data=data))
    assert abs(decoded.astype(int) - big).mean() < (0.5 if suffix == ".png" else 6)
    with pytest.raises(ImageError) as caught:
        to_rgb(CompressedImage(format="whatever", data=data[: len(data) * 2 // 3]))
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize(
    ("format_", "data", "reason"),
    [
        ("jpeg", b"", "zero_size"),
        ("jpeg", b"no picture at all", "undecodable"),
        ("16UC1; compressedDepth png", b"x", "encoding"),
    ],
)
def test_broken_compressed_images(format_, data, reason):
    with pytest.raises(ImageError) as caught:
        to_rgb(CompressedImage(format=format_, data=data))
    assert caught.value.reason == reason


def test_to_message_and_back():
    header = Header(frame_id="camera")
    sent = to_message(RGB, header)
    assert sent.header.frame_id == "camera"
    assert np.array_equal(to_rgb(sent), RGB)
    jpeg = to_compressed(np.full((32, 32, 3), (200, 100, 50), np.uint8), header)
    assert abs(to_rgb(jpeg).astype(int) - (200, 100, 50)).max() <= 3


def test_small_files_that_are_truncated():
    """Shorter than what may follow the end of a file."""
    data = cv2.imencode(".jpg", RGB)[1].tobytes()
    assert len(data) < 1024
    with pytest.raises(ImageError) as caught:
        to_rgb(CompressedImage(format="jpeg", data=data[:-40]))
    assert caught.value.reason == "truncated"
