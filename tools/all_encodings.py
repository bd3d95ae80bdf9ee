"""Publishes one picture in every encoding that camera drivers use, and knows the correct decoding of each.

    python tools/all_encodings.py [--rate 20]

The images are published in turn on /image and /image/compressed until the command is interrupted; frame_id is the
encoding's name. The expected pixels are computed here with numpy and Pillow, independently of this package's
conversions.
"""

from __future__ import annotations

import argparse
import array
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from PIL import Image as Pillow
from sensor_msgs.msg import CompressedImage, Image

HEIGHT, WIDTH = 128, 96


@dataclass(frozen=True)
class Encoded:
    """A message and the picture in it.

    Attributes:
        name: Name of the encoding.
        message: The message.
        expected: Expected pixels, uint8 [H, W, 3] RGB.
        tolerance: Number of levels by which a correct conversion may differ because of rounding.
        border: Number of pixels at the border that are not defined by the encoding.
    """

    name: str
    message: Image | CompressedImage
    expected: np.ndarray
    tolerance: int = 0
    border: int = 0


def picture() -> np.ndarray:
    """Return a grainy figure in front of a colour gradient, uint8 [H, W, 3] RGB."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    slope = np.stack([40 + x, 60 + y, 200 - x / 2 - y / 2], -1)
    figure = np.abs((x - WIDTH / 2) / 14) ** 2 + np.abs((y - HEIGHT / 2) / 48) ** 2 < 1
    figure |= (x - WIDTH / 2) ** 2 + (y - 18) ** 2 < 64
    slope[figure] = (50, 35, 45)
    grain = np.random.default_rng(5).normal(0, 6, (HEIGHT, WIDTH, 3))
    return np.clip(slope + grain, 0, 255).round().astype(np.uint8)


def grey(values: np.ndarray) -> np.ndarray:
    """Convert [H, W] to uint8 [H, W, 3], rounding half to even as numpy does."""
    return np.repeat(np.round(values).astype(np.uint8)[..., None], 3, 2)


def stretched(values: np.ndarray) -> np.ndarray:
    """Stretch the range from the smallest to the largest finite value; other values become black."""
    finite = np.isfinite(values)
    low, high = values[finite].min().astype(float), values[finite].max().astype(float)
    return grey(np.where(finite, (np.where(finite, values, low).astype(float) - low) * 255 / (high - low), 0))


def yuv_of(rgb: np.ndarray) -> np.ndarray:
    """Convert RGB to Y, U, V by ITU-R BT.601, in video range."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 16 + 65.481 / 255 * r + 128.553 / 255 * g + 24.966 / 255 * b
    u = 128 - 37.797 / 255 * r - 74.203 / 255 * g + 112 / 255 * b
    v = 128 + 112 / 255 * r - 93.786 / 255 * g - 18.214 / 255 * b
    return np.round(np.stack([y, u, v], -1)).astype(np.uint8)


def rgb_of(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Convert planes Y, U and V of the same size to RGB: the inverse of `yuv_of`."""
    y, u, v = 255 / 219 * (y.astype(float) - 16), u.astype(float) - 128, v.astype(float) - 128
    r, g, b = y + 1.596027 * v, y - 0.391762 * u - 0.812968 * v, y + 2.017232 * u
    return np.clip(np.stack([r, g, b], -1), 0, 255).round().astype(np.uint8)


def demosaiced(mosaic: np.ndarray, order: str) -> np.ndarray:
    """Demosaic bilinearly: each missing value is the mean of its nearest neighbours of the same colour."""
    rgb = np.zeros((HEIGHT, WIDTH, 3))
    for channel, letter in enumerate("rgb"):
        places = np.zeros((HEIGHT, WIDTH))
        for position, colour in enumerate(order):
            places[position // 2 :: 2, position % 2 :: 2] = colour == letter
        weights = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
        if letter == "g":
            weights = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]])
        padded, known = np.pad(mosaic * places, 1), np.pad(places, 1)
        total, count = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH))
        for i in range(3):
            for j in range(3):
                total += weights[i, j] * padded[i : i + HEIGHT, j : j + WIDTH]
                count += weights[i, j] * known[i : i + HEIGHT, j : j + WIDTH]
        rgb[..., channel] = np.where(places > 0, mosaic, total / np.maximum(count, 1))
    return np.round(rgb).astype(np.uint8)


def raw(encoding: str, rows: np.ndarray, padding: int = 3, big_endian: bool = False) -> Image:
    """Return a message of rows [rows, ...] with some values of padding behind each row."""
    rows = np.ascontiguousarray(rows).reshape(len(rows), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    rows = rows.astype(rows.dtype.newbyteorder(">" if big_endian else "<"))
    step = rows.shape[1] * rows.itemsize
    image = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=step, is_bigendian=big_endian)
    image.data = array.array("B", rows.tobytes())
    return image


def raw_frames() -> Iterator[Encoded]:
    """Yield the picture in every known encoding of sensor_msgs/Image."""
    rgb = picture()
    bgr, alpha = rgb[..., ::-1], np.full((HEIGHT, WIDTH, 1), 7, np.uint8)
    for name, pixels in (("rgb8", rgb), ("bgr8", bgr), ("8UC3", bgr)):
        yield Encoded(name, raw(name, pixels), rgb)
    for name, pixels in (("rgba8", rgb), ("bgra8", bgr), ("8UC4", bgr)):
        yield Encoded(name, raw(name, np.concatenate([pixels, alpha], 2)), rgb)
    for name in ("mono8", "8UC1"):
        yield Encoded(name, raw(name, rgb[..., 1]), grey(rgb[..., 1]))
    deep = (rgb[..., 1].astype(np.uint16) * 250 + rgb[..., 0]).astype(np.uint16)
    depth = (deep / 9000.0).astype(np.float32)
    depth[::7, ::5], depth[3::11, ::13] = np.nan, np.inf
    for order, big_endian in (("little", False), ("big", True)):
        yield Encoded(f"mono16 {order}", raw("mono16", deep, big_endian=big_endian), grey(deep / 257.0))
        yield Encoded(f"16UC1 {order}", raw("16UC1", deep, big_endian=big_endian), stretched(deep))
        yield Encoded(f"32FC1 {order}", raw("32FC1", depth, big_endian=big_endian), stretched(depth), 1)
    y, u, v = np.moveaxis(yuv_of(rgb), -1, 0)
    across = [plane[:, ::2].repeat(2, 1) for plane in (u, v)]
    pairs = np.stack([u[:, ::2], v[:, ::2]], -1).reshape(HEIGHT, WIDTH)
    for name, rows in (
        ("yuv422", np.stack([pairs, y], -1)),
        ("uyvy", np.stack([pairs, y], -1)),
        ("yuv422_yuy2", np.stack([y, pairs], -1)),
        ("yuyv", np.stack([y, pairs], -1)),
    ):
        yield Encoded(name, raw(name, rows), rgb_of(y, *across), 1)
    quarter = [plane[::2, ::2] for plane in (u, v)]
    both = [plane.repeat(2, 0).repeat(2, 1) for plane in quarter]
    for name, planes in (("nv12", quarter), ("nv21", quarter[::-1])):
        colour = np.stack(planes, -1).reshape(HEIGHT // 2, WIDTH)
        yield Encoded(name, raw(name, np.concatenate([y, colour])), rgb_of(y, *both), 1)
    for order in ("rggb", "bggr", "gbrg", "grbg"):
        mosaic = np.zeros((HEIGHT, WIDTH), np.uint8)
        for position, letter in enumerate(order):
            i, j = divmod(position, 2)
            mosaic[i::2, j::2] = rgb[i::2, j::2, "rgb".index(letter)]
        name, expected = f"bayer_{order}", demosaiced(mosaic.astype(float), order)
        yield Encoded(f"{name}8", raw(f"{name}8", mosaic), expected, 1, 1)
        wide = mosaic.astype(np.uint16) * 257
        yield Encoded(f"{name}16 little", raw(f"{name}16", wide), expected, 1, 1)
        yield Encoded(f"{name}16 big", raw(f"{name}16", wide, big_endian=True), expected, 1, 1)


def compressed_frames() -> Iterator[Encoded]:
    """Yield the picture as JPEG and PNG, with `format` as image_transport and camera drivers write it."""
    rgb = picture()

    def encode(pixels: np.ndarray, kind: str, format_: str, tolerance: int) -> Encoded:
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, kind, quality=90)
        message = CompressedImage(format=format_, data=array.array("B", file.getvalue()))
        decoded = np.asarray(Pillow.open(file).convert("RGB"))
        return Encoded(format_, message, decoded, tolerance)

    for format_ in (
        "jpeg",
        "jpg",
        "rgb8; jpeg compressed bgr8",
        "bgr8; jpeg compressed bgr8",
        "bayer_rggb8; jpeg compressed bgr8",
    ):
        yield encode(rgb, "JPEG", format_, 4)
    yield encode(rgb[..., 1], "JPEG", "mono8; jpeg compressed ", 2)
    for format_ in ("png", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8"):
        yield encode(rgb, "PNG", format_, 0)
    yield encode(rgb[..., 1], "PNG", "mono8; png compressed ", 0)
    deep = (rgb[..., 1].astype(np.uint16) * 250 + rgb[..., 0]).astype(np.uint16)
    wide = encode(deep, "PNG", "mono16; png compressed mono16", 1)
    yield Encoded(wide.name, wide.message, grey(deep / 257.0), 1)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=float, default=20.0, help="images a second [%(default)s]")
    arguments = parser.parse_args()
    rclpy.init()
    node = rclpy.create_node("camera_of_all_encodings")
    topics: tuple[tuple[str, Any, Callable[[], Iterator[Encoded]]], ...] = (
        ("/image", Image, raw_frames),
        ("/image/compressed", CompressedImage, compressed_frames),
    )
    queue = [
        (node.create_publisher(kind, topic, 10), encoded) for topic, kind, frames in topics for encoded in frames()
    ]
    try:
        while rclpy.ok():
            for publisher, encoded in queue:
                encoded.message.header.frame_id = encoded.name
                encoded.message.header.stamp = node.get_clock().now().to_msg()
                publisher.publish(encoded.message)
                time.sleep(1 / arguments.rate)
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
