"""The pictures of a window: as the network sees it, and in its surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from explain_cnn_ros.model.windows import Window, crop

#: Width of the surroundings on each side of the window, as a share of the window's longer side.
MARGIN = 0.75

#: Maximum width and height of the picture of the surroundings, in pixels.
SIDE = 1280

#: x, y, width and height of a box.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class WindowPictures:
    """The pictures of a window.

    Attributes:
        window: The window in the size of the network's input, a PNG file.
        context: The window with its surroundings, a JPEG file.
        box: The window in `context`, as shares of its width and height. It may reach out of the frame. None if the
            window is the whole frame.
        size: Width and height of `context`, in pixels.
    """

    window: bytes
    context: bytes
    box: Box | None
    size: tuple[int, int]


def draw_pictures(
    image: NDArray[np.uint8], region: Window, input_size: tuple[int, int] | None, scale: float = 1.0
) -> WindowPictures:
    """Draw the pictures of a window.

    Args:
        image: The frame, uint8 [H, W, 3] RGB.
        region: The window, in pixels of the frame as it was recorded.
        input_size: Width and height of the network's windows, in pixels; None to keep the window's own size.
        scale: Size of `image` relative to the frame as it was recorded.
    """
    x, y, width, height = (side * scale for side in (region.x, region.y, region.width, region.height))
    size = input_size or (max(1, round(width)), max(1, round(height)))
    window = crop(image, x, y, width, height, size)
    margin = MARGIN * max(width, height)
    left, top = (max(0, int(edge - margin)) for edge in (x, y))
    right = min(image.shape[1], round(x + width + margin))
    bottom = min(image.shape[0], round(y + height + margin))
    part: Any = image[min(top, image.shape[0] - 1) : max(bottom, 1), min(left, image.shape[1] - 1) : max(right, 1)]
    shown = (part.shape[1], part.shape[0])
    box = ((x - left) / shown[0], (y - top) / shown[1], width / shown[0], height / shown[1])
    whole = x <= 0 and y <= 0 and x + width >= image.shape[1] and y + height >= image.shape[0]
    if max(shown) > SIDE:
        shown = (max(1, shown[0] * SIDE // max(shown)), max(1, shown[1] * SIDE // max(shown)))
        part = cv2.resize(part, shown, interpolation=cv2.INTER_AREA)
    return WindowPictures(
        _encoded(".png", window), _encoded(".jpg", part, cv2.IMWRITE_JPEG_QUALITY, 90), None if whole else box, shown
    )


def _encoded(suffix: str, image: Any, *options: int) -> bytes:
    _, encoded = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]), list(options))
    return encoded.tobytes()
