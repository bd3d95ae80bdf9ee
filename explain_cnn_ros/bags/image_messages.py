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

Pixels = NDArray[Any]

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

#: OpenCV names a Bayer pattern by the second and third pixel of its second row, ROS by its first row.
_BAYER = {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}


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


class ImageError(ValueError):
    """A message is no image that can be decoded.

    Attributes:
        reason: A short word that does not change, for counting: "encoding", "truncated" and so on.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def to_rgb(message: Any) -> NDArray[np.uint8]:
    """Decode an Image or a CompressedImage.

    16-bit intensities are scaled to 8 bits. 16UC1 and 32FC1, which are mostly depth, are scaled so that the smallest
    finite value of the image becomes 0 and the largest one 255.

    Args:
        message: The message, of ROS or of rosbags.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ImageError: The message cannot be decoded; its text says why, and what is expected.
    """
    if hasattr(message, "format"):
        return _from_compressed(message)
    return _from_raw(message)


def _from_raw(message: Image) -> NDArray[np.uint8]:
    if message.width == 0 or message.height == 0:
        raise ImageError("zero_size", f"the image is empty ({message.width} x {message.height} pixels)")
    if message.encoding not in LAYOUTS:
        raise ImageError(
            "encoding",
            f"encoding {message.encoding!r} is unknown: publish one of {', '.join(LAYOUTS)}",
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
    data = np.frombuffer(message.data, np.uint8)
    padded = np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1), writeable=False)
    pixels = np.ascontiguousarray(padded).view(kind).reshape(rows, message.width, channels)
    if not kind.isnative:
        pixels = pixels.astype(kind.newbyteorder("="))
    try:
        return np.ascontiguousarray(_convert(message.encoding)(pixels))
    except cv2.error as error:
        raise ImageError(
            "size", f"{message.width} x {message.height} pixels do not fit {message.encoding}: {error.err}"
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
        return _grey
    if encoding == "mono16":
        return lambda pixels: _grey(_to_8_bits(pixels))
    if encoding in ("16UC1", "32FC1"):
        return lambda pixels: _grey(_stretch(pixels))
    if encoding.startswith("bayer_"):
        code = getattr(cv2, f"COLOR_Bayer{_BAYER[encoding[6:10]]}2RGB")
        return lambda pixels: cv2.cvtColor(_to_8_bits(pixels), code)
    code = {
        "yuv422": cv2.COLOR_YUV2RGB_UYVY,
        "uyvy": cv2.COLOR_YUV2RGB_UYVY,
        "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
        "yuyv": cv2.COLOR_YUV2RGB_YUY2,
        "nv12": cv2.COLOR_YUV2RGB_NV12,
        "nv21": cv2.COLOR_YUV2RGB_NV21,
    }[encoding]
    return lambda pixels: cv2.cvtColor(pixels, code)


def _grey(pixels: Pixels) -> Pixels:
    return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)


def _to_8_bits(pixels: Pixels) -> Pixels:
    return pixels if pixels.dtype == np.uint8 else np.round(pixels / 257.0).astype(np.uint8)


def _stretch(pixels: Pixels) -> Pixels:
    finite = np.isfinite(pixels)
    if not finite.any():
        return np.zeros(pixels.shape, np.uint8)
    low, high = float(pixels[finite].min()), float(pixels[finite].max())
    scaled = (np.where(finite, pixels, low).astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))
    return np.round(scaled).astype(np.uint8)


def _from_compressed(message: CompressedImage) -> NDArray[np.uint8]:
    if "compressedDepth" in message.format:
        raise ImageError(
            "encoding",
            f"format {message.format!r} is depth with a header of its own: publish it raw, or as JPEG or PNG",
        )
    data = bytes(message.data)
    if not data:
        raise ImageError("zero_size", "the compressed image holds no data")
    # OpenCV fills the missing part of a truncated file with grey and reports nothing.
    end_from = max(0, len(data) - 1024)
    if (data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < end_from) or (
        data[:4] == b"\x89PNG" and data.rfind(b"IEND") < end_from
    ):
        raise ImageError("truncated", f"the compressed image is truncated: its {len(data)} bytes lack the end")
    # Orientation tags are ignored: regions and patches are in pixels of the camera.
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None:
        raise ImageError(
            "undecodable", f"the compressed image (format {message.format!r}, {len(data)} bytes) is not JPEG or PNG"
        )
    # This is much faster than a reversed copy by numpy.
    image: Any = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return image
