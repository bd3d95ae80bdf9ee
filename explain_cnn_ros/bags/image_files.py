"""Decoding of image files and of compressed images: the same picture in the node, in recordings and in folders."""

from __future__ import annotations

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.bags.image_headers import ImageHead, image_head
from explain_cnn_ros.bags.limits import DEFAULT_LIMITS, plausible_bytes
from explain_cnn_ros.bags.pixels import Pixels, demosaic, grey_to_rgb, stretch, to_8_bits
from explain_cnn_ros.files import quoted

#: The pixels as they are stored: orientation and depth are applied here, since OpenCV's versions differ.
_FLAGS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION

#: Number of bytes of a decoded pixel up to which the limit of pixels holds: three colours of 16 bits.
_DEPTH = 6

#: Encodings of Bayer mosaics, with the colours of the first row and of the second row.
_MOSAIC = re.compile(r"bayer_(rggb|bggr|gbrg|grbg)(8|16)")

#: Mirroring of the columns, and clockwise quarter turns after that, by orientation tag.
_TURNS = {1: (0, 0), 2: (1, 0), 3: (0, 2), 4: (1, 2), 5: (1, 3), 6: (0, 1), 7: (1, 1), 8: (0, 3)}


class ImageError(ValueError):
    """A message or a file is no image that can be decoded.

    Attributes:
        reason: A short word that does not change, for counting: "encoding", "truncated" and so on.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def require_size(width: int, height: int, megapixels_max: float) -> None:
    """Check the size of an image before memory is taken for it.

    Raises:
        ImageError: The image has too many pixels, or none.
    """
    if width <= 0 or height <= 0:
        raise ImageError("zero_size", f"the image is empty ({width} x {height} pixels)")
    if width * height > megapixels_max * 1e6:
        raise ImageError(
            "too_large",
            f"the image declares {width} x {height} pixels ({width * height / 1e6:,.0f} megapixels), the limit "
            f"megapixels_max is {megapixels_max:g}",
        )


def decode_image(data: bytes, form: str = "", megapixels_max: float = DEFAULT_LIMITS.megapixels) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, BMP, TIFF or WebP file.

    An orientation tag is applied. Colours of 16 bits are scaled to 8 bits, and so is grey of 16 bits if the format says
    mono16. Other grey of more than 8 bits, which is mostly depth or thermal, is stretched as raw 16UC1 is. A grey image
    whose format says that it is a Bayer mosaic gets its colours, unless the format says that it was converted to grey.

    Args:
        data: The contents of the file.
        form: `format` of a CompressedImage: the encoding of the original image, and after a semicolon how it was
            compressed, for instance "bayer_rggb8; jpeg compressed mono8"; "" for files.
        megapixels_max: Maximum number of pixels, in millions.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ImageError: The image cannot be decoded; its text says why.
    """
    head = _head(data, form)
    # Deeper pixels take more memory, so that fewer of them are allowed.
    require_size(head.width, head.height, megapixels_max * _DEPTH / max(_DEPTH, head.depth))
    size = 3 * head.width * head.height
    if len(data) < head.least or size > plausible_bytes(len(data), size):
        raise ImageError(
            "truncated",
            f"the compressed image is truncated: its {len(data)} bytes cannot hold the {head.width} x {head.height} "
            "pixels that it declares",
        )
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except (cv2.error, MemoryError) as error:
        raise ImageError("undecodable", f"the compressed image cannot be decoded: {error}") from error
    if decoded is None:
        raise ImageError(
            "undecodable",
            f"the compressed image cannot be decoded: its {len(data)} bytes are damaged (format {quoted(form)})",
        )
    return _upright(_colours(decoded, form), head.orientation)


def _head(data: bytes, form: str) -> ImageHead:
    """Return the head of a file.

    Raises:
        ImageError: The file is of another format, or truncated.
    """
    if not data:
        raise ImageError("zero_size", "the compressed image holds no data")
    head = image_head(data)
    if head is None:
        raise ImageError(
            "undecodable",
            f"the compressed image (format {quoted(form)}, {len(data)} bytes) is not JPEG or PNG, nor BMP, TIFF or "
            "WebP",
        )
    if not head.whole:
        raise ImageError("truncated", f"the compressed image is truncated: its {len(data)} bytes lack the end")
    return head


def _colours(decoded: Pixels, form: str) -> Pixels:
    """Return decoded pixels, BGR or grey, as uint8 [H, W, 3] RGB.

    Args:
        decoded: The pixels.
        form: `format` of a CompressedImage; "" for files.
    """
    original, _, rest = (part.strip() for part in form.partition(";"))
    target = rest.rpartition(" ")[2]
    if decoded.ndim == 2:
        mosaic = _MOSAIC.match(original)
        if mosaic and target.startswith("mono"):
            # For JPEG, compressed_image_transport converts mosaics to grey, if it is not told otherwise.
            original, mosaic = target, None
        if mosaic and decoded.dtype in (np.uint8, np.uint16):
            return demosaic(decoded, mosaic[1])
        linear = decoded.dtype == np.uint8 or (decoded.dtype == np.uint16 and original == "mono16")
        return grey_to_rgb(to_8_bits(decoded) if linear else stretch(decoded))
    colours = to_8_bits(decoded) if decoded.dtype in (np.uint8, np.uint16) else stretch(decoded)
    if original.startswith("rgb") and rest == "tiff compressed":
        # compressed_image_transport converts colours to BGR for JPEG and PNG, but not for TIFF.
        return colours
    # This is much faster than a reversed copy by numpy.
    return cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)


def _upright(image: Pixels, orientation: int) -> Pixels:
    mirrored, turns = _TURNS[orientation]
    image = image[:, ::-1] if mirrored else image
    return np.ascontiguousarray(np.rot90(image, -turns)) if mirrored or turns else image
