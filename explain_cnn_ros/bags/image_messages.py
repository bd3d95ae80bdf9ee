"""Conversion of ROS image messages to RGB arrays, without ROS: any object with the fields of a message will do.

Raw encodings are decoded here because cv_bridge from PyPI knows only a third of them and mistakes the padding of rows
for pixels. Where cv_bridge knows an encoding, the results are the same; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.bags.image_files import ImageError, decode_image
from explain_cnn_ros.bags.limits import DEFAULT_LIMITS
from explain_cnn_ros.bags.pixels import Pixels, demosaic, grey_to_rgb, stretch, to_8_bits
from explain_cnn_ros.files import quoted

__all__ = ["LAYOUTS", "CompressedImage", "Image", "ImageError", "to_rgb"]

#: Data type and channels of the rows in the message, by encoding.
LAYOUTS: dict[str, tuple[str, int]] = {
    **dict.fromkeys(("rgb8", "bgr8", "8UC3"), ("u1", 3)),
    **dict.fromkeys(("rgba8", "bgra8", "8UC4"), ("u1", 4)),
    **dict.fromkeys(("mono8", "8UC1"), ("u1", 1)),
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), ("u1", 2)),
    **dict.fromkeys(("nv12", "nv21"), ("u1", 1)),
    **dict.fromkeys((f"bayer_{order}8" for order in ("rggb", "bggr", "gbrg", "grbg")), ("u1", 1)),
    **dict.fromkeys((f"bayer_{order}16" for order in ("rggb", "bggr", "gbrg", "grbg")), ("u2", 1)),
    **dict.fromkeys(("mono16", "16UC1"), ("u2", 1)),
    "32FC1": ("f4", 1),
}


#: Sizes that must be even, by encoding: two pixels of a row, and in NV12 and NV21 of two rows, have one colour.
_EVEN = {
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_yuy2", "yuyv"), "the width"),
    **dict.fromkeys(("nv12", "nv21"), "width and height"),
}


class Image(Protocol):
    """The fields of sensor_msgs/Image that are read."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImage(Protocol):
    """The fields of sensor_msgs/CompressedImage that are read."""

    format: str
    data: Any


def to_rgb(message: Any, megapixels_max: float = DEFAULT_LIMITS.megapixels) -> NDArray[np.uint8]:
    """Decode an Image or a CompressedImage.

    16-bit intensities are scaled to 8 bits. 16UC1 and 32FC1, which are mostly depth, are stretched so that the smallest
    finite value of the image becomes 0 and the largest one 255, except for single values far outside of the others.

    Args:
        message: The message, of ROS or of rosbags.
        megapixels_max: Maximum number of pixels, in millions, that a compressed image may declare.

    Returns:
        uint8 [H, W, 3] RGB, contiguous. The pixels of a message that holds them in this form are not copied: they are
        a read-only view of its data.

    Raises:
        ImageError: The message cannot be decoded; its text says why, and what is expected.
    """
    if hasattr(message, "format"):
        return _from_compressed(message, megapixels_max)
    return _from_raw(message)


def _from_raw(message: Image) -> NDArray[np.uint8]:
    if message.width == 0 or message.height == 0:
        raise ImageError("zero_size", f"the image is empty ({message.width} x {message.height} pixels)")
    if message.encoding not in LAYOUTS:
        raise ImageError(
            "encoding",
            f"encoding {quoted(message.encoding)} is unknown: publish one of {', '.join(LAYOUTS)}",
        )
    dtype, channels = LAYOUTS[message.encoding]
    kind = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    # Below the rows of luminance, NV12 and NV21 have half as many rows of colour.
    rows = message.height * 3 // 2 if message.encoding in ("nv12", "nv21") else message.height
    row_bytes = message.width * channels * kind.itemsize
    step = message.step or row_bytes
    if step < row_bytes:
        raise ImageError(
            "step",
            f"step is {step}, but {message.width} pixels of {message.encoding} take {row_bytes} bytes a row",
        )
    needed = step * (rows - 1) + row_bytes
    if len(message.data) < needed:
        raise ImageError(
            "truncated",
            f"the image is truncated: {message.width} x {message.height} pixels of {message.encoding} take {needed} "
            f"bytes, the message holds {len(message.data)}",
        )
    strides = (step, channels * kind.itemsize, kind.itemsize)
    data = np.frombuffer(message.data, np.uint8)
    pixels: Pixels = np.ndarray((rows, message.width, channels), kind, data, strides=strides)
    pixels.flags.writeable = False
    if kind.itemsize > 1:
        # OpenCV skips the padding of rows by itself, but not a padding that is no multiple of a pixel value.
        pixels = np.ascontiguousarray(pixels, kind.newbyteorder("="))
    try:
        return np.ascontiguousarray(_convert(message.encoding)(pixels))
    except cv2.error as error:
        even = _EVEN.get(message.encoding)
        why = f"{even} must be even" if even else error.err
        raise ImageError(
            "size", f"{message.width} x {message.height} pixels do not fit {message.encoding}: {why}"
        ) from error


def _convert(encoding: str) -> Callable[[Pixels], Pixels]:
    """Return the function that converts pixels [rows, W, channels] of an encoding to uint8 [H, W, 3] RGB."""
    if encoding == "rgb8":
        return lambda pixels: pixels
    if encoding in ("bgr8", "8UC3"):
        return lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if encoding == "rgba8":
        return lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)
    if encoding in ("bgra8", "8UC4"):
        return lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    if encoding in ("mono8", "8UC1"):
        return grey_to_rgb
    if encoding == "mono16":
        return lambda pixels: grey_to_rgb(to_8_bits(pixels))
    if encoding in ("16UC1", "32FC1"):
        return lambda pixels: grey_to_rgb(stretch(pixels))
    if encoding.startswith("bayer_"):
        return lambda pixels: demosaic(pixels, encoding[6:10])
    code = {
        "yuv422": cv2.COLOR_YUV2RGB_UYVY,
        "uyvy": cv2.COLOR_YUV2RGB_UYVY,
        "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
        "yuyv": cv2.COLOR_YUV2RGB_YUY2,
        "nv12": cv2.COLOR_YUV2RGB_NV12,
        "nv21": cv2.COLOR_YUV2RGB_NV21,
    }[encoding]
    return lambda pixels: cv2.cvtColor(pixels, code)


def _from_compressed(message: CompressedImage, megapixels_max: float) -> NDArray[np.uint8]:
    if "compressedDepth" in message.format:
        raise ImageError(
            "encoding",
            f"format {quoted(message.format)} is depth with a header of its own: publish it raw, or as JPEG or PNG",
        )
    return decode_image(bytes(message.data), message.format, megapixels_max)
